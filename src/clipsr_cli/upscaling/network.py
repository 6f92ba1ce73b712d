"""Run tiles through a generator on its device, whatever the device runs out of."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from clipsr_cli.errors import DeviceError, ImageError, InputError, reason, without_traceback
from clipsr_cli.models import AnyGenerator
from clipsr_cli.pictures import Picture
from clipsr_cli.runtime import free_device_memory, mixed_precision
from clipsr_cli.upscale_options import MIN_TILE
from clipsr_cli.upscaling.canvas import Canvas, stitch

logger = logging.getLogger(__name__)

# Tiles at once on a GPU, where its memory allows it: more are hardly faster.
MOST_TILES = 32
# Share of the free memory of a device that is planned with; the rest is for what varies.
SHARE = 0.7
# How libraries say that there is too little memory, where they have no exception for it.
SHORTAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "bad_alloc",
)
# Conditions of the latest prompts that are kept.
KEPT_PROMPTS = 1024


class Network:
    """A generator on a device, its lanes, and what it learned of the device's limits.

    A lane is a thread that runs one batch at a time. On the CPU there is one for each core, each
    with a single tile, unless a batch size is asked for, and a single thread: that is as fast as
    many threads in one batch, and a tile's result then depends on nothing but the tile and its
    prompt, to the last bit. On a GPU two lanes keep its queue filled.

    Attributes:
        batch_size: tiles of a batch, lowered where the memory does not suffice.
        lanes: how many batches run at once.
        render: the network, ``(low, condition) -> high``.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        *,
        device: torch.device,
        precision: str,
        text_strength: float,
        batch_size: int | None,
    ) -> None:
        self.generator = generator.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.precision = precision
        self.text_strength = text_strength
        self.render: Callable[[Tensor, Tensor], Tensor] = self.generator.render
        self._compiled: Callable[[Tensor, Tensor], Tensor] | None = None
        on_cpu = device.type == "cpu"
        self.lanes = torch.get_num_threads() if on_cpu else 2 if device.type == "cuda" else 1
        begin: Callable[[], None] | None = None
        if on_cpu:
            begin = partial(torch.set_num_threads, 1)
        elif device.type == "cuda":
            # Else pinned memory would be asked of the first device.
            begin = partial(torch.cuda.set_device, device)
        self._pool = ThreadPoolExecutor(
            self.lanes, thread_name_prefix="clipsr-lane", initializer=begin
        )
        self._asked_batch = batch_size
        self.batch_size = batch_size or (1 if on_cpu else 8 if device.type == "mps" else MOST_TILES)
        # Tiles of more pixels are known not to fit.
        self._most_pixels = float("inf")
        # The shape of full batches of whole tiles.
        self._usual: tuple[int, ...] = ()
        self._conditions: dict[str, Tensor] = {}
        self._lock = threading.Lock()
        self._launching = threading.Lock()
        self._warned = False

    def submit(
        self, canvases: Sequence[Canvas], indices: Sequence[int], prompts: Sequence[str]
    ) -> Future[list[Tensor | Exception]]:
        """Enlarge tiles of one shape in the next free lane.

        Returns:
            For each tile its enlargement (3, H, W) on the device, or what it failed with.
        """
        return self._pool.submit(self._enlarge_cuts, list(canvases), list(indices), list(prompts))

    def condition(self, prompt: str) -> Tensor:
        """What the network reads from a prompt at the text strength, (K,)."""
        return self._pool.submit(lambda: self._conditioned([prompt])[0]).result()

    def prepare(self, side: int) -> None:
        """Choose the batch size by the free memory of the device, for tiles of such a side.

        Without a GPU, or with a batch size that was asked for, nothing is to be chosen.
        """
        if self.device.type == "cuda" and not self._asked_batch:
            self.batch_size = self._most_at_once(side)
        self._usual = (self.batch_size, 3, side, side)

    def _most_at_once(self, side: int) -> int:
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self._pool.submit(self.enlarge, torch.zeros(1, 3, side, side), [""]).result()
        one = torch.cuda.max_memory_allocated(self.device) - before
        # Each lane has a batch of its own.
        room = int(SHARE * free_device_memory(self.device) / max(one, 1) / self.lanes)
        return max(1, min(MOST_TILES, room))

    def compile(self, side: int) -> None:
        """Compile the network for tiles of such a side.

        Raises:
            InputError: there is no compiler.
        """
        self._compiled = torch.compile(self.generator.render)

        @torch.inference_mode()
        def attempt() -> None:
            low = torch.zeros(self.batch_size, 3, side, side)
            self._run(low, [""] * self.batch_size)

        try:
            # In a lane, since the number of threads is compiled in.
            self._pool.submit(attempt).result()
        except Exception as error:
            raise InputError(
                f"--compile does not work here: {reason(error)[:300]}.",
                hint="Leave it out, or install a C++ compiler.",
            ) from error

    def _enlarge_cuts(
        self, canvases: list[Canvas], indices: list[int], prompts: list[str]
    ) -> list[Tensor | Exception]:
        try:
            cuts = np.stack([c.cut(i) for c, i in zip(canvases, indices, strict=True)])
            return self.enlarge(torch.from_numpy(cuts).permute(0, 3, 1, 2), prompts)
        except DeviceError:
            raise
        except Exception as error:
            # What goes wrong around the network costs these pictures, not the run.
            return [without_traceback(error) for _ in indices]

    def enlarge(self, low: Tensor, prompts: Sequence[str]) -> list[Tensor | Exception]:
        """Tiles (B, 3, h, w) in [0, 1] on the CPU and their prompts -> see ``submit``. In a lane.

        Where the memory does not suffice, fewer tiles are tried at once, then parts of a tile. A
        tile that fails is tried alone, so that only the picture at fault is lost.
        """
        divisible = max(low.shape[2:]) >= 2 * MIN_TILE
        if divisible and low.shape[2] * low.shape[3] > self._most_pixels:
            return [self._in_parts(low[i], prompt) for i, prompt in enumerate(prompts)]
        failure: Exception
        try:
            return list(self._run(low, prompts))
        except Exception as error:
            # Without its traceback, whose frames hold what fills the memory.
            failure = without_traceback(error)
        short = is_out_of_memory(failure)
        if not short and self.device.type == "cuda" and "CUDA error" in str(failure):
            # Nothing works on it any more: better told once than by every picture.
            raise DeviceError(f"The device {self.device} has failed: {reason(failure)[:200]}.")
        if short and self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(low) > 1:
            size = len(low) // 2 if short else 1
            if short and size < self.batch_size:
                self.batch_size = size
                self._usual = (size, *self._usual[1:])
                logger.warning("Out of memory: batch size lowered to %d.", size)
            results: list[Tensor | Exception] = []
            for start in range(0, len(low), size):
                part = slice(start, start + size)
                results += self.enlarge(low[part], prompts[part])
            return results
        height, width = low.shape[2:]
        if not short:
            return [failure]
        side = max(height, width)
        if side < 2 * MIN_TILE:
            too_large = ImageError(
                f"One tile of {width} x {height} px does not fit into the device's memory.",
                hint="Close other programs, or use --device cpu.",
            )
            too_large.__cause__ = failure
            return [too_large]
        self._most_pixels = min(self._most_pixels, height * width - 1)
        logger.warning("Out of memory: tiles of %d x %d px are divided.", width, height)
        return [self._in_parts(low[0], prompts[0])]

    def _in_parts(self, low: Tensor, prompt: str) -> Tensor | Exception:
        """A tile (3, h, w) that is too large for the memory, enlarged in parts."""
        side = max(MIN_TILE, max(low.shape[1:]) // 2)
        pixels = low.permute(1, 2, 0).numpy()
        whole = Canvas(
            Picture(pixels=pixels), scale=self.generator.config.scale, size=side, overlap=side // 4
        )
        parts: list[Tensor] = []
        for tile in whole.grid:
            cut = low[None, :, tile.top : tile.bottom, tile.left : tile.right]
            (part,) = self.enlarge(cut, [prompt])
            if isinstance(part, Exception):
                return part
            parts.append(part.cpu())
        return stitch(whole, iter(parts))

    @torch.inference_mode()
    def _run(self, low: Tensor, prompts: Sequence[str]) -> Tensor:
        """Tiles through the network, redone in fp32 where mixed precision overflows."""
        condition = self._conditioned(prompts)
        if self.device.type == "cuda":
            low = low.contiguous(memory_format=torch.channels_last).pin_memory()
        low = low.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        with mixed_precision(self.device, self.precision):
            high = self._launch(low, condition).float()
        whole = torch.isfinite(high).flatten(1).all(dim=1)
        if not bool(whole.all()):
            if self.precision == "fp32":
                raise ImageError("The network gave values that are not finite.")
            if not self._warned:
                logger.warning("%s overflowed; such tiles are done again in fp32.", self.precision)
                self._warned = True
            # Under autocast the weights stay fp32, so leaving it out is the fp32 network.
            high[~whole] = self.render(low[~whole], condition[~whole]).float()
            if not bool(torch.isfinite(high).all()):
                raise ImageError("The network gave values that are not finite.")
        return high

    def _launch(self, low: Tensor, condition: Tensor) -> Tensor:
        # To compile, or to try out algorithms, pays for the one shape that comes again and again.
        usual = tuple(low.shape) == self._usual
        render = self._compiled if self._compiled is not None and usual else self.render
        if self.device.type != "cuda":
            return render(low, condition)
        with self._launching:
            torch.backends.cudnn.benchmark = usual
            return render(low, condition)

    def _conditioned(self, prompts: Sequence[str]) -> Tensor:
        """What the network reads from each prompt, (B, K); once for all tiles that share it."""
        with self._lock:
            known = {p: self._conditions[p] for p in prompts if p in self._conditions}
        missing = [p for p in dict.fromkeys(prompts) if p not in known]
        # One at a time on the CPU: there a result shall not depend on its company.
        size = 1 if self.device.type == "cpu" else max(1, len(missing))
        for start in range(0, len(missing), size):
            some = missing[start : start + size]
            made = self._condition(some)
            known |= dict(zip(some, made, strict=True))
        with self._lock:
            if len(self._conditions) > KEPT_PROMPTS:
                self._conditions.clear()
            self._conditions |= {p: known[p] for p in missing}
        return torch.stack([known[p] for p in prompts])

    @torch.inference_mode()
    def _condition(self, prompts: Sequence[str]) -> Tensor:
        """What the network reads from prompts (B, K), at the text strength.

        Strength acts on what was read from the text, not on the text: the network normalises text
        embeddings, and a direction alone has no strength beyond its own.
        """
        asked = self.generator.condition(self.generator.clip.text(prompts))
        if self.text_strength == 1:
            return asked
        return torch.lerp(self._empty, asked, self.text_strength)

    @cached_property
    def _empty(self) -> Tensor:
        """What the network reads from no words, (1, K)."""
        return self.generator.condition(self.generator.clip.text([""]))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the machine, had not enough memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SHORTAGES)
