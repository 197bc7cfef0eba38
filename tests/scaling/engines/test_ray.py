"""A Ray cluster of three nodes on this machine: what is killed is trained elsewhere."""

import pytest

from tests.soak import cluster as soak
from tests.soak import cut_off
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
