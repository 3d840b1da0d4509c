"""Pages of the site that are made from the code: a page for each command, and one for Python."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import Field
from typing import Any

import mococxr
from mococxr import cli, commands, metrics
from mococxr.settings import COMMANDS, flag

FIRST = "Required"
INDEX = """\
# Commands

In the order of the work. Each page is made from the settings that the program itself reads; `mococxr COMMAND --help` says
the same.

| command | what it does |
|---|---|
{}

Every command also takes `--config FILE`, a YAML file of settings (what is given on the line wins), and `--debug`, which
shows the traceback of an error. What a command reads and writes: [the contract](../../contract.md).
"""
PYTHON = """\
# Python

`import mococxr` takes a quarter of a second: PyTorch is imported by the first call that needs it. Signatures are in
`mococxr/__init__.pyi`, for editors and type checkers. A command's function takes the settings of the command, those without
a flag by position; it raises `InputError` where the command line ends with exit status 2. In a script, call functions under
`if __name__ == "__main__":`, since images are decoded by several processes.
"""


def generated() -> dict[str, str]:
    """Page -> its text."""
    pages = {f"reference/commands/{name}.md": command_page(name) for name in COMMANDS}
    return {"reference/commands/index.md": command_index(), **pages, "reference/python.md": python_page()}


def command_index() -> str:
    """All commands, in the order of the work, with what each does."""
    rows = [f"| [`{name}`]({name}.md) | {_doc(kind).splitlines()[0]} |" for name, kind in COMMANDS.items()]
    return INDEX.format("\n".join(rows))


def command_page(name: str) -> str:
    """A command: how it is called, its settings by group, its Python function."""
    python = commands.PYTHON_NAMES.get(name, name)
    lines = [
        f"# {name}", "", _doc(COMMANDS[name]), "", "```text", cli._usage(name).removeprefix("Usage: "), "```", "",
        f"In Python: [`mococxr.{python}`](../python.md#{_anchor(python)}), with the same settings.", "",
    ]  # fmt: skip
    for group, fields in _groups(name).items():
        lines += [f"## {group or 'Settings'}", "", "| setting | meaning |", "|---|---|"]
        lines += [f"| {_shown(name, field)} | {_escaped(commands.describe(name, field))} |" for field in fields]
        lines.append("")
    return "\n".join(lines)


def _groups(name: str) -> dict[str, list[Field[Any]]]:
    """The heading of `--help` -> its settings."""
    groups: dict[str, list[Field[Any]]] = {}
    for fields in commands.fields_of(name):
        for field in fields:
            groups.setdefault(FIRST if commands.is_required(field) else field.metadata["group"], []).append(field)
    known = list(cli.GROUP_ORDER)
    return dict(sorted(groups.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def _shown(name: str, field: Field[Any]) -> str:
    """A setting as it is typed, with the words that it takes where these are few."""
    kind = commands.types_of(name)[field.name]
    text = f"`{field.name.upper() if field.metadata['positional'] else flag(field.name)}`"
    if field.default is True:
        text += f", `{flag('no_' + field.name)}`"
    if typing.get_origin(kind) is typing.Literal:
        text += "<br>" + " ".join(f"`{word}`" for word in typing.get_args(kind))
    return text


def python_page() -> str:
    """Everything in `mococxr.__all__`, and the functions of `mococxr.metrics`."""
    functions = {commands.PYTHON_NAMES.get(name, name): name for name in COMMANDS}
    lines = [PYTHON, "## Objects and functions", ""]
    objects = [name for name in mococxr.__all__ if not name.startswith("_") and name not in functions]
    for name in objects:
        lines += _entry(f"mococxr.{name}", getattr(mococxr, name), 3)
    lines += ["## Commands as functions", ""]
    for name, command in functions.items():
        lines += [f"### mococxr.{name} {{ #{_anchor(name)} }}", "", "```python", *_call(name), "```", ""]
        lines += [f"{_doc(COMMANDS[command])} Settings: [{command}](commands/{command}.md).", ""]
    lines += ["## mococxr.metrics", "", _doc(metrics), ""]
    for name, thing in sorted(vars(metrics).items()):
        if callable(thing) and str(thing.__module__).startswith("mococxr.metrics."):
            lines += _entry(f"mococxr.metrics.{name}", thing, 3)
    return "\n".join(lines)


def _call(name: str) -> Iterator[str]:
    """A signature, a line a parameter where it is long."""
    function = getattr(mococxr, name)
    signature = inspect.signature(function)
    required = [
        f"{parameter.name}: {parameter.annotation}"
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
    ]
    optional = len(signature.parameters) - len(required)
    yield f"mococxr.{name}({', '.join([*required, '...'] if optional else required)}) -> {signature.return_annotation}"


def _entry(name: str, thing: Any, level: int) -> list[str]:
    """A function, class or error with its docstring; classes with their public methods."""
    short = name.rpartition(".")[2]
    lines = [f"{'#' * level} {name} {{ #{_anchor(short)} }}", ""]
    if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
        lines += ["```python", f"{name}{_signature(thing)}", "```", ""]
    lines += _docstring(_doc(thing))
    return [*lines, ""]


def _signature(thing: Callable[..., Any]) -> str:
    """A signature with annotations as they are written in the source."""
    try:
        text = str(inspect.signature(thing))
    except ValueError:
        return "(...)"
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are text, and defaults keep their quotes


def _docstring(text: str) -> list[str]:
    """A docstring in Markdown: its sections as lists, its examples as blocks of code."""
    lines: list[str] = []
    code = False
    for line in text.splitlines():
        is_code = line.startswith(">>> ") or (code and bool(line.strip()))
        if is_code != code:
            lines += ["```pycon" if is_code else "```", *([] if is_code else [""])]
            code = is_code
        if line in ("Args:", "Returns:", "Raises:"):
            lines += [f"**{line[:-1]}**", ""]
        elif line.startswith("    ") and not code and not line.startswith("        "):
            head, colon, rest = line.strip().partition(": ")
            lines.append(f"* `{head}`: {rest}" if colon and " " not in head else f"* {line.strip()}")
        else:
            lines.append(line)
    return [*lines, *(["```"] if code else [])]


def _doc(thing: Any) -> str:
    return str(inspect.getdoc(thing) or "")


def _anchor(name: str) -> str:
    return name.lower().replace("_", "-")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
