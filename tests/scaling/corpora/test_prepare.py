"""Corpora are prepared once, whole or not at all, and stand damage and company."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from scaling import corpora, plugins
from scaling.corpora import _builder, _splits, _tokens, open_prepared, prepare
from scaling.errors import UserError
from scaling.run import Data, Part
from tests.support.made_text import TEXTS, file_part, texts


def test_documents_are_deduplicated_and_split_by_their_text_alone(lines, tmp_path):
    made = prepare([lines], tmp_path, progress=False)[lines.key]
    train, held_out = texts(made, "train"), texts(made, "held_out")
    assert made.documents == 120 and made.duplicates == 10
    assert sorted(train + held_out) == sorted(text.encode() for text in TEXTS)
    assert all(_splits.text_hash(text) < 0.05 * 2**64 for text in held_out)
    assert all(_splits.text_hash(text) >= 0.05 * 2**64 for text in train)
    assert made.train_bytes == sum(map(len, train))
    assert made.train_tokens == made.train_bytes + len(train)
    assert made.vocab == 257 and made.separator == 256


def test_the_digest_tells_content_and_tokenizer_but_not_the_place(lines, tmp_path):
    one = prepare([lines], tmp_path / "one", progress=False)[lines.key]
    two = prepare([lines], tmp_path / "two", progress=False)[lines.key]
    assert one.digest == two.digest and one.folder != two.folder
    pieces = prepare([lines], tmp_path / "one", "sentencepiece:300", progress=False)
    assert pieces[lines.key].digest != one.digest
    path = tmp_path / "other.txt"
    path.write_text("\n".join([*TEXTS, "one more"]))
    other = file_part(path, unit="line")
    changed = prepare([other], tmp_path / "one", progress=False)[other.key]
    assert changed.digest != one.digest


def test_what_is_prepared_is_opened_and_not_prepared_again(
    lines, tmp_path, monkeypatch
):
    with pytest.raises(UserError, match="is not prepared under"):
        open_prepared(lines, tmp_path)
    made = prepare([lines], tmp_path, progress=False)[lines.key]
    monkeypatch.setattr(_builder, "build", None)
    assert prepare([lines, lines], tmp_path, progress=False) == {lines.key: made}
    assert open_prepared(lines, tmp_path, full=True) == made
    monkeypatch.setenv("SCALING_DATA", str(tmp_path))
    assert open_prepared(lines) == made


def test_a_large_corpus_is_stored_in_several_splits(lines, tmp_path, monkeypatch):
    whole = prepare([lines], tmp_path / "whole", progress=False)[lines.key]
    monkeypatch.setattr(_builder, "SPLIT_BYTES", 500)
    cut = prepare([lines], tmp_path / "cut", progress=False)[lines.key]
    assert len(list(cut.folder.parent.rglob("*train_1*.array_record*"))) > 5
    assert cut.digest == whole.digest


def test_damaged_files_are_found_and_prepared_again(lines, tmp_path, capsys):
    made = prepare([lines], tmp_path, progress=False)[lines.key]
    file = made.folder / "train.tokens"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert open_prepared(lines, tmp_path) == made  # sizes alone are right
    with pytest.raises(UserError, match=r"train\.tokens has changed"):
        open_prepared(lines, tmp_path, full=True)
    file.write_bytes(content[:-2])
    with pytest.raises(UserError, match="should be a file of"):
        open_prepared(lines, tmp_path)
    assert prepare([lines], tmp_path)[lines.key] == made
    assert "preparing it again" in capsys.readouterr().err
    assert open_prepared(lines, tmp_path, full=True) == made
    manifest = made.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"train.tokens"', '"x.tokens"'))
    with pytest.raises(UserError, match="does not match its digest"):
        open_prepared(lines, tmp_path)
    manifest.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        open_prepared(lines, tmp_path)


@pytest.mark.parametrize(
    "name", ["*.array_record*", "dataset_info.json", "corpus.json"]
)
def test_damaged_documents_are_told_when_tokens_are_made(lines, tmp_path, name):
    made = prepare([lines], tmp_path, progress=False)[lines.key]
    shutil.rmtree(made.folder)
    for path in (made.folder.parent / "documents").rglob(name):
        path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(UserError, match="delete it"):
        prepare([lines], tmp_path, progress=False)


SLOW = """
import os
LICENCE = SOURCE = "made"
def version():
    return "1"
def documents():
    with open(os.environ["LOG"], "a") as log:
        log.write("read\\n")
    for i in range(200):
        yield str(i), f"document {i}".encode()
"""

CHILD = """
import sys
from scaling import corpora, plugins
from scaling.corpora import _builder, _tokens
from scaling.run import Part
include, data, stall = sys.argv[1:]
if stall:
    module = {"build": _builder, "write": _tokens}[stall]
    real = getattr(module, stall)
    def half(*arguments):
        made = real(*arguments)
        print("stalled", flush=True)
        sys.stdin.readline()
        return made
    setattr(module, stall, half)
plugins.include(include)
print(corpora.prepare([Part("slow_corpus")], data)["slow_corpus"].digest, flush=True)
"""


@pytest.fixture
def child(tmp_path):
    """Starts a process that prepares a slow corpus; `stall` is where it stops."""
    corpus = tmp_path / "slow_corpus.py"
    corpus.write_text(SLOW)
    (tmp_path / "log").touch()
    started = []

    def start(stall=""):
        environment = os.environ | {"LOG": str(tmp_path / "log")}
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(corpus),
            str(tmp_path / "data"),
            stall,
        ]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.mark.parametrize("stall", ["build", "write"])
def test_killed_half_way_and_prepared_again(child, tmp_path, stall, monkeypatch):
    process = child(stall)
    assert process.stdout.readline() == "stalled\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    plugins.include(str(tmp_path / "slow_corpus.py"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    part = Part("slow_corpus")
    with pytest.raises(UserError, match="is not prepared"):
        open_prepared(part, tmp_path / "data")
    assert list((tmp_path / "data").rglob("*.partial"))
    made = prepare([part], tmp_path / "data", progress=False)[part.key]
    assert made.documents == 200 and open_prepared(part, tmp_path / "data") == made
    assert not list((tmp_path / "data").rglob("*.partial"))
    # What was whole when the process died is not read a second time.
    reads = {"build": 2, "write": 1}[stall]
    assert (tmp_path / "log").read_text() == "read\n" * reads


def test_two_processes_at_once_prepare_one_time(child, tmp_path):
    ahead = child("build")
    assert ahead.stdout.readline() == "stalled\n"
    behind = child()
    assert "another process prepares it" in behind.stderr.readline()
    ahead.stdin.write("go on\n")
    ahead.stdin.flush()
    digests = [process.stdout.readline() for process in (ahead, behind)]
    assert digests[0] == digests[1] != ""
    assert (tmp_path / "log").read_text() == "read\n"


def test_a_data_folder_that_cannot_be_written_or_is_full(lines, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data_dir.*cannot be written"):
        prepare([lines], tmp_path / "file", progress=False)

    def full(*arguments):
        raise OSError("wrapped") from OSError(28, "No space left on device")

    monkeypatch.setattr(_builder, "build", full)
    with pytest.raises(UserError, match=r"data_dir.*disk is full"):
        prepare([lines], tmp_path / "data", progress=False)
    assert not list((tmp_path / "data").rglob("*.partial"))


# Learnt vocabularies.


def test_a_learnt_vocabulary_keeps_every_byte(lines, tmp_path):
    made = prepare([lines], tmp_path, "sentencepiece:300", progress=False)[lines.key]
    assert made.vocab == 301 and made.separator == 300
    assert made.train_tokens < made.train_bytes
    tokenizer = _tokens.load("", (made.folder / _tokens.MODEL).read_bytes())
    for text in ("a  b\n\n c\t\r\n", " é 漢字 🙂 \x00", "▁ _", TEXTS[3]):
        assert tokenizer.decode(tokenizer.encode(text.encode())) == text.encode()
    plain = prepare([lines], tmp_path, progress=False)[lines.key]
    assert made.train_bytes == plain.train_bytes


def test_corpora_with_vocabularies_of_their_own_are_not_mixed(made, lines, tmp_path):
    parts = (made.part, lines)
    prepared = prepare(parts, tmp_path, "sentencepiece:300", progress=False)
    data = Data(parts, 512, tokenizer="sentencepiece:300")
    with pytest.raises(UserError, match="sentencepiece:300:files") as error:
        corpora.TokenStream(made.run(data=data), prepared)
    assert error.value.field == "data.tokenizer"


def test_a_vocabulary_learnt_from_a_named_corpus(lines, tmp_path, monkeypatch):
    teacher = tmp_path / "teacher.py"
    teacher.write_text(SLOW)
    plugins.include(str(teacher))
    monkeypatch.setenv("LOG", os.devnull)
    tokenizer = "sentencepiece:300:teacher"
    parts = (lines, Part("teacher"))
    prepared = prepare(parts, tmp_path, tokenizer, progress=False)
    assert len({made.vocabulary for made in prepared.values()}) == 1
    opened = open_prepared(lines, tmp_path, tokenizer)
    assert opened == prepared[lines.key]


@pytest.mark.parametrize("tokenizer", ["words", "sentencepiece", "sentencepiece:2"])
def test_an_unknown_tokenizer(lines, tmp_path, tokenizer):
    with pytest.raises(UserError, match="bytes, or sentencepiece:SIZE"):
        prepare([lines], tmp_path, tokenizer, progress=False)
