"""How the work of an analysis is shared among processes."""

import io
import threading

import pytest

from analysis import forks, progress


def test_nothing_is_forked_beside_another_thread():
    """Whose locks a child would wait for for ever."""
    assert forks.context(2) is not None
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert forks.context(2) is None
    finally:
        done.set()
        other.join()


def test_one_process_forks_nothing():
    assert forks.context(1) is None


def test_a_bar_on_a_terminal_leaves_no_thread():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with progress.stages("loss", 2, stream=Terminal()) as begin:
        begin("first")
        assert forks.context(2) is not None


@pytest.mark.parametrize(
    "tasks, processes, workers", [(3, 2, 3), (4, 2, 2), (1, 8, 1), (7, 4, 7), (9, 4, 4)]
)
def test_no_process_is_idle_at_the_end(tasks, processes, workers):
    assert forks.at_a_time(tasks, processes) == workers
