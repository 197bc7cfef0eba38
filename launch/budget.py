"""The machine-hours of a fleet: granted before a machine is asked for, never exceeded.

A machine-hour is one host for one hour; the head is not counted. Each machine is
granted a share when it is asked for, and the cloud deletes it when its share is used.
What it did not use comes back when it is gone. Grants are written down before the
cloud is asked, so that a launcher that was killed has granted nothing that the next one
does not know of.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from scaling.writing import write_atomic

# A share below this is not worth a machine (and less than Flex-start may ask for).
SMALLEST = 1 / 6
# Flex-start machines run for at most seven days.
LONGEST = 168.0


@dataclasses.dataclass
class Grant:
    """What one machine may use.

    Attributes:
      hours, hosts: machine-hours are their product.
      unbilled: the last time at which it certainly did not run yet, s since 1970.
      refused: whether it was not made when it was last asked for.
    """

    hours: float
    hosts: int
    unbilled: float
    refused: bool = False


class Budget:
    """Grants and spent machine-hours of one fleet, kept in a file.

    Args:
      path: the file; total: machine-hours in all; clock: s since 1970.
    """

    def __init__(
        self, path: Path, total: float, clock: Callable[[], float] = time.time
    ):
        self._path, self.total, self._clock = path, total, clock
        body = json.loads(path.read_text()) if path.exists() else {}
        self.spent = float(body.get("spent", 0.0))
        self.grants = {n: Grant(**g) for n, g in body.get("grants", {}).items()}

    @property
    def left(self) -> float:
        """Machine-hours that are neither spent nor granted."""
        granted = sum(g.hours * g.hosts for g in self.grants.values())
        return self.total - self.spent - granted

    def grant(self, machine: str, hosts: int, without: int) -> float:
        """Hours that the machine may run, 0 where too little is left.

        One that was asked for before, and not seen since, gets what is left of its
        grant: it may have been made, and have run.

        Args:
          without: machines that hold no grant, this one among them; they share alike.
        """
        if grant := self.grants.get(machine):
            used = self._used(grant)
            self.spent += used * hosts
            grant.hours -= used
            grant.unbilled, grant.refused = self._clock(), False
            if grant.hours < SMALLEST:
                del self.grants[machine]
            self._write()
            return grant.hours if machine in self.grants else 0.0
        hours = min(LONGEST, self.left / (hosts * without))
        if hours < SMALLEST:
            return 0.0
        self.grants[machine] = Grant(hours, hosts, self._clock())
        self._write()
        return hours

    def waits(self, machine: str) -> None:
        """The machine was seen, or known, not to run yet."""
        if machine in self.grants:
            self.grants[machine].unbilled = self._clock()
            self._write()

    def refused(self, machine: str) -> None:
        """The machine was not made: until it is asked for again it costs nothing."""
        if machine in self.grants:
            self.grants[machine].refused = True
            self._write()

    def there(self, machine: str) -> None:
        """The machine was seen, whatever an answer to a request for it said."""
        grant = self.grants.get(machine)
        if grant is not None and grant.refused:
            grant.refused = False
            self._write()

    def over(self, machine: str) -> bool:
        """Whether the machine has had its hours."""
        grant = self.grants.get(machine)
        return grant is not None and self._used(grant) >= grant.hours

    def settle(self, machine: str) -> float:
        """Ends the grant of a machine that is gone; returns what it may have used.

        Counts from the last time at which it certainly did not run, so that time in
        which no launcher looked counts as if it had run.
        """
        grant = self.grants.pop(machine, None)
        if grant is None:
            return 0.0
        used = self._used(grant) * grant.hosts
        self.spent += used
        self._write()
        return used

    def _used(self, grant: Grant) -> float:
        """Hours of a grant that may be used; the cloud ends the machine after all."""
        hours = 0.0 if grant.refused else (self._clock() - grant.unbilled) / 3600
        return min(grant.hours, hours)

    def _write(self) -> None:
        grants = {name: dataclasses.asdict(g) for name, g in self.grants.items()}
        body = {"spent": self.spent, "grants": grants}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, json.dumps(body, indent=1).encode())
