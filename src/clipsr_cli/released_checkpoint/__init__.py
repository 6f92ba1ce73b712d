"""The CLIP-SR authors' checkpoint (``state_epoch_220.pth``) -> a generator's safetensors file.

The file is ``{"model": {"netG", "netD", "netC"}, "optimizers": {...}, "epoch": int}``. It is a
pickle, and read by torch's restricted unpickler, which runs nothing of what it holds. Of netG, what
reaches the picture is kept; the rest is known, so that another network is told apart, and dropped.
netD and netC are not needed.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from clipsr_cli.checkpoints import save_generator
from clipsr_cli.errors import WeightsError, reason
from clipsr_cli.models.released import ReleasedConfig
from clipsr_cli.released_checkpoint.adam import Learning, read_learning
from clipsr_cli.released_checkpoint.layout import (
    MAPPING,
    TOWER,
    Shapes,
    dropped_shapes,
    kept_shapes,
    our_name,
)

ARCHITECTURE = "clip-sr-released"
RELEASED = ReleasedConfig()
CLIP = "clip-vit-b-32"
# Neither the authors' code nor their checkpoint carries a licence.
NOTES = {"dataset": "cub", "licence": "none stated by its authors"}
# How many names a message lists.
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a checkpoint of the authors holds.

    Attributes:
        tensors: a ``ReleasedGenerator``'s learned state, fp32.
        epoch: as the file numbers it; None where it does not say.
        steps: of the generator's optimiser; None where its state does not say.
        mapping: whether the branch through CLIP's image tower, which is dropped, ever learned.
        dropped: parameters left out: of CLIP's tower, the rest of its branch, unused layers.
    """

    tensors: dict[str, Tensor]
    epoch: int | None
    steps: int | None
    mapping: Learning
    dropped: dict[str, int]

    @property
    def kept(self) -> int:
        """Parameters that reach the picture."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was imported, and where it lies; ``kept`` to ``dropped`` as in ``Released``."""

    output: Path
    clip: str
    precision: str
    kept: int
    epoch: int | None
    steps: int | None
    mapping: Learning
    dropped: dict[str, int]


def import_released(
    path: Path,
    target: Path,
    *,
    clip: str = CLIP,
    half: bool = True,
    config: ReleasedConfig = RELEASED,
) -> Summary:
    """Convert the authors' checkpoint to a file that ``--model`` takes.

    Args:
        path: the authors' file.
        target: the safetensors file to write; it is never half a file.
        clip: the name of the CLIP that embeds the prompts.
        half: store fp16, half the size.
        config: the network's sizes.

    Raises:
        WeightsError: the file is not such a checkpoint, its values are too large for fp16, or the
            target cannot be written.
    """
    found = read_released(path, config)
    counts = {"epoch": found.epoch, "steps": found.steps}
    notes = NOTES | {name: str(count) for name, count in counts.items() if count is not None}
    try:
        save_generator(
            found.tensors, config, clip, target, architecture=ARCHITECTURE, half=half, notes=notes
        )
    except WeightsError as error:
        raise WeightsError(
            f"Cannot write {target}: {error}", hint="Keep the file in full: --full-precision"
        ) from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"Cannot write {target}: {reason(error)}.") from error
    return Summary(
        output=target,
        clip=clip,
        precision="fp16" if half else "fp32",
        kept=found.kept,
        epoch=found.epoch,
        steps=found.steps,
        mapping=found.mapping,
        dropped=found.dropped,
    )


def read_released(path: Path, config: ReleasedConfig = RELEASED) -> Released:
    """Read the authors' checkpoint, or a bare state dict of its netG, without trusting it.

    Tolerated: names behind ``module.``, fp16 tensors, and that everything but netG is missing.

    Raises:
        WeightsError: it is not there, is broken, wants code to run, or is not exactly this network;
            the message names the first few tensors.
    """
    content = _unpickle(path)
    tensors = _generator(content, path)
    kept, dropped = kept_shapes(config), dropped_shapes()
    _check(tensors, kept | dropped, path)
    infinite = [name for name in kept if not bool(tensors[name].isfinite().all())]
    if infinite:
        raise WeightsError(f"{path} holds values that are not finite: {_some(infinite)}.")
    epoch = content.get("epoch")
    mapping, steps = read_learning(content.get("optimizers"), tensors, kept)
    return Released(
        tensors={our_name(name): tensors[name].float() for name in kept},
        epoch=epoch if isinstance(epoch, int) else None,
        steps=steps,
        mapping=mapping,
        dropped=_count({name: tensors[name] for name in dropped}),
    )


def _unpickle(path: Path) -> Mapping[str, Any]:
    """The file's content; tensors stay on the disk until they are used, if its format allows it."""
    try:
        archived = zipfile.is_zipfile(path)
        if archived:
            with zipfile.ZipFile(path) as archive:
                # PyTorch compresses nothing: what is compressed is to fill the memory.
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("it is compressed")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=archived)
    except OSError as error:
        raise WeightsError(f"Cannot read the checkpoint {path}: {reason(error)}.") from error
    except Exception as error:
        # There is no telling what a damaged pickle raises.
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and wanted:
            raise WeightsError(
                f"{path} is refused: reading it would run {wanted[1]}, code from outside.",
                hint="A checkpoint needs only tensors and numbers. Do not open this one with other "
                "programs unless you trust whoever made it.",
            ) from error
        raise WeightsError(
            f"{path} is no PyTorch checkpoint, or is cut off or damaged.",
            hint="Compare its size with the original's, or fetch it again.",
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a checkpoint.")
    return _bare(content)


def _bare(content: dict[str, Any]) -> dict[str, Any]:
    """A dict as it is without attributes of its own, which a pickle can put before methods."""
    return dict(dict.items(content))


def _generator(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """netG's tensors in the file's order; what holds no netG is taken for netG itself."""
    network = content.get("model", content)
    if isinstance(network, dict):
        network = _bare(network).get("netG", network)
    entries = _bare(network).items() if isinstance(network, dict) else ()
    # Detached, a tensor too is without attributes of its own.
    found = {
        str(name).removeprefix("module."): Tensor.detach(value)
        for name, value in entries
        if isinstance(value, Tensor)
    }
    tensors = {name: tensor for name, tensor in found.items() if _is_plain(tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no generator: no model.netG, only {_some(content) or 'nothing'}.",
            hint="Give the authors' whole state_epoch_*.pth.",
        )
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Whether it is what a weight is: floats that are there."""
    return (
        value.is_floating_point() and value.layout == torch.strided and value.device.type == "cpu"
    )


def _check(tensors: Mapping[str, Tensor], known: Shapes, path: Path) -> None:
    """Refuse anything but exactly the known tensors."""
    wrong = {
        "unknown": [name for name in tensors if name not in known],
        "missing": [name for name in known if name not in tensors],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {shape}"
            for name, shape in known.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    if any(wrong.values()):
        counts = "; ".join(f"{len(n)} {what}: {_some(n)}" for what, n in wrong.items() if n)
        raise WeightsError(
            f"{path} is not the authors' generator of {len(known)} tensors. {counts}.",
            hint="What can be imported is the network of the authors' CUB x4 checkpoint.",
        )


def _count(dropped: Mapping[str, Tensor]) -> dict[str, int]:
    """Parameters by part of the network."""
    sizes = {"clip_tower": 0, "mapping": 0, "unused": 0}
    for name, tensor in dropped.items():
        tower, branch = name.startswith(TOWER), name.startswith(MAPPING)
        sizes["clip_tower" if tower else "mapping" if branch else "unused"] += tensor.numel()
    return sizes


def _some(names: Iterable[object]) -> str:
    """The first few names."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")
