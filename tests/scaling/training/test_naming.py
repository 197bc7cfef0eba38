"""Which real picture is nearest, and what its caption says, by plain loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scaling.corpora import _samples, prepare
from scaling.run import Data, Model, Optimiser, Part, Run, Samples, options
from scaling.training import naming
from scaling.training.naming import Text

GLYPHS = Part("glyphs", options=options(size=8, captions=40, new="combinations"))


def caption(text: str, size: int = 12) -> np.ndarray:
    body = list(text.encode()[:size])
    return np.array(body + [256] * (size - len(body)))


def test_a_caption_has_a_style_and_a_subject():
    assert naming.parts(caption("")) == {}
    assert naming.parts(caption("a bird")) == {"subject": Text(b"a bird", False)}
    assert naming.parts(caption("sans: letter a")) == {
        "style": Text(b"sans", False),
        "subject": Text(b"letter", True),
    }


def test_what_was_cut_agrees_with_all_that_goes_on_from_it():
    whole, cut = Text(b"letter a", False), Text(b"letter", True)
    assert cut.is_of(whole) and cut.is_of(Text(b"letter b", True))
    assert whole.is_of(whole) and not whole.is_of(Text(b"letter ab", False))
    # A caption that is cut before its end does not say that it is this one.
    assert not whole.is_of(cut) and not whole.is_of(Text(b"letter a", True))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare([GLYPHS], tmp_path_factory.mktemp("glyphs"), progress=False)


def test_pictures_are_named_as_a_plain_loop_names_them(prepared):
    run = Run(
        model=Model("mixer", 8_000),
        data=Data((GLYPHS,), 2_048, unique_tokens=2_048, caption_dropout=0.5),
        optimiser=Optimiser(3e-3),
        batch=64,
        length=1,
        evaluation=(),
        objective="denoise",
        samples=(Samples("captioned", (GLYPHS,), count=24),),
    )
    made = _samples.cut(run.samples[0], prepared)
    whole = dataclasses.replace(run.data, caption_dropout=0.0)
    reading = naming.Reading.of(dataclasses.replace(run, data=whole), prepared)
    rows = np.concatenate(list(reading.rows()))
    # Samples that are training pictures are what their captions say.
    pictures = (rows[5:29, :64] / 255.0).reshape(-1, 8, 8, 1)
    asked = dataclasses.replace(made, rows=rows[5:29])
    found = naming.named(pictures, asked, run, prepared)
    assert found["right_style"].all() and found["right_subject"].all()
    assert found["chance_style"].mean() < 0.5 > found["chance_subject"].mean()
    found = naming.named(pictures, made, run, prepared)
    texts = [naming.parts(one[64:]) for one in made.rows]
    real = [naming.parts(one[64:]) for one in rows]
    for name in naming.PARTS:
        known = [
            k
            for k, one in enumerate(real)
            if any(t[name].is_of(one[name]) for t in texts)
        ]
        for i, picture in enumerate(pictures):
            far = [np.sum((picture.ravel() - rows[k, :64] / 255.0) ** 2) for k in known]
            guess = real[known[int(np.argmin(far))]][name]
            says = [t[name].is_of(guess) for t in texts]
            assert found[f"right_{name}"][i] == says[i]
            assert found[f"chance_{name}"][i] == pytest.approx(np.mean(says))
    kept = naming.real(made, run, prepared)
    assert {name: len(each) for name, each in kept.items()} == {
        "real_style": 24,
        "real_subject": 24,
    }
    plain = dataclasses.replace(GLYPHS, options=options(size=8))
    bare = dataclasses.replace(run, data=dataclasses.replace(whole, corpus=(plain,)))
    assert (
        naming.named(pictures, made, bare, {**prepared, plain.key: _bare(prepared)})
        == {}
    )


def _bare(prepared):
    """The corpus as if it had no captions."""
    made = prepared[GLYPHS.key]
    return dataclasses.replace(made, images=made.images._replace(caption=0))
