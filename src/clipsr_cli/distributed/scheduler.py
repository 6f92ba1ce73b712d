"""Hand jobs out to workers, and see to it that every job comes to an end."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from clipsr_cli.distributed.recipe import Message, Ready, Refused, died
from clipsr_cli.jobs import Done, Failed, Job

logger = logging.getLogger(__name__)

# How often a place is filled again whose workers die without having done anything.
MOST_DEATHS = 3


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
    deaths: int = 0

    @property
    def has_room(self) -> bool:
        return self.worker is not None and not self.alone and len(self.at_hand) < self.appetite


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
    exhausted = False

    def start(place: _Place) -> None:
        number = place.number
        place.appetite = 0
        place.worker = place.start(lambda message: events.put((number, message)))

    try:
        for place in places:
            start(place)
        while True:
            # What died once is done first, and by itself.
            for place in places:
                if again and place.has_room and not place.at_hand:
                    place.alone = True
                    _give(place, again.popleft())
            for place in sorted(places, key=lambda place: len(place.at_hand)):
                while not exhausted and place.has_room:
                    job = next(waiting, None)
                    if job is None:
                        exhausted = True
                        break
                    _give(place, job)
            busy = any(place.at_hand for place in places)
            if exhausted and not busy and not again:
                return
            if not any(place.worker for place in places):
                for job in [*again, *waiting]:
                    yield died(job, "and so did all others")
                return
            number, message = events.get()
            place = places[number]
            if isinstance(message, Ready):
                place.appetite = message.appetite
            elif isinstance(message, Refused):
                raise message.error
            elif isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, Gone):
                yield from _bury(place, message.how, again, tried)
                if place.deaths < MOST_DEATHS and (again or not exhausted):
                    start(place)
            else:
                place.deaths = 0
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
    place.worker, place.alone = None, False
    place.at_hand.clear()
    place.deaths += 1
    logger.warning("A worker died, %s; %d pictures of it are tried again.", how, len(lost))
    for job in lost:
        if job.output in tried:
            yield died(job, how)
        else:
            tried.add(job.output)
            again.append(job)


def _end(places: Sequence[_Place], events: "SimpleQueue[Event]") -> None:
    """Let workers that have nothing to do end, and stop the others."""
    for place in places:
        if place.worker is not None:
            if place.at_hand:
                place.worker.abandon()
            else:
                place.worker.finish()
    while True:
        try:
            _, message = events.get_nowait()
        except Empty:
            return
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
