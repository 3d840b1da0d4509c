"""The house as the table in docs/architecture.md draws it, compared with the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "mococxr"
FREE = {"errors", "files", "version"}
"""Rooms that anyone may import."""


@cache
def drawn() -> dict[str, set[str]]:
    """Room -> the rooms it may import, as the table says."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", (ROOT / "docs/architecture.md").read_text(), re.M)
    return {room: set(re.findall(r"`(\w+)`", imported)) for room, imported in rows}


def imported(tree: ast.AST) -> set[str]:
    """The rooms that a file imports, at its top or inside its functions."""
    rooms: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mococxr":
            names = [f"mococxr.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide which room is meant"
            names = [node.module or ""]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("mococxr.")}
    return rooms


@cache
def files() -> list[tuple[str, Path, ast.Module]]:
    """(room, file, its syntax tree) for every file of the package but the public face."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        room = file.relative_to(SOURCE).with_suffix("").parts[0]
        if not room.startswith("__"):
            found.append((room, file, ast.parse(file.read_text())))
    return found


@cache
def built() -> dict[str, set[str]]:
    """Room -> the rooms it imports, as the code says."""
    rooms: dict[str, set[str]] = {}
    for room, _, tree in files():
        rooms.setdefault(room, set()).update(imported(tree) - {room})
    return rooms


def test_the_table_names_the_rooms_that_there_are() -> None:
    assert set(drawn()) == set(built())


@pytest.mark.parametrize("room", sorted(drawn()))
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    extra = built().get(room, set()) - drawn()[room] - FREE
    assert not extra, f"{room} imports {sorted(extra)}: mend it, or change docs/architecture.md and say why"


def test_nobody_imports_the_command_line() -> None:
    assert not [room for room, others in built().items() if "cli" in others]


def test_no_rooms_import_each_other_in_a_circle() -> None:
    try:
        tuple(TopologicalSorter(built()).static_order())
    except CycleError as circle:
        pytest.fail(f"a circle: {' -> '.join(circle.args[1])}")


def test_an_import_is_seen_in_every_form() -> None:
    text = """
import mococxr.augment
from mococxr import moco as m, splits
from mococxr.store.reader import Store
def late():
    from mococxr import files
import numpy
"""
    assert imported(ast.parse(text)) == {"augment", "moco", "splits", "store", "files"}


def test_files_and_functions_are_small() -> None:
    large = []
    for _, file, tree in files():
        lines = len(file.read_text().splitlines())
        large += [f"{file.name}: {lines} lines"] if lines > 400 else []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                large += [f"{file.name}: {node.name} {lines} lines"] if lines > 60 else []
    assert not large


def test_only_the_console_prints() -> None:
    loud = [
        f"{file.name}:{node.lineno}"
        for room, file, tree in files()
        for node in ast.walk(tree)
        if room != "console" and isinstance(node, ast.Name) and node.id == "print"
    ]
    assert not loud


GLOBAL_GENERATORS = re.compile(
    r"^(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence|PCG64|Philox|MT19937)\w+$"
    r"|^random\.(?!Random$)\w+$|^torch\.(manual_seed|seed)$"
)


def calls_of_global_generators(tree: ast.Module) -> list[str]:
    """Calls that seed or use a global generator, but for those inside a fork of torch's state."""
    forks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "fork_rng" in ast.unparse(n.items[0])]
    forgiven = {id(inner) for fork in forks for inner in ast.walk(fork)}
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and id(node) not in forgiven and GLOBAL_GENERATORS.match(ast.unparse(node.func))
    ]


def test_no_global_random_generator_is_seeded_or_drawn_from() -> None:
    found = {file.name: calls for _, file, tree in files() if (calls := calls_of_global_generators(tree))}
    assert not found


def test_a_global_generator_is_seen() -> None:
    text = "np.random.seed(0)\nrandom.random()\ntorch.manual_seed(1)\ng.manual_seed(1)\nnp.random.default_rng(0)"
    text += "\nwith torch.random.fork_rng():\n    torch.manual_seed(1)"
    assert len(calls_of_global_generators(ast.parse(text))) == 3


def test_no_bare_except_and_no_silent_one() -> None:
    bare = [
        f"{file.name}:{node.lineno}"
        for _, file, tree in files()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and (node.type is None or _only_passes(node))
    ]
    assert not bare


def _only_passes(handler: ast.ExceptHandler) -> bool:
    broad = isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    return broad and all(isinstance(statement, ast.Pass) for statement in handler.body)
