"""Layouts: what their programs communicate and hold, and that one restores another."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from scaling import families
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.run import VALUES, Model
from scaling.store import Store
from scaling.training import checkpoint, mesh, programs
from tests.conftest import every_family
from tests.support.two_processes import RUN, losses

VOCAB = 257
SPEC = families.Tokens(VOCAB, RUN.length)
COLLECTIVE = re.compile(
    r" = (\(?\S.*?) "
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)


def collectives(text):
    """How often each (kind, shape) of array is communicated in a program's text."""
    found = collections.Counter()
    for types, kind, _ in COLLECTIVE.findall(text):
        for shape in re.findall(r"\w+\[([0-9,]*)\]", types):
            sizes = tuple(int(n) for n in shape.split(",") if n)
            found[kind, tuple(n for n in sizes if n > 1)] += 1
    return found


def of_depth(monkeypatch, family, depth):
    """Has the family's ladder give the member with as many layers."""
    module = families.load(family)
    ladder = module.ladder
    monkeypatch.setattr(
        module,
        "ladder",
        lambda *args, **options: dataclasses.replace(
            ladder(*args, **options), depth=depth
        ),
    )


def sized(family, size=30_000, **changes):
    """The run of two_processes.py as another model; heads share no keys."""
    options = (("queries_per_kv", 1),) if family == "transformer" else ()
    return dataclasses.replace(
        RUN, model=Model(family, size, options=options), **changes
    )


def per_layer(monkeypatch, family, layout):
    """Collectives that one layer more adds, without scalars."""
    counts = []
    for depth in (2, 3):
        with monkeypatch.context() as patch:
            of_depth(patch, family, depth)
            calls = programs.compiled.__wrapped__(sized(family).program(), layout, SPEC)
        counts.append(collectives(calls.advance.as_text()))
    return {
        (kind, shape): counts[1][kind, shape] - counts[0][kind, shape]
        for kind, shape in counts[1]
        if shape and counts[1][kind, shape] > counts[0][kind, shape]
    }


def kinds(found, least=500):
    """Of arrays with at least so many entries, which no vector here has: how often."""
    total = collections.Counter()
    for (kind, shape), count in found.items():
        total[kind] += count if np.prod(shape) >= least else 0
    return {kind: count for kind, count in total.items() if count}


# Matrices of a layer: each is gathered once and has its gradient summed once.
@pytest.mark.parametrize(
    ("family", "matrices"),
    [
        ("transformer", 4),
        pytest.param("convolution", 2, marks=pytest.mark.slow),
        pytest.param("lstm", 3, marks=pytest.mark.slow),
    ],
)
def test_fully_sharded_moves_parameters_alone(monkeypatch, family, matrices):
    found = per_layer(monkeypatch, family, Layout(data=4))
    summed = {"all-gather": matrices, "all-reduce": matrices}
    scattered = {"all-gather": matrices, "reduce-scatter": matrices}
    assert kinds(found) in (summed, scattered)


def loops(text, trips):
    """The bodies of the loops that run so many times."""
    bodies = re.findall(
        r' while\(.*body=%?([\w.\-]+).*"known_trip_count":\{"n":"' + f'{trips}"', text
    )
    return [
        re.search(rf"^%?{re.escape(body)} \(.*?^}}", text, re.M | re.S)[0]
        for body in bodies
    ]


def test_no_time_step_of_a_recurrence_communicates():
    run = sized("lstm")
    text = programs.compiled(run.program(), Layout(data=4), SPEC).advance.as_text()
    found = loops(text, run.length)
    assert len(found) >= 2  # forward and backward
    assert not any(collectives(body) for body in found)


def test_rematerialised_layers_gather_again_in_a_loop():
    layout = Layout(data=4, scan_layers=True, remat="full")
    run = sized("transformer")
    text = programs.compiled(run.program(), layout, SPEC).advance.as_text()
    once = {
        shape: n for (kind, shape), n in collectives(text).items() if "gath" in kind
    }
    ends = sum(n for shape, n in once.items() if VOCAB in shape)
    assert sum(once.values()) - ends == 2 * 4  # forward and backward, whatever depth


# One all-reduce a branch forward and one backward (Shoeybi et al. 2019, figure 4).
@pytest.mark.parametrize(
    ("family", "branches"), [("transformer", 2), ("convolution", 1)]
)
def test_tensor_parallel_sums_each_branch_once_each_way(monkeypatch, family, branches):
    found = per_layer(monkeypatch, family, Layout(model=2))
    activations = {
        k: n for k, n in found.items() if k[1][:2] == (RUN.batch, RUN.length)
    }
    assert kinds(activations) == {"all-reduce": 2 * branches}
    assert set(kinds(found, least=1)) == {"all-reduce"}


@every_family("transformer")
def test_packed_runs_do_not_communicate(family):
    run = sized(family, 8_000)
    calls = programs.compiled(run.program(), Layout(run=8, width=8), SPEC)
    assert not collectives(calls.advance.as_text())


def temporary(run, layout):
    """Bytes beside arguments and results that XLA plans for a call."""
    calls = programs.compiled.__wrapped__(run.program(), layout, SPEC)
    return calls.advance.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_rematerialisation_lowers_the_memory_of_a_deep_model(monkeypatch):
    of_depth(monkeypatch, "transformer", 8)
    run = sized("transformer", batch=1, length=2_048)
    dots, full = (
        temporary(run, Layout(scan_layers=True, remat=remat))
        for remat in ("dots", "full")
    )
    assert full < 0.8 * dots


def advanced(run, layout, state, store=None, slot=0):
    """Losses of the next 8 steps of one slot, and the state after them.

    The state is fresh where `state` is None; otherwise a step to restore from `store`.
    """
    calls = programs.compiled(run.program(), layout, SPEC)
    slots = mesh.slots(calls.mesh)
    spread = lambda value, dtype: np.full(layout.width, value, dtype)
    values = {k: spread(v, VALUES[k]) for k, v in run.values().items()}
    shape = (1, programs.STEPS_PER_CALL, run.batch, run.length)
    batches = np.random.default_rng(state or 0).integers(0, VOCAB, shape)
    with jax.set_mesh(calls.mesh):
        values = mesh.put(values, slots)
        fresh = mesh.put(spread(True, bool), slots)
        packed = calls.refill(calls.empty(), values, fresh)
        if state:
            saved = checkpoint.restore(
                store, "run", 16, calls.one, calls.one_shardings, pytest.fail
            )
            packed = calls.insert(packed, saved.state, slot)
        packed, found = calls.advance(
            packed,
            values,
            mesh.put(spread(16, np.int32), slots),
            mesh.put(
                np.repeat(batches, layout.width, 0).astype(np.int32),
                mesh.batches(calls.mesh),
            ),
        )
        return mesh.get(found)[slot], calls.select(packed, slot)


def test_a_checkpoint_is_restored_under_any_layout(tmp_path):
    run, store = sized("lstm", 8_000, batch=8), Store(tmp_path)
    saved_under = Layout(run=2, width=2)
    _, one = advanced(run, saved_under, None)
    checkpoint.save(store, "run", 8, one, {})
    wanted, _ = advanced(run, saved_under, 8, store)
    for layout in (
        Layout(data=4),
        Layout(data=2, model=2, remat="full", scan_layers=True),
        Layout(width=3, accumulate=2),
    ):
        found, _ = advanced(run, layout, 8, store, slot=layout.width - 1)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=str(layout))


def test_two_processes_are_one_with_two_devices():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    program = str(Path(__file__).parents[2] / "support" / "two_processes.py")
    started = [
        subprocess.Popen(
            [sys.executable, program, str(rank), "2", port, "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (out, err) in zip(started, said, strict=True):
        assert process.returncode == 0, err
        found = json.loads(out.splitlines()[-1])
        for both, alone in zip(found, losses(), strict=True):
            np.testing.assert_allclose(both, alone, rtol=1e-5)


def test_layouts_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"batch 8: .*accumulates 3 micro-batches"):
        mesh.check(8, Layout(accumulate=3))
    with pytest.raises(UserError, match=r"layout\.remat.*did you mean 'dots'"):
        mesh.check(8, Layout(remat="dot"))
