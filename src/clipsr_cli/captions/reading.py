"""Read pictures for captioners, and have many captioned, a batch at a time."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from clipsr_cli import images, pictures
from clipsr_cli.captions import Captioner
from clipsr_cli.colour import fill_transparent
from clipsr_cli.errors import ImageError, without_traceback
from clipsr_cli.pictures import Picture

logger = logging.getLogger(__name__)

# The shorter side of what captioners see: a little more than they look at.
SIDE = 256
# A longer picture is cut to its middle: no captioner sees more, and a thread would fill the memory.
MOST_ASPECT = 4
FAINT = 1 / 16
BATCH_SIZE = 16


def read_view(path: Path) -> np.ndarray:
    """What a captioner sees of a file: see ``view``.

    Raises:
        ImageError: the picture cannot be read.
    """
    return view(images.read(path))


def view(picture: Picture) -> np.ndarray:
    """A picture at one size, small ones lightly enlarged: 8 bit, bicubic, no transparency.

    Returns:
        (H, W, 3) RGB, uint8, the shorter side ``SIDE`` pixels.
    """
    width, height = picture.size
    planes = picture.pixels
    if picture.alpha is not None:
        planes = np.dstack([planes, picture.alpha])
    across, down = (min(side, MOST_ASPECT * min(width, height)) for side in (width, height))
    left, top = (width - across) // 2, (height - down) // 2
    planes = planes[top : top + down, left : left + across]
    if planes.dtype == np.uint16:
        planes = (planes >> 8).astype(np.uint8)
    factor = SIDE / min(across, down)
    small = np.asarray(
        Image.fromarray(np.ascontiguousarray(planes)).resize(
            (round(across * factor), round(down * factor)),
            Image.Resampling.BICUBIC,
            reducing_gap=3.0,
        )
    )
    if picture.alpha is None:
        return small
    shown = pictures.to_float(small)
    # In 8 bits, nothing is left of the colours of what is all but transparent.
    alpha = np.where(shown[:, :, 3] < FAINT, 0, shown[:, :, 3])
    return pictures.to_integer(fill_transparent(shown[:, :, :3], alpha), np.uint8)


def squares(views: Sequence[np.ndarray], side: int) -> np.ndarray:
    """The middles of pictures (H, W, 3) uint8 at a network's size: (B, 3, side, side) in [0, 1]."""
    cut = []
    for pixels in views:
        height, width = pixels.shape[:2]
        left, top = (width - min(width, height)) / 2, (height - min(width, height)) / 2
        square = Image.fromarray(pixels).resize(
            (side, side),
            Image.Resampling.BICUBIC,
            box=(left, top, width - left, height - top),
        )
        cut.append(np.asarray(square).transpose(2, 0, 1))
    return pictures.to_float(np.stack(cut))


def caption_files(
    captioner: Captioner,
    paths: Iterable[Path],
    *,
    batch_size: int = BATCH_SIZE,
    workers: int = 2,
) -> Iterator[tuple[Path, str | Exception]]:
    """Caption files, yielding each with its caption, or with what went wrong, in their order.

    Files are read in threads while the captioner works. Of each only the view is kept, and no more
    than two batches of them at a time.
    """
    waiting = iter(paths)
    reading: deque[tuple[Path, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            while True:
                while len(reading) < 2 * batch_size and (path := next(waiting, None)) is not None:
                    reading.append((path, threads.submit(read_view, path)))
                if not reading:
                    return
                batch = [reading.popleft() for _ in range(min(batch_size, len(reading)))]
                read = [(path, _result(future)) for path, future in batch]
                views = [seen for _, seen in read if isinstance(seen, np.ndarray)]
                captions = iter(_captions(captioner, views))
                for path, seen in read:
                    yield path, seen if isinstance(seen, Exception) else next(captions)
        finally:
            for _, future in reading:
                future.cancel()


def _result(future: "Future[np.ndarray]") -> np.ndarray | Exception:
    try:
        return future.result()
    except Exception as error:
        return without_traceback(error)


def _captions(captioner: Captioner, views: Sequence[np.ndarray]) -> list[str | Exception]:
    """Captions of one batch; where it fails, of its halves, so that a picture costs only itself."""
    if not views:
        return []
    try:
        captions = captioner.caption(views)
        return [caption or ImageError("The captioner found no words.") for caption in captions]
    except Exception as error:
        if len(views) == 1:
            return [without_traceback(error)]
        logger.warning("A batch of %d could not be captioned, halving it: %s", len(views), error)
    middle = len(views) // 2
    return _captions(captioner, views[:middle]) + _captions(captioner, views[middle:])
