"""`run`: a folder becomes a plan, the plan stages that are ordinary commands, and nothing is done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import yaml

from mococxr import commands
from mococxr.datasets import read_dataset
from mococxr.errors import InputError
from mococxr.files import sha256_file
from mococxr.running import pace as pace_module
from mococxr.running import plan as plan_module
from mococxr.running import run as run_module
from mococxr.running.facts import Facts
from mococxr.running.folder import MARKERS
from mococxr.running.info import facts_of as facts_of_path
from mococxr.running.pace import Pace, published_weights
from mococxr.running.plan import STAGES, make_plan, read_budget
from mococxr.settings import RunSettings, make
from mococxr.store import Store
from small_images import write_images
from small_store import BACKBONE, draw_image, small_table

PACE = Pace(0.005, 0.03, 0.007, 2, "cpu", 320, (0, ""))
SEEN = "the published weights have seen them"


def settings(source: Path, out: Path, **others: Any) -> RunSettings:
    return make(RunSettings, {"source": source, "out": out, "target": "Effusion", "jobs": 1, **others})


def facts_of(images: int, labelled: bool = True) -> Facts:
    """Of so many images, one a patient, every third positive, in the shares of `prepare`."""
    splits = {}
    for name, share in (("train", 0.5), ("val", 0.1), ("test", 0.4)):
        n = round(share * images)
        positive = n // 3 if labelled else 0
        splits[name] = {"images": n, "patients": n, "labelled": n * labelled, "positive_patients": positive,
                        "negative_patients": (n - positive) * labelled}  # fmt: skip
    labels = {"positive": images // 3, "negative": images - images // 3, "uncertain": 0, "blank": 0} if labelled else {}
    target = "Effusion" if labelled else None
    return Facts("csv", "Read as csv.", "mine", images, images, True, target, {}, labels, splits)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The commands that are given; `prepare` is done, of the others only what they write last."""
    given: list[tuple[str, dict[str, Any]]] = []
    really = commands.run

    def run(command: str, values: dict[str, Any]) -> Any:
        given.append((command, dict(values)))
        make(commands.COMMANDS[command], values)
        if command == "prepare":
            return really(command, values)
        out = Path(values["out"])
        marker = out if command == "inspect" else out / Path(MARKERS[command]).name
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("{}")
        if command == "evaluate":
            rate = {"value": 0.9, "low": 0.8, "high": 0.95}
            block = {"n": 20, "patients": 12, "interval": {"value": 0.812, "low": 0.7, "high": 0.9},
                     "operating_point": {"sensitivity": rate, "specificity": rate}}  # fmt: skip
            (out / "evaluation.json").write_text(json.dumps({"models": [block]}))
        return None

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(run_module, "measure", lambda *_: dataclasses.replace(PACE, shorter=32))
    monkeypatch.setattr(run_module, "published_weights", lambda _: SEEN)
    monkeypatch.setattr(plan_module, "ENOUGH", 2)
    monkeypatch.setattr(plan_module, "FEWEST_TO_PRETRAIN", 10)
    return given


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 60)
    return tmp_path / "images"


def test_the_plan_comes_first_and_alone_where_it_is_all_that_is_wanted(
    images: Path, tmp_path: Path, steps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result"
    assert run_module.run(settings(images, out, plan=True)) == out / "plan.yaml"
    assert not steps
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == ["plan.yaml", "result.json"]
    plan = yaml.safe_load((out / "plan.yaml").read_text())
    assert list(plan["stages"]) == list(STAGES)
    assert plan["about"]["labels"] == {"positive": 20, "negative": 40, "uncertain": 0, "blank": 0}
    said = capsys.readouterr().err
    assert "60 images of 30 patients" in said
    assert all(stage in said for stage in STAGES)


def test_every_stage_is_done_once_and_the_page_has_the_answer(
    images: Path, tmp_path: Path, steps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result"
    page = run_module.run(settings(images, out))
    assert [command for command, _ in steps] == list(STAGES)
    assert dict(steps)["study"]["arm"] == (f"both=imagenet@32+{out / 'run'}", f"moco={out / 'run'}")
    assert "0.812 (0.700 to 0.900)" in page.read_text()
    assert "0.812 (0.700 to 0.900)" in capsys.readouterr().out
    facts = facts_of_path(page)
    assert "0.812 (0.700 to 0.900)" in facts["numbers"]["answer"]
    assert facts["numbers"]["to do"] == []
    assert str(out / "model") in facts["next"]
    store = Store.open(out / "store")
    expected = json.loads((out / "result.json").read_text())["facts"]["splits"]
    assert {name: len(store.rows_in(name)) for name in expected} == {n: part["images"] for n, part in expected.items()}
    steps.clear()
    assert run_module.run(settings(images, out)) == page
    assert not steps


def test_a_stopped_run_goes_on_where_it_was(
    images: Path, tmp_path: Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "result"
    given = commands.run

    def stopped(command: str, values: dict[str, Any]) -> Any:
        if command == "pretrain":
            (out / "run").mkdir()
            (out / "run" / "settings.yaml").write_text("")
            raise KeyboardInterrupt
        return given(command, values)

    with monkeypatch.context() as patch:
        patch.setattr(commands, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_module.run(settings(images, out))
    steps.clear()
    run_module.run(settings(images, out))
    assert [command for command, _ in steps] == ["pretrain", "study", "fit", "evaluate"]
    assert dict(steps)["pretrain"]["resume"] is True


def test_an_edited_plan_is_what_is_done(images: Path, tmp_path: Path, steps: list[Any]) -> None:
    out = tmp_path / "result"
    run_module.run(settings(images, out, plan=True))
    text = (out / "plan.yaml").read_text()
    (out / "plan.yaml").write_text(
        text.replace("  study:\n    do: true", "  study:\n    do: no").replace("size: 32", "size: 24")
    )
    run_module.run(settings(images, out))
    assert "study" not in dict(steps)
    assert Store.open(out / "store").manifest["size"] == 24


def test_a_plan_that_was_edited_behind_a_stage_or_into_nonsense_is_refused_by_name(
    images: Path, tmp_path: Path, steps: list[Any]
) -> None:
    out = tmp_path / "result"
    run_module.run(settings(images, out))
    steps.clear()
    good = (out / "plan.yaml").read_text()
    for old, new, named in (
        ("size: 32", "size: 24", r"store was made with another --size(.|\n)*Delete"),
        ("draws: 5", "drwas: 5", "stage study: There is no setting 'drwas'"),
        ("  fit:\n", "  fitt:\n", "no stage 'fitt'"),
        ("do: true", "do: perhaps", "stage prepare: --do must be true or false"),
    ):
        (out / "plan.yaml").write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=named):
            run_module.run(settings(images, out))
    assert not steps
    (out / "plan.yaml").write_text(good)
    with pytest.raises(InputError, match="planned with --budget 20m"):
        run_module.run(settings(images, out, budget="2h"))


@pytest.mark.usefixtures("steps")
def test_what_was_made_from_another_store_is_not_taken_for_done(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    run_module.run(settings(images, out))
    (out / "run" / "run.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match=r"study was made from other(.|\n)*Delete"):
        run_module.run(settings(images, out))


def test_images_without_labels_end_with_what_to_label_and_go_on_when_there_are_labels(
    images: Path, tmp_path: Path, steps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.read_csv(images / "labels.csv", infer_schema=False)
    table.select("path", "patient_id").write_csv(images / "labels.csv")
    out = tmp_path / "result"
    run_module.run(settings(images, out))
    assert [command for command, _ in steps] == ["prepare", "inspect"]
    said = capsys.readouterr()
    assert "No answer yet. There are no labels." in said.out
    assert "mococxr next" in said.err
    assert "mococxr annotate" in said.err
    steps.clear()
    table.select("path", "Effusion").write_csv(tmp_path / "more.csv")
    commands_label(out / "store", tmp_path / "more.csv")
    run_module.run(settings(images, out))
    assert [command for command, _ in steps] == ["pretrain", "study", "fit", "evaluate"]


def commands_label(store: Path, table: Path) -> None:
    from mococxr.labelling.label import run_label
    from mococxr.settings import LabelSettings

    run_label(make(LabelSettings, {"store": store, "table": table, "label": ["Effusion"]}))


@pytest.mark.usefixtures("steps")
def test_labels_in_words_and_columns_of_values_are_targets(images: Path, tmp_path: Path) -> None:
    table = pl.read_csv(images / "labels.csv", infer_schema=False)
    words = pl.col("Effusion").replace({"1": "yes", "0": "no"}).alias("Effusion")
    table.with_columns(words).write_csv(images / "labels.csv")
    run_module.run(settings(images, tmp_path / "words", plan=True))
    run_module.run(settings(images, tmp_path / "view", plan=True, target="view=PA"))
    counts = [
        json.loads((tmp_path / name / "result.json").read_text())["facts"]["labels"] for name in ("words", "view")
    ]
    assert counts == [{"positive": 20, "negative": 40, "uncertain": 0, "blank": 0},
                      {"positive": 30, "negative": 30, "uncertain": 0, "blank": 0}]  # fmt: skip
    with pytest.raises(InputError, match=r"Effusoin: .* has no such label(.|\n)*Did you mean Effusion"):
        run_module.run(settings(images, tmp_path / "other", target="Effusoin"))


@pytest.mark.parametrize("images", [25, 300, 5_000, 100_000])
def test_less_time_is_never_a_longer_plan_and_what_was_cut_is_said(images: int) -> None:
    plans = [
        make_plan(facts_of(images), PACE, SEEN, settings(Path("a"), Path("b"), budget=budget))
        for budget in ("100h", "3h", "1h", "20m", "8m", "1m")
    ]
    seconds = [plan.seconds for plan in plans]
    assert seconds == sorted(seconds, reverse=True)
    assert not plans[0].cut
    for plan, budget in zip(plans, (360_000, 10_800, 3_600, 1_200, 480, 60), strict=True):
        assert plan.seconds <= budget or any("cannot be cut" in text for text in plan.timing)
        assert (plan.seconds < plans[0].seconds) == bool(plan.cut)


def test_300_images_are_planned_within_20_minutes_and_few_are_not_pretrained_on() -> None:
    s = settings(Path("a"), Path("b"))
    for images, pretrained, published, encoder in (
        (300, True, SEEN, "imagenet@288+run"),
        (300, False, "", "mococxr-lite0"),
        (25, False, SEEN, "imagenet@288"),
        (3_000, True, "", "imagenet@288+run"),
    ):
        plan = make_plan(facts_of(images), PACE, published, s)
        assert plan.seconds <= 1200
        assert plan.stages["pretrain"].do is pretrained
        assert plan.stages["fit"].settings["encoder"] == encoder
        assert pretrained or "training images" in plan.stages["pretrain"].why


def test_a_class_that_test_or_training_images_lack_leaves_out_what_needs_it() -> None:
    facts = facts_of(300)
    for lacking, left_out in (("test", {"study", "evaluate"}), ("train", {"study", "fit", "evaluate"})):
        splits = {**facts.splits, lacking: {**facts.splits[lacking], "positive_patients": 0}}
        plan = make_plan(dataclasses.replace(facts, splits=splits), PACE, "", settings(Path("a"), Path("b")))
        assert {name for name, stage in plan.stages.items() if not stage.do} == left_out | {"pretrain"}


@pytest.mark.parametrize("text", ["", "0", "soon", "-5m", "1d", "5x"])
def test_a_budget_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="20m, 2h or 1h30m"):
        read_budget(text)


def test_published_weights_are_not_taken_where_they_have_seen_an_image(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_dataset(images)
    monkeypatch.setattr(pace_module, "published_folder", lambda: tmp_path)
    seen = pl.DataFrame({"sha256": ["0" * 64]})
    seen.write_parquet(tmp_path / "images.parquet")
    assert not published_weights(dataset)
    seen.extend(pl.DataFrame({"sha256": [sha256_file(images / "images" / "image0007.png")]}))
    seen.write_parquet(tmp_path / "images.parquet")
    assert "learned from 1 of 60 images" in published_weights(dataset)


@pytest.mark.slow
def test_a_folder_becomes_a_model_its_numbers_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    table = small_table(60, rng)
    (tmp_path / "images" / "images").mkdir(parents=True)
    for row in table.iter_rows(named=True):
        cv2.imwrite(str(tmp_path / "images" / row["path"]), draw_image(rng, row["Finding"] == 1, (48, 56)))
    table.write_csv(tmp_path / "images" / "labels.csv")
    monkeypatch.setattr(plan_module, "OFFLINE_BACKBONE", BACKBONE)
    monkeypatch.setattr(plan_module, "FEWEST_TO_PRETRAIN", 10)
    monkeypatch.setattr(plan_module, "ENOUGH", 2)
    monkeypatch.setattr(plan_module, "_encoders", lambda *_: ("run", ["moco=run"]))
    monkeypatch.setattr(plan_module, "_full_epochs", lambda *_: 4)
    monkeypatch.setattr(run_module, "measure", lambda *_: dataclasses.replace(PACE, shorter=32))
    s = settings(tmp_path / "images", tmp_path / "result", target="Finding", plan=True)
    run_module.run(s)
    plan = tmp_path / "result" / "plan.yaml"
    more = f"epochs: 4\n      backbone: {BACKBONE}\n      init: random\n      batch: 8\n"
    plan.write_text(
        plan.read_text().replace("epochs: 4\n", more).replace("draws: 5", "draws: 2\n      baseline: false")
    )
    page = run_module.run(dataclasses.replace(s, plan=False))
    assert all((tmp_path / "result" / marker).is_file() for marker in MARKERS.values())
    assert "with an AUROC of" in page.read_text()
