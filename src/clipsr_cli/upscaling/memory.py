"""How much main memory a picture takes on its way, and how much there is to share out."""

from clipsr_cli import encoders
from clipsr_cli.colour import SPOOL
from clipsr_cli.errors import InputError
from clipsr_cli.jobs import Job
from clipsr_cli.runtime import available_memory, resident_memory
from clipsr_cli.upscale_options import UpscaleOptions

# Bytes of a pixel while it is decoded, in Pillow's form and in ours, and of one that is held whole
# by an encoder.
DECODED = 12
ENCODED = 12
# Bytes of a pixel of the rows that tiles still change: as floats, three times over.
BLENDED = 36
# Bands of rows that may wait for an encoder.
WAITING = 4
# Bytes of a pixel of theirs: rounded to 8 bit; as floats, or rounded to 16, which takes 32.
ROUNDED = 3
WIDE = 12
# Bytes that a streaming encoder, or a lane, takes whatever the picture.
ENCODER = 2**25
LANE = 2**26


def cost(job: Job, options: UpscaleOptions, scale: int) -> int:
    """About how many bytes a picture takes while it is decoded, enlarged and encoded.

    A picture whose header could not be read will fail soon and counts for nothing.
    """
    if job.size_in is None or job.size_out is None:
        return 0
    width, height = job.size_in
    side, _ = options.tiling(scale)
    band = width * scale * min(height, side) * scale
    wide = job.sixteen_bit or options.needs_exact_rows(job.size_in, scale)
    waiting = WAITING * (WIDE if wide else ROUNDED)
    pixels = job.size_out[0] * job.size_out[1]
    encoder = ENCODER if encoders.is_streamed(job.form, pixels) else ENCODED * pixels
    if options.color_fix == "adain":
        encoder += min(SPOOL, WIDE * width * height * scale**2)
    return width * height * DECODED + band * (BLENDED + waiting) + encoder


def budget(options: UpscaleOptions, lanes: int) -> int:
    """Bytes that all pictures on their way may take together.

    Raises:
        InputError: ``--max-memory`` leaves nothing beside the network.
    """
    if options.max_memory is None:
        return int(options.memory_share * available_memory())
    taken = resident_memory() + lanes * LANE
    left = options.max_memory - taken
    if left < ENCODER:
        raise InputError(
            f"--max-memory is {options.max_memory / 1e6:.0f} MB, and the network alone takes "
            f"{taken / 1e6:.0f} MB.",
            hint=f"Give it at least {(taken + 2 * ENCODER) / 1e6:.0f}M, more for large pictures.",
        )
    return left
