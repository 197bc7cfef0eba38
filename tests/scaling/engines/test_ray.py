"""A Ray cluster of three nodes on this machine: what is killed is trained elsewhere."""

import dataclasses
import io

import numpy as np
import pytest

from scaling.engines import ray
from scaling.engines.child import Settings
from scaling.engines.fleet import Gone, Job, Probe
from scaling.engines.local import Local, cores
from scaling.store import Store
from tests.scaling.test_resume import wait_for
from tests.soak import cluster as soak
from tests.soak import cut_off
from tests.soak.cluster import trains
from tests.support import ray_cluster, real_studies

WHY_NOT = ray_cluster.missing()
NO_NETWORK = WHY_NOT or ray_cluster.Network.missing()


@pytest.mark.slow
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_killed_nodes_and_a_killed_command_cost_nothing(tmp_path):
    study = soak.Study(tmp_path, steps=200)
    with ray_cluster.Cluster(tmp_path / "logs") as cluster:
        outcome = soak.disturbed(study, "disturbed", cluster, seed=0)
    assert (outcome.lost, outcome.wrong) == (0, 0), outcome.said
    assert len(study.right) == 24 and outcome.behind < 60
    # Each killed node took a pack along, which says nothing about its runs.
    assert set(outcome.causes) <= {"lost"}


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_no_cluster_is_one_line(tmp_path):
    text = real_studies.write_text(tmp_path / "text", lines=200)
    study = real_studies.write_study(tmp_path / "s.py", text)
    engine = ["--engine", "ray", "--address", "127.0.0.1:1"]
    code, said = real_studies.run(
        "run", study, "--workdir", "w", *engine, cwd=tmp_path, seconds=120
    )
    assert code == 2 and said.count("\n") == 1, said
    assert "invalid address '127.0.0.1:1'" in said


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK)
def test_a_node_that_was_cut_off_comes_back_and_changes_nothing(tmp_path):
    study = soak.Study(tmp_path, steps=1_000, axes=cut_off.AXES)
    outcome = cut_off.cut_off(study, "disturbed", tmp_path / "logs")
    assert (outcome.lost, outcome.wrong) == (0, 0), outcome.said
    assert outcome.gone, outcome.said  # how far it comes afterwards varies


def node(number, **labels):
    named = {f"ray.io/tpu-{name.replace('_', '-')}": x for name, x in labels.items()}
    resources = {"CPU": 2.0} | ({"TPU": 4.0} if labels else {})
    return {
        "NodeID": f"{number:08x}",
        "NodeManagerHostname": "host",
        "Resources": resources,
        "Labels": named,
    }


def test_the_hosts_of_a_slice_are_one_machine_in_their_order():
    of_one = {"slice_name": "one", "topology": "2x4"}
    first, second = (node(n, worker_id=str(1 - n), **of_one) for n in (0, 1))
    alone = node(2)
    single = node(3, slice_name="three", topology="2x2", worker_id="0")
    machines = ray._machines([first, alone, second, single])
    (slice_name,) = [name for name in machines if name.startswith("one ")]
    assert machines.pop(slice_name) == [second, first]
    assert machines == {"host 00000002": [alone], "host 00000003": [single]}
    assert ray._machines([first]) == {}  # it lacks a host
    replaced = ray._machines([node(9, worker_id="1", **of_one), second])
    assert list(replaced) != [slice_name]


SETTINGS = Settings(data_dir="/home/one/.cache/d", cache="/home/one/.cache/d/compiled")


def test_a_machine_that_went_unseen_is_lost_when_it_is_given_work(monkeypatch):
    cluster = ray.RayCluster("", SETTINGS, "w")
    monkeypatch.setattr(cluster, "hosts", dict)
    job = Job("gone since", Probe())
    cluster.start(job)
    assert list(cluster._judged()) == [
        (job, Gone("it is not in the cluster any more", lost=True))
    ]
    assert list(cluster._judged()) == []


def test_each_user_of_a_machine_keeps_data_in_a_folder_of_their_own(
    monkeypatch, tmp_path
):
    """A machine that joins by ssh may not write where the head's user does."""
    monkeypatch.setenv("HOME", "/home/one")
    sent = ray.RayCluster("", SETTINGS, "w").settings
    elsewhere = dataclasses.replace(SETTINGS, data_dir="/data")
    assert ray.RayCluster("", elsewhere, "w").settings.data_dir == "/data"
    monkeypatch.setenv("HOME", "/home/two")
    used = []

    class Seen(Local):
        def probe(self):
            used.append(self.settings)
            return {}

    monkeypatch.setattr(ray, "Local", Seen)
    said = list(ray.carried_out(Probe(), sent, str(tmp_path)))
    assert [kind for kind, _ in said] == ["begun", "result"]
    assert (used[0].data_dir, used[0].cache) == (
        "/home/two/.cache/d",
        "/home/two/.cache/d/compiled",
    )


def test_a_machine_that_lacks_a_file_of_the_study_does_not_end_the_study(tmp_path):
    settings = dataclasses.replace(SETTINGS, include=(str(tmp_path / "mine.py"),))
    _, (kind, why) = ray.carried_out(Probe(), settings, str(tmp_path))
    assert kind == "gone" and "mine.py" in why


def losses(workdir):
    """The training losses and the readings of a workdir's only run."""
    store = Store(workdir)
    (record,) = store.records()[0]
    curve = np.load(io.BytesIO(store.artifact(record, "loss_curve", 1 << 20)))["loss"]
    return [*curve, *(reading.value for reading in record.readings)]


@pytest.mark.slow
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_run_over_a_slice_that_loses_a_host_ends_on_another_slice(tmp_path):
    """Two slices of two hosts, which claim to have TPUs; the run is on CPU devices."""
    text = real_studies.write_text(tmp_path / "text")
    data = 2 * cores()  # devices of both hosts
    study = real_studies.write_study(
        tmp_path / "little.py", text, steps=400, batch=data
    )
    layout = f"run=1,width=1,data={data}"
    arguments = ("run", study, "--data_dir", tmp_path / "data", "--layout", layout)
    with ray_cluster.Cluster(tmp_path / "logs", JAX_PLATFORMS="cpu") as cluster:
        hosts = []
        for name in ("one", "two"):
            about = {"TPU_NAME": name, "TPU_ACCELERATOR_TYPE": "v6e-8"}
            about |= {"TPU_TOPOLOGY": "2x4"}
            hosts.append(
                [cluster.add(tpus=4, TPU_WORKER_ID=f"{i}", **about) for i in range(2)]
            )
        arguments += ("--engine", "ray", "--address", cluster.address, "--workdir")
        code, said = real_studies.run(*arguments, "whole", cwd=tmp_path, seconds=900)
        assert code == 0, said
        often = ("--checkpoint_seconds", "1")
        command = real_studies.start(*arguments, "w", *often, cwd=tmp_path)
        saved = lambda: list((tmp_path / "w").glob("checkpoints/*/*/*/manifest.json"))
        wait_for(lambda: saved() or command.poll() is not None, 600)
        busy = [pair for pair in hosts if all(map(trains, pair))]
        assert len(busy) == 1 and command.poll() is None, command.communicate()
        busy[0][1].kill()
        said, _ = command.communicate(timeout=900)
    assert command.returncode == 0 and "1 of 1 runs are done" in said, said
    np.testing.assert_allclose(
        losses(tmp_path / "w"), losses(tmp_path / "whole"), rtol=1e-5
    )
    (attempt,) = Store(tmp_path / "w").attempts()
    assert attempt.cause == "lost" and attempt.step > 0
