"""Resident memory of preparing a large made corpus and of reading it at random.

    python -m tests.benchmarks.stream_memory [--gigabytes 2.1] [--folder DIR] [--bucket]

Makes a corpus of random words, prepares it (about three times its size on disk, given
back at the end) and reads random batches through a TokenStream until more pages than
the whole token file has were touched. Preparing and reading run in a process each, so
that the peak of one does not hide that of the other. With --bucket the corpus is put
into a bucket, of an emulator on loopback, and read by a second host, which copies it
into a data folder of its own, in a third process.

What a reader holds does not grow with the corpus: windows are found by a permutation
without a table, and mapped pages are let go after every 128 MB touched. The slope from
half to the whole of the corpus shows it and gives the figure for 10 GB; the promise is
500 MB. Preparing holds the part of a split that TFDS writes at once (128 MB of text,
and copies of it) and about 100 bytes a document for finding duplicates.

Expected: reading stays near 200 MB whatever the size; preparing below 1 GB.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil

LIMIT_MB = 500
DOCUMENT_BYTES = 8_000

LICENCE = SOURCE = "made"


def version(megabytes: int) -> str:
    return str(megabytes)


def documents(megabytes: int) -> Iterator[tuple[str, bytes]]:
    """This file is a corpus too: documents of random words."""
    draw = random.Random(0)
    words = [f"{draw.getrandbits(24):x} ".encode() for _ in range(50_000)]
    text = b"".join(draw.choices(words, k=600_000))
    for i in range(megabytes * 1_000_000 // DOCUMENT_BYTES):
        start = draw.randrange(len(text) - DOCUMENT_BYTES)
        head = f"{i} ".encode()
        yield str(i), head + text[start : start + DOCUMENT_BYTES - len(head)]


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def prepare_child(folder: Path, megabytes: int, shared: str) -> None:
    """Prepares the corpus, or copies it where the bucket has it."""
    import resource

    from scaling import corpora, plugins
    from scaling.run import Part, options

    plugins.include(__file__)
    part = Part("stream_memory", options=options(megabytes=megabytes))
    _, shared = corpora.places(shared, "") if shared else ("", "")
    start = time.monotonic()
    (prepared,) = corpora.prepare([part], folder, shared=shared).values()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{folder.name}: {prepared.bytes / 1e9:.2f} GB, {prepared.documents:,} "
        f"documents in {time.monotonic() - start:.0f} s; peak {peak:.0f} MB resident"
    )


def read_child(folder: Path, megabytes: int) -> None:
    from scaling import corpora, plugins
    from scaling.run import Data, Model, Optimiser, Part, Run, options

    plugins.include(__file__)
    part = Part("stream_memory", options=options(megabytes=megabytes))
    prepared = {part.key: corpora.open_prepared(part, folder)}
    before = resident_mb()
    for share in (0.5, 1.0):
        tokens = int(prepared[part.key].train_tokens * share) // 2**18 * 2**18
        run = Run(Model("", 1), Data((part,), tokens), Optimiser(1.0), 64, 256, ())
        stream = corpora.TokenStream(run, prepared)
        peak, start = before, time.monotonic()
        # A touched page brings its 64 kB neighbourhood: this touches the file over
        # and over.
        steps = min(run.steps, int(20 * tokens * 2 / 2**16 / 64))
        for step in range(steps):
            stream.batch(step)
            if step % 16 == 0:
                peak = max(peak, resident_mb())
        print(
            f"read {steps:,} random batches of 64 x 256 over {2 * tokens / 1e9:.2f} GB "
            f"of tokens: peak {peak:.0f} MB resident, {peak - before:.0f} MB of it the "
            f"stream's; {(time.monotonic() - start) / steps * 1e6:.0f} us a batch"
        )
        print(f"peak {share:g} {peak:.1f}", file=sys.stderr)


@contextmanager
def _shared(folder: Path) -> Iterator[str]:
    """A folder of a bucket that lies below a local one."""
    from tests.support import gcs

    tempfile.tempdir = str(folder)
    with gcs.emulator() as bucket:
        yield f"{bucket}/corpora"


def measured(folder: Path, gigabytes: float, shared: str) -> str:
    """Prepares and reads the corpus in processes of their own; what the reader said."""
    command = [sys.executable, __file__, "--gigabytes", str(gigabytes)]
    hosts = ("prepared", "copied") if shared else ("prepared",)
    for host in hosts:
        where = ["--folder", str(folder / host), "--shared", shared]
        subprocess.run([*command, *where, "--child", "prepare"], check=True)
    reads = [*command, "--folder", str(folder / hosts[-1]), "--child", "read"]
    done = subprocess.run(reads, check=True, stderr=subprocess.PIPE, text=True)
    return done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.1)
    parser.add_argument("--folder", type=Path, help="where there is room")
    parser.add_argument("--bucket", action="store_true", help="read from a bucket")
    parser.add_argument("--shared", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("prepare", "read"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    megabytes = round(arguments.gigabytes * 1000)
    if arguments.child:
        if arguments.child == "prepare":
            prepare_child(arguments.folder, megabytes, arguments.shared)
        else:
            read_child(arguments.folder, megabytes)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="stream-memory-", dir=arguments.folder))
    try:
        with _shared(folder) if arguments.bucket else nullcontext("") as shared:
            said = measured(folder, arguments.gigabytes, shared)
    finally:
        shutil.rmtree(folder)
    half, whole = (float(line.split()[2]) for line in said.splitlines())
    gigabytes = arguments.gigabytes
    at_10 = whole + max(0.0, whole - half) / (gigabytes / 2) * (10 - gigabytes)
    verdict = "holds" if at_10 <= LIMIT_MB else "DOES NOT HOLD"
    print(f"at 10 GB: {at_10:.0f} MB; the limit of {LIMIT_MB} MB {verdict}")
    return 0 if at_10 <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
