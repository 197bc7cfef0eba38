"""Damaged checkpoints: what is used instead, what is said, and that one can go on."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.store import Store
from scaling.training import checkpoint
from tests.support import damage

STEPS = 100  # of the whole run


def state(value, size=512):
    return {"weights": jnp.full((size,), value), "step": jnp.int32(value)}


def progress(step):
    return {"curve": [3.0] * step, "best": [], "seconds": 1.5}


def restore(store, size=512, run_id="mine"):
    said = []
    abstract = jax.eval_shape(lambda: state(0.0, size))
    alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: alone, abstract)
    found = checkpoint.restore(store, run_id, STEPS, abstract, shardings, said.append)
    return found, said


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints of one run, of another, and of one of another shape."""
    folder = tmp_path_factory.mktemp("saved")
    store = Store(folder)
    for run_id, size in (("mine", 512), ("other", 512), ("larger", 1024)):
        for step in (8, 16):
            value = step + 0.5 * (run_id == "other")
            checkpoint.save(store, run_id, step, state(value, size), progress(step))
    return folder


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.__name__)
def test_a_damaged_checkpoint_gives_way(saved, tmp_path, kind):
    store = Store(shutil.copytree(saved, tmp_path / "w"))
    runs = [tmp_path / "w" / "checkpoints" / i for i in ("mine", "other", "larger")]
    kind(*runs)
    expected = {"newest": 16, "before": 8, "start": 0}[damage.KINDS[kind]]
    found, said = restore(store)
    assert (found.step if found else 0) == expected
    if found:
        np.testing.assert_array_equal(found.state["weights"], np.full(512, expected))
        assert found.progress == progress(expected)
    if kind in damage.SILENT:
        assert not said
    else:
        (line,) = said
        assert "checkpoint" in line and "\n" not in line
        assert line.endswith("the start" if not expected else f"step {expected}")

    # It goes on: the next checkpoints are kept and used, and nothing more is said.
    for step in (24, 32):
        checkpoint.save(store, "mine", step, state(float(step)), progress(step))
    found, said = restore(store)
    assert found.step == 32 and not said
    assert [path.name for path in damage.steps(runs[0])] == ["24", "32"]
    checkpoint.delete(store, "mine")
    assert not runs[0].exists() and store.checkpoint_step("mine") == 0


def test_a_checkpoint_of_another_format_or_shape_is_not_used(saved, tmp_path):
    store = Store(shutil.copytree(saved, tmp_path / "w"))
    found, (line,) = restore(store, size=1024)  # the model's code has changed
    assert found is None and "does not fit this model" in line
    path = store.path("checkpoints", "other", "16", "manifest.json")
    whole = json.loads(path.read_text())
    whole["body"]["format"] = 0
    whole["sha256"] = checkpoint._seal(whole["body"])
    path.write_text(json.dumps(whole))
    found, (line,) = restore(store, run_id="other")
    assert found.step == 8 and "is of format 0" in line


def test_the_step_that_a_run_went_on_from_is_not_written_again(saved, tmp_path):
    store = Store(shutil.copytree(saved, tmp_path / "w"))
    checkpoint.save(store, "mine", 16, state(99.0), progress(16))
    found, said = restore(store)
    assert found.step == 16 and found.state["weights"][0] == 16.0 and not said


def test_what_cannot_be_removed_is_moved_out_of_sight(saved, tmp_path, monkeypatch):
    store = Store(shutil.copytree(saved, tmp_path / "w"))
    damage.flipped_bit(tmp_path / "w" / "checkpoints" / "mine")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.root), "rmtree", refuse)
        found, (line,) = restore(store)
        assert found.step == 8 and "checkpoint 16 of run mine" in line
        assert store.path("checkpoints", "mine", "damaged.16.0").is_dir()
        assert restore(store)[1] == []
        checkpoint.delete(store, "mine")  # says so in the log, and that is all


def test_attempts_that_write_at_once_do_not_touch_each_other(tmp_path):
    """The one that was given up goes on writing; the next continues from its newest."""
    lost, found, plain = (Store(tmp_path, name) for name in ("lost", "found", ""))
    save = lambda store, step: checkpoint.save(
        store, "mine", step, state(step), progress(step)
    )
    save(lost, 8)
    assert restore(found)[0].step == 8
    save(lost, 16)
    save(found, 12)
    assert plain.checkpoint_step("mine") == 16 == restore(plain)[0].step
    # What is no further than the newest of one's own is not needed.
    assert steps(lost) == ["16"] and steps(found) == ["12"]
    (lost.checkpoints("mine") / "16" / checkpoint.MANIFEST).unlink()
    kept, (said,) = restore(found)
    assert kept.step == 12 and "checkpoint 16 of run mine was not finished" in said
    assert steps(lost) == ["16"]  # it may still be written
    save(plain, 20)
    assert restore(lost)[0].step == 20 and steps(lost) == []
    checkpoint.delete(found, "mine")
    assert plain.checkpoint_step("mine") == 0


def steps(store):
    return [path.name for path in store.checkpoints("mine").iterdir()]
