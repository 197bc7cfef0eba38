"""Whole studies in a bucket, by the commands that a user types."""

import json
import re
import signal
import urllib.request

import pytest

from scaling.record import Record, substance
from scaling.store import Store
from tests.scaling.test_buckets import analysed, checkpoints
from tests.scaling.test_resume import wait_for
from tests.soak.cluster import trains
from tests.support import gcs, ray_cluster, real_studies

pytestmark = pytest.mark.skipif(bool(gcs.missing()), reason=gcs.missing())

AXES = {"model.size": (6_000, 9_000), "optimiser.learning_rate": (1e-3, 3e-3)}
FLAGS = ("--layout", "run=1,width=1", "--checkpoint_seconds", "0.2")


@pytest.fixture
def bucket():
    with gcs.emulator() as address:
        yield address


def of_bucket(workdir):
    """The records of a workdir in the bucket, by the emulator alone."""
    names = [n for n in gcs.names(workdir) if n.startswith("records/")]
    bodies = [json.loads(gcs.read(f"{workdir}/{name}")) for name in names]
    return map(Record.from_json, bodies)


def substances(records):
    """What must be the same of each record, by run, whatever is committed meanwhile."""
    return {record.run_id: substance(record) | {"commit": ""} for record in records}


def started(tmp_path, steps=300):
    """A study of four runs; what its commands share."""
    text = real_studies.write_text(tmp_path / "text", lines=400)
    study = real_studies.write_study(tmp_path / "little.py", text, steps, AXES)
    return lambda host, *more: (study, "--data_dir", tmp_path / host, *more)


@pytest.mark.slow  # four starts of the command, and a report
def test_a_study_from_its_plan_to_its_report(bucket, tmp_path):
    """Two hosts: the first is killed, the second takes over and prepares nothing."""
    on, workdir = started(tmp_path), f"{bucket}/studies/little"
    place = ("--workdir", workdir)
    code, said = real_studies.run("plan", *on("a", *place), cwd=tmp_path)
    assert code == 0 and "4 runs: 4 left" in said and "put files[" in said, said
    first = real_studies.start("run", *on("a", *place, *FLAGS), cwd=tmp_path)
    wait_for(lambda: checkpoints(workdir) or first.poll() is not None, 600)
    first.send_signal(signal.SIGKILL)
    said, _ = first.communicate()
    assert first.returncode == -signal.SIGKILL and "prepared" not in said, said
    corpora = gcs.versions(f"{workdir}/corpora")

    words = ("run", *on("b", *place, *FLAGS))
    code, said = real_studies.run(*words, cwd=tmp_path / "elsewhere", seconds=900)
    assert code == 0 and "4 of 4 runs are done" in said, said
    assert "copied files[" in said and "prepared" not in said
    assert gcs.versions(f"{workdir}/corpora") == corpora
    assert not list((tmp_path / "b").glob("*/documents"))
    code, said = real_studies.run("status", workdir, cwd=tmp_path)
    assert (code, said) == (0, "little: 4 done, 0 diverged, 0 missing\n")

    # A day later there is nothing to do.
    kept = lambda: {
        name: version
        for name, version in gcs.versions(workdir).items()
        if not {"lock", "progress"} & set(name.split("/"))
    }
    before = kept()
    code, said = real_studies.run(*words, cwd=tmp_path)
    assert code == 0 and "4 of 4 runs are done" in said and kept() == before, said

    page = real_studies.start("watch", workdir, "--port", "0", cwd=tmp_path)
    address = re.search(r"http://[\d.:]+", page.stdout.readline())[0]
    with urllib.request.urlopen(f"{address}/state", timeout=60) as reply:
        state = json.load(reply)
    page.terminate()
    page.communicate(timeout=60)
    assert state["counts"]["done"] == 4, state
    report = analysed("report", workdir, cwd=tmp_path)
    assert report.returncode in (0, 3), report.stderr
    assert {"report.html", "report.json"} <= set(gcs.names(f"{workdir}/report"))

    alone = ("run", *on("c", "--workdir", tmp_path / "alone", *FLAGS))
    code, said = real_studies.run(*alone, cwd=tmp_path, seconds=900)
    right = substances(Store(tmp_path / "alone").records()[0])
    assert code == 0 and substances(of_bucket(workdir)) == right, said


@pytest.mark.slow
@pytest.mark.skipif(bool(ray_cluster.missing()), reason=ray_cluster.missing())
def test_a_study_of_a_cluster_in_a_bucket_loses_a_node_and_nothing_else(
    bucket, tmp_path
):
    on, workdir = started(tmp_path, 400), f"{bucket}/cluster"
    alone = ("run", *on("a", "--workdir", tmp_path / "alone", *FLAGS))
    code, said = real_studies.run(*alone, cwd=tmp_path, seconds=900)
    assert code == 0, said
    right = substances(Store(tmp_path / "alone").records()[0])
    with ray_cluster.Cluster(tmp_path / "logs") as cluster:
        for _ in range(2):
            cluster.add()
        engine = ("--engine", "ray", "--address", cluster.address)
        words = ("run", *on("a", "--workdir", workdir, *FLAGS, *engine))
        command = real_studies.start(*words, cwd=tmp_path)
        wait_for(lambda: checkpoints(workdir) or command.poll() is not None, 600)
        busy = [node for node in cluster.nodes if trains(node)]
        assert busy and command.poll() is None, command.communicate()
        busy[0].kill()
        cluster.nodes.remove(busy[0])
        said, _ = command.communicate(timeout=900)
    assert command.returncode == 0 and "4 of 4 runs are done" in said, said
    assert substances(of_bucket(workdir)) == right
