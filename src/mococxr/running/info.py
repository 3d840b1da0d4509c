"""The command `info`: what a folder or file is, how it came to be, and what one would do with it now."""

from __future__ import annotations

import importlib
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.errors import InputError
from mococxr.kinds import About, Content, Kind
from mococxr.settings import InfoSettings

KINDS = (
    "store.kind:KIND", "pretraining.kind:KIND", "classifier.kind:MODEL", "studies.kind:KIND", "evaluation.kind:KIND",
    "exporting.kind:KIND", "reproduction.kind:KIND", "running.kind:KIND", "synthetic.kind:KIND", "audit.kind:KIND",
    "choosing.kind:KIND", "running.kind:PAGE", "classifier.kind:SCORES", "classifier.kind:FEATURES",
)  # fmt: skip
"""Where each kind is declared, in the order in which a path is tried."""
SHOWN = 8
"""Settings on the terminal; --json has all."""


def run(settings: InfoSettings) -> dict[str, Any]:
    """Say what a folder or file is; returns `facts_of`.

    Raises:
        InputError: nothing there, or nothing that a command has made.
    """
    facts = facts_of(settings.path)
    console.result(_as_text(facts))
    return facts


def facts_of(path: Path) -> dict[str, Any]:
    """What is known of a folder or file that a command made.

    Returns:
        `kind, path, made_by, finished, version, created, numbers, made_from, settings, next`.

    Raises:
        InputError: nothing there, or nothing that a command has made.
    """
    if not path.exists():
        raise InputError(f"There is nothing at {path}.", "Check the path.")
    kind, content = _recognise(path)
    known = About({}) if content is None else kind.read(path, content)
    file = path / (kind.marker if content is not None else kind.begun)
    return {
        "kind": kind.name,
        "path": str(path),
        "made_by": kind.made_by,
        "finished": content is not None,
        **asdict(known),
        "created": known.created or _date(file if kind.marker else path),
        "next": known.next.replace("{path}", shlex.quote(str(path)))
        if content is not None
        else f"the same `mococxr {kind.made_by}` again",
    }


def _recognise(path: Path) -> tuple[Kind, Content | None]:
    """The kind of a path and what its marker holds; None where it is not finished.

    Raises:
        InputError: it is of no kind.
    """
    kinds = [_declared(where) for where in KINDS]
    for kind in kinds:
        if (content := kind.content(path)) is not None:
            return kind, content
    for kind in kinds:
        if kind.begun and (path / kind.begun).is_file():
            return kind, None
    made = sorted({kind.name for kind in kinds})
    raise InputError(f"{path} is nothing that a command has made.", f"Known are: {', '.join(made)}.")


def _declared(where: str) -> Kind:
    module, name = where.split(":")
    kind: Kind = getattr(importlib.import_module(f"mococxr.{module}"), name)
    return kind


def _date(file: Path) -> str:
    """When a file was last changed, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(file.stat().st_mtime))


def _as_text(facts: dict[str, Any]) -> str:
    unfinished = "" if facts["finished"] else ", not finished"
    lines = [f"{facts['path']}: {facts['kind']}{unfinished}, made by `mococxr {facts['made_by']}`"]
    rows = {"made": facts["created"] + (f", mococxr {facts['version']}" if facts["version"] else "")}
    rows |= facts["made_from"]
    rows |= facts["numbers"]
    settings = {name: value for name, value in facts["settings"].items() if value not in (None, "", [], False)}
    lines += [_line(name, _plain(value)) for name, value in rows.items() if value not in (None, "", [], {})]
    if settings:
        shown = [f"{name} {_plain(value)}" for name, value in list(settings.items())[:SHOWN]]
        more = f", {len(settings) - SHOWN} more (--json)" if len(settings) > SHOWN else ""
        lines.append(_line("settings", f"{', '.join(shown)}{more}"))
    return "\n".join([*lines, *([f"Next: {facts['next']}"] if facts["next"] else [])])


def _line(name: str, text: str) -> str:
    return console.wrapped(text, f"  {name:<22} ")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
