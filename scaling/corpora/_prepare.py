"""Prepares corpora once under a data folder, and opens what is prepared.

The data folder is the one given, $SCALING_DATA or ~/.cache/datalaw. A corpus has a
folder in it, named by the corpus and a hash of its options, version and split rule:
    documents/          the TFDS builder's ArrayRecord files, all splits
    TOKENIZER/          token files, index of documents, vocabulary, manifest.json
Each is written beside its place and renamed into it, under a lock of the corpus: two
processes can prepare at once, and one that is killed leaves nothing that counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scaling import corpora, families
from scaling.corpora import _splits, _tokens
from scaling.errors import UserError
from scaling.run import Part, Run

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A corpus in tokens, on disk.

    Attributes:
      key: `Part.key`.
      digest: sha256 over what a run can read: both splits' token files, index and
        vocabulary. Tokenizer, text and split rule all show in it.
      folder: where the token files are.
      vocab: number of ids, the separator (the last of them) included.
      vocabulary: sha256 of a learnt vocabulary, "" for bytes.
      train_tokens, held_out_tokens: separators included.
      train_documents, held_out_documents: after exact duplicates were dropped.
      train_bytes, held_out_bytes: of UTF-8 text, separators not counted.
      images: what models of "denoise" read, where it is a corpus of pictures. In one,
        a token is a picture, a document a group of them, a byte a value of a pixel.
      halves: training pictures of either half.
      documents: documents of both splits.
      duplicates: documents dropped.
      empty: documents left out since they have no text.
    """

    key: str
    digest: str
    folder: Path
    tokenizer: str
    vocab: int
    vocabulary: str
    train_tokens: int
    held_out_tokens: int
    train_documents: int
    held_out_documents: int
    train_bytes: int
    held_out_bytes: int
    duplicates: int
    empty: int
    licence: str
    source: str
    images: families.Images | None = None
    halves: tuple[int, int] = (0, 0)

    @property
    def separator(self) -> int:
        return self.vocab - 1

    def spec(self, run: Run) -> families.Spec:
        """What the models of a run of this corpus read."""
        if self.images is None:
            return families.Tokens(self.vocab, run.length)
        if run.objective == "denoise":
            return self.images
        prefix = self.images.row - self.images.size
        return families.Tokens(self.vocab, self.images.row, prefix)

    def readable(self, half: int) -> int:
        """Training tokens of a half; of the whole for half 0."""
        return self.halves[half - 1] if half else self.train_tokens

    @property
    def unit(self) -> str:
        """What its tokens are."""
        return "tokens" if self.images is None else "pictures"

    @property
    def documents(self) -> int:
        return self.train_documents + self.held_out_documents

    @property
    def bytes(self) -> int:
        return self.train_bytes + self.held_out_bytes


def spec_of(run: Run, prepared: Mapping[str, Prepared]) -> families.Spec:
    """What the models of a run read.

    Args:
      prepared: by `Part.key`, for at least the run's training corpora.
    """
    return prepared[run.data.corpus[0].key].spec(run)


class Damaged(Exception):
    """Files of a prepared corpus are not what was written."""


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where corpora are prepared: `data_dir`, else $SCALING_DATA, else the cache."""
    chosen = data_dir or os.environ.get("SCALING_DATA") or "~/.cache/datalaw"
    return Path(chosen).expanduser()


def prepare(
    parts: Iterable[Part],
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str = "bytes",
    progress: bool = True,
) -> dict[str, Prepared]:
    """Prepares what is not prepared yet; by `Part.key`.

    Raises:
      UserError: unknown corpus, option or tokenizer, a missing wheel, a corpus too
        small to split, a data folder that cannot be written or is full.
    """
    root = data_folder(data_dir)
    prepared = {}
    for part in {part.key: part for part in parts}.values():
        try:
            prepared[part.key] = _prepare(part, root, tokenizer, progress)
        except OSError as error:
            raise _explained(error, root) from error
    return prepared


def open_prepared(
    part: Part,
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str = "bytes",
    full: bool = False,
) -> Prepared:
    """Opens a prepared corpus; prepares nothing.

    Sizes are always checked; the content is too where `full`.

    Raises:
      UserError: it is not prepared, or its files are damaged.
    """
    root = data_folder(data_dir)
    folder = _folder(part, root) / _slug(tokenizer)
    if not folder.is_dir():
        raise UserError("data.corpus", part.key, f"is not prepared under {root}")
    try:
        return _open(part, folder, full)
    except Damaged as error:
        raise UserError(
            "data.corpus", part.key, f"{error}; delete {folder} and prepare it again"
        ) from error


def _prepare(part: Part, root: Path, tokenizer: str, progress: bool) -> Prepared:
    model = _model(part, root, tokenizer, progress)
    folder = _folder(part, root)
    tokens = folder / _slug(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, part, progress):
        if tokens.is_dir():
            try:
                return _open(part, tokens)
            except Damaged as error:
                _say(progress, f"{part.key}: {error}; preparing it again")
                shutil.rmtree(tokens)
        if not (folder / "documents").is_dir():
            with _replacing(folder / "documents") as partial:
                _build_documents(part, partial, progress)
                _check_unchanged(part, folder, root)
        with _replacing(tokens) as partial:
            _build_tokens(part, folder / "documents", partial, tokenizer, model)
        made = _open(part, tokens)
    what = f"{made.documents:,} documents, {made.bytes / 1e6:.1f} MB"
    if made.images is not None:
        height, width, channels = made.images.shape
        what = f"{made.documents:,} groups, {width} x {height} x {channels}"
    _say(
        progress,
        f"prepared {part.key}: {what}, {made.duplicates:,} duplicates dropped; "
        f"{made.train_tokens:,} {made.unit} to train on, {made.held_out_tokens:,} held "
        "out",
    )
    for remark in _remarks(part, made):
        _say(progress, f"{part.key}: {remark}")
    return made


def _remarks(part: Part, made: Prepared) -> list[str]:
    """What a user should know of a corpus that was just prepared, a line each."""
    module = corpora.load(part.name)
    plural = "s" if made.empty > 1 else ""
    said = f"{made.empty:,} document{plural} without text left out"
    remarks = [said] if made.empty else []
    if hasattr(module, "remarks"):
        remarks += module.remarks(**dict(part.options))
    return remarks


def _model(part: Part, root: Path, tokenizer: str, progress: bool) -> bytes | None:
    """The vocabulary learnt from another corpus, where the tokenizer names one."""
    name = "" if corpora.of_pictures(part.name) else _tokens.trained_on(tokenizer)
    if not name:
        return None
    own = tokenizer.removesuffix(f":{name}")
    teacher = _prepare(Part(name), root, own, progress)
    return (teacher.folder / _tokens.MODEL).read_bytes()


def _build_documents(part: Part, partial: Path, progress: bool) -> None:
    from scaling.corpora import _builder  # imports TFDS, a second or more

    module = corpora.load(part.name)
    kind, examples, rule = _examples(part)
    shown = _shown(examples, part.key, progress)
    counts = _builder.build(part.key, kind, shown, partial)
    about = {"key": part.key, "version": _version(part), "rule": rule}
    about |= {"licence": module.LICENCE, "source": module.SOURCE} | counts
    (partial / "corpus.json").write_text(json.dumps(about, indent=1))


def _check_unchanged(part: Part, folder: Path, root: Path) -> None:
    """Refuses text that was written while it was read: it is neither old nor new."""
    if _folder(part, root) != folder:
        raise UserError(
            "data.corpus", part.key, "changed while it was read; start again"
        )


def _build_tokens(
    part: Part, documents: Path, partial: Path, tokenizer: str, model: bytes | None
) -> None:
    try:
        about = json.loads((documents / "corpus.json").read_text())
    except (OSError, ValueError) as error:
        why = f"its corpus.json cannot be read ({error}): delete it"
        raise UserError("data_dir", str(documents), why) from error
    manifest: dict[str, Any] = {"key": part.key, "tokenizer": tokenizer}
    manifest["about"] = about
    pictures = corpora.of_pictures(part.name)
    if pictures:
        manifest |= _picture_rows(documents, partial, tokenizer)
    else:
        manifest |= _text_tokens(documents, partial, tokenizer, model)
    counted = "tokens" if pictures else "documents"
    left = manifest.pop("left_out", {counted: 0})
    stored = left[counted] + sum(manifest[split][counted] for split in _SPLITS)
    if stored != about["documents"]:
        raise UserError(
            "data.corpus",
            part.key,
            f"{documents} holds {stored} documents of {about['documents']}; delete it",
        )
    manifest["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(partial.iterdir())
    }
    manifest["digest"] = _digest(manifest)
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))


_SPLITS = ("train", "held_out")


def _text_tokens(
    documents: Path, partial: Path, tokenizer: str, model: bytes | None
) -> dict[str, Any]:
    """Writes the token files of a text; what the manifest says of them."""
    from scaling.corpora import _builder

    model = model or _tokens.train(
        tokenizer, lambda: (row["text"] for row in _builder.read(documents, "train"))
    )
    if model is not None:
        (partial / _tokens.MODEL).write_bytes(model)
    encoder = _tokens.load(tokenizer, model)
    said: dict[str, Any] = {"vocab": encoder.separator + 1}
    for split in _SPLITS:
        texts = (row["text"] for row in _builder.read(documents, split))
        hashed = ((text, _splits.text_hash(text)) for text in texts)
        said[split] = _tokens.write(partial, split, encoder, hashed)
    return said


def _picture_rows(documents: Path, partial: Path, tokenizer: str) -> dict[str, Any]:
    """Writes the row files of pictures; what the manifest says of them."""
    from scaling.corpora import _builder, _picture_files, _pictures

    stored = {split: _builder.read(documents, split) for split in _splits.SPLITS}
    images, counts = _picture_files.write(partial, stored, tokenizer)
    vocab = _pictures.vocabulary(images, tokenizer)
    return {"vocab": vocab, "images": list(images), **counts}


def _digest(manifest: dict[str, Any]) -> str:
    """What identifies the content: not where, when or from which version it came."""
    content = {name: file["sha256"] for name, file in manifest["files"].items()}
    body = {"format": FORMAT, "tokenizer": manifest["tokenizer"], "files": content}
    body |= {"rule": manifest["about"]["rule"]}
    if "images" in manifest:
        body |= {"images": manifest["images"]}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _open(part: Part, folder: Path, full: bool = False) -> Prepared:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files, digest = manifest["files"], manifest["digest"]
        sound = digest == _digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder}/manifest.json cannot be read") from error
    if not sound:
        raise Damaged(f"{folder}/manifest.json does not match its digest")
    for name, file in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            raise Damaged(f"{path} should be a file of {file['bytes']} bytes")
        if full and _sha256(path) != file["sha256"]:
            raise Damaged(f"the content of {path} has changed")
    about = manifest["about"]
    halves = manifest["train"].pop("halves", (0, 0))
    manifest["held_out"].pop("halves", None)
    counts = {f"{s}_{n}": count for s in _SPLITS for n, count in manifest[s].items()}
    images = families.Images(*manifest["images"]) if "images" in manifest else None
    return Prepared(
        key=part.key,
        digest=digest,
        folder=folder,
        tokenizer=manifest["tokenizer"],
        vocab=manifest["vocab"],
        vocabulary=files.get(_tokens.MODEL, {}).get("sha256", ""),
        duplicates=about["duplicates"],
        empty=about["empty"],
        licence=about["licence"],
        source=about["source"],
        images=images,
        halves=tuple(halves),
        **counts,
    )


def _examples(part: Part) -> tuple[Any, Iterator[dict[str, bytes]], str]:
    """A corpus's kind of examples, the examples, and the rule of its split."""
    from scaling.corpora import _builder, _picture_files

    given = _source(part.name)(**dict(part.options))
    if corpora.of_pictures(part.name):
        return *_picture_files.examples(part.key, given), _builder.PICTURE_RULE
    examples = ({"key": key.encode(), "text": text} for key, text in given)
    return _builder.TextKind(), examples, _builder.RULE


def _source(name: str) -> Callable[..., Any]:
    """The function that gives a corpus's documents or pictures."""
    module = corpora.load(name)
    found: Callable[..., Any] = getattr(module, "pictures", None) or module.documents
    return found


def _version(part: Part) -> str:
    module, options = corpora.load(part.name), dict(part.options)
    try:
        inspect.signature(_source(part.name)).bind(**options)
    except TypeError as error:  # an option that the corpus does not take, or lacks
        raise UserError("data.corpus", part.key, f"its options: {error}") from error
    return module.version(**options)


def _folder(part: Part, root: Path) -> Path:
    body = json.dumps([FORMAT, part.key, _version(part)])
    return root / f"{part.name}-{hashlib.sha256(body.encode()).hexdigest()[:12]}"


def _slug(tokenizer: str) -> str:
    return tokenizer.replace(":", "-").replace("/", "-")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(folder: Path, part: Part, progress: bool) -> Iterator[None]:
    """One process at a time; the system lets go of the lock of one that dies."""
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(progress, f"{part.key}: another process prepares it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its place when it is complete. Needs the lock."""
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists():  # of a process that was killed: the lock is ours
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial)
        raise
    for path in partial.rglob("*"):
        if path.is_file():
            _sync(path)
    os.replace(partial, folder)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _explained(error: OSError, root: Path) -> Exception:
    """The user's error behind a system's one, or the error itself."""
    while error.errno is None and isinstance(error.__cause__, OSError):
        error = error.__cause__  # TFDS wraps errors and loses their number
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("data_dir", str(root), "the disk is full; make room there")
    denied = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
    if error.errno in denied and str(error.filename or "").startswith(str(root)):
        return UserError(
            "data_dir", str(root), "cannot be written; give a folder that can"
        )
    return error


def _shown(
    examples: Iterable[dict[str, bytes]], key: str, progress: bool
) -> Iterator[dict[str, bytes]]:
    """Passes examples on and shows how many and how much has come."""
    bar = tqdm(
        desc=f"reading {key}",
        unit="B",
        unit_scale=True,
        disable=not (progress and sys.stderr.isatty()),
    )
    with bar:
        for example in examples:
            bar.update(len(example.get("text", example.get("pixels", b""))))
            yield example


def _say(progress: bool, line: str) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)
