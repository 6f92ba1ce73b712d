"""Keep the device busy: decode, enlarge and encode many pictures at once, and lose none of them.

One thread, the caller's, hands everything on: pictures from the readers, tiles to the network's
lanes, rows to the writers. It waits only where there is nothing to hand on.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock

import torch
from torch import Tensor

from clipsr_cli import encoders, images
from clipsr_cli.errors import ImageError, without_traceback
from clipsr_cli.jobs import Done, Failed, Job
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import memory
from clipsr_cli.upscaling.canvas import Canvas
from clipsr_cli.upscaling.finishing import Finish
from clipsr_cli.upscaling.network import Network

# Seconds after which it is looked again whether a writer has caught up, or a job has come.
GLANCE = 0.02


class Feed:
    """Rows on their way from the network to a picture's writer."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Tensor | Future[Tensor] | Exception | None] = SimpleQueue()

    def put(self, rows: Tensor | Future[Tensor] | Exception | None) -> None:
        """Some more rows, perhaps still to come, what went wrong, or None behind the last."""
        self._queue.put(rows)

    @property
    def is_backed_up(self) -> bool:
        """Whether the writer is so far behind that more rows would only fill the memory."""
        return self._queue.qsize() >= memory.WAITING

    def __iter__(self) -> Iterator[Tensor]:
        while (rows := self._queue.get()) is not None:
            if isinstance(rows, Exception):
                raise rows
            yield rows.result() if isinstance(rows, Future) else rows


@dataclass(eq=False)
class _Item:
    """One picture on its way."""

    job: Job
    cost: int
    started: float
    opened: Future[Canvas]
    feed: Feed = field(default_factory=Feed)
    # Set when the picture is open; the next tile that no lane has yet.
    canvas: Canvas | None = None
    finish: Finish | None = None
    cursor: int = 0
    written: Future[None] | None = None
    # Whether its writer has been given all there is.
    fed: bool = False
    broken: Exception | None = None

    @property
    def has_tiles(self) -> bool:
        return self.broken is None and self.cursor < len(self.open_canvas.grid)

    @property
    def open_canvas(self) -> Canvas:
        assert self.canvas is not None
        return self.canvas


@dataclass(frozen=True, eq=False)
class _Batch:
    """Tiles that a lane is at."""

    tiles: list[tuple[_Item, int]]
    results: Future[list[Tensor | Exception]]


def appetite(network: Network, options: UpscaleOptions) -> int:
    """How many pictures may be under way: enough for every lane to find a whole batch of small
    ones, and for the threads.
    """
    return 2 * (network.lanes + 1) * network.batch_size + 2 * options.threads


class Engine:
    """One run of jobs through a network."""

    def __init__(
        self,
        network: Network,
        options: UpscaleOptions,
        scale: int,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self.network = network
        self.stopped = stopped
        self.options = options
        self.scale = scale
        self.side, self.overlap = options.tiling(scale)
        self.budget = memory.budget(options, network.lanes)
        self.free = self.budget
        threads = options.threads
        self.most = appetite(network, options)
        self.readers = ThreadPoolExecutor(threads, thread_name_prefix="clipsr-read")
        self.writers = ThreadPoolExecutor(threads, thread_name_prefix="clipsr-write")
        self.downloads = ThreadPoolExecutor(1, thread_name_prefix="clipsr-download")
        # Transparent parts take much memory to fill: one picture at a time.
        self.filling = Lock()
        self.under_way: list[_Item] = []
        self.opening: deque[_Item] = deque()
        self.tiled: deque[_Item] = deque()
        self.batches: deque[_Batch] = deque()
        # A job that waits for memory.
        self.next_job: Job | None = None
        # Whether the jobs have come to their end.
        self.exhausted = False

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Done | Failed]:
        """See ``Upscaler.run``."""
        waiting = iter(jobs)
        threads = torch.get_num_threads()
        if self.network.device.type == "cpu":
            # The lanes have the cores; helpers of this thread would only spin on them.
            torch.set_num_threads(1)
        try:
            while not (self.stopped and self.stopped()):
                yield from self._admit(waiting)
                self._open()
                self._submit()
                yield from self._outcomes()
                if not self.under_way and self.next_job is None and self.exhausted:
                    return
                self._wait()
                self._collect()
        except KeyboardInterrupt:
            # What only has to be written is finished, and told, before the interrupt goes its way.
            self._abandon()
            while any(item.written for item in self.under_way):
                wait([item.written for item in self.under_way if item.written])
                yield from (o for o in self._outcomes() if not _is_abandoned(o))
            raise
        finally:
            # A caller that stops early leaves no thread working on what nobody waits for.
            self._abandon()
            torch.set_num_threads(threads)
            self.readers.shutdown(cancel_futures=True)
            self.downloads.shutdown()
            self.writers.shutdown(cancel_futures=True)

    def _admit(self, waiting: Iterator[Job | None]) -> Iterator[Failed]:
        """Have pictures decoded, as many as the memory and the need of tiles allow."""
        while len(self.under_way) < self.most:
            job = self.next_job
            if job is None and not self.exhausted:
                try:
                    job = next(waiting)
                except StopIteration:
                    self.exhausted = True
            if job is None:
                return
            self.next_job = job
            cost = memory.cost(job, self.options, self.scale)
            if cost > self.budget and self.options.max_memory is not None:
                self.next_job = None
                yield Failed(job=job, error=_too_much(job, cost, self.budget))
                continue
            # Where nothing is under way, a picture may have all there is.
            if cost > self.free and self.under_way:
                return
            self.next_job = None
            self.free -= cost
            opened = self.readers.submit(self._read, job)
            item = _Item(job=job, cost=cost, started=time.perf_counter(), opened=opened)
            self.under_way.append(item)
            self.opening.append(item)

    def _read(self, job: Job) -> Canvas:
        picture = images.read(
            job.input,
            max_pixels=self.options.max_input_pixels,
            limit_option="--max-input-pixels",
        )
        with self.filling if picture.alpha is not None else nullcontext():
            return Canvas(picture, scale=self.scale, size=self.side, overlap=self.overlap)

    def _open(self) -> None:
        """Take the pictures that are decoded, in order."""
        while self.opening and self.opening[0].opened.done():
            item = self.opening.popleft()
            error = item.opened.exception()
            if isinstance(error, Exception):
                item.broken = error
            elif error is not None:
                raise error
            else:
                item.canvas = item.opened.result()
                item.finish = Finish(item.canvas, self.options)
                self.tiled.append(item)

    def _submit(self) -> None:
        """Give the lanes what there is to do, and the next of it to have at hand."""
        while len(self.batches) < 2 * self.network.lanes:
            tiles = self._take()
            if not tiles:
                return
            results = self.network.submit(
                [item.open_canvas for item, _ in tiles],
                [index for _, index in tiles],
                [item.job.prompt.text for item, _ in tiles],
            )
            self.batches.append(_Batch(tiles, results))

    def _take(self) -> list[tuple[_Item, int]]:
        """The next tiles of one shape, as many as make a batch; none if it is better to wait."""
        size = self.network.batch_size
        shape: tuple[int, int] | None = None
        tiles: list[tuple[_Item, int]] = []
        ready = [item for item in self.tiled if not item.feed.is_backed_up]
        for item in ready:
            grid = item.open_canvas.grid
            if shape is None:
                shape = grid.shape
            if grid.shape == shape:
                count = min(size - len(tiles), len(grid) - item.cursor)
                tiles += [(item, item.cursor + offset) for offset in range(count)]
            if len(tiles) == size:
                break
        # More pictures of this shape may be about to come; the lanes have work until then.
        if len(tiles) < size and self.opening and self.batches:
            return []
        for item, index in tiles:
            item.cursor = index + 1
        self.tiled = deque(item for item in self.tiled if item.has_tiles)
        return tiles

    def _collect(self) -> None:
        """Blend what the lanes have done, in order, and hand finished rows to the writers."""
        while self.batches and self.batches[0].results.done():
            batch = self.batches.popleft()
            for (item, index), result in zip(batch.tiles, batch.results.result(), strict=True):
                if item.broken is not None:
                    continue
                if isinstance(result, Exception):
                    self._break(item, result)
                    continue
                try:
                    rows = self._blend(item, index, result)
                except Exception as error:
                    self._break(item, error)
                    continue
                if rows is not None:
                    item.feed.put(rows)
                    if item.written is None:
                        item.written = self.writers.submit(self._write, item)
                if item.open_canvas.complete:
                    item.feed.put(None)
                    item.fed = True

    def _blend(self, item: _Item, index: int, tile: Tensor) -> Tensor | Future[Tensor] | None:
        """The rows that a tile finishes, if any, on their way to main memory."""
        assert item.finish is not None
        rows = item.open_canvas.add(index, tile)
        if rows is None:
            return None
        begun = item.finish.begin(rows)
        # To wait for a GPU here would keep the lanes waiting, and there the memory is short.
        return begun if begun.device.type == "cpu" else self.downloads.submit(begun.cpu)

    def _write(self, item: _Item) -> None:
        assert item.finish is not None
        encoders.write_rows(
            item.finish.rows(item.feed),
            item.finish.layout,
            item.job.output,
            item.job.form,
            quality=self.options.quality,
        )

    def _break(self, item: _Item, error: Exception) -> None:
        """Give a picture up, and let its writer clean up."""
        item.broken = error
        item.feed.put(error)
        if item in self.tiled:
            self.tiled.remove(item)

    def _outcomes(self) -> Iterator[Done | Failed]:
        """What has come to its end since."""
        for item in list(self.under_way):
            ended = item.written.done() if item.written else item.broken is not None
            if not ended:
                continue
            error = item.broken
            if error is None and item.written:
                failure = item.written.exception()
                if failure is not None and not isinstance(failure, Exception):
                    raise failure
                error = failure
            self.under_way.remove(item)
            if item in self.tiled:
                self.tiled.remove(item)
            self.free += item.cost
            seconds = round(time.perf_counter() - item.started, 3)
            device, precision = str(self.network.device), self.network.precision
            if error is not None:
                # A writer that failed leaves tiles that nobody needs.
                item.broken = error
                yield Failed(
                    job=item.job,
                    error=without_traceback(error),
                    seconds=seconds,
                    device=device,
                    precision=precision,
                )
                continue
            assert item.finish is not None
            yield Done(
                job=item.job,
                size_in=item.open_canvas.picture.size,
                size_out=(item.finish.layout.width, item.finish.layout.height),
                tiles=len(item.open_canvas.grid),
                seconds=seconds,
                device=device,
                precision=precision,
            )

    def _wait(self) -> None:
        """Until something can be handed on."""
        # A picture that failed to open is told at once.
        if any(item.broken and not item.written for item in self.under_way):
            return
        pending: list[Future[object]] = [item.opened for item in list(self.opening)[:1]]  # type: ignore[misc]
        pending += [batch.results for batch in list(self.batches)[:1]]  # type: ignore[misc]
        pending += [item.written for item in self.under_way if item.written]  # type: ignore[misc]
        # Where jobs come one by one, more may come while nothing else does.
        hungry = not self.exhausted and self.next_job is None and len(self.under_way) < self.most
        if not pending:
            time.sleep(GLANCE)
            return
        backed_up = any(item.feed.is_backed_up for item in self.tiled)
        timeout = GLANCE if hungry or backed_up or self.stopped else None
        wait(pending, timeout=timeout, return_when=FIRST_COMPLETED)

    def _abandon(self) -> None:
        """Give up what is not complete; writers of such pictures clean up and end."""
        for item in self.under_way:
            if not item.fed:
                self._break(item, _AbandonedError("The run was stopped."))
        self.opening.clear()


class _AbandonedError(ImageError):
    """A picture that was given up because the run was stopped."""


def _is_abandoned(outcome: Done | Failed) -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, _AbandonedError)


def _too_much(job: Job, cost: int, budget: int) -> ImageError:
    return ImageError(
        f"{job.input} needs about {cost / 1e6:.0f} MB, and --max-memory leaves "
        f"{budget / 1e6:.0f} MB for pictures.",
        hint="Raise --max-memory, or use --ext png, a smaller --scale or a smaller --tile.",
    )
