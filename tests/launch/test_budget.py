"""The budget of machine-hours is never exceeded, whatever happens and whoever looks."""

import random
import types

import pytest

from launch import fleet
from launch.budget import LONGEST, SMALLEST, Budget
from launch.machines import LaunchError, Lost, Refused, Seen, failure, reach


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    made = types.SimpleNamespace(monotonic=clock, sleep=clock.sleep)
    monkeypatch.setattr(fleet, "time", made)
    return clock


def test_machines_share_alike_and_give_back_what_they_did_not_use(tmp_path, clock):
    budget = Budget(tmp_path / "b.json", 12.0, clock)
    assert budget.grant("a", 1, 3) == 4.0
    assert budget.grant("b", 2, 2) == 2.0  # two hosts use a machine-hour in half of it
    clock.now = 3600.0
    budget.waits("b")
    clock.now = 7200.0
    assert budget.settle("a") == 2.0 and budget.settle("b") == 2.0
    assert budget.spent == 4.0 and budget.left == 8.0
    assert Budget(tmp_path / "b.json", 12.0, clock).left == 8.0
    assert Budget(tmp_path / "b.json", 4.1, clock).grant("c", 1, 1) == 0.0


def test_a_grant_is_at_most_what_flex_start_gives(tmp_path, clock):
    budget = Budget(tmp_path / "b.json", 1e6, clock)
    assert budget.grant("a", 4, 1) == LONGEST


def test_what_was_asked_for_and_never_seen_is_asked_for_with_less(tmp_path, clock):
    budget = Budget(tmp_path / "b.json", 2.0, clock)
    assert budget.grant("a", 1, 1) == 2.0
    clock.now = 1800.0
    assert budget.grant("a", 1, 1) == 1.5 and budget.spent == 0.5
    budget.refused("a")  # a machine that was not made costs nothing
    clock.now = 7200.0
    assert budget.grant("a", 1, 1) == 1.5 and budget.spent == 0.5
    clock.now = 1e6
    assert budget.grant("a", 1, 1) == 0.0 and budget.left == 0.0


def test_a_machine_that_is_there_is_counted_though_its_request_was_refused(
    tmp_path, clock
):
    """A first request was carried out and its reply lost; the second found no quota."""
    budget = Budget(tmp_path / "b.json", 2.0, clock)
    budget.grant("a", 1, 1)
    budget.refused("a")
    clock.now = 1800.0
    budget.there("a")
    clock.now = 3600.0
    assert budget.settle("a") == 1.0


def following(service, hosts, budget):
    """A launcher of one slice of so many hosts, with nothing in its bucket."""
    return fleet.Up(
        fleet.Fleet("mine", "mine", (service,)),
        [(service, "mine-0", hosts, lambda hours: None)],
        budget,
        types.SimpleNamespace(),
        head_hours=1.0,
        wait_hours=1.0,
        poll_seconds=30.0,
    )


def test_hosts_that_run_are_counted_while_others_of_their_slice_are_waited_for(
    tmp_path, clock
):
    service = Simulated(clock, random.Random(0), 4)
    up = following(service, 4, Budget(tmp_path / "b.json", 80.0, clock))
    up.budget.grant("mine-0", 4, 1)
    up.failed = {}
    group = Seen("mine-0", "mine-0", service.name, "instance group", "waiting", "")
    for said, hours in (("staging", 0.0), ("running", 2.0)):
        clock.now += 3600.0
        host = Seen("mine-0-a", "mine-0", service.name, "instance", "part", said)
        assert up._turn(up.places[0], [group, host]) == "waiting"
        clock.now += 3600.0 * bool(hours)
    assert up.budget.settle("mine-0") == 4 * 2.0


def test_what_does_not_answer_is_looked_at_again(tmp_path, clock):
    service = Simulated(clock, random.Random(0), 1)
    up = fleet.Up(
        fleet.Fleet("mine", "mine", (service,)),
        [],
        Budget(tmp_path / "b.json", 1.0, clock),
        types.SimpleNamespace(),
        head_hours=1.0,
        wait_hours=1.0,
        poll_seconds=30.0,
    )
    answers = [Refused("quota of requests"), Lost("the bucket does not answer"), None]

    def look():
        if (answer := answers.pop(0)) is not None:
            raise answer
        return 7

    assert up._answered(look) == 7 and clock.now == 60.0
    with pytest.raises(Lost):
        up._answered(lambda: (_ for _ in ()).throw(Lost("still")))


def test_a_request_without_an_answer_is_made_again_and_its_hours_stay_counted(
    tmp_path, clock
):
    service = Simulated(clock, random.Random(0), 1)
    answers = [Lost("no answer in 5 tries"), None]

    def ask(want):
        if (answer := answers.pop(0)) is not None:
            raise answer

    service.ask = ask
    up = following(service, 1, Budget(tmp_path / "b.json", 8.0, clock))
    up.failed = {}
    assert up._turn(up.places[0], []) == "later"
    clock.now = 3600.0
    assert up._turn(up.places[0], []) == "waiting" and not answers
    assert up.budget.spent == 1.0 and up.budget.left == 0.0


def test_a_failure_of_the_service_itself_is_asked_for_again():
    assert isinstance(failure("create a: INTERNAL_ERROR: Internal error."), Refused)
    assert not isinstance(failure("create a: 403 Required 'x.create'"), Refused)


def test_a_reply_that_is_cut_off_in_its_middle_is_asked_for_again():
    from requests.exceptions import ChunkedEncodingError

    answers = [ChunkedEncodingError("Connection broken"), None]

    def call():
        if (answer := answers.pop(0)) is not None:
            raise answer
        return 7

    assert reach("list", call, 0.0) == 7


class Simulated:
    """A service with machines that run, end after their hours, and are preempted.

    Attributes:
      billed: hours of all hosts that have run.
    """

    name = "Compute Engine"

    def __init__(self, clock, chance, hosts):
        self.clock, self.chance, self.hosts = clock, chance, hosts
        self.machines, self.billed, self.before = {}, 0.0, 0.0

    def _pass(self):
        """Bills the time since the last call, and lets things happen in it."""
        hours = (self.clock() - self.before) / 3600
        self.before = self.clock()
        for name, machine in list(self.machines.items()):
            if machine["waits"] > 0:
                machine["waits"] -= hours
                continue
            ran = min(hours, machine["hours"])
            preempted = self.chance.random() < 0.05
            if preempted:  # somewhere in between, or just now
                ran *= self.chance.choice([self.chance.random(), 1.0, 1.0])
            self.billed += ran * self.hosts
            machine["hours"] -= ran
            if preempted or machine["hours"] <= 1e-9:
                del self.machines[name]

    def find(self, fleet):
        self._pass()
        if self.chance.random() < 0.02:
            raise KeyboardInterrupt
        state = lambda m: "waiting" if m["waits"] > 0 else "running"
        return [
            Seen(n, n, self.name, "instance", state(m), state(m))
            for n, m in self.machines.items()
        ]

    def ask(self, want):
        self._pass()
        lot = self.chance.random()
        if lot < 0.2:
            raise Refused("quota")
        waits = self.chance.choice([0.0, 0.0, 3.0])
        made = {"hours": want.hours, "waits": waits}
        self.machines.setdefault(want.name, made)
        if lot > 0.95:
            raise KeyboardInterrupt

    def delete(self, thing):
        self._pass()
        self.machines.pop(thing.name, None)


@pytest.mark.parametrize("seed", [0, 1, 6, 8, 10])
def test_a_fleet_never_uses_more_than_its_budget(tmp_path, clock, seed, capsys):
    """Refusals, preemptions, and launchers that stop and come back hours later."""
    chance = random.Random(seed)
    hosts, count = chance.choice([1, 4]), chance.choice([1, 3, 8])
    total = chance.choice([1.0, 7.0, 50.0])
    service = Simulated(clock, chance, hosts)
    made = fleet.Fleet("mine", "mine", (service,))
    want = lambda name: lambda hours: types.SimpleNamespace(name=name, hours=hours)
    places = [(service, f"mine-{i}", hosts, want(f"mine-{i}")) for i in range(count)]
    for _ in range(400):
        up = fleet.Up(
            made,
            places,
            Budget(tmp_path / "b.json", total, clock),
            types.SimpleNamespace(
                begin=lambda: None, ended=lambda: None, failures=dict
            ),
            head_hours=1.0,
            wait_hours=1e9,
            poll_seconds=chance.choice([30.0, 600.0]),
        )
        try:
            up.run()
        except KeyboardInterrupt:
            clock.now += chance.choice([1.0, 3600.0, 20_000.0])
        except LaunchError as error:
            assert "budget" in str(error)
            break
    else:
        raise AssertionError("the budget has no end")
    service._pass()
    assert service.billed <= total + 1e-6
    assert not service.machines
    # What is left is less than any machine could be asked for with.
    budget = Budget(tmp_path / "b.json", total, clock)
    assert budget.left < SMALLEST * hosts * count + 1e-6
