"""A run over two processes: its checkpoints, and what goes on from them elsewhere."""

import io
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from scaling.store import Store
from tests.support import real_studies

EVERY_CALL = ("--checkpoint_seconds", 0)


def begin(folder, workdir, coordinator, rank, *flags, processes=2):
    where = [folder / workdir, folder / "data", folder / "text", coordinator]
    words = [*where, processes, rank, *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.slice_trainer", *map(str, words)],
        cwd=real_studies.ROOT,
        env=real_studies.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def ended(*processes):
    """What each said, once all have ended by themselves."""
    try:
        said = [process.communicate(timeout=280) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, said, strict=True):
        assert process.returncode == 0, err
    return [out for out, _ in said]


def losses(workdir):
    (record,) = Store(workdir).records()[0]
    curve = Store(workdir).artifact(record, "loss_curve", 1 << 20)
    values = [reading.value for reading in record.readings]
    return np.load(io.BytesIO(curve))["loss"], values


@pytest.mark.slow  # six processes of JAX
def test_a_run_that_loses_a_host_ends_on_others_with_the_same_losses(tmp_path):
    real_studies.write_text(tmp_path / "text", lines=400)
    ended(begin(tmp_path, "alone", "", 0, processes=1))
    there = address()
    hosts = [
        begin(tmp_path, "w", there, rank, "--attempt", "a", *EVERY_CALL, *flags)
        for rank, flags in enumerate(((), ("--stop_at", 40)))
    ]
    hosts[1].communicate(timeout=280)  # it goes without a word
    hosts[0].kill()  # as the engine does, since it would wait for the other
    hosts[0].communicate()
    store = Store(tmp_path / "w")
    (folder,) = (tmp_path / "w" / "checkpoints").iterdir()
    assert store.run_ids() == set() and store.checkpoint_step(folder.name) >= 32
    there = address()
    both = [begin(tmp_path, "w", there, rank, "--attempt", "b") for rank in range(2)]
    said = ended(*both)
    begun = re.search(r"started (\d+)", said[0])
    assert begun and int(begun[1]) >= 32, said[0]
    curve, values = losses(tmp_path / "w")
    alone, right = losses(tmp_path / "alone")
    np.testing.assert_allclose(curve, alone, rtol=1e-5)
    np.testing.assert_allclose(values, right, rtol=1e-5)
    assert not folder.exists()
