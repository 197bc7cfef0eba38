"""The command `scaling` with the child of fake_worker.py and a corpus of no text."""

import functools
import types

from scaling import corpora, families, main
from scaling.engines import child


def prepare(parts, data_dir, tokenizer, progress, shared=None):
    prepared = types.SimpleNamespace(
        digest="d",
        images=None,
        unit="tokens",
        readable=lambda half: 10**6,
        spec=lambda run: families.Tokens(257, run.length),
    )
    return {part.key: prepared for part in parts}


if __name__ == "__main__":
    corpora.prepare = prepare
    corpora.check_evaluation = lambda runs, prepared: None
    child.Settings = functools.partial(child.Settings, worker="fake_worker")
    main.entry()
