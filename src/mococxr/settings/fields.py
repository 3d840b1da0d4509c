"""How a setting is declared, checked, written to YAML and read back: one way for every command."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from mococxr.errors import InputError

S = TypeVar("S")


def setting(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    unit: str = "",
    source: str = "",
    shown: str = "",
    positional: bool = False,
    single: bool = False,
    group: str = "",
    words: Mapping[str, Any] | None = None,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        help: what it means, in one sentence.
        default: its value when nobody sets it; without one it must be given.
        unit: e.g. `px`, `images`, `percent`.
        source: where the default comes from, e.g. `arXiv 2010.05352`.
        shown: how the default reads in `--help` where it is not the value itself.
        positional: given on the command line without a flag.
        single: of several values, each has a flag of its own, so that what stands by position may follow it.
        group: the heading under which `--help` shows it.
        words: a word that may be given in place of a value -> the value that it is kept as.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "source": source,
        "shown": shown,
        "positional": positional,
        "single": single,
        "group": group,
        "words": dict(words or {}),
    }
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """`save_every` -> `--save-every`."""
    return "--" + name.replace("_", "-")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A sentence that names the known names nearest to an unknown one."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    return "Known are: " + ", ".join(options) + "."


def make(kind: type[S], given: Mapping[str, Any]) -> S:
    """Build settings from plain values, each checked against its field's type.

    Args:
        kind: a settings dataclass of this room.
        given: setting name -> value, as flags, YAML or keyword arguments give them.

    Raises:
        InputError: an unknown name (with the nearest known ones), a missing one, a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types_ = typing.get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in fields:
            raise InputError(f"There is no setting {name!r}.", nearest(name, fields))
        if value is not None:  # None is `not given`
            kept = fields[name].metadata["words"].get(value, value) if isinstance(value, str) else value
            values[name] = convert(kept, types_[name], name)
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise InputError(f"The setting {name!r} is missing.", f"Give it: {field.metadata['help']}")
    return kind(**values)


def convert(value: Any, wanted: Any, name: str) -> Any:
    """`value` as the type `wanted`, or an InputError that names the setting."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return convert(value, next(t for t in inner if t is not types.NoneType), name)
    if origin is Literal:
        if value in inner:
            return value
        raise InputError(f"{flag(name)} cannot be {value!r}.", nearest(str(value), map(str, inner)))
    if origin is tuple:
        return _sequence(value, inner, name)
    return _scalar(value, wanted, name)


def _sequence(value: Any, inner: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if value is None or isinstance(value, Mapping):
        raise InputError(f"{flag(name)} cannot be {value!r}.", "It takes a list of values.")
    items = [value] if isinstance(value, str | int | float | Path) else list(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(convert(item, inner[0], name) for item in items)
    if len(items) != len(inner):
        raise InputError(f"{flag(name)} takes {len(inner)} values, not {len(items)}.", f"It got: {items}.")
    return tuple(convert(item, kind, name) for item, kind in zip(items, inner, strict=True))


def _scalar(value: Any, wanted: Any, name: str) -> Any:
    if wanted is bool:
        if isinstance(value, bool):
            return value
        raise InputError(f"{flag(name)} is yes or no, not {value!r}.", "Write true or false.")
    broken = wanted is int and isinstance(value, float) and not value.is_integer()
    if value is None or isinstance(value, bool | list | tuple | Mapping) or broken:
        raise InputError(f"{flag(name)} cannot be {value!r}.", f"It takes a value of type {wanted.__name__}.")
    try:
        return wanted(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{flag(name)} cannot be {value!r}.", f"It takes a value of type {wanted.__name__}."
        ) from error


def to_mapping(settings: Any) -> dict[str, Any]:
    """Settings as plain values that YAML and JSON can hold (paths as text, tuples as lists)."""
    return {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_yaml(settings: Any) -> str:
    """Settings as YAML; `from_yaml` and `make` give the same settings back."""
    return yaml.safe_dump(to_mapping(settings), sort_keys=False, allow_unicode=True)


def from_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, names with dashes or underscores.

    Raises:
        InputError: the file is absent, is not YAML, or is not a table of settings.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}.", "Check the path given to --config."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}.", "Mend the file, or leave --config out.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} holds no settings.", "Write one `name: value` a line.")
    return {name.replace("-", "_"): value for name, value in content.items()}
