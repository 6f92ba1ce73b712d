"""Turn the names of models into functions that enlarge the pairs of an evaluation."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clipsr_cli.evaluation.editing import STRENGTHS
from clipsr_cli.evaluation.folder import LOW, REFERENCE
from clipsr_cli.evaluation.pairs import Pair, to_tensor
from clipsr_cli.evaluation.scoring import PLAIN, Enlarge
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import Upscaler
from clipsr_cli.weights import find_clip, find_generator


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
        weights = digest(find_generator(model, scale))
        clip = digest(find_clip(upscaler.clip.name)[1])
        settings = (clip, upscaler.device.type, upscaler.precision, text_strength)
        found.append(
            Contender(
                name=distinct(_short(model), taken),
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


def digest(path: Path) -> str:
    """What tells a file of weights from another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def distinct(name: str, taken: Iterable[str]) -> str:
    """A name that none of the taken ones, the plain methods or the kept folders has."""
    label, number = name, 2
    while label in (*taken, *PLAIN, REFERENCE, LOW):
        label, number = f"{name} {number}", number + 1
    return label


def _short(model: str) -> str:
    """A short name for a model: of a run's generator.safetensors, the run's."""
    path = Path(model)
    if path.suffix != ".safetensors":
        return model
    return path.stem if path.stem != "generator" else path.resolve().parent.name
