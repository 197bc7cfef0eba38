"""Which machine gets what, and what is tried again: no processes, no cluster."""

import collections

import pytest

from scaling.engines.fleet import Fleet, Gone, Probe, Result
from scaling.engines.stop import Stop
from scaling.errors import Ended, UserError
from scaling.packs import Event, Pack, Search
from scaling.scheduling.queue import Queue
from tests.scaling.scheduling.test_queue import Plan, sized


class Cluster:
    """Machines that carry out a job the moment they are asked; `fate` says otherwise.

    fate: given a job, what it ends in instead of records, or None.
    """

    def __init__(self, plan, hosts, fate=lambda job: None):
        self.plan, self.there, self.fate = plan, dict.fromkeys(hosts, "cpu"), fate
        self.waiting, self.jobs, self.stopped = [], [], False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def hosts(self):
        return self.there

    def start(self, job):
        self.waiting.append(job)
        self.jobs.append(job)

    def wait(self, seconds):
        while self.waiting:
            yield from self.said(self.waiting.pop(0))

    def said(self, job):
        if isinstance(job.work, Pack):
            for run_id in job.work.run_ids:
                yield job, Event("started", run_id)
        if (fate := self.fate(job)) is not None:
            yield job, fate
        elif isinstance(job.work, Probe):
            yield job, Result({"platform": "cpu", "devices": 2, "kind": "made"})
        elif isinstance(job.work, Search):
            yield job, Result([(self.plan.layouts.of(job.work.run), 1.0)])
        else:
            for run_id in job.work.run_ids:
                self.plan.done.add(run_id)
                yield job, Event("done", run_id, status="done")
            yield job, Result()

    def ask_to_stop(self):
        self.stopped = True


class Here:
    """This machine, of which nothing is asked."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch):
    monkeypatch.setattr("scaling.engines.fleet.LOOK_SECONDS", 0.0)


def many(tmp_path, sizes=(1, 5, 9), rates=8):
    runs = {f"{s}-{i}": sized(s, 0.01 * (i + 1)) for s in sizes for i in range(rates)}
    return Plan(tmp_path, runs)


def train(plan, cluster, stop=None):
    queue, notes = Queue(plan, False), []
    stop = Stop() if stop is None else stop  # which is false until it is asked
    fleet = Fleet(cluster, Here(), plan.store, stop, notes.append)
    with fleet:
        fleet.run(queue, plan.store, queue.note)
    return queue, notes


def packs(cluster):
    """The packs that each host was given."""
    given = collections.defaultdict(list)
    for job in cluster.jobs:
        if isinstance(job.work, Pack):
            given[job.host].append(job.work)
    return given


def test_every_machine_is_used_and_each_run_trained_once(tmp_path):
    plan = many(tmp_path)
    cluster = Cluster(plan, "abc")
    train(plan, cluster)
    given = packs(cluster)
    assert set(given) == set("abc") and plan.done == set(plan.planned)
    ids = [i for made in given.values() for pack in made for i in pack.run_ids]
    assert len(ids) == len(set(ids)) == 24
    # The largest program first, and no pack narrower than its slots but the last.
    assert given["a"][0].runs[0].model.size == 9
    assert all(len(pack.runs) >= 2 for made in given.values() for pack in made)


def test_one_machine_gets_all_of_a_program(tmp_path):
    plan = many(tmp_path)
    cluster = Cluster(plan, "a")
    train(plan, cluster)
    assert [len(pack.runs) for pack in packs(cluster)["a"]] == [8, 8, 8]


def test_what_is_lost_with_its_machine_is_tried_without_limit(tmp_path):
    plan, left = many(tmp_path, sizes=(1,), rates=2), list(range(9))

    def fate(job):
        return (
            Gone("the node died", lost=True) if job.work != Probe() and left else None
        )

    cluster = Cluster(plan, "a", fate)
    said, name = cluster.said, "abcdefghijklmn"

    def lose(job):
        yield from said(job)
        if fate(job) is not None:
            left.pop()
            cluster.there = {name[1 + len(left)]: "cpu"}

    cluster.said = lose
    queue, _ = train(plan, cluster)
    assert plan.done == set(plan.planned) and not queue.given_up
    assert {attempt.cause for attempt in plan.store.attempts()} == {"lost"}
    assert len(list(plan.store.attempts())) == 18


def test_a_record_that_nobody_spoke_of_is_found(tmp_path):
    """Its machine went after it was written, and before that was said."""
    plan = many(tmp_path, sizes=(1,), rates=2)
    plan.settled = True
    cluster, said = Cluster(plan, "a"), []

    def vanish(job):
        if isinstance(job.work, Pack):
            said.append(job)
            assert len(said) == 1, "it is trained again"
            for run_id in job.work.run_ids:
                plan.done.add(run_id)
                plan.store.path("records").mkdir(exist_ok=True)
                plan.store.path("records", f"{run_id}.json").write_text("{}")
            yield job, Gone("the node died", lost=True)
        else:
            yield from normal(job)

    normal, cluster.said = cluster.said, vanish
    train(plan, cluster)
    assert plan.done == set(plan.planned) and not any(plan.store.attempts())


def test_a_study_that_no_result_changes_is_planned_at_its_start_and_end(tmp_path):
    """With 100,000 runs a plan takes half a minute, in which machines would wait."""
    plan, there = many(tmp_path), list("defgh")
    plan.settled = True
    cluster, made = Cluster(plan, "abc"), []
    normal, remember = cluster.said, plan.remember
    plan.remember = lambda: made.append(1) or remember()

    def vanish(job):
        if isinstance(job.work, Pack) and there:
            del cluster.there[job.host]
            cluster.there[there.pop()] = "cpu"
            yield job, Gone("the node died", lost=True)
        else:
            yield from normal(job)

    cluster.said = vanish
    train(plan, cluster)
    assert plan.done == set(plan.planned) and not there
    assert len(made) == 2


def test_a_machine_that_comes_back_has_one_job_at_a_time(tmp_path):
    plan = many(tmp_path)
    cluster, looks = Cluster(plan, "ab"), []

    def hosts():
        """b is gone at every second look."""
        looks.append(1)
        return {"a": "cpu", "b": "cpu"} if len(looks) % 2 else {"a": "cpu"}

    def one_by_one(seconds):
        while cluster.waiting:
            busy = [job.host for job in cluster.waiting]
            assert len(busy) == len(set(busy))
            yield from cluster.said(cluster.waiting.pop(0))
            return

    cluster.hosts, cluster.wait = hosts, one_by_one
    train(plan, cluster)
    assert plan.done == set(plan.planned) and set(packs(cluster)) == set("ab")


def test_a_machine_that_is_preempted_takes_no_tries(tmp_path):
    """The child saved its work when it was asked to end, by nobody here."""
    plan, left = many(tmp_path, sizes=(1,), rates=1), list(range(9))
    cluster = Cluster(plan, "a")
    said = cluster.said

    def preempt(job):
        if isinstance(job.work, Pack) and left:
            left.pop()
            yield job, Event("started", "1-0")
            yield job, Event("failed", "1-0", cause="preemption", message="stopped")
            yield job, Result()
        else:
            yield from said(job)

    cluster.said = preempt
    queue, _ = train(plan, cluster)
    assert plan.done == {"1-0"} and not queue.given_up


def test_a_crash_is_tried_three_times(tmp_path):
    plan = many(tmp_path, sizes=(1,), rates=2)
    bad = lambda job: (
        Gone("the worker died")
        if isinstance(job.work, Pack) and "1-0" in job.work.run_ids
        else None
    )
    queue, _ = train(plan, Cluster(plan, "ab", bad))
    assert queue.given_up == {"1-0": "crash"} and plan.done == {"1-1"}


def test_a_machine_on_which_nothing_works_is_set_aside(tmp_path):
    plan = many(tmp_path)
    bad = lambda job: Gone("no disk") if job.host == "b" else None
    cluster = Cluster(plan, "abc", bad)
    queue, notes = train(plan, cluster)
    assert plan.done == set(plan.planned) and not queue.given_up
    assert "b is set aside: 3 times, no disk" in notes
    assert len(packs(cluster)["b"]) <= 3


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_a_crash_is_tried_again_on_another_machine(runs, tmp_path):
    plan = many(tmp_path, sizes=(1,), rates=runs)
    bad = lambda job: (
        Gone("no disk") if job.host == "a" and isinstance(job.work, Pack) else None
    )
    cluster = Cluster(plan, "ab", bad)
    queue, _ = train(plan, cluster)
    assert plan.done == set(plan.planned) and not queue.given_up
    tried = [i for pack in packs(cluster)["a"] for i in pack.run_ids]
    assert tried and len(tried) == len(set(tried))


def test_a_crash_is_tried_again_on_the_only_machine(tmp_path):
    plan, left = many(tmp_path, sizes=(1,), rates=1), [1, 2]
    bad = lambda job: (
        Gone("no disk") if isinstance(job.work, Pack) and left and left.pop() else None
    )
    cluster = Cluster(plan, "a", bad)
    queue, _ = train(plan, cluster)
    assert plan.done == {"1-0"} and not queue.given_up
    assert len(packs(cluster)["a"]) == 3


def test_a_machine_that_is_of_no_use_does_not_end_the_study(tmp_path):
    """The first of its kind, whose devices cannot be listed; another one can list them,
    even after a crash."""
    plan, left = many(tmp_path), [1]

    def fate(job):
        if job.host == "a" or (isinstance(job.work, Pack) and left and left.pop()):
            return Gone("no driver")
        return None

    cluster = Cluster(plan, "ab", fate)
    queue, notes = train(plan, cluster)
    assert plan.done == set(plan.planned) and not queue.given_up
    assert "a is set aside: 3 times, no driver" in notes


def test_it_ends_where_no_machine_is_of_use(tmp_path):
    plan = many(tmp_path)
    bad = lambda job: Gone("no driver") if isinstance(job.work, Probe) else None
    fleet = Fleet(Cluster(plan, "a", bad), Here(), plan.store, Stop())
    with fleet, pytest.raises(Ended, match="no machine is of use: no driver"):
        fleet.probe()


def test_a_layout_is_searched_once_a_kind_of_machine(tmp_path):
    plan, kept = many(tmp_path), {}
    fixed = plan.layouts.of(None)
    plan.spec = lambda run: None

    def layouts_of(machine):
        plan.layouts.kept = lambda run: kept.get(machine)
        plan.layouts.search = lambda run, *runs: None
        plan.layouts.learn = lambda run, rates: kept.setdefault(machine, fixed)
        return plan.layouts

    plan.layouts_of = layouts_of
    cluster = Cluster(plan, "abcd")
    cluster.there |= {"c": "gpu", "d": "gpu"}
    fate = lambda job: (
        Result({"platform": cluster.there[job.host], "devices": 1, "kind": "made"})
        if isinstance(job.work, Probe)
        else None
    )
    cluster.fate = fate
    train(plan, cluster)
    searches = [job for job in cluster.jobs if isinstance(job.work, Search)]
    assert len(searches) == 2 and plan.done == set(plan.planned)


def test_a_mistake_of_the_users_ends_the_study(tmp_path):
    plan = many(tmp_path)
    wrong = UserError("model.options", "act=user", "give another act")
    bad = lambda job: wrong if isinstance(job.work, Pack) else None
    with pytest.raises(UserError, match="give another act"):
        train(plan, Cluster(plan, "a", bad))


def test_a_stop_is_passed_on_and_waited_for(tmp_path):
    plan, stop = many(tmp_path), Stop()
    cluster = Cluster(plan, "a")

    def fate(job):
        if isinstance(job.work, Pack):
            stop.signal = 15
            return Gone("stopped on request")
        return None

    cluster.fate = fate
    train(plan, cluster, stop)
    assert cluster.stopped and not plan.done


def test_it_ends_with_the_last_run_where_every_machine_goes(tmp_path):
    plan = many(tmp_path, sizes=(1,), rates=2)
    cluster = Cluster(plan, "a")
    said = cluster.said

    def vanish(job):
        yield from said(job)
        if isinstance(job.work, Pack):
            cluster.there = {}

    cluster.said = vanish
    train(plan, cluster)
    assert plan.done == set(plan.planned)
