"""Pictures that Pillow encodes, all rows together: WebP, AVIF and small JPEG."""

import logging
from collections.abc import Iterable
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

from clipsr_cli.pictures import Format, Layout, kept_exif

logger = logging.getLogger(__name__)

# What one JPEG marker holds.
MAX_JPEG_EXIF = 65533
# EXIF's number for the inch, as the unit of its resolution.
PER_INCH = 2


def write(
    blocks: Iterable[np.ndarray],
    layout: Layout,
    file: BinaryIO,
    into: Format,
    quality: int | None,
    name: str,
) -> None:
    """Encode a picture's 8-bit rows (n, width, bands) into a file; ``name`` is for warnings."""
    planes = np.empty((layout.height, layout.width, layout.bands), np.uint8)
    top = 0
    for block in blocks:
        planes[top : top + len(block)] = block
        top += len(block)
    image = Image.fromarray(planes[:, :, 0] if layout.bands == 1 else planes)
    options = carried(layout, into, name)
    # Into memory first: given a file, Pillow takes no notice of a disk that takes a part only.
    encoded = BytesIO()
    image.save(encoded, format=into.pillow, quality=quality, **options)
    file.write(encoded.getbuffer())


def carried(layout: Layout, into: Format, name: str) -> dict[str, Any]:
    """Pillow's options for what a picture carries, and for its colours in full."""
    metadata = layout.metadata
    options: dict[str, Any] = {}
    if into.pillow == "JPEG":
        options["subsampling"] = 0
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.exif and into.pillow == "JPEG" and len(metadata.exif) > MAX_JPEG_EXIF:
        logger.warning("JPEG cannot hold EXIF this large: left out of %s", name)
    elif metadata.exif:
        options["exif"] = metadata.exif
    if metadata.dpi and into.pillow == "JPEG":
        options["dpi"] = metadata.dpi
    elif metadata.dpi:
        options["exif"] = _exif_with_dpi(metadata.exif, metadata.dpi)
    return options


def _exif_with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """EXIF that tells the resolution too, for WebP and AVIF, which have no other place for it."""
    told = Image.Exif()
    if exif:
        before = Image.Exif()
        before.load(exif)
        told.update(kept_exif(before))
    told[ExifTags.Base.XResolution], told[ExifTags.Base.YResolution] = dpi
    told[ExifTags.Base.ResolutionUnit] = PER_INCH
    return told.tobytes()
