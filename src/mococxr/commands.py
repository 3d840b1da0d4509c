"""The commands: name -> settings -> function that does the work, and how a setting is described.

The command line (`mococxr.cli`) and the Python functions (`mococxr.prepare(...)`) are both made from here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import shlex
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.errors import InputError
from mococxr.settings import COMMANDS, fields, flag, make, to_yaml

ENTRIES = {
    "run": "mococxr.running.run:run",
    "demo": "mococxr.synthetic.demo:run",
    "prepare": "mococxr.preparation.prepare:run",
    "inspect": "mococxr.audit.inspect:run",
    "views": "mococxr.audit.view_sheet:run",
    "pretrain": "mococxr.pretraining.pretrain:run",
    "next": "mococxr.choosing.next:run_next",
    "label": "mococxr.labelling.label:run_label",
    "retract": "mococxr.labelling.label:run_retract",
    "annotate": "mococxr.annotation.annotate:run",
    "agreement": "mococxr.labelling.agreement:run",
    "embed": "mococxr.classifier.encoding:run_embed",
    "fit": "mococxr.classifier.fit:run_fit",
    "forecast": "mococxr.classifier.forecast:run_forecast",
    "recalibrate": "mococxr.classifier.recalibrate:run_recalibrate",
    "predict": "mococxr.classifier.predict:run_predict",
    "pacs": "mococxr.gateway.pacs:run_pacs",
    "drift": "mococxr.monitoring.drift:run_drift",
    "serve": "mococxr.service.serve:run",
    "study": "mococxr.studies.study:run",
    "reproduce": "mococxr.reproduction.reproduce:run",
    "report": "mococxr.reporting.report:run",
    "evaluate": "mococxr.evaluation.evaluate:run",
    "import": "mococxr.exporting.import_moco:run_import",
    "export": "mococxr.exporting.export:run",
    "info": "mococxr.running.info:run",
    "doctor": "mococxr.running.doctor:run",
}
"""Command -> `module:function`; the module is imported when the command runs, and not before."""
PYTHON_NAMES = {"import": "import_checkpoint", "next": "next_images"}
"""Command -> its name in Python, where its own is a word or a function of the language."""
OBJECTS = {
    "prepare": ("source", "mococxr.datasets.xrv:on_disk"),
    "study": ("arm", "mococxr.studies.feature_table:modules_on_disk"),
}
"""Command -> the setting that may hold objects in Python, and the function that makes them text among the settings."""
THEN = {
    "study": "mococxr.reporting.report:report_study",
    "fit": "mococxr.exporting.export:leave_onnx",
    "recalibrate": "mococxr.exporting.export:leave_onnx",
}
"""Command -> the function that its result goes to."""


def run(command: str, values: Mapping[str, Any]) -> Any:
    """Do what `command` says with these settings.

    Args:
        command: one of `COMMANDS`.
        values: setting name -> value; the rest have their defaults.

    Raises:
        InputError: an unknown or missing setting, or a value of the wrong type; nothing was written.
    """
    if importlib.util.find_spec("fcntl") is None:  # locks, read-at-offset and bounded decoders are POSIX's
        raise InputError("MoCo-CXR runs on Linux and macOS.", "On Windows run it inside WSL 2 or in a container.")
    name, to_disk = OBJECTS.get(command, ("", ""))
    if not isinstance(values.get(name, ""), str | os.PathLike):
        values = _named(to_disk)(values)  # imported only where an object came
    with _tables_on_disk(command, values) as values:
        settings: Any = make(COMMANDS[command], values)
        console.detail(f"settings of {command}:\n{to_yaml(settings)}")
        result = _named(ENTRIES[command])(settings)
        return _named(THEN[command])(result) if command in THEN else result


NEXT = {
    "prepare": "inspect {out} --out audit.html",
    "inspect": "pretrain {store} --out run",
    "views": "pretrain {store} --out run",
    "pretrain": "study {stores} --target TARGET --arm moco={out} --out study",
    "import": "study STORE --target TARGET --arm moco={out} --out study",
    "next": "annotate {store} --target {target} --next {out}",
    "label": "forecast {store} --encoder ENCODER --target TARGET",
    "annotate": "label {store}",
    "agreement": "fit {store} --encoder ENCODER --target {target} --out model",
    "embed": "study {store} --target TARGET --arm mine={out} --out study",
    "recalibrate": "predict {out} IMAGES --out scores.csv",
    "study": "fit {store} --encoder ENCODER --target {target} --out model",
    "forecast": "next {store} --target {target} --count 50 --out list.csv",
    "export": "info {out}",
    "pacs": "drift {ledger} --out drift.html",
}
"""Command -> what one would do then, with its settings; the others say it themselves, or end the work."""


def next_line(command: str, values: Mapping[str, Any]) -> str:
    """The next command as a user would type it; empty where there is none, or a setting of it stands in a file."""

    def first(value: Any) -> str:
        several = list(value) if isinstance(value, list | tuple) else [value]
        return shlex.quote(str(several[0]))

    try:
        return f"mococxr {NEXT[command]}".format(**{name: first(value) for name, value in values.items()})
    except (KeyError, IndexError):
        return ""


def document(done: Any) -> dict[str, Any]:
    """What a command returned, for programs: its facts, or what `info` tells of what it made."""
    if isinstance(done, Mapping):
        return dict(done)
    if isinstance(facts := getattr(done, "facts", None), Mapping):
        return dict(facts)
    path = done if isinstance(done, Path) else getattr(done, "path", None)
    if path is None:
        return {}
    try:
        return dict(_named("mococxr.running.info:facts_of")(Path(path)))
    except InputError:  # a picture, a page
        return {"path": str(path)}


def _tables_on_disk(command: str, values: Mapping[str, Any]) -> AbstractContextManager[Mapping[str, Any]]:
    """The settings with files in place of data frames; beside the folder that the command makes, where it makes one."""
    names = tuple(field.name for field in dataclasses.fields(COMMANDS[command]) if field.metadata["table"])
    each = [item for name in names for item in _several(values.get(name))]
    if all(item is None or isinstance(item, str | os.PathLike) for item in each):
        return nullcontext(values)
    out = values.get("out") if command in ("prepare", "pretrain") else None
    return _named("mococxr.tables.frames:on_disk")(values, names, None if out is None else Path(out).expanduser())


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _named(path: str) -> Callable[..., Any]:
    """The function at `module:function`."""
    module, name = path.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def fields_of(command: str) -> tuple[list[Field[Any]], list[Field[Any]]]:
    """The settings of a command: those given by position, then those given by name."""
    every = dataclasses.fields(COMMANDS[command])
    by_position = [field for field in every if field.metadata["positional"]]
    return by_position, [field for field in every if not field.metadata["positional"]]


def types_of(command: str) -> dict[str, Any]:
    """Setting name -> its type."""
    return fields.types_of(COMMANDS[command])


def is_required(field: Field[Any]) -> bool:
    """Whether the setting has no default."""
    return field.default is MISSING


def describe(command: str, field: Field[Any]) -> str:
    """One setting of a command in words: what it means, unit, range, default and where the default comes from."""
    return fields.describe(field, getattr(COMMANDS[command], "presets", None))


def command_line(command: str, values: Mapping[str, Any]) -> str:
    """The line that a user would type for these settings."""
    by_position, by_name = fields_of(command)
    words = ["mococxr", command]
    for field in by_position:
        words += _words(values[field.name])
    for field in by_name:
        if field.name not in values:
            continue
        for value in _by_flag(field, values[field.name]):
            if value is not False:
                words += [flag(field.name), *_words(value)]
            elif field.default is True:  # what is off by default has no flag that switches it off
                words.append(flag(f"no_{field.name}"))
    return " ".join(words)


def say_and_run(command: str, **settings: Any) -> Any:
    """Say a command as a user would type it, and do it; a setting of None is left out."""
    stated = {name: value for name, value in settings.items() if value is not None}
    console.say(f"\n$ {command_line(command, stated)}")
    return run(command, stated)


def _by_flag(field: Field[Any], value: Any) -> list[Any]:
    """The values as they go to one flag, or each to a flag of its own."""
    return list(value) if field.metadata["single"] and isinstance(value, list | tuple) else [value]


def _words(value: Any) -> list[str]:
    if value is True:
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [shlex.quote(str(item)) for item in values]


RETURNS = {
    "prepare": "Store", "label": "Store", "retract": "Store", "annotate": "Store", "agreement": "Store", "inspect": "Audit",
    "evaluate": "dict[str, Any]", "forecast": "dict[str, Any]", "report": "None", "info": "dict[str, Any]",
    "doctor": "dict[str, Any]", "pacs": "Outcome", "drift": "Drifts", "serve": "None",
}  # fmt: skip
"""Command -> what its Python function returns; all others return the `Path` of what they made."""
_TEXTS = {str: "str", int: "int", float: "float", bool: "bool", Path: "str | PathLike[str]"}


def function(command: str) -> Callable[..., Any]:
    """A command as a Python function, with the signature and the docstring that its settings make.

    A setting that takes several values takes a list of them, or a single one as it is.
    """
    by_position, by_name = fields_of(command)
    positions = [field.name for field in by_position]

    def call(*values: Any, **named: Any) -> Any:
        by_order = dict(zip(positions, values, strict=False))  # fewer may be given: the rest come by name or default
        twice = sorted(by_order.keys() & named.keys())
        if len(values) > len(positions) or twice:
            fault = f"two values for {twice[0]}" if twice else "too many values by position"
            raise InputError(
                f"{command}() got {fault}.", f"By position it takes {', '.join(positions) or 'nothing'}; name the rest."
            )
        return run(command, by_order | named)

    name = PYTHON_NAMES.get(command, command)
    call.__signature__ = _signature(command)  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = name
    call.__module__ = "mococxr"  # where users find it
    lines = [f"    {field.name}: {describe(command, field)}" for field in (*by_position, *by_name)]
    call.__doc__ = "\n".join([str(inspect.getdoc(COMMANDS[command])), "", "Args:", *lines])
    return call


def _signature(command: str) -> inspect.Signature:
    """The parameters of a command's function; annotations are text, as `__init__.pyi` has them."""
    by_position, by_name = fields_of(command)
    kinds, preset = types_of(command), next(iter(getattr(COMMANDS[command], "presets", {}).values()), None)
    parameters = []
    # Python wants those without a default first
    for field in sorted((*by_position, *by_name), key=lambda f: (f not in by_position, not is_required(f))):
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if field in by_position else inspect.Parameter.KEYWORD_ONLY
        text = "Any" if field.name == OBJECTS.get(command, ("", ""))[0] else _annotation(kinds[field.name])
        text = text.replace("PathLike[str]", "PathLike[str] | Frame") if field.metadata["table"] else text
        text += "".join(f" | Literal[{word!r}]" for word in field.metadata["words"])
        default = inspect.Parameter.empty if is_required(field) else field.default
        if preset is not None and hasattr(preset, field.name):  # which default it is depends on the preset
            text, default = f"{text} | None", None
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=text))
    return inspect.Signature(parameters, return_annotation=RETURNS.get(command, "Path"))


def _annotation(kind: Any) -> str:
    """The type of a setting as a caller sees it: a path may be text, several values may be one."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin is tuple and inner[-1] is ...:
        item = _annotation(inner[0])
        return f"{item} | Sequence[{item}]"
    if origin is tuple:
        return f"Sequence[{_annotation(inner[0])}]"
    if inner:
        return f"{_annotation(inner[0])} | None"
    return _TEXTS[kind]
