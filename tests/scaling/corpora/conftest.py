"""Fixtures that tests of corpora share."""

import pytest

from scaling.run import Part
from tests.support.made_text import TEXTS, file_part


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> Part:
    """120 short documents, ten of them twice, and two empty lines."""
    path = tmp_path_factory.mktemp("lines") / "all.txt"
    path.write_text("\n".join([*TEXTS, "", "  ", *TEXTS[:10]]))
    return file_part(path.parent, unit="line")
