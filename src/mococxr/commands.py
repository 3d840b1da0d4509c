"""The commands: name -> settings -> function that does the work, and how a setting is described.

The command line (`mococxr.cli`) and the Python functions (`mococxr.prepare(...)`) are both made from here.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field
from typing import Any

from mococxr.config import COMMANDS, PRESETS, make

ENTRIES = {
    "demo": "mococxr.demo:run",
    "prepare": "mococxr.store.prepare:run",
    "views": "mococxr.sheet:run",
    "pretrain": "mococxr.pretrain:run",
    "embed": "mococxr.predict:run_embed",
    "fit": "mococxr.predict:run_fit",
    "predict": "mococxr.predict:run_predict",
    "study": "mococxr.study:run",
    "report": "mococxr.report:run",
    "evaluate": "mococxr.evaluate:run",
}
"""Command -> `module:function`; the module is imported when the command runs, and not before."""


def run(command: str, given: Mapping[str, Any]) -> Any:
    """Do what `command` says with the settings given.

    Args:
        command: one of `COMMANDS`.
        given: setting name -> value; the rest have their defaults.

    Raises:
        InputError: an unknown or missing setting, or a value of the wrong type; nothing was written.
    """
    settings: Any = make(COMMANDS[command], given)
    room, function = ENTRIES[command].split(":")
    return getattr(importlib.import_module(room), function)(settings)


def fields_of(command: str) -> tuple[list[Field[Any]], list[Field[Any]]]:
    """The settings of a command: those given by position, then those given by name."""
    every = dataclasses.fields(COMMANDS[command])
    by_position = [field for field in every if field.metadata["positional"]]
    return by_position, [field for field in every if not field.metadata["positional"]]


def types_of(command: str) -> dict[str, Any]:
    """Setting name -> its type."""
    return typing.get_type_hints(COMMANDS[command])


def is_required(field: Field[Any]) -> bool:
    """Whether the setting has no default."""
    return field.default is MISSING


def describe(field: Field[Any]) -> str:
    """One setting in words: what it means, unit, default and where the default comes from."""
    facts = []
    if field.metadata["unit"]:
        facts.append(field.metadata["unit"])
    by_preset = {p: _written(values[field.name]) for p, values in PRESETS.items() if field.name in values}
    if field.metadata["shown"] == "the preset's" and len(set(by_preset.values())) > 1:
        facts += [f"{preset}: {value}" for preset, value in by_preset.items()]
    elif field.metadata["shown"] == "the preset's" and by_preset:
        facts.append(f"default: {by_preset.popitem()[1]}")
    elif not is_required(field):
        facts.append(f"default: {shown_default(field)}")
    if field.metadata["source"]:
        facts.append(field.metadata["source"])
    return field.metadata["help"] + (f" [{'; '.join(facts)}]" if facts else "")


def shown_default(field: Field[Any]) -> str:
    """The default as a reader would write it, with what it stands for where that is not the value itself."""
    default, shown = field.default, field.metadata["shown"]
    return str(shown) if shown else _written(default)


def _written(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(_written(item) for item in value)
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
