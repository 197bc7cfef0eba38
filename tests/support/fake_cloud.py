"""A cloud of the tests' own: what there is, how it goes on, and what goes wrong.

    with Cloud() as cloud:                  # both services, on loopback
        cloud.lives["mine-0"] = [["ACTIVE", "SUSPENDED"], ["ACTIVE"]]
        ... run the launcher with cloud.environment ...
        assert not cloud.things

The services (fake_tpu_api, fake_compute_api) speak the protocols of the real clients
and keep their things here. Each look of the launcher moves every thing on by one state
of its life; a thing that is made again under its name begins its next life.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

PROJECT, ZONE, REGION = "proj-1", "us-east5-b", "us-east5"


@dataclasses.dataclass
class Thing:
    """A thing in the cloud.

    Attributes:
      kind: as its service calls it; body: what was asked for, in its service's words.
      life: the states that it still goes through; the last one stays.
      looks: until it is gone, once it is being deleted.
    """

    kind: str
    name: str
    body: Any
    life: list[str]
    looks: int | None = None

    @property
    def state(self) -> str:
        return self.life[0] if self.life else ""


class Lost(Exception):
    """The reply does not reach the launcher."""


class Cloud:
    """Both services, and their common state.

    Attributes:
      lives: for each machine the states of each of its lives; the last one is repeated.
        A life of one word refuses it: "quota" at once, "stockout" a little later.
      things: what exists; made: every creation, in order; calls: every call.
      deleting_looks: for which a thing that is being deleted stays.
      faults: for the number of a call what happens at it: "unavailable" (nothing is
        done), "lost" (done, but the reply is lost), or (signal, "before" | "after").
      down: services ("tpu", "compute") that do not answer.
      ends: whether the study ends once every machine runs its last life.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lives: dict[str, list[list[str]]] = {}
        self.things: dict[tuple[str, str], Thing] = {}
        self.made: list[Thing] = []
        self.calls: list[str] = []
        self.faults: dict[int, Any] = {}
        self.down: set[str] = set()
        self.deleting_looks = 1
        self.operations: dict[str, dict[str, Any]] = {}
        self.ends = True
        self.end: Callable[[], None] = lambda: None
        self.launcher: int | None = None  # its process

    def __enter__(self) -> Cloud:
        from tests.support import fake_compute_api, fake_tpu_api

        self._stack = contextlib.ExitStack()
        self._tpu = self._stack.enter_context(fake_tpu_api.serve(self))
        self._compute = self._stack.enter_context(fake_compute_api.serve(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": f"http://{self._tpu}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"http://{self._compute}/",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def empty(self) -> None:
        """As new, but for the servers."""
        servers = self._stack, self._tpu, self._compute
        Cloud.__init__(self)
        self._stack, self._tpu, self._compute = servers

    # --- Calls ----------------------------------------------------------------------

    def call(self, what: str, do: Callable[[], Any]) -> Any:
        """Does what a call asks for, unless something goes wrong at it.

        Raises:
          Lost: the launcher gets no answer.
        """
        with self.lock:
            number = len(self.calls)
            self.calls.append(what)
            fault = self.faults.get(number)
            if fault == "unavailable" or what.partition(" ")[0] in self.down:
                raise Lost
            if isinstance(fault, tuple) and fault[1] == "before":
                self._signal(fault[0])
            try:
                result = do()
            finally:  # also after a call that is refused
                if isinstance(fault, tuple) and fault[1] == "after":
                    self._signal(fault[0])
            if fault == "lost":
                raise Lost
            return result

    def _signal(self, number: int) -> None:
        assert self.launcher is not None
        os.kill(self.launcher, number)
        if number != signal.SIGKILL:
            # The reply must not overtake the signal.
            threading.Event().wait(0.05)

    # --- Things ---------------------------------------------------------------------

    def make(self, kind: str, name: str, body: Any, usual: list[str]) -> Thing:
        """Makes a thing; `usual` is its life where none is given."""
        before = sum(t.kind == kind and t.name == name for t in self.made)
        lives = self.lives.get(name) or [usual]
        life = lives[min(before, len(lives) - 1)]
        thing = Thing(kind, name, body, list(life))
        self.made.append(thing)
        if life not in (["quota"], ["stockout"]):
            self.things[kind, name] = thing
        return thing

    def delete(self, kind: str, name: str) -> bool:
        """Begins to delete a thing; returns whether there was one."""
        thing = self.things.get((kind, name))
        if thing and thing.looks is None:
            thing.looks = self.deleting_looks
            self._gone()
        return thing is not None

    def look(self, *kinds: str) -> list[Thing]:
        """The things of some kinds, after which each of them moves on."""
        found = [t for t in self.things.values() if t.kind in kinds]
        shown = [dataclasses.replace(t, life=t.life[:1]) for t in found]
        for thing in found:
            if thing.looks is not None:
                thing.looks -= 1
            elif len(thing.life) > 1:
                del thing.life[0]
        self._gone()
        if self.ends and self._all_run():
            self.end()
        return shown

    def _all_run(self) -> bool:
        machines = [t for t in self.things.values() if t.kind not in PARTS]
        last = all(
            sum(t.name == name and t.kind not in PARTS for t in self.made) >= len(lives)
            for name, lives in self.lives.items()
        )
        run = all(t.state in RUNNING and t.looks is None for t in machines)
        return last and run and bool(machines)

    def _gone(self) -> None:
        for key, thing in list(self.things.items()):
            if (thing.looks is not None and thing.looks <= 0) or thing.state == "GONE":
                del self.things[key]


RUNNING = ("RUNNING", "ACTIVE")
PARTS = ("template", "workload policy")
