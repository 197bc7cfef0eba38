"""Prepares corpora once under a data folder, and opens what is prepared.

The data folder is the one given, $SCALING_DATA or ~/.cache/datalaw. A corpus has a
folder in it, named by the corpus and a hash of its options, version and split rule:
    documents/          the TFDS builder's ArrayRecord files, all splits
    TOKENIZER/          token files, index of documents, vocabulary, manifest.json
Each is written beside its place and renamed into it, under a lock of the corpus: two
processes can prepare at once, and one that is killed leaves nothing that counts. Hosts
share what is prepared through a bucket (_shared.py).
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scaling import corpora, intact
from scaling.corpora import _shared, _splits, _tokens
from scaling.corpora._folders import locked, replacing, say
from scaling.corpora._prepared import (
    FORMAT,
    SPLITS,
    Damaged,
    Prepared,
    content_digest,
    opened,
    sha256,
)
from scaling.errors import UserError, unknown
from scaling.run import Part


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where corpora are prepared: `data_dir`, else $SCALING_DATA, else the cache.

    Raises:
      UserError: it is no local folder.
    """
    chosen = data_dir or os.environ.get("SCALING_DATA") or _shared.DEFAULT
    if intact.is_remote(chosen):
        raise UserError("data_dir", str(chosen), "give a local folder")
    return Path(chosen).expanduser()


def prepare(
    parts: Iterable[Part],
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str = "bytes",
    progress: bool = True,
    shared: str = "",
) -> dict[str, Prepared]:
    """Prepares what is not prepared yet; by `Part.key`.

    Args:
      shared: a folder of a bucket that has prepared corpora (`_shared.py`). What it has
        is copied from there, and what it lacks is put there.

    Raises:
      UserError: unknown corpus, option or tokenizer, a missing wheel, a corpus too
        small to split, a data folder that cannot be written or is full.
    """
    root = data_folder(data_dir)
    prepared = {}
    for part in {part.key: part for part in parts}.values():
        try:
            prepared[part.key] = _prepare(part, root, tokenizer, progress, shared)
        except OSError as error:
            raise _explained(error, root) from error
    return prepared


def obtain(
    part: Part, digest: str, root: Path, tokenizer: str, shared: str
) -> Prepared:
    """The corpus of a digest, on a host of a study that was begun on another one.

    It is looked for here and then in the bucket; with no bucket, it is prepared from
    what this host has.

    Raises:
      UserError: the bucket does not have it whole, or it has another content here.
    """
    if (here := _of_digest(part, root, tokenizer, digest)) is not None:
        return here
    try:
        if not shared:
            made = _prepare(part, root, tokenizer, False)
            if made.digest != digest:
                why = f"has another content on {platform.node()} than where the study "
                why += "was started: install the same packages and copy the same texts "
                raise UserError("data.corpus", part.key, f"{why}there")
            return made
        folder = root / _shared.folder_name(part.name, digest)
        with locked(folder, part.key, False):
            return _copied(part, folder / _slug(tokenizer), digest, shared)
    except OSError as error:
        raise _explained(error, root) from error
    except _shared.NotThere as error:
        _shared.forget(shared, part.name, digest)
        raise UserError(
            "data.corpus", part.key, f"{error}: start again, which puts it there anew"
        ) from error


def _copied(part: Part, tokens: Path, digest: str, shared: str) -> Prepared:
    """Copies a corpus from the bucket, if nobody did meanwhile. Needs the lock."""
    if not tokens.is_dir():
        with replacing(tokens) as partial:
            _shared.get(shared, part.name, digest, partial)
    return opened(part, tokens)


def _of_digest(part: Part, root: Path, tokenizer: str, digest: str) -> Prepared | None:
    """What is prepared here with this digest, whatever it was prepared from."""
    for folder in sorted(root.glob(f"{part.name}-*/{_slug(tokenizer)}")):
        try:
            if (made := opened(part, folder)).digest == digest:
                return made
        except Damaged:  # something else is said of it where it is needed
            continue
    return None


def open_prepared(
    part: Part,
    data_dir: str | os.PathLike[str] | None = None,
    tokenizer: str = "bytes",
    full: bool = False,
    digest: str = "",
) -> Prepared:
    """Opens a prepared corpus; prepares nothing.

    Sizes are always checked; the content is too where `full`.

    Args:
      digest: of the one that is meant, if not what the corpus is now.

    Raises:
      UserError: it is not prepared, or its files are damaged.
    """
    root = data_folder(data_dir)
    if digest and (there := _of_digest(part, root, tokenizer, digest)) is not None:
        return there
    folder = _folder(part, root) / _slug(tokenizer)
    if not folder.is_dir():
        raise UserError("data.corpus", part.key, f"is not prepared under {root}")
    try:
        return opened(part, folder, full)
    except Damaged as error:
        raise UserError(
            "data.corpus", part.key, f"{error}; delete {folder} and prepare it again"
        ) from error


def _prepare(
    part: Part, root: Path, tokenizer: str, progress: bool, shared: str = ""
) -> Prepared:
    model = _model(part, root, tokenizer, progress, shared)
    folder = _folder(part, root)
    tokens = folder / _slug(tokenizer)
    version = f"{folder.name}-{tokens.name}"
    with locked(folder, part.key, progress):
        made = _there(part, tokens, progress)
        if made is None and shared:
            made = _from_bucket(part, tokens, shared, version, progress)
        if made is None:
            made = _built(part, root, tokens, tokenizer, model, progress)
    if shared and (there := _shared.put(made.folder, shared, part.name, version)):
        say(progress, f"put {part.key} into {there}")
    return made


def _there(part: Part, tokens: Path, progress: bool) -> Prepared | None:
    """What is prepared here already. Needs the lock."""
    if not tokens.is_dir():
        return None
    try:
        return opened(part, tokens)
    except Damaged as error:
        say(progress, f"{part.key}: {error}; preparing it again")
        shutil.rmtree(tokens)
        return None


def _from_bucket(
    part: Part, tokens: Path, shared: str, version: str, progress: bool
) -> Prepared | None:
    """What another host has prepared from the same version. Needs the lock."""
    if not (digest := _shared.digest_of(shared, version)):
        return None
    try:
        made = _copied(part, tokens, digest, shared)
    except _shared.NotThere as error:
        say(progress, f"{part.key}: {error}; preparing it again")
        _shared.forget(shared, part.name, digest)
        return None
    say(progress, f"copied {part.key} from {shared}")
    return made


def _built(
    part: Part,
    root: Path,
    tokens: Path,
    tokenizer: str,
    model: bytes | None,
    progress: bool,
) -> Prepared:
    """Prepares a corpus from what it is made of. Needs the lock."""
    folder = tokens.parent
    if not (folder / "documents").is_dir():
        with replacing(folder / "documents") as partial:
            _build_documents(part, partial, progress)
            _check_unchanged(part, folder, root)
    with replacing(tokens) as partial:
        _build_tokens(part, folder / "documents", partial, tokenizer, model)
    made = opened(part, tokens)
    what = f"{made.documents:,} documents, {made.bytes / 1e6:.1f} MB"
    if made.images is not None:
        height, width, channels = made.images.shape
        what = f"{made.documents:,} groups, {width} x {height} x {channels}"
    say(
        progress,
        f"prepared {part.key}: {what}, {made.duplicates:,} duplicates dropped; "
        f"{made.train_tokens:,} {made.unit} to train on, {made.held_out_tokens:,} held "
        "out",
    )
    for remark in _remarks(part, made):
        say(progress, f"{part.key}: {remark}")
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


def _model(
    part: Part, root: Path, tokenizer: str, progress: bool, shared: str
) -> bytes | None:
    """The vocabulary learnt from another corpus, where the tokenizer names one."""
    name = "" if corpora.of_pictures(part.name) else _tokens.trained_on(tokenizer)
    if not name:
        return None
    own = tokenizer.removesuffix(f":{name}")
    teacher = _prepare(Part(name), root, own, progress, shared)
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
    stored = left[counted] + sum(manifest[split][counted] for split in SPLITS)
    if stored != about["documents"]:
        raise UserError(
            "data.corpus",
            part.key,
            f"{documents} holds {stored} documents of {about['documents']}; delete it",
        )
    manifest["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(partial.iterdir())
    }
    manifest["digest"] = content_digest(manifest)
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))


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
    for split in SPLITS:
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
    taken = inspect.signature(_source(part.name)).parameters
    kinds = {one.kind for one in taken.values()}
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    some = {name: one for name, one in taken.items() if one.kind not in open_ended}
    for name in options:
        if name not in some and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise unknown(f"data.corpus {part.name}", name, some)
    lacking = [n for n, p in some.items() if p.default is p.empty and n not in options]
    if lacking:
        raise UserError("data.corpus", part.key, f"give its {' and '.join(lacking)}")
    return module.version(**options)


def _folder(part: Part, root: Path) -> Path:
    body = json.dumps([FORMAT, part.key, _version(part)])
    return root / f"{part.name}-{hashlib.sha256(body.encode()).hexdigest()[:12]}"


def _slug(tokenizer: str) -> str:
    return tokenizer.replace(":", "-").replace("/", "-")


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
