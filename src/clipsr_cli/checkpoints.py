"""Networks as safetensors files that say what they hold.

A generator's file carries in its header: the format version, the architecture's name, its config,
its scale, the name of the CLIP it was trained with, and notes on its training (``dataset``,
``steps``, ``epoch``, ``licence``). The frozen CLIP is referred to, never copied in.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipsr_cli.config import build
from clipsr_cli.errors import ClipsrError, WeightsError
from clipsr_cli.models import ARCHITECTURES, AnyConfig, AnyGenerator
from clipsr_cli.models.clip import Clip

FORMAT = "1"
# What a header may say of the training beside what is needed to build the network.
NOTES = frozenset({"dataset", "steps", "epoch", "licence"})


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a generator's file says of itself."""

    architecture: str
    config: AnyConfig
    clip: str
    notes: Mapping[str, str] = field(default_factory=dict)


def save_generator(
    state: dict[str, Tensor],
    config: AnyConfig,
    clip: str,
    path: Path,
    *,
    architecture: str = "clip-sr",
    half: bool = True,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a generator's learned tensors, aside first, so that ``path`` is never half a file.

    Args:
        state: ``generator.learned_state()`` or its moving average.
        config: its config.
        clip: the name of the CLIP it was trained with.
        path: the safetensors file.
        architecture: a name in ``models.ARCHITECTURES``.
        half: store fp16, half the size; loading brings fp32 back.
        notes: on its training; names in ``NOTES`` only.

    Raises:
        WeightsError: values are too large for fp16.
    """
    notes = dict(notes or {})
    assert notes.keys() <= NOTES, notes
    metadata = {
        "format": FORMAT,
        "architecture": architecture,
        "config": json.dumps(asdict(config), sort_keys=True),
        "scale": str(config.scale),
        "clip": clip,
    } | notes
    _write(_in_half(state) if half else state, path, metadata)


def save_clip(state: Mapping[str, Tensor], path: Path, *, steps: int) -> None:
    """Write a CLIP's weights in open_clip's key format and fp16, aside first.

    Args:
        state: the open_clip model's state dict.
        path: the safetensors file.
        steps: of its training, for the header.

    Raises:
        WeightsError: values are too large for fp16.
    """
    # The mask is no weight: open_clip builds it.
    tensors = {name: tensor for name, tensor in state.items() if name != "attn_mask"}
    _write(_in_half(tensors), path, {"steps": str(steps)})


def _in_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in fp16.

    Raises:
        WeightsError: one would become infinite; the message names the first few.
    """
    most = torch.finfo(torch.float16).max
    large = [name for name, tensor in tensors.items() if bool((tensor.abs() > most).any())]
    if large:
        raise WeightsError(
            f"{len(large)} tensor(s) hold values that are too large for half precision: "
            f"{', '.join(large[:5])}."
        )
    return {name: tensor.half() for name, tensor in tensors.items()}


def _write(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, aside first."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    try:
        # Never through a link that somebody laid there.
        aside.unlink(missing_ok=True)
        # Some versions of safetensors let nobody else read what they write.
        aside.touch(exist_ok=False)
        mode = aside.stat().st_mode
        save_file(tensors, aside, metadata=metadata)
        aside.chmod(mode)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """What a generator's file holds, without reading its tensors.

    Raises:
        WeightsError: the file is not there, not safetensors, or not a generator of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"Cannot read the weights {path}: {error}.") from error
    architecture = metadata.get("architecture", "")
    if metadata.get("format") != FORMAT or architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{path} is not a clipsr generator.",
            hint="Give a .safetensors file written by clipsr, or a name from clipsr weights list.",
        )
    try:
        config = build(ARCHITECTURES[architecture].config, json.loads(metadata["config"]))
        notes = {name: metadata[name] for name in sorted(NOTES & metadata.keys())}
        return Header(architecture=architecture, config=config, clip=metadata["clip"], notes=notes)
    except (KeyError, ValueError, RecursionError, ClipsrError) as error:
        raise WeightsError(f"{path} has a broken header: {error}.") from error


def copy_in_half(source: Path, target: Path) -> None:
    """Copy a generator's file to one of half the size: fp16 tensors, the same header.

    Raises:
        WeightsError: the source is broken, or holds values that are too large for fp16.
    """
    header, tensors = read_header(source), read_tensors(source)
    try:
        save_generator(
            tensors,
            header.config,
            header.clip,
            target,
            architecture=header.architecture,
            notes=header.notes,
        )
    except WeightsError as error:
        raise WeightsError(
            f"Cannot write {target}: {error}", hint=f"Use {source}, which is in full precision."
        ) from error


def load_generator(path: Path, clip: Clip) -> AnyGenerator:
    """Build the generator a file describes and fill it, in eval mode, fp32, on the CPU.

    Args:
        path: the generator's safetensors file.
        clip: the CLIP named in its header.

    Raises:
        WeightsError: the file is broken, or its tensors are not exactly the architecture's.
    """
    header, tensors = read_header(path), read_tensors(path)
    # Without memory, as a header may claim any size.
    with torch.device("meta"):
        generator = ARCHITECTURES[header.architecture].build(header.config, clip)
    _check_fit(generator.learned_state(), tensors, path)
    # Copies, since where a tensor lies in its file decides the last bits of what comes of it.
    own = {name: tensor.clone() for name, tensor in tensors.items()}
    generator.load_state_dict(own, strict=False, assign=True)
    return generator.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors, in fp32.

    Raises:
        WeightsError: the file is not there or broken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(f"Cannot read the weights {path}: {error}.") from error


def load_learned(generator: AnyGenerator, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill a generator's learned tensors, all of them and nothing else.

    Raises:
        WeightsError: a tensor is missing, unknown or of another shape; the message names the first
            few.
    """
    own = generator.learned_state()
    _check_fit(own, tensors, path)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    wrong = sorted(own.keys() ^ tensors.keys())
    wrong += sorted(
        name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape
    )
    if wrong:
        raise WeightsError(
            f"{path} does not fit the network: {len(wrong)} tensor(s), {', '.join(wrong[:5])}."
        )
