"""Turn TOML and other plain values into frozen dataclasses, every name and type checked."""

import dataclasses
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from clipsr_cli.errors import InputError

Config = TypeVar("Config")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: it is not there or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        # A ValueError also for what is no UTF-8, and for numbers of thousands of digits.
        raise InputError(f"{path} is not valid TOML: {error}.") from error


def build(kind: type[Config], settings: Mapping[str, Any], *, where: str = "") -> Config:
    """Build a config dataclass from plain values, nested dataclasses and tuples of them included.

    Args:
        kind: a dataclass.
        settings: its fields by name; a field that is not given keeps its default.
        where: prefix of the names in messages, such as ``generator.``.

    Raises:
        InputError: a name is unknown (with the nearest known one), missing, or its value has the
            wrong type.
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"{where.removesuffix('.') or kind.__name__} is no table: {settings!r}.")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in settings.items():
        if name not in fields:
            close = get_close_matches(name, fields, n=1)
            hint = f"Did you mean {where}{close[0]}?" if close else f"Known: {', '.join(fields)}."
            raise InputError(f"Unknown setting {where}{name}.", hint=hint)
        values[name] = _convert(hints[name], value, f"{where}{name}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"Missing setting {where}{missing[0]}.")
    return kind(**values)


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return build(hint, value, where=f"{name}.")
    elif get_origin(hint) is UnionType:
        if value is None and NoneType in get_args(hint):
            return None
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        return _convert(inner, value, name)
    elif get_origin(hint) is tuple:
        if isinstance(value, list | tuple):
            kinds = get_args(hint)
            if kinds[-1] is Ellipsis:
                kinds = (kinds[0],) * len(value)
            if len(kinds) == len(value):
                return tuple(
                    _convert(kind, item, f"{name}[{index}]")
                    for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
                )
    elif hint is Path:
        if isinstance(value, str | Path):
            return Path(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise InputError(f"{name} is beyond what a float can hold.") from error
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
    raise InputError(f"{name} is {value!r}; it must be {wanted}.")
