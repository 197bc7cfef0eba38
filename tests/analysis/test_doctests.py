"""Every public function and method is explained, with an example that runs.

The example of the package comes first; those of its functions and methods go on with
what it made (`rows`, `table`, `fit` and `result`), and so need no analysis of their
own.
"""

from __future__ import annotations

import doctest
import inspect

import pandas as pd
import pytest

import analysis

# Defaults of a class's fields are no part of what it offers.
PLAIN = (str, tuple, dict, bool, int, float, type(None))


def public():
    """Name and object of all that `analysis` offers, with the methods of its types."""
    for name in analysis.__all__:
        offered = getattr(analysis, name)
        if not inspect.isclass(offered):
            yield name, offered
            continue
        for method, kept in vars(offered).items():
            if not method.startswith("_") and not isinstance(kept, PLAIN):
                yield f"{name}.{method}", kept


PUBLIC = dict(public())


def function_of(kept):
    """The function behind a method, a property or a class method."""
    for inside in ("__func__", "fget", "func"):
        kept = getattr(kept, inside, None) or kept
    return kept


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the package's example makes, and a file with its rows."""
    found = doctest.DocTestFinder(recurse=False).find(analysis)[0]
    runner = doctest.DocTestRunner()
    runner.run(found, clear_globs=False)
    assert runner.tries > 10 and runner.failures == 0
    folder = tmp_path_factory.mktemp("doctests")
    pd.DataFrame(found.globs["rows"]).to_csv(folder / "runs.csv", index=False)
    return folder, found.globs


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name, made, monkeypatch):
    folder, globs = made
    monkeypatch.chdir(folder)
    text = inspect.getdoc(function_of(PUBLIC[name])) or ""
    found = doctest.DocTestParser().get_doctest(text, dict(globs), name, None, 0)
    assert found.examples, "give an example"
    runner = doctest.DocTestRunner()
    said: list[str] = []
    runner.run(found, out=said.append)
    assert runner.failures == 0, "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_arguments_and_results_are_explained(name):
    function = function_of(PUBLIC[name])
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    asked = [key for key in signature.parameters if key not in ("self", "cls")]
    for key in asked:
        assert key in text.split("Args:")[-1], key
    if signature.return_annotation not in (None, "None"):
        assert "Returns" in text
