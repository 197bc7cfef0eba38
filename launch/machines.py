"""What a fleet asks a cloud for, what it sees there, and what every back end can do.

A machine is one TPU host, a slice of several hosts, or the head, a small VM without an
accelerator. A back end makes it out of one thing or several (an instance group needs a
template and a workload policy), and each thing is found again by its label or tag, so
that nothing has to be remembered between two commands.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from scaling.planning.hardware import Hardware

# The label that every thing of a fleet carries, with the fleet's name.
LABEL = "datalaw"
# Which machine of the fleet it belongs to.
MACHINE = "datalaw-machine"
# How often a lost reply is asked for again; each wait is twice as long.
TRIES = 5

# waiting: asked for; running: it works and is billed; ending: it is being deleted;
# ended: it will never run again, and its name is free only once it is deleted;
# refused: it was not made; part: something that machines are made from.
State = Literal["waiting", "running", "ending", "ended", "refused", "part"]


@dataclasses.dataclass(frozen=True)
class Want:
    """A machine to ask for.

    Attributes:
      fleet, name: of the fleet, and of the machine, which begins with the fleet's.
      accelerator: the slice; None for the head.
      model: how Compute Engine provides it; Cloud TPU knows spot and standard.
      hours: the cloud deletes it after so many (Compute Engine), or it does so itself.
      wait_hours: the request expires after so many.
      script: what it runs at each boot.
    """

    fleet: str
    name: str
    accelerator: Hardware | None
    model: Literal["standard", "spot", "flex-start"]
    hours: float
    wait_hours: float
    script: str


@dataclasses.dataclass(frozen=True)
class Seen:
    """A thing of a fleet in the cloud.

    Attributes:
      name: of the thing; machine: of the machine that it belongs to.
      api, kind: which service knows it, and as what.
      state: what it means here; said: the service's own word.
      why: what the service says of a failure.
      after: it can be deleted only after the other things of its machine.
    """

    name: str
    machine: str
    api: str
    kind: str
    state: State
    said: str
    why: str = ""
    after: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """A call that makes a part of a machine, and gcloud's command for the same."""

    call: str
    gcloud: tuple[str, ...]


class Api(Protocol):
    """A service that machines are asked of: Cloud TPU or Compute Engine."""

    name: str

    def find(self, fleet: str) -> list[Seen]:
        """Everything of the fleet, and what was refused since the last look."""

    def ask(self, want: Want) -> None:
        """Asks for a machine; asking for one that was made already changes nothing.

        Raises:
          Refused: not now (quota, no capacity).
          LaunchError: never in this way, or no answer.
        """

    def delete(self, thing: Seen) -> None:
        """Begins to delete a thing; one that is gone or going is no error."""

    def steps(self, want: Want) -> list[Step]:
        """What `ask` calls for it, in its order."""

    def shell(self, machine: str, command: str) -> tuple[str, ...]:
        """The gcloud command that runs a shell command on a machine."""


class LaunchError(Exception):
    """A failure outside this program, in one line."""


class Refused(LaunchError):
    """The cloud does not give the machine now; asking later may help."""


class Lost(LaunchError):
    """No answer, however often it was asked."""


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


T = TypeVar("T")


class _Unset:
    pass


def reach(
    what: str, call: Callable[[], T], pause: float, known: T | type[_Unset] = _Unset
) -> T:
    """The result of a call to a cloud; one whose reply is lost is made again.

    Every call made through it may safely be made twice: names are fixed, so a second
    creation finds what the first has made, and a second deletion finds nothing.

    Args:
      what: names the call in messages.
      pause: seconds before the second try.
      known: the result where a thing exists already, is gone, or is going.

    Raises:
      Refused, Lost, LaunchError: as in `Api.ask`.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

    lost = (
        exceptions.ServerError,  # 5xx, deadline exceeded
        exceptions.Cancelled,
        exceptions.Unknown,
        exceptions.RetryError,
        TransportError,
        ConnectionError,  # requests raises it, which compute's REST calls go through
        ChunkedEncodingError,  # the answer was cut off in its middle
        Timeout,
    )
    last = ""
    for number in range(TRIES):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        try:
            return call()
        except lost as error:
            last = _line(error)
            note(f"{what}: no answer ({last}); trying again")
        except exceptions.GoogleAPICallError as error:
            # A Conflict is a thing that exists, or that is being changed.
            settled = (exceptions.Conflict, exceptions.NotFound)
            if isinstance(error, settled) and not isinstance(known, type):
                return known
            raise failure(f"{what}: {_line(error)}") from error
        except GoogleAuthError as error:
            login = "log in: gcloud auth application-default login"
            raise LaunchError(f"{what}: {_line(error)}; {login}") from error
    raise Lost(f"{what}: no answer in {TRIES} tries: {last}")


_LATER = (
    *("quota", "exhausted", "stockout", "capacity", "resource_availability"),
    # Of the service itself, while it makes what it has already granted.
    *("internal_error", "internal error", "backend_error", "unavailable"),
)


def failure(line: str) -> LaunchError:
    """The error that a cloud's answer means: one that asking later may help, or not."""
    later = any(word in line.lower() for word in _LATER)
    return Refused(line) if later else LaunchError(line)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
