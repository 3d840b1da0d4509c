"""What Label Studio exports (JSON or JSON-MIN) as a table of labels; its CSV is a table as it is.

A task has `data` (with the `path` of the store's index) and `annotations`, whose results are choices: `from_name` is the
finding, the choice its label. https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.tables import Table
from mococxr.tables.content import read_bytes
from mococxr.tables.words import trimmed

NOTE = "note"
COLUMNS = ("path", "target", "value", "reader", "date", "chosen_by", "probability", NOTE)


def read_tasks(path: Path) -> Table | None:
    """The labels of an export; None where the file is no JSON at all.

    Raises:
        InputError: JSON that is no export, or a choice that is not one; the task is named.
    """
    data = read_bytes(path)
    if data.lstrip()[:1] not in (b"[", b"{"):
        return None
    try:
        tasks = json.loads(data)
        rows = list(_rows(tasks if isinstance(tasks, list) else [tasks], path))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InputError(
            "{path} is JSON, and no export of Label Studio ({reason}).",
            "Export the project as JSON or JSON-MIN; its tasks have the image's path in data.path.",
            path=path, reason=type(error).__name__,
        ) from error  # fmt: skip
    if not rows:
        raise InputError("{path} has no annotation.", "Label some tasks and export them again.", path=path)
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    frame = pl.DataFrame(
        {name: trimmed(pl.Series([_text(row.get(name)) for _, row in rows], dtype=pl.String)) for name in names}
    )
    lines = pl.Series([number for number, _ in rows], dtype=pl.UInt32)
    return Table(path, frame, hashlib.sha256(data).hexdigest(), lines, "task {line}")


def _rows(tasks: list[dict[str, Any]], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the task, and a row a label, or (JSON-MIN) a row a task with a column a finding."""
    for number, task in enumerate(tasks, 1):
        if "annotations" not in task:
            yield number, {name: value for name, value in task.items() if not isinstance(value, dict)}
            continue
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            results = annotation["result"]
            known = {name: task["data"].get(name) for name in ("path", "chosen_by", "probability")} | {
                "reader": _who(annotation.get("completed_by")),
                "date": annotation.get("updated_at") or annotation.get("created_at"),
                NOTE: " ".join(_text(r["value"]["text"]) or "" for r in results if r.get("type") == "textarea"),
            }
            for result in results:
                if result.get("type") == "choices":
                    yield number, known | {"target": result["from_name"], "value": _choice(result, number, path)}


def _choice(result: dict[str, Any], number: int, path: Path) -> str:
    choices = result["value"]["choices"]
    if len(choices) != 1:
        raise InputError(
            "{path}, task {number}: {target!r} has {count} choices.", "Let one be chosen: choice=\"single\".",
            path=path, number=number, target=result["from_name"], count=len(choices),
        )  # fmt: skip
    return str(choices[0])


def _who(completed_by: Any) -> str | None:
    """A user, by mail address where the export has it, else by number."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by["id"]
    return _text(completed_by)


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return None if value is None else str(value)
