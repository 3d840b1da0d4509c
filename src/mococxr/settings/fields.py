"""How a setting is declared, checked, written to YAML and read back: one way for every command."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from mococxr.errors import InputError

S = TypeVar("S")
PAPER = "arXiv 2010.05352"
"""The MoCo-CXR paper, as the source of a default."""
LARGEST_SEED = (1 << 63) - 1
"""Seeds are 64-bit integers in torch and in the views; a time stamp is a seed, too."""
ENCODERS = (
    "imagenet, random, mococxr-lite0 (mococxr-weights), a run folder, hf:OWNER/NAME or hf:FOLDER, "
    "xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm network (resnet50.a1_in1k)"
)
"""How an encoder may be named: the words of the kinds of `encoders.SOURCES`, which a test compares."""
SIZED = (
    "ENCODER@SIZE sets the side of its input, A@288+B@96 puts the features of several side by side; a path with @ or + "
    "stands in quotes: 'my+run'@96"
)
"""What may be written around such a name."""


@dataclass(frozen=True)
class Range:
    """The finite numbers that a setting takes: `low` and `high` belong to it, `above` and `below` do not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """`at least 4`, `between 0 and 1`, `above 0 and at most 1`; empty where every finite number is taken."""
        if self.low is not None and self.high is not None:
            return f"between {_number(self.low)} and {_number(self.high)}"
        ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{words} {_number(end)}" for words, end in ends.items() if end is not None)


def setting(
    help: str,
    default: Any = MISSING,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    source: str = "",
    shown: str = "",
    positional: bool = False,
    single: bool = False,
    group: str = "",
    words: Mapping[str, Any] | None = None,
    table: bool = False,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        help: what it means, in one sentence.
        default: its value when nobody sets it; without one it must be given.
        unit: e.g. `px`, `images`, `percent`.
        low: smallest number it takes; for several numbers, each.
        high: largest number it takes.
        above: every number it takes is greater.
        below: every number it takes is smaller.
        source: where the default comes from, e.g. `arXiv 2010.05352`.
        shown: how the default reads in `--help` where it is not the value itself.
        positional: given on the command line without a flag.
        single: of several values, each has a flag of its own, so that what is given by position may follow it.
        group: the heading under which `--help` shows it.
        table: it names a table; in Python it may be a data frame.
        words: a word that may be given in place of a value -> the value that it is kept as, in range or not.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "range": Range(low, high, above, below),
        "source": source,
        "shown": shown,
        "positional": positional,
        "single": single,
        "group": group,
        "words": dict(words or {}),
        "table": table,
    }
    return dataclasses.field(default=default, metadata=metadata)


def under(*groups: str) -> list[partial[Any]]:
    """`setting`, under each of these headings of `--help`."""
    return [partial(setting, group=group) for group in groups]


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


@cache
def types_of(kind: type) -> dict[str, Any]:
    """Setting name -> its type."""
    return typing.get_type_hints(kind)


def make(kind: type[S], plain: Mapping[str, Any]) -> S:
    """Build settings from plain values, each checked against its field's type and range.

    Args:
        kind: a settings dataclass of this room.
        plain: setting name -> value, as flags, YAML or keyword arguments give them; None counts as not set.

    Raises:
        InputError: an unknown name (with the nearest known ones), a missing one, a value of the wrong type or
            out of range, or values that contradict one another.
    """
    values = typed(kind, plain)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    missing = [field for name, field in fields.items() if name not in values and field.default is MISSING]
    if len(missing) == 1:
        raise InputError(f"The setting {missing[0].name!r} is missing.", f"Give it: {missing[0].metadata['help']}")
    if missing:
        names = [field.name.upper() if field.metadata["positional"] else flag(field.name) for field in missing]
        words = [f"{name}: {field.metadata['help']}" for name, field in zip(names, missing, strict=True)]
        raise InputError(
            f"{len(missing)} settings are missing: {', '.join(names)}.", "\n  ".join(["Give them.", *words])
        )
    if presets := getattr(kind, "presets", None):  # only pretraining has them
        # what is given comes before the preset
        values = vars(presets[values.get("preset", fields["preset"].default)]) | values
    return kind(**values)


def typed(kind: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Some settings, each as its field's type and in its range; errors as `make`, but any may be missing."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for name, value in plain.items():
        if name not in fields:
            raise InputError(f"There is no setting {name!r}.", nearest(name, fields))
        if value is not None:
            values[name] = _checked(fields[name], types_of(kind)[name], value)
    return values


def _checked(field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    """The value of one setting as its type, within its range."""
    words = field.metadata["words"]
    if isinstance(value, str) and value in words:
        return words[value]
    try:
        converted = convert(value, kind, field.name)
    except InputError as error:  # the help says more than the name of a type
        raise InputError(error.problem, error.way_out or field.metadata["help"]) from error
    limits = field.metadata["range"]
    for number in converted if isinstance(converted, tuple) else (converted,):
        # auto is kept as 0
        if isinstance(number, float | int) and number not in limits and number not in words.values():
            must = str(limits) or "a finite number"
            raise InputError(f"{flag(field.name)} must be {must} (got {_number(number)}).", field.metadata["help"])
    return converted


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as the type `kind`, or an InputError that names the setting."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        # every union here is a type or None
        return convert(value, next(t for t in inner if t is not types.NoneType), name)
    if origin is Literal:
        if value in inner:
            return value
        raise InputError(
            f"{flag(name)} must be {' or '.join(map(str, inner))} (got {value!r}).",
            nearest(str(value), map(str, inner)),
        )
    if origin is tuple:
        return _sequence(value, inner, name)
    return _scalar(value, kind, name)


def _sequence(value: Any, inner: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if value is None or isinstance(value, Mapping):
        raise InputError(f"{flag(name)} must be a list of values (got {value!r}).", "")
    # text is one value, no list of letters
    items = [value] if isinstance(value, str | int | float | Path) else list(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(convert(item, inner[0], name) for item in items)
    if len(items) != len(inner):
        raise InputError(f"{flag(name)} takes {len(inner)} values, not {len(items)} (got {items}).", "")
    return tuple(convert(item, kind, name) for item, kind in zip(items, inner, strict=True))


_BOOL = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_KINDS = {int: "a whole number", float: "a number", str: "text", Path: "a path", bool: "true or false"}


def _scalar(value: Any, kind: Any, name: str) -> Any:
    problem = InputError(f"{flag(name)} must be {_KINDS[kind]} (got {value!r}).", "")
    if kind is bool:
        if (word := str(value).lower()) in _BOOL:
            return _BOOL[word]
        raise problem
    if value is None or isinstance(value, bool | list | tuple | Mapping):  # Python would take true for the number 1
        raise problem
    try:
        if kind is int and not isinstance(value, int):
            value = Decimal(value)  # 1e3 is a whole number, and digits beyond 2^53 are kept
            if value % 1:
                raise problem
        if kind is str:  # arms and encoders hold paths: NAME=~/run,~/other
            return re.sub(r"(?<![^=:,+'\"])~(?=/)", lambda _: os.path.expanduser("~"), str(value))
        return Path(value).expanduser() if kind is Path else kind(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # no number; ~USER without a home
        raise problem from error


def describe(field: dataclasses.Field[Any], presets: Mapping[str, Any] | None = None) -> str:
    """One setting in words: what it means, unit, range, default and where the default comes from.

    Args:
        field: made by `setting`.
        presets: preset -> object that may have the field's value; None where there are none.
    """
    by_preset = {
        name: _written(getattr(preset, field.name))
        for name, preset in (presets or {}).items()
        if hasattr(preset, field.name)
    }
    facts = [field.metadata["unit"], str(field.metadata["range"])]
    if len(set(by_preset.values())) > 1:
        facts += [f"{name}: {value}" for name, value in by_preset.items()]
    elif field.default is not MISSING:
        facts.append(f"default: {field.metadata['shown'] or _written(field.default)}")
    facts = [fact for fact in (*facts, field.metadata["source"]) if fact]
    return field.metadata["help"] + (f" [{'; '.join(facts)}]" if facts else "")


def _written(value: Any) -> str:
    """A default as a reader would write it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(_written(item) for item in value)
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    if isinstance(value, int) and value >= 1 << 32 and not value & (value + 1):  # 2^63 - 1 in place of 19 digits
        return f"2^{value.bit_length()} - 1"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


def to_mapping(settings: Any) -> dict[str, Any]:
    """Settings as plain values that YAML and JSON can hold (paths as text, tuples as lists)."""
    return {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_yaml(settings: Any) -> str:
    """Settings as YAML; `from_yaml` and `make` give the same settings back."""
    return yaml.safe_dump(to_mapping(settings), sort_keys=False, allow_unicode=True)  # in the order of the fields


class _Loader(yaml.SafeLoader):
    """Scalars as they stand in the file: each setting knows its type, and YAML 1.1 reads `no`, `010`, `1:30` oddly."""


_Loader.yaml_implicit_resolvers = {}
# a tilde alone is nothing; ~/run is text
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def from_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file as text, lists and None, names with dashes or underscores; `make` gives them types.

    Raises:
        InputError: the file is absent, is not YAML, or is not a table of settings.
    """
    try:
        # some editors begin a file with a mark
        content = yaml.load(Path(path).read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.", "Check the path given to --config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}.", "Fix the file, or leave --config out.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} has no settings.", "Write one `name: value` per line.")
    return {name.replace("-", "_"): value for name, value in content.items()}


_execution, _output = under("Execution", "Output")
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """Where a network computes."""

    device: Device = setting("Compute device; auto: a GPU if available.", "auto", group="Execution")


@dataclass(frozen=True, kw_only=True)
class WithJobs:
    """How many processes or threads work."""

    jobs: int | None = _execution("Number of parallel processes and threads.", None, low=1, shown="one per core")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where curves, tables and figures go besides."""

    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = _output(
        "Experiment tracker, besides the command's own files; its package must be installed. wandb sends to its server.",
        "none",
    )


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """One seed decides everything random."""

    seed: int = _execution("Random seed.", 0, low=0, high=LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class OnExecutor:
    """Local processes, or a cluster."""

    executor: Literal["local", "ray"] = _execution(
        "Run parallel work on this machine, or on a Ray cluster with a shared file system.", "local"
    )


@dataclass(frozen=True, kw_only=True)
class OnGpus(OnExecutor):
    """How the tasks of a cluster share its GPUs."""

    gpus: float | None = _execution(
        "With --executor ray: GPUs per task; 0: CPU.",
        None,
        unit="GPUs",
        low=0,
        high=1,
        shown="0.25 if the cluster has GPUs",
    )
