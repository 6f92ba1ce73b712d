"""Workers that are actors on a Ray cluster (extra ``ray``).

All machines of the cluster must see the input and output folders under the same paths, and have
clipsr installed.
"""

import os
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from math import ceil, floor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from clipsr_cli.distributed.recipe import Message, Recipe, serve
from clipsr_cli.distributed.scheduler import Gone, Start, Tell
from clipsr_cli.errors import InputError, reason
from clipsr_cli.jobs import Job

# What is handed on to other machines.
ENVIRONMENT = ("CLIPSR_WEIGHTS", "HF_HUB_OFFLINE", "HF_ENDPOINT")
# Seconds for which an actor waits until it has something to tell.
LISTEN = 1.0
# Seconds that an actor has to end by itself.
PATIENCE = 60.0


def cluster(recipe: Recipe, *, address: str | None, workers: int | None) -> tuple[list[Start], str]:
    """Starts for the actors on a cluster, and where they are, in words.

    Args:
        recipe: what all have in common.
        address: of a cluster that runs; None starts one on this machine.
        workers: how many; None is one for each GPU, or for each machine where there are none.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError(
            "--engine ray needs Ray.", hint='Install it: pip install "clipsr-cli[ray]"'
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise InputError(
                f"The Ray cluster {address or 'on this machine'} cannot be used: {reason(error)}.",
                hint="Start one with: ray start --head, and use --ray-address auto.",
            ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    able = [node for node in nodes if node.get("GPU" if gpus else "CPU", 0) >= 1]
    count = workers or gpus or max(1, len(able))
    # As many on one machine, at most. An actor that asks for more than is there never begins.
    together = ceil(count / max(1, len(able)))
    cores = min((node.get("CPU", 0) for node in able), default=1) / together
    needs: dict[str, float] = {"num_cpus": min(1.0, cores) if gpus or cores < 1 else int(cores)}
    if gpus:
        needs["num_gpus"] = floor(10_000 / ceil(count / gpus)) / 10_000
    options = recipe.options
    options = replace(
        options,
        memory_share=options.memory_share / together,
        max_memory=options.max_memory and options.max_memory // together,
    )
    own = replace(
        recipe,
        device="auto" if gpus else "cpu",
        options=options,
        threads=None if gpus else max(1, int(cores)),
        folder=str(Path.cwd()),
    )
    where = f"Ray, {count} worker{'' if count == 1 else 's'} on {len(able)} node"
    where += "s" * (len(able) != 1)
    return [partial(_Actor, own, needs) for _ in range(count)], where


class _Serving:
    """What an actor holds: an Upscaler in a thread, jobs going in and messages coming out."""

    def __init__(self, recipe: Recipe) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.messages: SimpleQueue[Message | None] = SimpleQueue()
        self.abandoned = False
        self.thread = threading.Thread(target=self._serve, args=(recipe,), daemon=True)
        self.thread.start()

    def give(self, job: Job | None) -> None:
        """One more job; None behind the last."""
        self.jobs.put(job)

    def abandon(self) -> None:
        """Give up what is at hand, and wait until it is cleaned up."""
        self.abandoned = True
        self.thread.join(PATIENCE)

    def listen(self) -> list[Message | None]:
        """What there is to tell, as soon as there is something; None is the end."""
        told: list[Message | None] = []
        with suppress(Empty):
            told.append(self.messages.get(timeout=LISTEN))
            while True:
                told.append(self.messages.get_nowait())
        return told

    def _serve(self, recipe: Recipe) -> None:
        try:
            serve(recipe, self.jobs, self.messages.put, lambda: self.abandoned)
        finally:
            self.messages.put(None)


def _environment() -> dict[str, str]:
    """What decides here where weights come from, and has to do so there."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


class _Actor:
    """An actor, and a thread here that listens to it."""

    def __init__(self, recipe: Recipe, needs: dict[str, float], tell: Tell) -> None:
        self.ray: Any = import_module("ray")
        # Listening waits, while jobs are given.
        made = self.ray.remote(_Serving).options(
            max_concurrency=3, max_restarts=0, runtime_env={"env_vars": _environment()}, **needs
        )
        self.actor: Any = made.remote(recipe)
        self.tell = tell
        self.heard = False
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def give(self, job: Job) -> None:
        """See ``scheduler.Worker``."""
        # If it is gone, its listener tells.
        self.actor.give.remote(job)

    def finish(self) -> None:
        """See ``scheduler.Worker``."""
        self.actor.give.remote(None)
        self._end()

    def abandon(self) -> None:
        """See ``scheduler.Worker``."""
        if self.heard:
            with suppress(Exception):
                self.ray.get(self.actor.abandon.remote(), timeout=PATIENCE)
        self._end()

    def _end(self) -> None:
        # One that has said nothing may never begin.
        self.listener.join(PATIENCE if self.heard else 2 * LISTEN)
        with suppress(Exception):
            self.ray.kill(self.actor)

    def _listen(self) -> None:
        how = "by itself"
        try:
            while True:
                for message in self.ray.get(self.actor.listen.remote()):
                    if message is None:
                        return
                    self.heard = True
                    self.tell(message)
        except self.ray.exceptions.RayError as error:
            how = f"as Ray says: {reason(error)[:200]}"
        finally:
            # Whatever was the matter, it does no more of what others will do.
            with suppress(Exception):
                self.ray.kill(self.actor)
            self.tell(Gone(how))
