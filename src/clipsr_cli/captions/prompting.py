"""Give jobs without a prompt a caption of their picture as one."""

import gc
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from clipsr_cli import captions
from clipsr_cli.captions.reading import caption_files
from clipsr_cli.errors import ImageError
from clipsr_cli.jobs import Job
from clipsr_cli.models.clip import Clip
from clipsr_cli.prompts import Prompt

logger = logging.getLogger(__name__)


def with_captions(
    jobs: Sequence[Job],
    options: captions.CaptionOptions,
    *,
    device: str = "auto",
    clip: Clip | None = None,
) -> Iterator[Job]:
    """The same jobs in their order, those without a prompt with a caption.

    All of them before any is enlarged: the captioner is loaded here and dropped at the end, so that
    it and the generator never need memory to work in at the same time. A picture that cannot be
    captioned keeps its empty prompt; if it cannot be read, enlarging it will tell.

    Args:
        jobs: what is to be enlarged.
        options: which captioner.
        device: its device, by name.
        clip: one that is loaded already, for ``labels``.

    Raises:
        InputError, WeightsError, DeviceError: as for ``captions.load``.
    """
    wanting = [job.input for job in jobs if captions.wants_caption(job)]
    if not wanting:
        yield from jobs
        return
    found = caption_files(captions.load(options, device=device, clip=clip), wanting)
    for job in jobs:
        if not captions.wants_caption(job):
            yield job
            continue
        _, words = next(found)
        if isinstance(words, str):
            yield replace(job, prompt=Prompt(text=words, source="caption"))
            continue
        if not isinstance(words, ImageError):
            logger.warning("%s could not be captioned: %s", job.input, words)
        yield job
    # Its frame holds the captioner, and so may the traceback of an error, in a circle.
    del found
    gc.collect()
    torch.cuda.empty_cache()
