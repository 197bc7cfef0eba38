"""A study of pictures by the real commands: plan, run, status, and its table."""

from __future__ import annotations

import numpy as np

import analysis
from scaling.store import Store
from tests.support import real_studies

STUDY = real_studies.ROOT / "tests/support/picture_study.py"
CUT = ("--cut", "tiny")
LAYOUT = ("--layout", "run=1,width=1")


def test_a_study_of_pictures_is_planned_trained_and_read(tmp_path):
    where = ("--workdir", "runs", "--data_dir", "data", *CUT)
    code, said = real_studies.run("plan", STUDY, *where, cwd=tmp_path)
    assert code == 0 and "512 pictures, " in said, said
    assert "samples take at most" in said and "shapes: 4 pictures" in said
    assert "pictures to train on" in said and "Traceback" not in said
    code, said = real_studies.run("run", STUDY, *where, *LAYOUT, cwd=tmp_path)
    assert code == 0 and "2 of 2 runs are done" in said, said
    store = Store(tmp_path / "runs")
    by = {r.run["objective"]: r for r in store.records()[0]}
    assert {r.data_unit for r in by.values()} == {"pictures"}
    assert by["denoise"].run["data.half"] == 1
    for record in by.values():
        (file,) = [a for a in record.artifacts if a.name == "samples"]
        with np.load(store.path(file.path)) as arrays:
            digest = str(arrays["shapes:digest"])
            assert arrays["shapes:1:pictures"].shape == (4, 4, 4, 1)
        assert store.path("samples", f"{digest}.npz").exists()
    both = analysis.load(store.root)
    assert len(both.runs) == 2 and len(both.readings) == 1
    (left,) = both.exclusions.reason
    assert "most are in" in left and "--where 'objective == " in left
    assert any("not set beside them" in line for line in both.warnings)
    for objective, unit in (
        ("denoise", "weighed squared error"),
        ("next_token", "nats/dim"),
    ):
        table = analysis.load(
            str(tmp_path / "runs"), where=[f"objective == {objective}"]
        )
        assert table.unit == unit and len(table.readings) == 1
        assert table.counted == "pictures"
        half = table.runs.corpus.iloc[0]
        assert table.sources == {half: "templates[pictures=700,size=4]"}
        assert half == "templates[pictures=700,size=4], half 1"
        # The truth is that of pixels in order; their bits are known beside samples.
        assert table.truth.target.tolist() == ["held out"] * (unit == "nats/dim")
        (bits,) = table.pictures[0].truth.values()
        assert 5.0 < bits < 6.5
