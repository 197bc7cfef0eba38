"""A run over several processes: its checkpoints, and what goes on from them."""

import io
import json
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from scaling.record import substance
from scaling.store import Store
from tests.support import gcs, real_studies

EVERY_CALL = ("--checkpoint_seconds", 0)


def begin(folder, workdir, coordinator, rank, *flags, processes=2, **environment):
    """One of the processes; a workdir that is no address lies in the folder."""
    workdir = workdir if "://" in workdir else folder / workdir
    where = [workdir, folder / "data", folder / "text", coordinator]
    words = [*where, processes, rank, *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.slice_trainer", *map(str, words)],
        cwd=real_studies.ROOT,
        env=real_studies.environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def ended(*processes):
    """What each said, once all have ended by themselves."""
    try:
        said = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, said, strict=True):
        assert process.returncode == 0, err
    return [out for out, _ in said]


def losses(workdir):
    (record,) = Store(workdir).records()[0]
    curve = Store(workdir).artifact(record, "loss_curve", 1 << 20)
    values = [reading.value for reading in record.readings]
    return np.load(io.BytesIO(curve))["loss"], values


@pytest.mark.slow  # six processes of JAX
def test_a_run_that_loses_a_host_ends_on_others_with_the_same_losses(tmp_path):
    real_studies.write_text(tmp_path / "text", lines=400)
    ended(begin(tmp_path, "alone", "", 0, processes=1))
    there = address()
    hosts = [
        begin(tmp_path, "w", there, rank, "--attempt", "a", *EVERY_CALL, *flags)
        for rank, flags in enumerate(((), ("--stop_at", 40)))
    ]
    hosts[1].communicate(timeout=280)  # it goes without a word
    hosts[0].kill()  # as the engine does, since it would wait for the other
    hosts[0].communicate()
    store = Store(tmp_path / "w")
    (folder,) = (tmp_path / "w" / "checkpoints").iterdir()
    assert store.run_ids() == set() and store.checkpoint_step(folder.name) >= 32
    there = address()
    both = [begin(tmp_path, "w", there, rank, "--attempt", "b") for rank in range(2)]
    said = ended(*both)
    begun = re.search(r"started (\d+)", said[0])
    assert begun and int(begun[1]) >= 32, said[0]
    curve, values = losses(tmp_path / "w")
    alone, right = losses(tmp_path / "alone")
    np.testing.assert_allclose(curve, alone, rtol=1e-5)
    np.testing.assert_allclose(values, right, rtol=1e-5)
    assert not folder.exists()


@pytest.mark.slow  # nine processes of JAX
@pytest.mark.skipif(bool(gcs.missing()), reason=gcs.missing())
def test_in_a_bucket_a_killed_save_and_a_kill_between_two_cost_nothing(tmp_path):
    real_studies.write_text(tmp_path / "text", lines=400)
    ended(begin(tmp_path, "alone", "", 0, processes=1))
    fault = tmp_path / "faults" / "child: checkpoint without manifest"
    fault.parent.mkdir()
    fault.touch()
    with gcs.emulator() as bucket:
        workdir = f"{bucket}/w"

        def start(attempt, *flags, **environment):
            there = address()
            words = ("--attempt", attempt, *flags)
            return [
                begin(tmp_path, workdir, there, rank, *words, **environment)
                for rank in range(2)
            ]

        # The first save: one of the two dies before it is signed.
        hosts = start("a", *EVERY_CALL, SCALING_CHAOS=str(fault.parent))
        assert -9 in both_gone(hosts) and not fault.exists()
        assert gcs.names(workdir) and not signed(workdir)
        # Later, between two saves, a host goes without a word.
        hosts = start("b", *EVERY_CALL, "--stop_at", 40)
        both_gone(hosts)
        saved = max(signed(workdir))
        assert saved >= 32 and not [n for n in gcs.names(workdir) if "records/" in n]
        said = ended(*start("c"))
        begun = re.search(r"started (\d+)", said[0])
        assert begun and int(begun[1]) == saved, said[0]
        curve, values = losses(workdir)
        assert not [n for n in gcs.names(workdir) if n.startswith("checkpoints/")]
    alone, right = losses(tmp_path / "alone")
    np.testing.assert_allclose(curve, alone, rtol=1e-5)
    np.testing.assert_allclose(values, right, rtol=1e-5)


def both_gone(hosts):
    """The exit codes, once one has gone and the other was killed for that."""
    while all(host.poll() is None for host in hosts):
        time.sleep(0.1)
    for host in hosts:
        host.kill()
        host.communicate()
    return [host.returncode for host in hosts]


def signed(workdir):
    """The steps of the checkpoints that count."""
    ends = "/manifest.json"
    names = [name for name in gcs.names(workdir) if name.endswith(ends)]
    return [int(name.removesuffix(ends).rpartition("/")[2]) for name in names]


@pytest.mark.slow  # nine processes of JAX
def test_four_hosts_choose_one_layout_and_fit_what_one_fits(tmp_path):
    """Each host counts n-grams, and the first one writes: there are no steps."""
    real_studies.write_text(tmp_path / "text", lines=400)
    counted = ("--family", "ngram")
    ended(begin(tmp_path, "alone", "", 0, *counted, processes=1))
    there = address()
    ended(*[begin(tmp_path, "w", there, r, *counted, processes=4) for r in range(4)])
    (alone,), (record,) = (Store(tmp_path / w).records()[0] for w in ("alone", "w"))
    assert substance(record) == substance(alone)
    there = address()
    searches = [
        begin(tmp_path, "s", there, r, "--search", processes=4) for r in range(4)
    ]
    chosen = [json.loads(said.splitlines()[-1]) for said in ended(*searches)]
    assert all(rates == chosen[0] for rates in chosen)
    layout, rate = chosen[0][-1]
    assert rate > 0 and layout["run"] * layout["data"] == 4
