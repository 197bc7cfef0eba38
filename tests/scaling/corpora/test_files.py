"""Files of the user's own: read whole, or refused by one line; nothing in between."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import random
import socket
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from scaling.corpora import _unpacked, files, prepare
from scaling.errors import UserError
from scaling.run import Part, options

TEXTS = [f"{i} " + "some words of text, " * (i % 7 + 1) for i in range(200)]
LINES = "".join(f"{text}\n" for text in TEXTS).encode()
JSONL = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
HALF = len(JSONL) // 2
PACK = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
NULL = b'{"text": null}\n'


def table(values, name="text") -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({name: values}), out)
    return out.getvalue()


def read(folder: Path, **more) -> list[str]:
    return [text.decode() for _, text in files.documents(str(folder), **more)]


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


PARQUET = table(TEXTS)


def names(kind):
    return [f"{kind}.{packing}" for packing in PACK]


def halves(pack):
    return pack(JSONL[:HALF]) + pack(JSONL[HALF:])


WHOLE = {
    "A.JSONL": JSONL,
    "A.Jsonl.GZ": gzip.compress(JSONL),
    "bom.jsonl": b"\xef\xbb\xbf" + JSONL,
    "crlf.jsonl": JSONL.replace(b"\n", b"\r\n"),
    **{f"two.jsonl.{end}": halves(pack) for end, pack in PACK.items()},
    "padded.jsonl.gz": gzip.compress(JSONL) + bytes(10_000),
    "skipped.jsonl.zst": b"\x50*M\x18\x03\0\0\0abc" + zstandard.compress(JSONL),
    "A.PARQUET": PARQUET,
    "bytes.parquet": table(pyarrow.array([t.encode() for t in TEXTS])),
    "large.parquet": table(pyarrow.array(TEXTS, pyarrow.large_string())),
    "view.parquet": table(pyarrow.array(TEXTS, pyarrow.string_view())),
    "levels.parquet": table(pyarrow.array(TEXTS).dictionary_encode()),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_is_read_whole(tmp_path, name):
    put(tmp_path, name, WHOLE[name])
    assert read(tmp_path) == TEXTS


@pytest.mark.parametrize("name", ["a.txt", "bom.TXT", *names("a.txt")])
def test_lines_of_text_are_read_whole(tmp_path, name):
    content = b"\xef\xbb\xbf" + LINES if name.startswith("bom") else LINES
    pack = PACK.get(name.rpartition(".")[2], bytes)
    put(tmp_path, name, pack(content))
    assert read(tmp_path, unit="line") == TEXTS


def damaged(pack) -> bytes:
    data = bytearray(pack(JSONL))
    data[len(data) // 2 :] = bytes(255 - byte for byte in data[len(data) // 2 :])
    return bytes(data)


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return out.getvalue()


def not_utf8_column() -> bytes:
    """A column of strings, one of which is none: arrow takes it as it is."""
    offsets = pyarrow.array([0, 2, 4], pyarrow.int32()).buffers()[1]
    text = pyarrow.py_buffer(b"ab\xff\xfe")
    return table(pyarrow.StringArray.from_buffers(2, offsets, text))


ZSTD = zstandard.compress
REFUSED = {
    # Packed: cut at its end, in the middle, in its second part, before its text.
    **{f"cut.jsonl.{e}": (p(JSONL)[:-1], "cut short, after") for e, p in PACK.items()},
    **{f"mid.txt.{e}": (p(JSONL)[:400], "cut short, after") for e, p in PACK.items()},
    **{f"2.jsonl.{e}": (halves(p)[:-9], "cut short, after") for e, p in PACK.items()},
    **{
        f"0.jsonl.{e}": (p(JSONL)[:7], "cut short|not compressed")
        for e, p in PACK.items()
    },
    **{f"none.jsonl.{e}": (b"", "is empty") for e in PACK},
    **{f"bad.jsonl.{e}": (damaged(p), "is damaged") for e, p in PACK.items()},
    **{
        f"more.jsonl.{e}": (
            p(JSONL) + b"garbage, much of it",
            "continues with data",
        )
        for e, p in PACK.items()
    },
    # Not what the name says.
    **{f"text.jsonl.{e}": (JSONL, "it is not compressed with") for e in PACK},
    **{f"{e}.jsonl": (p(JSONL), f"ends in .{e}") for e, p in PACK.items()},
    **{f"{e}.txt": (p(JSONL), f"ends in .{e}") for e, p in PACK.items()},
    "zst.jsonl.gz": (ZSTD(JSONL), "is compressed with zstd; .* ends in .zst"),
    "twice.jsonl.gz": (
        gzip.compress(gzip.compress(JSONL)),
        "unpacked, compressed with gzip",
    ),
    "parquet.txt": (PARQUET, "is a Parquet file; .* ends in .parquet"),
    "parquet.jsonl": (PARQUET, "is a Parquet file; .* ends in .parquet"),
    "parquet.jsonl.gz": (gzip.compress(PARQUET), "unpacked, a Parquet file"),
    "text.parquet": (LINES, "is not a Parquet file"),
    "gz.parquet": (gzip.compress(JSONL), "is compressed with gzip"),
    "page.txt": (b"%PDF-1.7\n", "is a PDF document; take the text out"),
    "zip.txt": (b"PK\x03\x04...", "is a zip archive"),
    "tar.txt": (tar(), "is a tar archive"),
    "tar.txt.gz": (gzip.compress(tar()), "unpacked, a tar archive"),
    # Text that is not UTF-8.
    "latin.txt": (LINES + b"caf\xe9\n", "latin.txt'.*not UTF-8 at byte"),
    "latin.jsonl": (JSONL + b'{"text": "\xe9"}\n', "latin.jsonl:201'.*not UTF-8"),
    "16.txt": (LINES.decode().encode("utf-16"), "UTF-16 text; .*iconv"),
    "16.jsonl": (JSONL.decode().encode("utf-16"), "UTF-16 text; .*iconv"),
    "16le.jsonl": (JSONL.decode().encode("utf-16-le"), "jsonl:1'.*zero byte at byte 1"),
    "32.txt": (LINES.decode().encode("utf-32"), "UTF-32 text"),
    "hole.jsonl": (JSONL + bytes(999), "jsonl:201'.*zero byte at byte 0"),
    # JSON.
    "word.jsonl": (JSONL + b"nonsense\n", "jsonl:201'.*not one JSON object"),
    "cut.jsonl": (JSONL[:-9], "jsonl:200'.*not one JSON object"),
    "array.jsonl": (b"[" + JSONL, "array.jsonl:1'.*not one JSON object"),
    "list.jsonl": (JSONL + b"[1]\n", "jsonl:201'.*not a JSON object but a list"),
    "deep.jsonl": (b"[" * 100_000, "deep.jsonl:1'.*is not JSON that can be read"),
    "other.jsonl": (JSONL + b'{"body": "x"}\n', r"jsonl:201 has no.*\['body'\]"),
    "number.jsonl": (JSONL + b'{"text": 3}\n', "jsonl:201'.*a number in the field"),
    "flag.jsonl": (JSONL + b'{"text": true}\n', "jsonl:201'.*true or false in the"),
    "lists.jsonl": (JSONL + b'{"text": ["x"]}\n', "jsonl:201'.*a list in the field"),
    # Tables.
    "cut.parquet": (PARQUET[:-200], "cut short or damaged"),
    "head.parquet": (PARQUET[:9], "cut short or damaged"),
    "none.parquet": (b"", "is empty"),
    "page.parquet": (PARQUET[:30] + b"\xff" * 300 + PARQUET[330:], "short or damaged"),
    "bytes.parquet": (table([b"fine", b"caf\xe9"]), "row 1'.*not UTF-8 at byte 3"),
    "strings.parquet": (not_utf8_column(), "row 1'.*not UTF-8 at byte 0"),
    "lists.parquet": (table([["a"]]), "list<.*in the column 'text', not text"),
    "structs.parquet": (table([{"a": "b"}]), "struct<.*in the column 'text'"),
    "numbers.parquet": (table([1, 2]), "int64 in the column 'text'"),
    "levels.parquet": (table(pyarrow.array([1]).dictionary_encode()), "in the column"),
    "other.parquet": (table(TEXTS, "body"), r"no such column.*\['body'\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_whole_is_refused_in_one_line(tmp_path, name):
    content, said = REFUSED[name]
    put(tmp_path, name, content)
    with pytest.raises(UserError, match=said) as raised:
        read(tmp_path)
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_a_refused_file_leaves_nothing_prepared(tmp_path):
    put(tmp_path / "texts", "a.jsonl", JSONL)
    put(tmp_path / "texts", "b.jsonl.zst", ZSTD(LINES)[:-1])
    part = Part("files", options=options(path=str(tmp_path / "texts")))
    with pytest.raises(UserError, match="cut short"):
        prepare([part], tmp_path / "data", progress=False)
    left = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert left == ["lock"]


def test_damage_anywhere_in_a_table_is_told_or_harmless(tmp_path):
    source = random.Random(3)
    for _ in range(150):
        content = bytearray(PARQUET)
        content[source.randrange(len(content))] = source.randrange(256)
        put(tmp_path, "a.parquet", bytes(content[: source.choice((None, -1, 500))]))
        try:
            assert len(read(tmp_path)) == len(TEXTS)
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL + NULL * 9 + b'{"text": ""}\n{"text": " \\n"}\n\n' + NULL),
        ("a.parquet", table([*TEXTS, *[None] * 10, "", " \n"])),
        ("b.parquet", table(pyarrow.array([*TEXTS, *[None] * 12]).dictionary_encode())),
        ("c.parquet", table([*(t.encode() for t in TEXTS), *[None] * 12])),
    ],
)
def test_documents_without_text_are_counted_alike(tmp_path, name, content, capsys):
    put(tmp_path / "texts", name, content)
    part = Part("files", options=options(path=str(tmp_path / "texts")))
    made = prepare([part], tmp_path / "data")[part.key]
    assert (made.documents, made.empty) == (len(TEXTS), 12)
    assert "12 documents without text left out" in capsys.readouterr().err
    prepare([part], tmp_path / "data")
    assert not capsys.readouterr().err


def test_what_is_not_read_is_said_once(tmp_path, capsys):
    put(tmp_path / "texts", "a.jsonl", JSONL)
    put(tmp_path / "texts", "README.md", b"about it")
    put(tmp_path / "texts", "empty.txt", b"")
    part = Part("files", options=options(path=str(tmp_path / "texts")))
    prepare([part], tmp_path / "data")
    said = capsys.readouterr().err
    assert "1 document without text left out" in said
    assert "not read, since of other kinds: 1 .md" in said


def test_a_folder_with_nothing_in_it_says_what_is_there(tmp_path):
    with pytest.raises(UserError, match="there is nothing to read"):
        read(tmp_path)
    put(tmp_path, "a.csv", b"x")
    put(tmp_path, "b.CSV.bak", b"x")
    with pytest.raises(UserError, match=r"it has 1 \.csv, 1 \.bak"):
        read(tmp_path)
    put(tmp_path / "blank", "a.jsonl", NULL * 3)
    part = Part("files", options=options(path=str(tmp_path / "blank")))
    with pytest.raises(UserError, match="no document but 3 without text"):
        prepare([part], tmp_path / "data", progress=False)


# Where files lie.


def test_links_are_followed_and_nothing_is_read_twice(tmp_path):
    put(tmp_path / "else", "c.txt", b"third")
    place = put(tmp_path / "place", "a.txt", b"first").parent
    put(place, "below/b.txt", b"second")
    (place / "below" / "up").symlink_to("..")
    (place / "here").symlink_to(".")
    (place / "linked").symlink_to(tmp_path / "else")
    (place / "again").symlink_to(tmp_path / "else")
    (place / "z.txt").symlink_to("a.txt")
    os.link(place / "a.txt", place / "y.txt")
    wanted = ["first", "second", "third"]
    assert sorted(read(place)) == wanted
    assert sorted(read(place / "**" / "*.txt")) == wanted
    assert read(place) == read(place)


@pytest.mark.parametrize("folder", ["a [1]", "b ~ c", "*star*", "d?", "é"])
def test_names_of_folders_are_taken_as_they_are(tmp_path, folder, monkeypatch):
    put(tmp_path / folder, "below [x]/a.txt", b"one")
    put(tmp_path / folder, "below [x]/b.txt", b"two")
    put(tmp_path / "a 1", "below x/a.txt", b"another")
    monkeypatch.chdir(tmp_path)
    for path in (folder, f"./{folder}/below [x]", f"{folder}/below [x]/*.txt"):
        assert read(path) == ["one", "two"]
    assert read(f"{folder}/below [x]/b.txt") == ["two"]
    assert read(f"{folder}/*/[ab].txt") == ["one", "two"]


def test_a_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "texts", "a.txt", b"one")
    assert read("~/texts") == ["one"] == read("~/texts/*.txt")
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "~none", "a.txt", b"two")
    assert read("~none") == ["two"]


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # a socket's path has a short limit


ODD = {
    "a pipe": (pipe, "a pipe"),
    "a socket": (listening, "a socket"),
    "a link to nothing": (lambda p: p.symlink_to("none"), "a link that leads to no"),
    "a link to itself": (lambda p: p.symlink_to(p.name), "a link that leads to no"),
    "an empty folder": (lambda p: p.mkdir(), "a folder with nothing to read"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_named_as_text_and_is_none(tmp_path, kind, monkeypatch):
    make, said = ODD[kind]
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.txt", b"one")
    make(tmp_path / "x.jsonl")
    for path in (tmp_path, tmp_path / "*.*"):
        with pytest.raises(UserError, match=rf"x\.jsonl': it is {said}"):
            read(path)
    with pytest.raises(UserError, match=f"{said}|there is nothing to read"):
        read(tmp_path / "x.jsonl")


def test_a_folder_named_as_text_is_read_as_a_folder(tmp_path):
    put(tmp_path, "x.jsonl/part-0.txt", b"one")
    assert read(tmp_path) == read(tmp_path / "*.jsonl") == ["one"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path):
    path = put(tmp_path, "below/a.txt", b"one")
    path.chmod(0)
    with pytest.raises(UserError, match=r"a\.txt'.* Permission denied"):
        read(tmp_path)
    path.parent.chmod(0)
    with pytest.raises(UserError, match=r"below'.* Permission denied"):
        read(tmp_path)
    path.parent.chmod(0o700)


def test_an_error_of_the_system_is_one_line(tmp_path, monkeypatch):
    put(tmp_path, "a.txt", b"one")

    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(_unpacked, "open", lambda *a, **k: Broken(), raising=False)
    with pytest.raises(UserError, match=r"a\.txt'.* Input/output error"):
        read(tmp_path)


def test_a_name_that_is_no_utf8(tmp_path):
    put(tmp_path, os.fsdecode(b"\xff.txt"), b"one")
    ((key, text),) = files.documents(str(tmp_path))
    assert key.encode() and text == b"one"


@pytest.mark.parametrize("path", ["", "gs://bucket/texts", "a\0b"])
def test_paths_that_are_none(path):
    with pytest.raises(UserError, match=r"data\.corpus path"):
        read(path)


def test_a_file_of_the_same_size_and_time_is_another_version(tmp_path):
    path = put(tmp_path, "a.txt", b"before")
    state, version = path.stat(), files.version(str(tmp_path))
    put(tmp_path, "a.txt", b"after.")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert files.version(str(tmp_path)) != version


def test_text_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = put(tmp_path / "texts", "a.jsonl", JSONL)
    real = files.documents

    def growing(*arguments, **more):
        yield from real(*arguments, **more)
        path.write_bytes(JSONL + JSONL)

    monkeypatch.setattr(files, "documents", growing)
    part = Part("files", options=options(path=str(path.parent)))
    with pytest.raises(UserError, match="changed while it was read"):
        prepare([part], tmp_path / "data", progress=False)


def test_documents_too_large_to_store_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    put(tmp_path, "a.txt", LINES)
    for unit in ("file", "paragraph", "line"):
        with pytest.raises(UserError, match=r"a\.txt.*cut it into smaller"):
            read(tmp_path, unit=unit)


def test_the_column_is_named_as_the_field_is_unless_said(tmp_path):
    put(tmp_path, "a.parquet", table(TEXTS, "body"))
    put(tmp_path, "b.jsonl", JSONL.replace(b'"text"', b'"body"'))
    assert read(tmp_path, field="body") == 2 * TEXTS
    put(tmp_path, "a.parquet", table(TEXTS, "other"))
    assert read(tmp_path, field="body", column="other") == 2 * TEXTS
