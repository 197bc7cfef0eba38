"""What the documents point to is there, and the public names are what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import scaling
from analysis.schema import frames

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_files_exist(page):
    """`scaling/run.py` and the like, in code marks."""
    tops = r"(?:scaling|analysis|launch|tests|configs|docs|examples)"
    for path in re.findall(rf"`({tops}/[\w/.\-]+)`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_modules_named_for_python_exist():
    for page in PAGES:
        for module in re.findall(r"python -m (tests[\w.]+)", page.read_text()):
            assert (ROOT / (module.replace(".", "/") + ".py")).exists() or (
                ROOT / module.replace(".", "/") / "__main__.py"
            ).exists(), f"{page.name}: {module}"


def test_the_readme_is_read_in_one_go():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in NAMES if name != "README.md" and name not in readme]
    assert not missing


def test_the_public_face_of_scaling_runs():
    outcome = doctest.testmod(scaling)
    assert outcome.attempted >= 4 and outcome.failed == 0
    for name in scaling.__all__:
        assert getattr(scaling, name).__name__ == name


@pytest.mark.parametrize("name", ["claim", "run", "study", "store"])
def test_examples_of_public_functions_run(name):
    globs: dict = {}
    for example in doctest.DocTestParser().get_examples(scaling.__doc__):
        exec(example.source, globs)  # the run that the examples change
    module = importlib.import_module(f"scaling.{name}")
    outcome = doctest.testmod(module, extraglobs={"run": globs["run"]})
    assert outcome.attempted and outcome.failed == 0


@pytest.mark.parametrize("name", sorted(scaling.__all__))
def test_every_public_name_has_an_example(name):
    assert ">>> " in getattr(scaling, name).__doc__


def test_the_page_on_reports_names_every_frame():
    page = (ROOT / "docs/report.md").read_text()
    assert [name for name in frames() if f"`{name}`" not in page] == []
