"""What the README shows works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import families, plugins

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def window(tmp_path, monkeypatch):
    """The README's example family, included as a user would."""
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "window.py").write_text(source)
    monkeypatch.setattr(plugins, "_included", {})
    plugins.include(str(tmp_path / "window.py"))
    return families.load("window")


def test_example_family_is_a_family(window):
    assert "window" in families.names()
    spec = families.Tokens(257, 32)
    sizes = [window.params(window.ladder(n, spec)) for n in (8_000, 72_000, 10**9)]
    np.testing.assert_allclose(sizes, (8_000, 72_000, 10**9), rtol=0.1)
    config = window.ladder(8_000, spec)
    build = lambda: window.Model(config, spec, nnx.Rngs(jax.random.key(0)))
    model = build()
    ids = jnp.arange(32)[None]
    y = model(ids).y
    late = model(ids.at[0, 20].set(200)).y
    np.testing.assert_array_equal(y[0, :20], late[0, :20])
    assert not np.array_equal(y[0, 20], late[0, 20])


def test_example_family_trains(window, made, tmp_path):
    from tests.scaling.training.test_trainer import curve, trained

    (record,) = trained(made, [made.run("window")], tmp_path / "work")
    losses = curve(record, tmp_path / "work")
    assert losses[-1] < losses[0] - 0.5
    assert record.flops_xla == pytest.approx(record.flops, rel=0.05)
