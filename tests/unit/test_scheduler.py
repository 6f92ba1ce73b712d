"""Jobs are handed out to workers, and every one comes to an end, whatever becomes of them."""

import logging
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.distributed import run
from clipsr_cli.distributed.recipe import Ready, Refused
from clipsr_cli.distributed.scheduler import MOST_AT_FIRST, MOST_DEATHS, Gone
from clipsr_cli.errors import ClipsrError, DeviceError, ImageError
from clipsr_cli.jobs import Done, Failed, Job
from clipsr_cli.prompts import Prompt

# Seconds after which what was to come is taken to come never.
PATIENCE = 20


def job(name):
    return Job(
        input=Path("in", f"{name}.png"),
        output=Path("out", f"{name}_x4.png"),
        form="png",
        prompt=Prompt(text="", source="empty"),
        size_in=(2, 2),
        size_out=(8, 8),
    )


def name(found):
    """Of a job, or of an outcome's."""
    return getattr(found, "job", found).input.stem


def done(job):
    return Done(
        job=job,
        size_in=(2, 2),
        size_out=(8, 8),
        tiles=1,
        seconds=0.1,
        device="cpu",
        precision="fp32",
    )


def told(record, level=logging.WARNING):
    return logging.LogRecord("clipsr_cli.elsewhere", level, __file__, 1, record, None, None)


class Puppet:
    """A worker that does what the test says."""

    def __init__(self, tell):
        self.tell = tell
        self.given = SimpleQueue()
        self.held = {}
        self.ended = None

    def give(self, job):
        self.given.put(job)

    def finish(self):
        self.ended = "finished"

    def abandon(self):
        self.ended = "abandoned"

    def is_ready(self, appetite):
        self.tell(Ready("cpu", "fp32", appetite))

    def takes(self, count):
        """The names of the next jobs that it is given, which must come."""
        for _ in range(count):
            job = self.given.get(timeout=PATIENCE)
            self.held[name(job)] = job
        return list(self.held)[-count:]

    def does(self, *names):
        for each in names:
            self.tell(done(self.held.pop(each)))

    def dies(self, how="by SIGKILL"):
        self.tell(Gone(how))


class Show:
    """A run in a thread of its own, and the workers that it starts."""

    def __init__(self, jobs, places):
        self.started = [SimpleQueue() for _ in range(places)]
        self.outcomes = []
        self.error = None
        self.thread = threading.Thread(target=self._run, args=(jobs,), daemon=True)
        self.thread.start()

    def _run(self, jobs):
        try:
            for outcome in run(jobs, [self._start(place) for place in self.started]):
                self.outcomes.append(outcome)
        except BaseException as error:
            self.error = error

    @staticmethod
    def _start(place):
        def start(tell):
            puppet = Puppet(tell)
            place.put(puppet)
            return puppet

        return start

    def worker(self, place=0):
        """The next worker that a place has, which must come."""
        return self.started[place].get(timeout=PATIENCE)

    def settle(self, worker):
        """Wait until everything that was told so far has had its consequences."""
        seen = threading.Event()
        handler = logging.Handler()
        handler.emit = lambda record: seen.set()
        logger = logging.getLogger("clipsr_cli.settled")
        logger.addHandler(handler)
        try:
            # Twice, as a message is taken before what follows from it is done.
            for _ in range(2):
                seen.clear()
                record = logging.LogRecord(logger.name, logging.WARNING, "", 1, "", None, None)
                worker.tell(record)
                assert seen.wait(PATIENCE)
        finally:
            logger.removeHandler(handler)

    def ends(self):
        """What came of the jobs, by name: True where it is done, else the message."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        found = {name(o): isinstance(o, Done) or str(o.error) for o in self.outcomes}
        assert len(found) == len(self.outcomes)
        return found


def jobs_of(names):
    return [job(each) for each in names]


# Handing out


def test_jobs_go_to_those_who_have_room_and_never_more_than_they_take():
    show = Show(jobs_of("abcdef"), 2)
    first, second = show.worker(0), show.worker(1)

    show.settle(first)
    assert first.given.empty()
    assert second.given.empty()
    first.is_ready(2)
    assert first.takes(2) == ["a", "b"]
    show.settle(first)
    assert first.given.empty()
    second.is_ready(1)
    assert second.takes(1) == ["c"]
    first.does("b")
    assert first.takes(1) == ["d"]
    show.settle(second)
    assert second.given.empty()
    second.does("c")
    assert second.takes(1) == ["e"]
    first.does("a", "d")
    assert first.takes(1) == ["f"]
    first.does("f")
    second.does("e")

    assert show.ends() == dict.fromkeys("abcdef", True)
    assert [name(outcome) for outcome in show.outcomes] == list("bcadfe")
    assert first.ended == second.ended == "finished"


def test_a_fast_worker_does_more_than_a_slow_one():
    show = Show(jobs_of(map(str, range(10))), 2)
    slow, fast = show.worker(0), show.worker(1)
    slow.is_ready(1)
    slow.takes(1)
    fast.is_ready(1)
    for _ in range(9):
        fast.does(*fast.takes(1))
    slow.does("0")

    assert show.ends() == {str(index): True for index in range(10)}


def test_a_failure_is_an_outcome_like_any_other():
    show = Show(jobs_of("ab"), 1)
    worker = show.worker()
    worker.is_ready(1)
    worker.takes(1)
    worker.tell(Failed(job=worker.held["a"], error=ImageError("cannot be read")))
    worker.takes(1)
    worker.does("b")

    assert show.ends() == {"a": "cannot be read", "b": True}


def test_an_outcome_that_comes_twice_is_told_once():
    show = Show(jobs_of("ab"), 1)
    worker = show.worker()
    worker.is_ready(2)
    worker.takes(2)
    again = worker.held["a"]
    worker.does("a")
    worker.tell(done(again))
    worker.does("b")

    assert show.ends() == {"a": True, "b": True}


def test_without_jobs_the_workers_are_let_go():
    show = Show([], 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(2)

    assert show.ends() == {}
    assert first.ended == second.ended == "finished"


# Deaths


def test_what_a_dead_worker_had_is_tried_again_alone_before_anything_new(caplog):
    show = Show(jobs_of("abcdef"), 1)
    first = show.worker()
    first.is_ready(3)
    assert first.takes(3) == ["a", "b", "c"]
    first.does("b")
    assert first.takes(1) == ["d"]

    first.dies("by SIGSEGV")

    second = show.worker()
    second.is_ready(3)
    for each in "acd":
        assert second.takes(1) == [each]
        show.settle(second)
        assert second.given.empty()
        second.does(each)
    assert second.takes(2) == ["e", "f"]
    second.does("e", "f")
    assert show.ends() == dict.fromkeys("abcdef", True)
    assert "A worker died, by SIGSEGV; 3 pictures" in caplog.text
    assert first.ended is None
    assert second.ended == "finished"


def test_one_picture_of_a_dead_worker_is_one(caplog):
    show = Show(jobs_of("a"), 1)
    first = show.worker()
    first.is_ready(1)
    first.takes(1)
    first.dies()
    second = show.worker()
    second.is_ready(1)
    second.does(*second.takes(1))

    assert show.ends() == {"a": True}
    assert "; 1 picture of it is tried again." in caplog.text


def test_others_take_over_what_a_dead_worker_had():
    show = Show(jobs_of("ab"), 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(2)
    first.takes(2)
    second.is_ready(2)
    show.settle(second)

    first.dies()

    # Whoever takes the first one's place is not there yet.
    for each in "ab":
        assert second.takes(1) == [each]
        show.settle(second)
        assert second.given.empty()
        second.does(each)
    assert show.ends() == {"a": True, "b": True}


def test_a_busy_worker_is_given_no_second_try_beside_its_own():
    show = Show(jobs_of("abc"), 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(1)
    first.takes(1)
    second.is_ready(2)
    second.takes(2)

    first.dies()
    second.does("b")
    show.settle(second)

    assert second.given.empty()
    second.does("c")
    assert second.takes(1) == ["a"]
    second.does("a")
    assert show.ends() == dict.fromkeys("abc", True)


def test_a_picture_that_kills_every_worker_costs_only_itself():
    show = Show(jobs_of("abc"), 1)
    worker = show.worker()
    worker.is_ready(3)
    worker.takes(3)
    worker.dies("with exit code 9")
    worker = show.worker()
    worker.is_ready(3)
    worker.does(*worker.takes(1))
    assert worker.takes(1) == ["b"]

    worker.dies("by SIGKILL")

    worker = show.worker()
    worker.is_ready(3)
    assert worker.takes(1) == ["c"]
    worker.does("c")
    found = show.ends()
    assert (found["a"], found["c"]) == (True, True)
    assert "in/b.png" in found["b"]
    assert "by SIGKILL" in found["b"]
    (failed,) = (outcome for outcome in show.outcomes if isinstance(outcome, Failed))
    assert isinstance(failed.error, ImageError)
    assert failed.error.hint


def test_a_place_whose_workers_only_die_is_given_up_and_the_others_go_on():
    show = Show(jobs_of("ab"), 2)
    good = show.worker(1)
    for _ in range(MOST_DEATHS):
        show.worker(0).dies()
    show.settle(good)

    assert show.started[0].empty()
    good.is_ready(1)
    good.does(*good.takes(1))
    good.does(*good.takes(1))
    assert show.ends() == {"a": True, "b": True}


def test_where_all_are_dead_for_good_the_rest_has_failed():
    show = Show(jobs_of("abcd"), 2)
    first = show.worker(0)
    first.is_ready(1)
    first.does(*first.takes(1))
    first.takes(1)
    first.dies()
    while show.thread.is_alive():
        for place in show.started:
            with suppress(Empty):
                place.get(timeout=0.01).dies()

    found = show.ends()
    assert found.pop("a") is True
    assert "in/b.png: the worker that enlarged it died" in found.pop("b")
    # No worker ever had these.
    for each in "cd":
        assert f"in/{each}.png was not begun: all workers had died." in found.pop(each)
    assert found == {}


def test_a_worker_that_does_something_may_die_again():
    show = Show(jobs_of(map(str, range(6))), 1)
    for index in range(6):
        worker = show.worker()
        worker.is_ready(1)
        worker.does(*worker.takes(1))
        if index < 5:
            worker.takes(1)
            worker.dies()

    assert show.ends() == {str(index): True for index in range(6)}


def test_nobody_is_started_for_a_worker_that_dies_when_all_is_handed_out():
    show = Show(jobs_of("a"), 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(2)
    first.takes(1)
    second.dies()
    show.settle(first)

    assert show.started[1].empty()
    first.does("a")
    assert show.ends() == {"a": True}


# Beginning and ending


def test_the_first_worker_to_begin_does_not_take_what_is_there_for_all():
    show = Show(jobs_of(f"{index:02}" for index in range(40)), 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(100)
    early = first.takes(MOST_AT_FIRST)
    show.settle(first)
    assert first.given.empty()

    second.is_ready(100)

    mine = [*early, *first.takes(20 - MOST_AT_FIRST)]
    others = second.takes(20)
    assert len({*mine, *others}) == 40
    first.does(*mine)
    second.does(*others)
    assert set(show.ends().values()) == {True}


def test_a_worker_that_cannot_begin_again_costs_nobody_elses_pictures():
    show = Show(jobs_of("ab"), 2)
    lost, other = show.worker(0), show.worker(1)
    lost.is_ready(1)
    other.is_ready(1)
    lost.takes(1)
    other.takes(1)
    lost.dies()

    again = show.worker(0)
    again.tell(Refused(DeviceError("it fell off the bus")))
    again.dies("with exit code 0")
    other.does(*other.held)
    other.takes(1)
    other.does(*other.held)

    assert show.ends() == {"a": True, "b": True}


def test_a_worker_that_cannot_begin_ends_the_run_with_its_error():
    error = DeviceError("no such device")
    show = Show(jobs_of("abc"), 3)
    busy, refused, idle = (show.worker(place) for place in range(3))
    busy.is_ready(1)
    busy.takes(1)

    refused.tell(Refused(error))

    with pytest.raises(ClipsrError, match="no such device") as caught:
        show.ends()
    assert caught.value is error
    assert show.outcomes == []
    assert (busy.ended, idle.ended) == ("abandoned", "finished")


def test_a_place_where_nothing_can_be_started_ends_those_that_were():
    started = []

    def start(tell):
        if started:
            raise OSError("no more processes")
        started.append(Puppet(tell))
        return started[0]

    with pytest.raises(OSError, match="no more processes"):
        next(run(jobs_of("a"), [start, start]))

    assert started[0].ended == "finished"


def test_where_the_jobs_end_early_those_under_way_are_finished():
    stopped = threading.Event()
    taken = []

    def source():
        for each in jobs_of("abcdef"):
            if stopped.is_set():
                return
            taken.append(name(each))
            yield each

    show = Show(source(), 2)
    first, second = show.worker(0), show.worker(1)
    first.is_ready(2)
    first.takes(2)
    second.is_ready(1)
    second.takes(1)
    stopped.set()
    first.does("a")
    show.settle(first)
    assert first.given.empty()
    first.does("b")
    second.does("c")

    assert show.ends() == dict.fromkeys("abc", True)
    assert taken == list("abc")
    assert first.ended == second.ended == "finished"


def test_jobs_are_taken_only_as_there_is_room():
    taken = []

    def source():
        for each in jobs_of("abcd"):
            taken.append(name(each))
            yield each

    show = Show(source(), 1)
    worker = show.worker()
    show.settle(worker)
    assert taken == []
    worker.is_ready(2)
    worker.takes(2)
    show.settle(worker)
    assert taken == ["a", "b"]
    worker.does("a", "b")
    worker.takes(2)
    worker.does("c", "d")

    assert show.ends() == dict.fromkeys("abcd", True)


class Eager(Puppet):
    """A worker that does its first job at once, and no other."""

    def __init__(self, tell):
        super().__init__(tell)
        self.is_ready(2)

    def give(self, job):
        if self.given.empty():
            self.tell(done(job))
        super().give(job)


@pytest.mark.parametrize("how", [GeneratorExit, KeyboardInterrupt])
def test_a_caller_that_stops_has_the_workers_abandoned(how):
    workers = []

    def start(kind):
        def start_one(tell):
            workers.append(kind(tell))
            return workers[-1]

        return start_one

    outcomes = run(jobs_of("abcd"), [start(Eager), start(Puppet)])
    assert name(next(outcomes)) == "a"

    if how is GeneratorExit:
        outcomes.close()
    else:
        with pytest.raises(how):
            outcomes.throw(how)

    assert [worker.ended for worker in workers] == ["abandoned", "finished"]


def test_a_source_of_jobs_that_fails_has_the_workers_abandoned():
    def source():
        yield job("a")
        raise InterruptedError("no more")

    show = Show(source(), 1)
    worker = show.worker()
    worker.is_ready(2)

    with pytest.raises(InterruptedError, match="no more"):
        show.ends()
    assert worker.ended == "abandoned"


def test_all_workers_are_told_to_end_before_one_is_waited_for():
    told = threading.Barrier(2)

    class Slow(Puppet):
        def abandon(self):
            told.wait(PATIENCE)
            super().abandon()

    class Eager(Slow):
        def give(self, job):
            if self.given.empty():
                self.tell(done(job))
            super().give(job)

    workers = []

    def start(tell):
        workers.append(Eager(tell))
        workers[-1].is_ready(2)
        return workers[-1]

    outcomes = run(jobs_of("abcd"), [start, start])
    next(outcomes)
    next(outcomes)

    outcomes.close()

    assert [worker.ended for worker in workers] == ["abandoned"] * 2


def test_what_workers_log_is_logged_here(caplog):
    class Talkative(Eager):
        def finish(self):
            super().finish()
            self.tell(told("goodbye"))

    workers = []

    def start(tell):
        workers.append(Talkative(tell))
        return workers[0]

    with caplog.at_level(logging.INFO, "clipsr_cli"):
        outcomes = run(jobs_of("a"), [start])
        assert name(next(outcomes)) == "a"
        # Told while jobs are under way, and told at the very end.
        workers[0].tell(told("hello", logging.INFO))
        assert list(outcomes) == []

    assert [record.name for record in caplog.records] == ["clipsr_cli.elsewhere"] * 2
    assert caplog.messages == ["hello", "goodbye"]


# In any order


class World:
    """What workers of their own will did, and whether they were treated as they should be."""

    def __init__(self, poison=()):
        self.poison = set(poison)
        self.given = {}
        self.survived = []
        self.broken = []

    def check(self, truth, what):
        if not truth:
            self.broken.append(what)


class Willful(threading.Thread):
    """A worker that does so many jobs and dies of the next, or of a job that is poison."""

    def __init__(self, world, tell, appetite, lives):
        super().__init__(daemon=True)
        self.world = world
        self.tell = tell
        self.appetite = appetite
        self.lives = lives
        self.inbox = SimpleQueue()
        self.lock = threading.Lock()
        self.held = set()
        self.is_there = False
        self.alone = None
        self.start()

    def give(self, job):
        world, each = self.world, name(job)
        with self.lock:
            world.check(self.is_there, f"{each} came before the worker was ready")
            world.check(len(self.held) < self.appetite, f"{each} was one too many")
            world.check(not self.alone, f"{each} came beside a second try")
            world.given[each] = world.given.get(each, 0) + 1
            if world.given[each] > 1:
                world.check(not self.held, f"the second try of {each} was not alone")
                self.alone = each
            self.held.add(each)
        self.inbox.put(job)

    def run(self):
        if self.lives < 0:
            self.tell(Gone("early"))
            return
        self.is_there = True
        self.tell(Ready("cpu", "fp32", self.appetite))
        while (job := self.inbox.get()) is not None:
            each = name(job)
            if self.lives == 0 or each in self.world.poison:
                self.tell(Gone("of " + each))
                return
            self.lives -= 1
            with self.lock:
                self.held.discard(each)
                self.alone = None
            self.world.survived.append(each)
            self.tell(done(job))

    def finish(self):
        self.world.check(not self.held, "finished with jobs at hand")
        self.inbox.put(None)
        self.join(PATIENCE)

    def abandon(self):
        self.world.check(False, "abandoned")
        self.inbox.put(None)


IMMORTAL = 10**6
# Of a place: how much its workers take, what they live for one after the other, and those to come.
places = st.tuples(
    st.integers(1, 4),
    st.lists(st.integers(-1, 4), max_size=4),
    st.sampled_from([-1, 0, 1, IMMORTAL, IMMORTAL]),
)


def outcomes_in(world, count, places):
    def start(appetite, lives, later):
        fates = iter(lives)
        return lambda tell: Willful(world, tell, appetite, next(fates, later))

    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.extend(
            run(jobs_of(map(str, range(count))), [start(*place) for place in places])
        ),
        daemon=True,
    )
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the run does not end"
    assert world.broken == []
    # None is lost, and none comes twice.
    assert sorted(map(name, outcomes), key=int) == [str(index) for index in range(count)]
    return {name(outcome): outcome for outcome in outcomes}


@settings(deadline=None, max_examples=150)
@given(
    count=st.integers(0, 20),
    places=st.lists(places, min_size=1, max_size=4),
    poison=st.sets(st.integers(0, 19).map(str), max_size=3),
)
def test_every_job_ends_exactly_once_whoever_dies(count, places, poison):
    world = World(poison)

    outcomes = outcomes_in(world, count, places)

    assert max(world.given.values(), default=0) <= 2
    done = {each for each, outcome in outcomes.items() if isinstance(outcome, Done)}
    assert done == set(world.survived)
    assert len(world.survived) == len(done)
    for each in outcomes.keys() - done:
        had = f"in/{each}.png: the worker that enlarged it died"
        words = had if each in world.given else f"in/{each}.png was not begun"
        assert words in str(outcomes[each].error)
    if all(not lives and later == IMMORTAL for _, lives, later in places) and not poison:
        assert len(done) == count


@settings(deadline=None, max_examples=75)
@given(
    count=st.integers(1, 20),
    appetites=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    data=st.data(),
)
def test_poisonous_pictures_cost_only_themselves_wherever_they_are(count, appetites, data):
    poison = data.draw(st.sets(st.integers(0, count - 1).map(str), min_size=1, max_size=3))
    world = World(poison)

    outcomes = outcomes_in(world, count, [(appetite, [], IMMORTAL) for appetite in appetites])

    assert {each for each, o in outcomes.items() if isinstance(o, Failed)} == poison
    for each in poison:
        assert f"of {each}" in str(outcomes[each].error)
