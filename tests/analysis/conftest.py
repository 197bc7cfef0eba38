"""What several tests of the report share: a made analysis, and its report."""

from __future__ import annotations

import pytest

from analysis.questions import fits
from analysis.report import build, canvas
from tests.support.made_analysis import made_analysis
from tests.support.made_answers import answers


@pytest.fixture(scope="session")
def study():
    return made_analysis().replace(**answers())


@pytest.fixture(scope="session")
def written(study, tmp_path_factory):
    """The report on one target; one drawing stands for each, all are in test_plots."""
    one = study.replace(targets=("mixture",))
    drawing = canvas.render(fits.draw_fits, one, "mixture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "render", lambda *_: drawing)
        return build.write(one, tmp_path_factory.mktemp("report"))
