"""Turn the names of models into functions that enlarge the pairs of an evaluation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clipsr_cli.evaluation.editing import STRENGTHS
from clipsr_cli.evaluation.pairs import Pair, to_tensor
from clipsr_cli.evaluation.scoring import PLAIN, Enlarge
from clipsr_cli.jobs import UpscaleOptions
from clipsr_cli.upscaling import Upscaler
from clipsr_cli.weights import find_generator


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model of an evaluation.

    Attributes:
        name: what the report calls it.
        enlarge: what it makes of a pair.
        fingerprint: what tells its results from those of another of that name.
    """

    name: str
    enlarge: Enlarge
    fingerprint: str


def contenders(
    models: Sequence[str],
    *,
    scale: int,
    device: str = "auto",
    precision: str = "auto",
    text_strength: float = 1.0,
) -> list[Contender]:
    """What each name stands for, bicubic enlargement being added where it is not among them.

    Args:
        models: names of ``PLAIN``, registry names and paths; one that comes twice counts once.
        scale: 4, 8 or 16.
        device, precision, text_strength: as for ``Upscaler``.

    Raises:
        InputError: no such model, or it has another scale.
        WeightsError: a file is missing or broken.
        DeviceError: the device is not there.
    """
    found: list[Contender] = []
    for model in dict.fromkeys([*models, "bicubic"]):
        if model in PLAIN:
            found.append(Contender(name=model, enlarge=PLAIN[model], fingerprint=model))
            continue
        options = UpscaleOptions(text_strength=text_strength)
        upscaler = Upscaler.load(
            model, scale=scale, device=device, precision=precision, options=options
        )
        taken = [contender.name for contender in found]
        weights = hashlib.sha256(find_generator(model, scale).read_bytes()).hexdigest()[:16]
        settings = (upscaler.clip.name, upscaler.device.type, upscaler.precision, text_strength)
        found.append(
            Contender(
                name=_label(model, taken),
                enlarge=by_upscaler(upscaler),
                fingerprint=" ".join(map(str, (weights, *settings))),
            )
        )
    return found


def by_strength(
    model: str, *, scale: int, device: str, precision: str, strengths: Sequence[float] = STRENGTHS
) -> dict[float, Enlarge]:
    """What one model makes of a pair, by the strength of its text.

    Raises:
        InputError, WeightsError, DeviceError: as for ``contenders``.
    """
    loaded = Upscaler.load(model, scale=scale, device=device, precision=precision)
    return {
        strength: by_upscaler(
            Upscaler(
                loaded.generator,
                device=device,
                precision=precision,
                options=UpscaleOptions(text_strength=strength),
            )
        )
        for strength in strengths
    }


def by_upscaler(upscaler: Upscaler) -> Enlarge:
    """What an upscaler makes of a pair, through its tiles and 8-bit rounding as for a file."""

    def enlarge(pair: Pair) -> Tensor:
        return to_tensor(upscaler.enlarge(pair.small(), pair.prompt).pixels)

    return enlarge


def _label(model: str, taken: Sequence[str]) -> str:
    """A short name for a model: of a run's generator.safetensors, the run's."""
    path = Path(model)
    short = model
    if path.suffix == ".safetensors":
        short = path.stem if path.stem != "generator" else path.resolve().parent.name
    label, number = short, 2
    while label in (*taken, *PLAIN, "reference", "low"):
        label, number = f"{short} {number}", number + 1
    return label
