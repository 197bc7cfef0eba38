import pytest

from launch import source
from tests.support.fake_cloud import Cloud
from tests.support.launching import Launcher


@pytest.fixture(scope="session")
def servers():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(servers):
    servers.empty()
    return servers


@pytest.fixture
def launcher(cloud, tmp_path):
    return Launcher(cloud, tmp_path)


@pytest.fixture
def study(tmp_path):
    """A study and a family of the user's own, outside the source tree."""
    folder = tmp_path / "my studies"
    folder.mkdir()
    text = (source.ROOT / "configs" / "smoke.py").read_text()
    # As many windows a step as the largest slice of the tests has devices.
    (folder / "first try.py").write_text(text.replace("LENGTH = 4,", "LENGTH = 16,"))
    (folder / "my corpus.py").write_text("documents = list\n")
    return folder / "first try.py"
