"""The whole of both reproductions on synthetic images laid out as the releases: twice the same, once through a kill -9."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mococxr.reproduction.compare import TABLES
from mococxr.reproduction.recipe import STUDY, cells_of
from mococxr.synthetic import write_chexpert, write_shenzhen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SMALL = (
    "--size", "32", "--epochs", "1", "--train-epochs", "1", "--queue", "64", "--draws", "2", "--replicates", "200",
    "--init", "random", "--device", "cpu", "--jobs", "1",
)  # fmt: skip
TRIALS = 5
"""The kill comes when so many trials are done."""
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


@dataclass(frozen=True)
class Made:
    """Two folders with CheXpert's and two with Shenzhen's; the second of each pair was killed and resumed."""

    chexpert: tuple[Path, Path]
    shenzhen: tuple[Path, Path]
    killed_at: int
    root: Path


def start(log: Path, *words: object) -> subprocess.Popen:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mococxr", "reproduce", *map(str, words), *SMALL],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | THREADS,
            start_new_session=True,
        )


def finish(log: Path, process: subprocess.Popen) -> None:
    assert process.wait() == 0, log.read_text(errors="replace")[-3000:]


def kill_on_the_way(out: Path, process: subprocess.Popen) -> int:
    """Kill the process and its children without warning once some trials are done; how many were."""
    while process.poll() is None:
        done = len(list(out.glob("studies/*/trials/*.json")))
        if done >= TRIALS:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return done
        time.sleep(0.02)
    raise AssertionError("the run ended before it could be killed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("reproduction")
    release = write_chexpert(root / "images", 300, valid=14, test=30, size=64, jobs=2)
    lungs = write_shenzhen(root / "lungs", 40, size=64, jobs=2)
    pairs, killed = [], 0
    for name in ("chexpert", "shenzhen"):
        outs = (root / f"{name}-a", root / f"{name}-b")
        logs = [root / f"{out.name}.log" for out in outs]
        if name == "chexpert":
            given = (
                "--root",
                release,
                "--test-root",
                root / "images/CheXpert",
                "--fraction",
                "0.001",
                "--fraction",
                "0.1",
            )
            words = [(name, *given, "--cells", "*", "--cells", "pretraining/*", "--out", out) for out in outs]
        else:
            given = ("--root", lungs, "--fraction", "0.25", "--fraction", "1")
            words = [
                (name, *given, "--pretrained", source, "--out", out) for out, source in zip(outs, pairs[0], strict=True)
            ]
        first, second = (start(log, *line) for log, line in zip(logs, words, strict=True))
        try:
            if name == "chexpert":
                killed = kill_on_the_way(outs[1], second)
                second = start(logs[1], *words[1])
            finish(logs[0], first)
            finish(logs[1], second)
        finally:
            for process in (first, second):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        pairs.append(outs)
    return Made(pairs[0], pairs[1], killed, root)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_and_resumed_run_in_another_folder_gives_the_same_bytes(made: Made) -> None:
    assert made.killed_at >= TRIALS
    for first, second in (made.chexpert, made.shenzhen):
        names = ("tables/*.csv", "figures/*.svg", "draws/*.csv", "studies/*/cells.csv", "studies/*/differences.csv")
        files = [path.relative_to(first) for name in names for path in sorted(first.glob(name))]
        assert len(files) > 20
        for file in files:
            assert (first / file).read_bytes() == (second / file).read_bytes(), file
        assert {p.relative_to(second) for name in names for p in second.glob(name)} == set(files)


def test_every_cell_of_the_shares_asked_for_is_done_or_says_why_not(made: Made) -> None:
    for (out, _), dataset, shares in (
        (made.chexpert, "chexpert", (0.001, 0.1)),
        (made.shenzhen, "shenzhen", (0.25, 1)),
    ):
        record = json.loads((out / "reproduce.json").read_text())
        states = {cell["id"]: cell for cell in record["cells"]}
        for cell in cells_of(dataset):
            state = states[cell.id]
            if cell.fraction not in shares:
                assert state["status"] == "not run"
            elif cell.fraction == 0.001:  # a thousandth of 300 images: no draw has both classes
                assert state["status"] == "undefined"
            else:
                assert state["status"] == "done", state
            assert bool(state["reason"]) == (state["status"] != "done")


def test_shenzhen_starts_from_what_was_pretrained_on_chexpert(made: Made) -> None:
    for name in ("resnet18", "densenet121"):
        facts = json.loads((made.shenzhen[0] / f"studies/tuberculosis-{name}-0.25/study.json").read_text())
        assert facts["arms"]["moco"]["pretrained_on"]["images"] == 300
        assert not [text for text in facts["warnings"] if "does not say" in text]


def test_every_table_and_figure_is_there_and_the_page_says_synthetic(made: Made) -> None:
    for out, figures in ((made.chexpert[0], 24), (made.shenzhen[0], 8)):
        assert sorted(p.stem for p in (out / "tables").iterdir()) == sorted(spec.name for spec in TABLES)
        for ending in (".pdf", ".png", ".svg"):
            assert len(list((out / "figures").glob(f"*{ending}"))) == figures
        page = (out / "index.html").read_text(encoding="utf-8")
        assert "Every image here was drawn by a program" in page
        assert len(re.findall(r"<figure ", page)) == figures
        assert all(re.search(rf"<td[^>]*>{name}</td>", page) for name in ("size", "epochs", "init"))
    outs = (made.chexpert[0], made.shenzhen[0])
    done = {
        spec.name: sum(r["status"] == "done" for out in outs for r in rows(out / f"tables/{spec.name}.csv"))
        for spec in TABLES
    }
    assert done == {
        "table1": 6, "table2": 6, "table3": 2 + 4, "table4": 4 * 2 * 3, "table5": 8 * 3,
        "precision": 3 * (4 + 8) + 3 * 8, "learning_rate": 4,
    }  # fmt: skip


def test_the_draws_are_pythons_own_walk_through_the_table(made: Made) -> None:
    import random

    table = rows(made.root / "images/CheXpert-v1.0-small/train.csv")
    walk = random.Random(0)
    taken: dict[tuple[float, int], list[int]] = {}
    for number in range(len(table)):
        for fraction, draws in ((0.001, 5), (0.01, 5), (0.1, 5), (0.5, 5), (1.0, 1)):
            for draw in range(draws):
                if walk.random() < fraction:
                    taken.setdefault((fraction, draw), []).append(number)
    for draw in (0, 1):
        found = rows(made.chexpert[0] / f"draws/0.1-{draw}.csv")
        assert [int(row["row"]) for row in found] == taken[0.1, draw]
        assert [row["path"] for row in found] == [table[i]["Path"] for i in taken[0.1, draw]]


def test_the_studies_were_made_with_the_papers_settings(made: Made) -> None:
    folders = sorted((made.chexpert[1] / "studies").iterdir())
    assert len(folders) == 12
    for folder in folders:
        settings = yaml.safe_load((folder / "settings.yaml").read_text())
        for name, value in STUDY.items():
            if name != "replicates":
                assert settings[name] == (list(value) if isinstance(value, tuple) else value), name
        for row in rows(folder / "cells.csv"):
            assert row["n_units"] in ("30", "")


def test_the_same_command_again_does_nothing_again_and_a_variant_comes_beside(made: Made) -> None:
    out, log = made.chexpert[0], made.root / "again.log"
    before = {path: path.stat().st_mtime_ns for path in out.glob("studies/*/trials/*.json")}
    tables = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    given = ("--root", made.root / "images/CheXpert-v1.0-small", "--test-root", made.root / "images/CheXpert")
    some = ("--fraction", "0.1", "--cells", "pleural-effusion/resnet18/linear/0.1/*")
    finish(log, start(log, "chexpert", *given, *some, "--variant", "lbfgs", "--variant", "std", "--out", out))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == tables
    page = (out / "index.html").read_text(encoding="utf-8")
    assert re.search(r"Closed-form linear head[^<]*over 2 cells AUROC moves", page)
    assert re.search(r"standard deviation 0\.29255[^<]*over \d cells AUROC moves", page)
