"""Run every command and Python block of README and pages: `python docs/run_blocks.py [PAGE...]`, part of `make site`.

The blocks of a page run in their order in a temporary folder with small synthetic data (`small_data.py`); a block of Python
is a cell of its own, as if pasted into a notebook. Comments in the source of a page steer it:

    <!-- starts with: store run -->      once a page: what commands before it have made
    <!-- not run: reason -->             before a block that cannot run here; its mococxr lines must still be taken
    <!-- exits: 3 -->                    before a block that ends with another exit status than 0
    <!-- output -->                      behind a block: what it printed stands there on the site
    <!-- picture: name.png = file -->    anywhere: a picture, or a page as Chromium shows it, that the blocks have made

Outputs and pictures go to `.make/site`, where `site_hooks.py` takes them from. What was not run is listed with its
reason; exit status 1 where a block fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import block_server
import pictures
import small_data

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".make/site"
SECONDS = 1500
"""What a block may take: a hundred times what it does, since a busy machine is no fault of a page."""
FENCE = re.compile(
    r"(?P<marks>(?:^[ ]*<!-- [^\n]* -->\n)*)^(?P<indent> *)```(?P<kind>sh|python)\b[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.M | re.S,
)
STRAY = re.compile(r"^(?: {4}|\t)(?:mococxr |torchrun |python |make |pip )[^\n]*", re.M)
OPERATORS = {"|", "||", "&&", "&", ";", ">", ">>", "2>"}
"""Where a command ends and the shell goes on."""
LAUNCHED = re.compile(r"^ *(?:(?:srun )?(?:torchrun|accelerate launch) .* -m )?(mococxr .*)$", re.M)


@dataclass
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    code: str
    marks: dict[str, str]
    output: str = ""
    problem: str = ""

    def __str__(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


@dataclass
class Page:
    """A page with its blocks in order."""

    name: str
    text: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def to_run(self) -> list[Block]:
        """The blocks that can run here."""
        return [block for block in self.blocks if "not run" not in block.marks]

    @property
    def starts_with(self) -> list[str]:
        """The things of `small_data.MADE` that are there when its first block runs."""
        return [word for words in re.findall(r"<!-- starts with: (.*?) -->", self.text) for word in words.split()]

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """Name -> what it is made from."""
        return re.findall(r"<!-- picture: (\S+) = (.*?) -->", self.text)


def pages() -> list[Page]:
    """README and every page of the site, of the repository root."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md", ROOT / "weights/README.md"]
    return [read_page(file) for file in [*files, *sorted((ROOT / "docs").rglob("*.md"))] if file.is_file()]


def read_page(file: Path) -> Page:
    """The blocks of a page; a command outside of a fence is an error, since nobody would run it."""
    page = Page(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
    for match in FENCE.finditer(page.text):
        indent, line = match["indent"], page.text.count("\n", 0, match.start("kind")) + 1
        code = "".join(row.removeprefix(indent) for row in match["code"].splitlines(keepends=True))
        marks = dict(re.findall(r"<!-- (not run|exits): (.*?) -->", match["marks"]))
        page.blocks.append(Block(page.name, line, match["kind"], code, marks))
    outside = re.sub(r"^( *)```.*?^\1```$", "", page.text, flags=re.M | re.S)
    if stray := STRAY.search(outside):
        raise SystemExit(f"{page.name}: a command outside of a block of ```sh: {stray[0].strip()}")
    if unknown := set(page.starts_with) - set(small_data.MADE):
        raise SystemExit(f"{page.name} starts with {', '.join(sorted(unknown))}, which small_data.MADE does not have.")
    return page


def lines_of(block: Block) -> Iterator[list[str]]:
    """The words of each mococxr line of a block, also behind a launcher; `...` and words in brackets are left out."""
    for line in LAUNCHED.findall(block.code.replace("\\\n", " ")):
        words = shlex.split(re.sub(r"\[[^\]]*\]", "", line), comments=True)
        end = next((position for position, word in enumerate(words) if word in OPERATORS), len(words))
        yield [word.rstrip(";") for word in words[1:end] if word != "..."]


def check_lines(block: Block) -> str:
    """What the command line says of the lines of a block that is not run; empty where it takes them all."""
    from mococxr import cli, commands
    from mococxr.settings import COMMANDS, typed

    problems = []
    before = commands.run
    commands.run = lambda name, values: typed(COMMANDS[name], values)
    try:
        for words in lines_of(block):
            output = io.StringIO()
            try:
                with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                    cli.main(words)
            except SystemExit as end:
                if end.code:
                    problems.append(f"not taken: mococxr {shlex.join(words)}\n{output.getvalue()}")
    finally:
        commands.run = before
    return "\n".join(problems)


def run_page(page: Page, data: Path, environment: dict[str, str], seconds: dict[str, float]) -> None:
    """Run a page's blocks; what they printed, or what went wrong, is kept in them, pictures in `OUT`."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        folder = Path(top) / "page"
        small_data.copy(page.starts_with, data, folder)
        shutil.copytree(ROOT / "examples", folder / "examples")
        for block in page.to_run:
            _run(block, folder, environment, folder / f".{block.line}.block.py")
            if block.problem:
                print(f"\nFAILED {block}: {block.problem}\n{block.code}{block.output[-3000:]}", flush=True)
                return
        for name, source in page.pictures:
            pictures.take(folder, source, OUT / "made" / name)
    seconds[page.name] = time.monotonic() - begin
    print(f"{page.name}: {seconds[page.name]:.0f} s", flush=True)


def _run(block: Block, folder: Path, environment: dict[str, str], file: Path) -> None:
    if block.kind == "python":
        file.write_text(block.code, encoding="utf-8")
        command = ["python", str(file)]
    else:
        command = ["bash", "-e", "-o", "pipefail", "-c", block.code]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True, errors="replace",
    )  # fmt: skip
    try:
        block.output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        block.output, _ = process.communicate()
        block.problem = f"ran longer than {SECONDS} s"
        return
    status = int(block.marks.get("exits", 0))
    if process.returncode != status:
        block.problem = f"exit status {process.returncode}, not {status}"


def report(every: list[Page], seconds: dict[str, float], total: float) -> int:
    """Say what was run, what was not and why, and what failed; the exit status."""
    blocks = [block for page in every for block in page.blocks]
    left = [block for block in blocks if "not run" in block.marks]
    failed = [block for block in blocks if block.problem]
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:5]
    print(f"\n{len(blocks) - len(left)} blocks of {len(every)} pages run, {len(left)} not run, {total:.0f} s")
    print("slowest: " + ", ".join(f"{name} {count:.0f} s" for name, count in slowest))
    for number, block in enumerate(left, 1):
        print(f"  not run {number:2}. {block}: {block.marks['not run']}")
    for block in failed:
        print(f"FAILED {block}: {block.problem}")
    return int(bool(failed))


def main(chosen: list[str], keep: bool = False) -> int:
    """Run all pages, or the chosen ones, two at a time; `keep` takes the small data of the last time that kept them."""
    begin = time.monotonic()
    every = [page for page in pages() if not chosen or page.name in chosen]
    (OUT / "made").mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        folder, data = Path(top), OUT / "data" if keep else Path(top) / "data"
        environment = _environment(folder)
        os.environ.update(environment)  # before the server starts: PyTorch counts its threads when it is imported
        small_data.write_settings(folder / "settings")
        block_server.write_clients(folder / "bin", folder / "socket")
        server = os.fork()
        if server == 0:
            block_server.serve(folder / "socket", lambda command: _existing(folder / "settings" / f"{command}.yaml"))
        try:
            for block in (block for page in every for block in page.blocks if block not in page.to_run):
                block.problem = check_lines(block)
            if not data.is_dir():
                data.mkdir()
                small_data.write_brought(data)
            _wait_for(folder / "socket")
            small_data.make([word for page in every for word in page.starts_with], data, environment)
            print(f"small data made in {time.monotonic() - begin:.0f} s", flush=True)
            with ThreadPoolExecutor(2) as pool:
                pages_to_run = [page for page in every if page.to_run]
                list(pool.map(lambda page: run_page(page, data, environment, seconds), pages_to_run))
        finally:
            os.kill(server, signal.SIGTERM)
    _write_outputs(every)
    return report(every, seconds, time.monotonic() - begin)


def _write_outputs(every: list[Page]) -> None:
    """What the blocks printed, beside what those of other pages printed before."""
    file = OUT / "outputs.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    now = {page.name: {block.line: block.output for block in page.blocks} for page in every}
    file.write_text(json.dumps(before | now), encoding="utf-8")


def _existing(file: Path) -> Path | None:
    return file if file.is_file() else None


def _environment(folder: Path) -> dict[str, str]:
    """One thread a process, no colours, our clients first on the PATH, no network for models."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    others = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100", "PYTHONPATH": source, "PATH": path}
    return {**os.environ, **threads, **others}


def _wait_for(socket: Path) -> None:
    for _ in range(9000):
        if socket.exists():
            return
        time.sleep(0.1)
    raise SystemExit("the server of commands did not start")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--keep"]
    sys.exit(main(words, keep="--keep" in sys.argv))
