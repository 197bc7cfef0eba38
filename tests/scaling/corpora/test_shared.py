"""Corpora are prepared once for all hosts, which read them through a bucket."""

import os
import shutil

import pytest
from etils import epath

from scaling import corpora
from scaling.corpora import _builder, _shared, obtain, prepare
from scaling.errors import UserError
from scaling.run import Part, options
from tests.support import gcs
from tests.support.made_text import TEXTS, file_part

needs_bucket = pytest.mark.skipif(bool(gcs.missing()), reason=gcs.missing())


@pytest.fixture(scope="module")
def bucket():
    with gcs.emulator() as address:
        yield address


def content(made):
    """All bytes that a run can read, by file."""
    return {path.name: path.read_bytes() for path in made.folder.iterdir()}


def nothing_is_prepared(monkeypatch):
    for name in ("build", "read"):
        monkeypatch.setattr(_builder, name, None)


PICTURES = Part("templates", options=options(size=4, pictures=200))


@needs_bucket
@pytest.mark.parametrize("tokenizer", ["bytes", "sentencepiece:300", "pictures"])
def test_the_second_host_only_reads(bucket, lines, tmp_path, monkeypatch, tokenizer):
    part, shared = lines, f"{bucket}/{tokenizer}"
    if tokenizer == "pictures":
        part, tokenizer = PICTURES, "bytes"
    first = prepare([part], tmp_path / "a", tokenizer, False, shared)[part.key]
    before = gcs.versions(shared)
    nothing_is_prepared(monkeypatch)
    second = prepare([part], tmp_path / "b", tokenizer, False, shared)[part.key]
    assert second.digest == first.digest and content(second) == content(first)
    assert second.folder == tmp_path / "b" / first.folder.relative_to(tmp_path / "a")
    # A third one that cannot tell what the corpus would be: it has no text.
    monkeypatch.setattr(corpora.load(part.name), "version", None)
    third = obtain(part, first.digest, tmp_path / "c", tokenizer, shared)
    assert content(third) == content(first)
    opened = corpora.open_prepared(part, tmp_path / "c", tokenizer, digest=first.digest)
    assert opened == third == obtain(part, first.digest, tmp_path / "c", tokenizer, "")
    assert gcs.versions(shared) == before


@needs_bucket
def test_what_was_put_there_in_part_or_damaged_is_put_there_anew(
    bucket, lines, tmp_path, monkeypatch, capsys
):
    shared = f"{bucket}/damaged"
    monkeypatch.setattr(_shared, "write_atomic", None)
    with pytest.raises(TypeError):  # as if it were killed there
        prepare([lines], tmp_path / "a", shared=shared)
    monkeypatch.undo()
    files = gcs.names(shared)
    assert files and not [name for name in files if name.endswith(".json")]
    made = prepare([lines], tmp_path / "a", shared=shared)[lines.key]
    there = epath.Path(shared) / _shared.folder_name("files", made.digest)
    for damage in (
        lambda: (there / "train.tokens").write_bytes(b"other"),
        lambda: (there / "train.documents").unlink(),
        lambda: (there / "manifest.json").write_bytes(b"{"),
    ):
        damage()
        with pytest.raises(UserError, match="start again") as wrong:
            obtain(lines, made.digest, tmp_path / "host", "bytes", shared)
        assert str(there) in str(wrong.value)
        capsys.readouterr()
        again = prepare([lines], tmp_path / "b", shared=shared)[lines.key]
        assert again.digest == made.digest
        assert f"put {lines.key} into {there}" in capsys.readouterr().err
        shutil.rmtree(tmp_path / "b")
        obtain(lines, made.digest, tmp_path / "host", "bytes", shared)
        shutil.rmtree(tmp_path / "host")
    (there / "manifest.json").unlink()
    assert prepare([lines], tmp_path / "b", shared=shared)[lines.key].digest
    assert "has no manifest.json; preparing it again" in capsys.readouterr().err


def test_a_host_with_another_text_and_no_bucket_is_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXTS))
    part = file_part(text, unit="line")
    made = prepare([part], tmp_path / "a", progress=False)[part.key]
    same = obtain(part, made.digest, tmp_path / "b", "bytes", "")
    assert same.digest == made.digest
    text.write_text("\n".join(TEXTS[:60]))
    assert obtain(part, made.digest, tmp_path / "b", "bytes", "") == same
    with pytest.raises(UserError, match="has another content on"):
        obtain(part, made.digest, tmp_path / "c", "bytes", "")


def test_where_corpora_are_shared(monkeypatch, tmp_path):
    monkeypatch.delenv("SCALING_DATA", raising=False)
    usual = os.path.expanduser("~/.cache/datalaw")
    assert corpora.places(None, "/w") == (usual, "")
    assert corpora.places(None, "gs://b/w") == (usual, "gs://b/w/corpora")
    assert corpora.places("gs://b/d/", "gs://c/w") == (usual, "gs://b/d")
    monkeypatch.setenv("SCALING_DATA", str(tmp_path))
    assert corpora.places(None, "/w") == (str(tmp_path), "")
    assert corpora.places("gs://b/d", "/w") == (str(tmp_path), "gs://b/d")
    assert corpora.places("/d", "gs://b/w") == ("/d", "gs://b/w/corpora")
    monkeypatch.setenv("SCALING_DATA", "gs://b/e")
    assert corpora.places(None, "/w") == (usual, "gs://b/e")
    for wrong in ("s3://b/d", "gs://", "gs://b/[d]"):
        with pytest.raises(UserError, match="invalid data_dir"):
            corpora.places(wrong, "/w")
    with pytest.raises(UserError, match="give a local folder"):
        corpora.data_folder("gs://b/d")
