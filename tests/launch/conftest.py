import pytest

from launch import source
from tests.support.fake_gcloud import Cloud


@pytest.fixture
def cloud(tmp_path, monkeypatch, capfd):
    return Cloud(tmp_path, monkeypatch, capfd)


@pytest.fixture
def study(tmp_path):
    """A study and a family of the user's own, outside the source tree."""
    folder = tmp_path / "my studies"
    folder.mkdir()
    text = (source.ROOT / "configs" / "smoke.py").read_text()
    (folder / "first try.py").write_text(text.replace("LENGTH = 4,", "LENGTH = 8,"))
    (folder / "my corpus.py").write_text("documents = list\n")
    return folder / "first try.py"
