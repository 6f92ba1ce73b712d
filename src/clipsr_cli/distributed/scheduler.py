"""Hand jobs out to workers, and see to it that every job comes to an end."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from clipsr_cli.distributed.recipe import Message, Ready, Refused, died, left
from clipsr_cli.jobs import Done, Failed, Job

logger = logging.getLogger(__name__)

# How often a slot is filled again whose workers die without having done anything: before they had
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
class _Slot:
    """A place for a worker, who may be replaced."""

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
        starts: starts a worker, one for each slot.

    Raises:
        ClipsrError: no worker can begin, for example as its device is not there.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    slots = [_Slot(number, start) for number, start in enumerate(starts)]
    waiting = iter(jobs)
    again: deque[Job] = deque()
    tried: set[Path] = set()
    exhausted = told = False

    def start(slot: _Slot) -> None:
        number = slot.number
        slot.appetite = 0
        slot.worker = slot.start(lambda message: events.put((number, message)))

    try:
        for slot in slots:
            start(slot)
        while True:
            all_begun = all(slot.appetite or slot.worker is None for slot in slots)
            # What died once is done by itself, by whoever has nothing else to do.
            for slot in slots:
                if again and slot.has_room(all_begun) and not slot.at_hand:
                    slot.alone = True
                    _give(slot, again.popleft())
            while not exhausted and (room := [p for p in slots if p.has_room(all_begun)]):
                job = next(waiting, None)
                if job is None:
                    exhausted = True
                else:
                    _give(min(room, key=lambda slot: len(slot.at_hand)), job)
            busy = any(slot.at_hand for slot in slots)
            if exhausted and not busy and not again:
                return
            if not any(slot.worker for slot in slots):
                yield from (died(job, "and so did all others") for job in again)
                yield from (left(job) for job in waiting)
                return
            try:
                number, message = events.get(timeout=None if told else PATIENCE)
            except Empty:
                logger.warning("No worker has begun yet; still waiting.")
                told = True
                continue
            slot = slots[number]
            if isinstance(message, Ready):
                slot.appetite = message.appetite
                slot.has_begun = told = True
            elif isinstance(message, Refused):
                if not slot.has_begun:
                    raise message.error
                # It was there before: the others go on.
                logger.warning("A worker cannot begin again: %s", message.error)
                slot.deaths = MOST_DEATHS
            elif isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, Gone):
                yield from _bury(slot, message.how, again, tried)
                if not slot.is_hopeless and (again or not exhausted):
                    start(slot)
            else:
                slot.deaths = slot.deaths_at_work = 0
                slot.alone = False
                if slot.at_hand.pop(message.job.output, None) is not None:
                    yield message
    finally:
        _end(slots, events)


def _give(slot: _Slot, job: Job) -> None:
    assert slot.worker is not None
    slot.at_hand[job.output] = job
    slot.worker.give(job)


def _bury(slot: _Slot, how: str, again: deque[Job], tried: set[Path]) -> Iterator[Failed]:
    """A worker is gone: its jobs go to others, or have failed if it is the second time."""
    lost = list(slot.at_hand.values())
    if lost:
        slot.deaths_at_work += 1
    else:
        slot.deaths += 1
    slot.worker, slot.alone = None, False
    slot.at_hand.clear()
    count = sum(job.output not in tried for job in lost)
    words = "1 picture of it is" if count == 1 else f"{count} pictures of it are"
    logger.warning("A worker died, %s; %s tried again.", how, words)
    for job in lost:
        if job.output in tried:
            yield died(job, how)
        else:
            tried.add(job.output)
            again.append(job)


def _end(slots: Sequence[_Slot], events: "SimpleQueue[Event]") -> None:
    """Let workers that have nothing to do end, and stop the others."""
    # At once, so that none waits for another, and all know even if the waiting is interrupted.
    ending = [
        Thread(target=slot.worker.abandon if slot.at_hand else slot.worker.finish, daemon=True)
        for slot in slots
        if slot.worker is not None
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
