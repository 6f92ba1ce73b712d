"""Turn a name of ``weights.toml``, a path or a reference into a local, checked file of weights."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from clipsr_cli import hub
from clipsr_cli.config import build, read_toml
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError, reason

PACKAGE = Path(__file__).parent
REGISTRY = "weights.toml"
ASSETS = PACKAGE / "assets"
DEFAULT_MODEL = "clipsr-mini"
# Names a weights.toml of the user's own, whose rows come before the package's.
OWN = "CLIPSR_WEIGHTS"
# Marks a file that comes with the package.
BUILTIN = "builtin:"
TENSORS = (".safetensors",)

Kind = Literal["generator", "clip", "captioner"]
TITLES: dict[Kind, str] = {"generator": "generator", "clip": "CLIP", "captioner": "captioner"}

_SHA256 = re.compile(r"[0-9a-f]{64}|")
# The largest numbers in a CLIP's config: a vocabulary, and what a file could have grow for ever.
LARGEST = 2**20
MOST = {"layers": 512, "width": 2**14, "embed_dim": 2**14, "context_length": 2**14}
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]+")
# ARCHITECTURE:FILE, but not the colons of hf:// and C:\.
_COLON = re.compile(r"(?<!^[A-Za-z]):(?!//)")
# What in an open_clip config would make it fetch other things, or run a repository's code.
_FOREIGN = re.compile(r"hf_\w+|timm_\w+|tokenizer_kwargs")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the registry.

    Attributes:
        kind: ``generator``, ``clip`` or ``captioner``.
        description: one line for people.
        licence: SPDX name, or words.
        files: one for each scale for a generator, one otherwise; ``builtin:`` is in the package,
            ``hf://owner/repo/file`` or ``hf://owner/repo@revision/file`` on the Hugging Face Hub.
            In a user's own registry also a path, from that registry's folder.
        sha256: of the files, in their order; "" where it is not known.
        size: of the files, in bytes; 0 where it is not known.
        scales: for a generator.
        clip: for a generator, the CLIP it was trained with.
        architecture: for a CLIP or captioner, an open_clip name, or a JSON file in its format,
            given as ``files`` are.
    """

    kind: str
    description: str
    licence: str
    files: tuple[str, ...]
    sha256: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    clip: str = ""
    architecture: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise InputError(f"kind is {self.kind!r}; it must be one of: {kinds}.")
        wanted = len(self.scales) if self.kind == "generator" else 1
        if len(self.files) != wanted:
            raise InputError(f"files holds {len(self.files)}; it must hold {wanted}.")
        for name, known in (("sha256", self.sha256), ("size", self.size)):
            if known and len(known) != wanted:
                raise InputError(
                    f"{name} holds {len(known)}; it must hold {wanted}, or be left out."
                )
        for digest in self.sha256:
            if not _SHA256.fullmatch(digest):
                raise InputError(f"sha256 is {digest!r}; it must be 64 hexadecimal digits.")
        for file in (*self.files, self.architecture):
            if file.startswith(hub.SCHEME):
                hub.Reference.parse(file)
        for file in self.files:
            if not file.startswith(hub.SCHEME) and not file.endswith(TENSORS):
                raise InputError(f"files names {file!r}; it must be a .safetensors file.")
        if self.kind != "generator" and self.clip:
            raise InputError(f"clip is {self.clip!r}; only a generator has one.")
        if self.kind != "generator" and not self.architecture:
            raise InputError("architecture is missing; it must be an open_clip name or a .json.")

    def parts(self, name: str) -> "list[Part]":
        """Its files, with what is known of them."""
        unknown = len(self.files)
        return [
            Part(name, file, sha256, size)
            for file, sha256, size in zip(
                self.files, self.sha256 or ("",) * unknown, self.size or (0,) * unknown, strict=True
            )
        ]

    def part(self, name: str, scale: int) -> "Part":
        """The file for a scale."""
        return self.parts(name)[self.scales.index(scale)]

    def paths(self) -> list[Path]:
        """Where its files are to be, present or not.

        Raises:
            WeightsError: the record of fetched files cannot be read.
        """
        return [part.place() for part in self.parts("")]

    @property
    def present(self) -> bool:
        """Whether all its files are here, in a format that is read.

        Another program may have fetched what this one does not read.
        """
        return all(path.is_file() and path.suffix in hub.FORMATS for path in self.paths())


@dataclass(frozen=True)
class Part:
    """One file of a row: in the package, on the Hub, or a path.

    Attributes:
        name: of the row, for messages; "" where a file was given and no name.
        file: as the row has it.
        sha256: in hexadecimal, or "".
        size: in bytes, or 0.
    """

    name: str
    file: str
    sha256: str = ""
    size: int = 0

    @property
    def reference(self) -> hub.Reference | None:
        """Where on the Hub it is, or None."""
        return hub.Reference.parse(self.file) if self.file.startswith(hub.SCHEME) else None

    def place(self) -> Path:
        """Where it is, or is to be."""
        if (reference := self.reference) is None:
            builtin = self.file.startswith(BUILTIN)
            return ASSETS / self.file.removeprefix(BUILTIN) if builtin else Path(self.file)
        found = hub.look(reference)
        return hub.place(reference) if found is None else found.path

    def locate(self, formats: tuple[str, ...] = TENSORS) -> Path:
        """Its local path. A file of the Hub is fetched if it is not here.

        Raises:
            WeightsError: it is of another format; it is not there and cannot be fetched; it is not
                what it must be.
        """
        if (reference := self.reference) is not None:
            reference.check_format(formats)
            return hub.find(reference, sha256=self.sha256, size=self.size, name=self.name)
        path = self.place()
        if path.is_file():
            return path
        if self.file.startswith(BUILTIN):
            raise WeightsError(
                f"The weights {path.name} are missing from the installation.",
                hint="Install again: pip install --force-reinstall clipsr-cli",
            )
        raise WeightsError(f"There is no file {path}.", hint="See: clipsr weights list")

    def fetch(self, *, update: bool = False) -> Path:
        """Ask the Hub for it even if it is here; a local file as ``locate`` does.

        Args:
            update: take a file that differs from what was recorded when it first came.

        Raises:
            WeightsError: as for ``locate``.
        """
        if (reference := self.reference) is None:
            return self.locate()
        return hub.fetch(
            reference, sha256=self.sha256, size=self.size, name=self.name, update=update
        )


def registry() -> dict[str, Entry]:
    """The entries by name: the package's, and before them those of the file CLIPSR_WEIGHTS names.

    A row of one's own takes the place of the package's row of that name as a whole.

    Raises:
        InputError: a file is malformed, or the user's is not there.
    """
    own = own_registry()
    if own is None:
        return packaged()
    if not own.exists():
        raise InputError(
            f"There is no {own}, which {OWN} names.",
            hint="An empty file will do; clipsr weights pin NAME fills one.",
        )
    return packaged() | read_registry(own)


def packaged() -> dict[str, Entry]:
    """The entries that come with the package.

    The file lies in the package when installed from a wheel, and at the top of the checkout else.

    Raises:
        InputError: the file is malformed.
    """
    places = (PACKAGE / REGISTRY, PACKAGE.parents[1] / REGISTRY)
    return read_registry(next((place for place in places if place.is_file()), places[0]))


def own_registry() -> Path | None:
    """The user's own ``weights.toml``, which may not exist yet, or None."""
    named = os.environ.get(OWN)
    return Path(named).expanduser() if named else None


def read_registry(path: Path) -> dict[str, Entry]:
    """The entries of one ``weights.toml``, whose paths count from its folder.

    Raises:
        InputError: the file is not there or malformed; the message names it.
    """
    entries = {}
    for name, row in read_toml(path).items():
        try:
            found = build(Entry, row, where=f"{name}.")
            entries[name] = replace(
                found,
                files=tuple(_from_folder(file, path.parent) for file in found.files),
                architecture=_from_folder(found.architecture, path.parent)
                if found.architecture.endswith(".json")
                else found.architecture,
            )
        except InputError as error:
            raise InputError(f"{path}, [{name}]: {error}", hint=error.hint) from error
    return entries


def _from_folder(file: str, folder: Path) -> str:
    if file.startswith((BUILTIN, hub.SCHEME)):
        return file
    try:
        return str(folder / Path(file).expanduser())
    except RuntimeError as error:
        raise InputError(f"{file} is in nobody's home folder.") from error


def entry(name: str, kind: Kind | None = None) -> Entry:
    """One entry.

    Args:
        name: of the entry.
        kind: of the entry; None is any.

    Raises:
        UnknownNameError: no entry of that kind has that name.
    """
    known = {n: e for n, e in registry().items() if kind in (None, e.kind)}
    if name not in known:
        raise UnknownNameError(TITLES[kind] if kind else f"entry of {REGISTRY}", name, known)
    return known[name]


def needed(name: str) -> list[Part]:
    """All files behind a name: a generator's with those of its CLIP, a CLIP's with its config.

    Args:
        name: a registry name, or ``hf://owner/repo[@revision]/file``.

    Raises:
        UnknownNameError: no entry has that name.
        InputError: it is no reference.
    """
    if name.startswith(hub.SCHEME):
        hub.Reference.parse(name)
        return [Part("", name)]
    row = entry(name)
    config = [Part(name, row.architecture)] if row.architecture.endswith(".json") else []
    clip = needed(row.clip) if _is_clip(row.clip) else []
    return [*row.parts(name), *config, *clip]


def _is_clip(name: str) -> bool:
    """Whether a CLIP is registered by that name; a CLIP needs no other, so that this ends."""
    known = registry().get(name)
    return known is not None and known.kind == "clip"


def pull(name: str, *, update: bool = False) -> Iterator[tuple[Part, Path]]:
    """Bring all files behind a name to this machine, as ``needed`` lists them.

    Args:
        name: a registry name, or ``hf://owner/repo[@revision]/file``; of a generator so named, the
            CLIP in its header comes too, if the registry has it.
        update: take files that differ from what was recorded when they first came.

    Yields:
        each file and its local path.

    Raises:
        UnknownNameError: no entry has that name.
        InputError: it is no reference.
        WeightsError: a file cannot be fetched, or is not what it must be.
    """
    for part in needed(name):
        path = part.fetch(update=update)
        yield part, path
        if not part.name and path.suffix == ".safetensors":
            clip = hub.read_metadata(path).get("clip", "")
            if _is_clip(clip):
                yield from pull(clip, update=update)


def find_generator(model: str, scale: int, *, fetch: bool = True) -> Path:
    """The weights file that ``--model`` and ``--scale`` stand for.

    Args:
        model: a registry name, a path to a safetensors file, or ``hf://owner/repo[@rev]/file``.
        scale: 4, 8 or 16.
        fetch: get a file of the Hub that is not here; else its place to be is returned.

    Raises:
        InputError: neither a path nor a known name; no reference; or no weights for that scale.
        WeightsError: the file is not there and cannot be fetched, or is not what it must be.
    """
    if model.startswith(hub.SCHEME):
        part = Part("", model)
        return part.locate() if fetch else part.place()
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
    part = row.part(model, scale)
    return part.locate() if fetch or part.reference is None else part.place()


def find_clip(name: str) -> tuple[str | Path, Path]:
    """The open_clip architecture (a name, or a JSON file) and the weights file of a CLIP.

    Args:
        name: a registry name; ``ARCHITECTURE:FILE``; or ``FILE``, whose architecture is in a JSON
            file beside it (``mine.safetensors`` and ``mine.json``). ARCHITECTURE is an open_clip
            name (``ViT-B-32``) or a JSON file in its format, FILE a safetensors file in its key
            format; files are paths or ``hf://owner/repo[@revision]/file``.

    Raises:
        UnknownNameError: the registry has no such CLIP.
        InputError: it is no architecture or no reference.
        WeightsError: a file is not there and cannot be fetched, or is not what it must be.
    """
    return _find_pair(name, "clip")


def find_captioner(name: str) -> tuple[str | Path, Path]:
    """The open_clip architecture (a name, or a JSON file) and the weights file of a captioner.

    Args:
        name: as for ``find_clip``.

    Raises:
        UnknownNameError: the registry has no such captioner.
        InputError: as for ``find_clip``.
        WeightsError: as for ``find_clip``.
    """
    return _find_pair(name, "captioner")


def _find_pair(name: str, kind: Kind) -> tuple[str | Path, Path]:
    known = name in registry()
    colon = None if known or Path(name).is_file() else _COLON.search(name)
    is_file = colon is not None or name.startswith(hub.SCHEME) or name.endswith(TENSORS)
    if known or not is_file:
        row = entry(name, kind)
        (part,) = row.parts(name)
        return _architecture(row.architecture, name), part.locate()
    file = name if colon is None else name[colon.end() :]
    if not file.endswith(TENSORS):
        raise InputError(
            f"The weights of {name!r} are no .safetensors file.",
            hint="Write ARCHITECTURE:FILE.safetensors, such as ViT-B-32:mine.safetensors.",
        )
    if colon is not None:
        return _architecture(name[: colon.start()], ""), Part("", file).locate()
    try:
        config = _architecture(file.removesuffix(".safetensors") + ".json", "")
    except WeightsError as error:
        raise WeightsError(
            f"{name} has no usable config beside it: {error}",
            hint=f"Name the architecture: ViT-B-32:{name}. {error.hint}",
        ) from error
    return config, Part("", file).locate()


def _architecture(text: str, name: str) -> str | Path:
    """An open_clip name as it is, a JSON file as a local path that was looked through.

    Raises:
        InputError: it is neither.
        WeightsError: the file is missing, broken, or would have other things fetched or run.
    """
    if not text.endswith(".json"):
        if not _ARCHITECTURE.fullmatch(text):
            raise InputError(
                f"{text!r} is no architecture.", hint="Give an open_clip name or a .json file."
            )
        return text
    path = Part(name, text).locate((".json",))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"Cannot read {path}: {reason(error)}.") from error
    foreign = sorted(key for key in _keys(config) if _FOREIGN.fullmatch(key))
    if foreign:
        raise WeightsError(
            f"{path} asks for things from elsewhere: {', '.join(foreign)}.",
            hint="Only plain open_clip configs are taken: embed_dim, vision_cfg, text_cfg.",
        )
    for key, value in _numbers(config):
        if value > MOST.get(key, LARGEST):
            raise WeightsError(f"{path} asks for a CLIP with {key} = {value}; that is no CLIP.")
    return path


def _keys(value: Any) -> Iterator[str]:
    """All keys of a JSON value, those of its inner objects too."""
    for key, _ in _items(value):
        yield key


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """All numbers of a JSON value, by the key they have or are in a list of."""
    for key, found in _items(value):
        for number in found if isinstance(found, list) else [found]:
            if isinstance(number, int | float):
                yield key, number


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of a JSON value's objects, the inner ones' too."""
    if isinstance(value, Mapping):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _items(inner)
