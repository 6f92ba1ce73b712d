"""Turn a name of ``weights.toml``, or a path, into a local file of weights."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from clipsr_cli.config import build, read_toml
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError

PACKAGE = Path(__file__).parent
REGISTRY = "weights.toml"
ASSETS = PACKAGE / "assets"
DEFAULT_MODEL = "clipsr-mini"
# Marks a file that comes with the package.
BUILTIN = "builtin:"
# Marks a file in a repository of the Hugging Face Hub: hf://owner/repo/file.
HUB = "hf://"

Kind = Literal["generator", "clip"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the registry.

    Attributes:
        kind: ``generator`` or ``clip``.
        description: one line for people.
        licence: SPDX name, or words.
        files: one for each scale for a generator, one for a CLIP; ``builtin:`` is in the package,
            ``hf://owner/repo/file`` on the Hugging Face Hub.
        clip: for a generator, the CLIP it was trained with.
        architecture: for a CLIP, an open_clip name or a ``builtin:`` JSON file.
    """

    kind: str
    description: str
    licence: str
    files: tuple[str, ...]
    scales: tuple[int, ...] = ()
    clip: str = ""
    architecture: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise InputError(f"{REGISTRY}: kind is {self.kind!r}; it must be one of: {kinds}.")
        wanted = len(self.scales) if self.kind == "generator" else 1
        if len(self.files) != wanted:
            raise InputError(f"{REGISTRY}: files holds {len(self.files)}; it must hold {wanted}.")

    def paths(self) -> list[Path]:
        """Where its files are to be, present or not."""
        return [_place(file) for file in self.files]

    def file(self, scale: int | None) -> str:
        """The file for a scale; the only one for a CLIP."""
        return self.files[0] if scale is None else self.files[self.scales.index(scale)]


@cache
def registry() -> dict[str, Entry]:
    """The entries of ``weights.toml``, by name.

    The file lies in the package when installed from a wheel, and at the top of the checkout else.

    Raises:
        InputError: the file is malformed.
    """
    places = (PACKAGE / REGISTRY, PACKAGE.parents[1] / REGISTRY)
    path = next((place for place in places if place.is_file()), places[0])
    return {name: build(Entry, row, where=f"{name}.") for name, row in read_toml(path).items()}


def entry(name: str, kind: Kind) -> Entry:
    """One entry.

    Raises:
        UnknownNameError: no entry of that kind has that name.
    """
    known = {n: e for n, e in registry().items() if e.kind == kind}
    if name not in known:
        raise UnknownNameError(kind if kind == "generator" else "CLIP", name, known)
    return known[name]


def find_generator(model: str, scale: int) -> Path:
    """The weights file that ``--model`` and ``--scale`` stand for.

    Args:
        model: a registry name, or a path to a safetensors file.
        scale: 4, 8 or 16.

    Raises:
        InputError: neither a path nor a known name; or no weights for that scale.
        WeightsError: the file is not there, or would have to be fetched.
    """
    if model.startswith("hf://"):
        raise WeightsError(
            f"This version does not fetch weights: {model}",
            hint="Download the file by hand and give its path: -m FILE.safetensors",
        )
    path = Path(model)
    # A name is never a file that happens to be called so: that one is given as ./name.
    if model not in registry() and path.is_file():
        return path
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        raise WeightsError(f"The weights {path} do not exist.", hint="See: clipsr weights list")
    row = entry(model, "generator")
    if scale not in row.scales:
        scales = ", ".join(str(s) for s in row.scales)
        raise InputError(f"{model} has no weights for x{scale}.", hint=f"Its scales: {scales}.")
    return locate(row.file(scale))


def find_clip(name: str) -> tuple[str | Path, Path]:
    """The open_clip architecture (a name, or a JSON file) and the weights file of a CLIP.

    Raises:
        UnknownNameError: the registry has no such CLIP.
        WeightsError: the file is not there.
    """
    row = entry(name, "clip")
    architecture = (
        locate(row.architecture) if row.architecture.startswith(BUILTIN) else row.architecture
    )
    return architecture, locate(row.file(None))


def locate(file: str) -> Path:
    """The local path of a registry's file.

    Raises:
        WeightsError: it is not there.
    """
    path = _place(file)
    if path.is_file():
        return path
    if file.startswith(HUB):
        repository, name = _hub_parts(file)
        raise WeightsError(
            f"The weights {file} are not on this machine.",
            hint=f"Fetch them: hf download {repository} {name}",
        )
    raise WeightsError(
        f"The weights {path.name} are missing from the installation.",
        hint="Install again: pip install --force-reinstall clipsr-cli",
    )


def _place(file: str) -> Path:
    """Where a registry's file is, or is to be."""
    if not file.startswith(HUB):
        return ASSETS / file.removeprefix(BUILTIN)
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - slow to load

    repository, name = _hub_parts(file)
    cached = try_to_load_from_cache(repository, name)
    return Path(cached) if isinstance(cached, str) else Path(constants.HF_HUB_CACHE) / name


def _hub_parts(file: str) -> tuple[str, str]:
    """``hf://owner/repo/file`` -> ``owner/repo``, ``file``."""
    owner, repository, name = file.removeprefix(HUB).split("/", 2)
    return f"{owner}/{repository}", name
