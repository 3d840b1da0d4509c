"""Every command line that a page shows is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mococxr import cli, commands
from mococxr.settings import COMMANDS, make

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    "examples/slurm/pretrain.sbatch",
]
STARTS = r"^ *(?:(?:srun )?(?:torchrun|accelerate launch) .* -m )?(mococxr .*)$"
"""A command line, by itself or as what a launcher runs."""
REST = "--root images --out out"
"""What three dots on a page stand for."""


def shown(page: str) -> list[str]:
    """The command lines of a page's blocks, joined where they go on, without their comments and launchers."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.partition("  #")[0].rstrip("& ") for line in re.findall(STARTS, text, re.M)]


LINES = [(page, line) for page in PAGES for line in shown(page)]


def test_pages_show_commands() -> None:
    assert {"README.md", "docs/reproduction.md", "docs/data_sets.md"} <= {page for page, _ in LINES}
    launched = [line for page, line in LINES if page in ("docs/scaling.md", "examples/slurm/pretrain.sbatch")]
    assert len(launched) == 5


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_on_a_page_is_taken(monkeypatch: pytest.MonkeyPatch, page: str, line: str) -> None:
    made = []
    monkeypatch.setattr(commands, "run", lambda name, given: made.append(make(COMMANDS[name], given)))
    with pytest.raises(SystemExit) as end:
        cli.main(shlex.split(line.replace(" ... ", f" {REST} "))[1:])
    assert (end.value.code, len(made)) == (0, 1), f"{page}: {line}"


def test_the_contract_lists_every_command_and_no_other() -> None:
    table = (ROOT / "docs/contract.md").read_text(encoding="utf-8").partition("## Commands")[2]
    assert set(re.findall(r"^\| `(\w+)", table.partition("\n* **")[0], re.M)) == set(COMMANDS)


@pytest.mark.parametrize("page", ["README.md", "docs/contract.md", "docs/reproduction.md"])
def test_every_flag_on_a_page_is_a_setting(page: str) -> None:
    fields = [field for name in COMMANDS for part in commands.fields_of(name) for field in part]
    known = {f.name.replace("_", "-") for f in fields} | {f"no-{f.name}" for f in fields if f.default is True}
    found = set(re.findall(r"--([a-z][a-z-]*)", (ROOT / page).read_text(encoding="utf-8")))
    launchers = {"nproc-per-node", "max-restarts"}
    assert found - known - launchers <= {"help", "version", "debug", "config"}
