"""Hand jobs out to workers, and see to it that every job comes to an end."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from clipsr_cli.distributed.recipe import Message, Ready, Refused, died
from clipsr_cli.jobs import Done, Failed, Job

logger = logging.getLogger(__name__)

# How often a place is filled again whose workers die without having done anything: before they had
# anything to do, and at work, which may be the fault of several pictures in a row.
MOST_DEATHS = 3
MOST_DEATHS_AT_WORK = 10
# Jobs that a worker has before all have begun: the first one shall not take them all.
MOST_AT_FIRST = 8
# Seconds without any worker after which that is told.
PATIENCE = 60


@dataclass(frozen=True)
class Gone:
    """A worker has ended, and how, in words."""

    how: str


Event = tuple[int, Message | Gone]
Tell = Callable[[Message | Gone], None]


class Worker(Protocol):
    """Somebody elsewhere who enlarges pictures."""

    def give(self, job: Job) -> None:
        """One more job. What comes of it is told; that the worker is gone, too."""

    def finish(self) -> None:
        """There are no more jobs: do what is at hand, and end."""

    def abandon(self) -> None:
        """End at once, leaving nothing half-written, and wait for it."""


# Starts a worker that tells what happens.
Start = Callable[[Tell], Worker]


@dataclass(eq=False)
class _Place:
    """A place for a worker, whose worker may be replaced."""

    number: int
    start: Start
    worker: Worker | None = None
    appetite: int = 0
    # By output, which no two jobs share.
    at_hand: dict[Path, Job] = field(default_factory=dict)
    # Whether it is at a job that a dead worker had, which it does alone.
    alone: bool = False
    # Whether it ever had a worker that could work.
    has_begun: bool = False
    deaths: int = 0
    deaths_at_work: int = 0

    @property
    def is_hopeless(self) -> bool:
        return self.deaths >= MOST_DEATHS or self.deaths_at_work >= MOST_DEATHS_AT_WORK

    def has_room(self, all_begun: bool) -> bool:
        """Whether it is to have another job; a few only while others still load."""
        most = self.appetite if all_begun else min(self.appetite, MOST_AT_FIRST)
        return self.worker is not None and not self.alone and len(self.at_hand) < most


def run(jobs: Iterable[Job], starts: Sequence[Start]) -> Iterator[Done | Failed]:
    """Enlarge pictures by several workers, yielding each outcome as it comes.

    Args:
        jobs: taken as workers have room; those taken are finished when it ends.
        starts: starts a worker, one for each place.

    Raises:
        ClipsrError: no worker can begin, for example as its device is not there.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    places = [_Place(number, start) for number, start in enumerate(starts)]
    waiting = iter(jobs)
    again: deque[Job] = deque()
    tried: set[Path] = set()
    exhausted = told = False

    def start(place: _Place) -> None:
        number = place.number
        place.appetite = 0
        place.worker = place.start(lambda message: events.put((number, message)))

    try:
        for place in places:
            start(place)
        while True:
            all_begun = all(place.appetite or place.worker is None for place in places)
            # What died once is done by itself, by whoever has nothing else to do.
            for place in places:
                if again and place.has_room(all_begun) and not place.at_hand:
                    place.alone = True
                    _give(place, again.popleft())
            while not exhausted and (room := [p for p in places if p.has_room(all_begun)]):
                job = next(waiting, None)
                if job is None:
                    exhausted = True
                else:
                    _give(min(room, key=lambda place: len(place.at_hand)), job)
            busy = any(place.at_hand for place in places)
            if exhausted and not busy and not again:
                return
            if not any(place.worker for place in places):
                for job in [*again, *waiting]:
                    yield died(job, "and so did all others")
                return
            try:
                number, message = events.get(timeout=None if told else PATIENCE)
            except Empty:
                logger.warning("No worker has begun yet; still waiting.")
                told = True
                continue
            place = places[number]
            if isinstance(message, Ready):
                place.appetite = message.appetite
                place.has_begun = told = True
            elif isinstance(message, Refused):
                if not place.has_begun:
                    raise message.error
                # It was there before: the others go on.
                logger.warning("A worker cannot begin again: %s", message.error)
                place.deaths = MOST_DEATHS
            elif isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, Gone):
                yield from _bury(place, message.how, again, tried)
                if not place.is_hopeless and (again or not exhausted):
                    start(place)
            else:
                place.deaths = place.deaths_at_work = 0
                place.alone = False
                if place.at_hand.pop(message.job.output, None) is not None:
                    yield message
    finally:
        _end(places, events)


def _give(place: _Place, job: Job) -> None:
    assert place.worker is not None
    place.at_hand[job.output] = job
    place.worker.give(job)


def _bury(place: _Place, how: str, again: deque[Job], tried: set[Path]) -> Iterator[Failed]:
    """A worker is gone: its jobs go to others, or have failed if it is the second time."""
    lost = list(place.at_hand.values())
    if lost:
        place.deaths_at_work += 1
    else:
        place.deaths += 1
    place.worker, place.alone = None, False
    place.at_hand.clear()
    count = sum(job.output not in tried for job in lost)
    logger.warning("A worker died, %s; %d pictures of it are tried again.", how, count)
    for job in lost:
        if job.output in tried:
            yield died(job, how)
        else:
            tried.add(job.output)
            again.append(job)


def _end(places: Sequence[_Place], events: "SimpleQueue[Event]") -> None:
    """Let workers that have nothing to do end, and stop the others."""
    # At once, so that none waits for another, and all know even if the waiting is interrupted.
    ending = [
        Thread(target=place.worker.abandon if place.at_hand else place.worker.finish, daemon=True)
        for place in places
        if place.worker is not None
    ]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()
    while True:
        try:
            _, message = events.get_nowait()
        except Empty:
            return
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
