"""A prepared corpus, and what its manifest says of its files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling import families
from scaling.corpora import _tokens
from scaling.run import Part, Run

FORMAT = 1
SPLITS = ("train", "held_out")


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


def content_digest(manifest: dict[str, Any]) -> str:
    """What identifies the content: not where, when or from which version it came."""
    content = {name: file["sha256"] for name, file in manifest["files"].items()}
    body = {"format": FORMAT, "tokenizer": manifest["tokenizer"], "files": content}
    body |= {"rule": manifest["about"]["rule"]}
    if "images" in manifest:
        body |= {"images": manifest["images"]}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def opened(part: Part, folder: Path, full: bool = False) -> Prepared:
    """Opens a prepared corpus. Raises Damaged.

    Args:
      folder: of its token files.
      full: their content is checked, not only their size.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files, digest = manifest["files"], manifest["digest"]
        sound = digest == content_digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder}/manifest.json cannot be read") from error
    if not sound:
        raise Damaged(f"{folder}/manifest.json does not match its digest")
    for name, file in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            raise Damaged(f"{path} should be a file of {file['bytes']} bytes")
        if full and sha256(path) != file["sha256"]:
            raise Damaged(f"the content of {path} has changed")
    about = manifest["about"]
    halves = manifest["train"].pop("halves", (0, 0))
    manifest["held_out"].pop("halves", None)
    counts = {f"{s}_{n}": count for s in SPLITS for n, count in manifest[s].items()}
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


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
