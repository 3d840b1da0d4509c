"""Every command line that a page shows is one that the program takes; `make site` runs them (docs/run_blocks.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import check_site
import run_blocks
import site_pages
from mococxr import cli, commands
from mococxr.settings import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = run_blocks.pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_taken(page: run_blocks.Page) -> None:
    right = [block for block in page.blocks if "exits" not in block.marks]
    assert [problem for block in right if (problem := run_blocks.check_lines(block))] == []


def test_the_batch_script_holds_a_command_that_is_taken() -> None:
    code = (ROOT / "examples/slurm/pretrain.sbatch").read_text(encoding="utf-8")
    block = run_blocks.Block("pretrain.sbatch", 1, "sh", code, {})
    assert len(list(run_blocks.lines_of(block))) == 1
    assert run_blocks.check_lines(block) == ""


def test_a_block_knows_its_line_its_marks_and_the_commands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_blocks, "ROOT", tmp_path)
    file = tmp_path / "page.md"
    file.write_text(
        "# A page\n<!-- starts with: store run -->\n\n<!-- exits: 3 -->\n```sh\n"
        "mococxr inspect store --out a.html || echo no  # words\n"
        "mococxr fit store --nonsense 1\n```\n\n<!-- not run: no GPU -->\n```python\nprint(1)\n```\n"
    )
    page = run_blocks.read_page(file)
    assert page.starts_with == ["store", "run"]
    assert [(block.line, block.kind, block.marks) for block in page.blocks] == [
        (5, "sh", {"exits": "3"}),
        (11, "python", {"not run": "no GPU"}),
    ]
    assert "--nonsense" in run_blocks.check_lines(page.blocks[0])
    assert "inspect" not in run_blocks.check_lines(page.blocks[0])


def test_a_command_outside_of_a_block_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_blocks, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("# A page\n\n    mococxr demo\n")
    with pytest.raises(SystemExit, match="outside of a block"):
        run_blocks.read_page(tmp_path / "page.md")


def test_a_link_that_leads_nowhere_and_an_address_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text("<h2 id=there>There</h2><style>@import url(https://fonts.example/a.css)</style>")
    (tmp_path / "a.html").write_text(
        "<a href=b.html#there>1</a><a href=b.html#gone>2</a><a href=c.html>3</a><script src=//x.example/y.js></script>"
    )
    assert sorted(check_site.broken(tmp_path)) == [
        "a.html loads //x.example/y.js",
        "a.html: no such page: c.html",
        "a.html: no such place: b.html#gone",
        "b.html loads https://fonts.example/a.css",
    ]


def test_links_of_the_pages_outside_of_the_site_lead_somewhere() -> None:
    assert [problem for name in check_site.MARKDOWN for problem in check_site.broken_markdown(ROOT / name)] == []


def test_every_command_and_setting_has_its_page() -> None:
    pages = site_pages.generated()
    for name in COMMANDS:
        for field in (field for part in commands.fields_of(name) for field in part):
            word = field.name.upper() if field.metadata["positional"] else f"--{field.name.replace('_', '-')}"
            assert f"`{word}`" in pages[f"reference/commands/{name}.md"]
    assert all(f"mococxr.{name} " in pages["reference/python.md"] for name in commands.PYTHON_NAMES.values())


def test_every_variable_that_the_program_reads_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/status-and-environment.md").read_text(encoding="utf-8")
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src/mococxr").rglob("*.py"))
    names = re.findall(r"environ(?:ment)?(?:\.get\(|\[|\.setdefault\()\s*[\"'](\w+)", source)
    assert set(names) >= {"WORLD_SIZE", "TORCHELASTIC_RUN_ID"}
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_message_that_is_explained_is_one_that_the_program_says() -> None:
    table = (
        (ROOT / "docs/how-to/messages.md")
        .read_text(encoding="utf-8")
        .partition("|---|---|---|")[2]
        .partition("\n\n")[0]
    )
    words = [
        word.strip(". ") for row in table.splitlines() for word in re.findall(r"`([^`]+)`", row.partition(" | ")[0])
    ]
    files = [file for file in (ROOT / "src/mococxr").rglob("*.*") if file.suffix in (".py", ".j2")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert len(words) > 10
    assert [word for word in words if word not in source] == []


def test_the_contract_lists_every_command_and_no_other() -> None:
    table = (ROOT / "docs/contract.md").read_text(encoding="utf-8").partition("## Commands")[2]
    assert set(re.findall(r"^\| `(\w+)", table.partition("\n* **")[0], re.M)) == set(COMMANDS)


@pytest.mark.parametrize(
    "page", ["README.md", "AGENTS.md", "docs/contract.md", "docs/reproduction.md", "docs/questions.md"]
)
def test_every_flag_on_a_page_is_a_setting(page: str) -> None:
    fields = [field for name in COMMANDS for part in commands.fields_of(name) for field in part]
    known = {f.name.replace("_", "-") for f in fields} | {f"no-{f.name}" for f in fields if f.default is True}
    found = set(re.findall(r"--([a-z][a-z-]*)", (ROOT / page).read_text(encoding="utf-8")))
    launchers = {"nproc-per-node", "max-restarts"}
    everywhere = {word.removeprefix("--") for word in cli.SWITCHES}
    assert found - known - launchers - everywhere <= {"help", "version", "config", "install-completion"}
