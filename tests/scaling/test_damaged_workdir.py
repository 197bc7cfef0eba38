"""Every file of a finished workdir is damaged in every way: one line each, no hang,
no traceback, and the records that are right stay."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest

from analysis.tables import artifacts, workdir
from scaling.errors import UserError
from scaling.planning import estimates
from scaling.record import Artifact
from scaling.scheduling import plan_tables
from scaling.store import Store
from scaling.writing import write_atomic
from tests.scaling.test_record import make_attempt, make_record

RUN, OTHER = "a" * 16, "b" * 16


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


STUDY = {"runs": [RUN, OTHER], "planned": {}, "provisional": 0}
CURVE = npz(step=np.arange(1, 161), loss=np.ones(160))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir with one of each file: two records, of which one has a curve."""
    home = tmp_path_factory.mktemp("finished [of] *") / "w"
    store = Store(home)
    curve = store.write_artifact(RUN, "loss_curve.npz", CURVE)
    store.write(make_record(RUN, artifacts=(curve,)))
    store.write(make_record(OTHER))
    store.add_attempt(make_attempt(1))
    store.write_study("little", STUDY)
    estimate = estimates.Estimate("c", "cpu", "cpu", 1, "guess", 1.0, 2.0)
    estimates.keep(store, [estimate])
    cost = {"flops": 1.0, "memory": 1, "depth": 1}
    write_atomic(
        store.path("costs.json"), f'{{"key": {cost}}}'.replace("'", '"').encode()
    )
    return home


def cut(path):
    path.write_bytes(path.read_bytes()[:20])


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(bytes(range(256)))


def other_json(path):
    path.write_text('[{"runs": 3}, null]')


def folder(path):
    path.unlink()
    path.mkdir()


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


FILES = (
    f"records/{RUN}.json",
    f"artifacts/{RUN}/loss_curve.npz",
    f"attempts/{RUN}/1.json",
    "studies/little.json",
    "estimates.json",
    "costs.json",
)
WAYS = (cut, empty, garbage, other_json, folder, fifo, dangling)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", FILES)
def test_any_damage_is_one_line_and_the_rest_stands(finished, tmp_path, name, way):
    home = tmp_path / "w"
    shutil.copytree(finished, home)
    way(home / name)
    store = Store(home)

    good, corrupt = store.records()
    assert {r.run_id for r in good} >= {OTHER}
    assert len(good) + len(corrupt) == 2
    store.studies(), list(store.attempts()), estimates.read(store)
    store.cached("costs.json")
    for record in good:
        artifacts.arrays(store, record, "loss_curve")
    lines = store.complaints() + [f"{path}: {why}" for path, why in corrupt.items()]
    if name != "attempts" and not lines:
        pytest.fail(f"nothing was said of {name}")
    assert len(lines) == 1 and name in lines[0] and "\n" not in lines[0], lines
    assert not store.complaints()  # once

    try:
        said = plan_tables.status(str(home))
    except UserError as error:
        said = str(error)
        assert name.startswith("studies")
    if not name.startswith(("artifacts", "estimates", "costs")):
        assert name in said

    # What is written anew takes its place.
    for path in corrupt:
        store.set_aside(path)
    store.write(make_record(RUN))
    store.write_study("little", STUDY)
    good, corrupt = Store(home).records()
    assert [r.run_id for r in good] == [RUN, OTHER] and not corrupt
    assert list(Store(home).studies()) == ["little"]


def test_records_that_people_copied_are_named_and_counted_once(finished, tmp_path):
    home = tmp_path / "w"
    shutil.copytree(finished, home)
    shutil.copy(home / "records" / f"{RUN}.json", home / "records" / "copy.json")
    shutil.copytree(home / "records", home / "records" / "old")
    store = Store(home)
    good, corrupt = store.records()
    assert [r.run_id for r in good] == [RUN, OTHER]
    assert corrupt == {
        str(home / "records/copy.json"): f"is a copy of the record of run {RUN}"
    }
    (line,) = store.complaints()
    assert "records/old is a folder" in line


@pytest.mark.parametrize(
    "path",
    [
        "../out.npz",
        "/etc/passwd",
        "artifacts/../../out.npz",
        "records/x",
        "artifacts/l",
    ],
)
def test_no_artifact_is_read_outside_the_workdir(tmp_path, path):
    home = tmp_path / "w"
    (home / "artifacts").mkdir(parents=True)
    (tmp_path / "out.npz").write_bytes(CURVE)
    (home / "artifacts" / "l").symlink_to(tmp_path / "out.npz")
    store = Store(home)
    record = make_record(artifacts=(Artifact("loss_curve", path, ""),))
    assert artifacts.arrays(store, record, "loss_curve") == {}
    (line,) = store.complaints()
    assert "not opened" in line


def bomb():
    """10 MB of zeros in 10 kB; no record of 160 steps has that many."""
    return npz(step=np.zeros(10**7, np.int8), loss=np.zeros(3))


def lying():
    """A header that claims more numbers than there are bytes."""
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("step.npy", header.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "why"), [(bomb, "more than its record explains"), (lying, "is damaged")]
)
def test_an_archive_beyond_its_record_is_not_unpacked(tmp_path, monkeypatch, make, why):
    store = Store(tmp_path)
    curve = store.write_artifact(RUN, "loss_curve.npz", make())
    monkeypatch.setattr(np, "load", lambda *_: pytest.fail("it was unpacked"))
    record = make_record(artifacts=(curve,))
    assert artifacts.arrays(store, record, "loss_curve") == {}
    (line,) = store.complaints()
    assert why in line


def test_curves_of_unlike_lengths_are_left_out():
    arrays = {"step": np.arange(3), "loss": np.ones(2), "words": np.array(["a"] * 3)}
    assert not workdir._alike(arrays, "step", "loss")
    assert not workdir._alike(arrays, "step", "words")
    assert workdir._alike(arrays, "step", "step")


def test_a_record_whose_run_lacks_what_a_row_needs_is_left_out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    with pytest.raises(UserError, match="no record yet"):
        workdir.load_workdir(Store(tmp_path / "w"))
