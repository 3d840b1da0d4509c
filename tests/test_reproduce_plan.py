"""The plan of a reproduction: what is chosen, what it costs, and what stands in its folder before anything runs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mococxr.commands import run
from mococxr.encoders import read_spec
from mococxr.errors import InputError
from mococxr.reproduction import plan as timing
from mococxr.reproduction import reproduce, runner
from mococxr.reproduction.data import read_chexpert
from mococxr.reproduction.plan import Pace
from mococxr.reproduction.recipe import HONEST_STD, STUDY, TASKS, every_cell, every_run, select, studies_of
from mococxr.settings import ReproduceSettings
from mococxr.splits import paper_draws
from mococxr.synthetic import write_chexpert, write_shenzhen
from small_encoders import CNN, timm_repository

PACE = Pace(pretrain=2.0, linear=0.5, finetune=1.0, image=0.01)


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed in their own test only, and the page has tests of its own."""
    monkeypatch.setattr(reproduce, "measure", lambda names, **_: dict.fromkeys(names, PACE))
    monkeypatch.setattr(reproduce, "write_page", lambda out: out / "index.html")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_chexpert(folder, 300, valid=20, test=30, size=40, jobs=1)
    return folder


def plan(out: Path, root: Path, **given: object) -> dict:
    run("reproduce", {"dataset": "chexpert", "root": root, "out": out, "dry_run": True, **given})
    return json.loads((out / "reproduce.json").read_text())


@pytest.mark.slow
def test_the_real_table_alone_gives_the_plan_the_paper_could_have_had(tmp_path: Path) -> None:
    pytest.importorskip("torchxrayvision", reason="the real train.csv is in this wheel")
    (tmp_path / "root").mkdir()
    packed = files("torchxrayvision") / "data" / "chexpert_train.csv.gz"
    pl.read_csv(packed.read_bytes(), infer_schema=False).write_csv(tmp_path / "root/train.csv")
    out = tmp_path / "out"
    record = plan(out, tmp_path / "root")
    assert record["data"] | {"test": None} == {
        "rows": 223_414, "patients": 64_540, "studies": 187_641, "table_is_papers": True, "test": None,
    }  # fmt: skip
    assert record["departures"] == []
    assert record["synthetic"] is False
    sizes = {f: [len(pl.read_csv(out / f"draws/{f}-{i}.csv")) for i in range(5)] for f in ("0.001", "0.01")}
    assert sizes == {"0.001": [222, 253, 213, 225, 230], "0.01": [2259, 2244, 2195, 2232, 2188]}
    draw = pl.read_csv(out / "draws/0.001-3.csv")
    table = pl.read_csv(tmp_path / "root/train.csv", infer_schema=False)
    assert draw["path"].to_list() == table["Path"][draw["row"]].to_list()
    assert draw["row"].to_list() == paper_draws(223_414, 0.001, 5)[3].tolist()
    rows = pl.read_csv(out / "plan.csv")
    assert rows.columns[:6] == ["cell", "trial", "train_images", "steps", "seconds_per_step", "hours"]
    assert len(rows) == 2 + 24 * (5 + 5 + 5 + 1)
    assert len(set(rows["trial"])) == len(rows)
    first = rows.filter(pl.col("cell") == "pretraining/resnet18").row(0, named=True)
    assert (first["train_images"], first["steps"]) == (223_414, 223_414 // 16 * 20)
    assert np.allclose(rows["hours"], rows["steps"] * rows["seconds_per_step"] / 3600)
    uncertain = (table["Pleural Effusion"] == "-1.0").sum()
    whole = rows.filter(pl.col("cell") == "pleural-effusion/resnet18/finetune/1/moco")
    assert whole["train_images"].to_list() == [223_414 - uncertain]
    assert whole["steps"].to_list() == [-(-(223_414 - uncertain) // 16) * 18]
    assert {cell["status"] for cell in record["cells"]} == {"not run"}
    assert len(record["cells"]) == 96


def test_without_the_official_test_set_no_cell_can_be_run_and_each_says_why(release: Path, tmp_path: Path) -> None:
    record = plan(tmp_path / "out", release / "CheXpert-v1.0-small")
    assert all("--test-root" in cell["reason"] for cell in record["cells"])
    assert record["data"]["test"]["kind"] == "none"
    assert record["synthetic"] is True
    record = plan(tmp_path / "with", release / "CheXpert-v1.0-small", test_root=release / "CheXpert")
    assert {cell["reason"] for cell in record["cells"]} == {"not reached yet"}


def test_what_differs_from_the_paper_is_listed(release: Path, tmp_path: Path) -> None:
    given = {"size": 32, "epochs": 2, "queue": 64, "fraction": [0.2, 1], "draws": 3, "init": "random"}
    record = plan(tmp_path / "out", release / "CheXpert-v1.0-small", **given)
    found = {d["setting"]: (d["paper"], d["here"]) for d in record["departures"]}
    assert found.pop("training images") == ("223,414", "300")
    assert found == {
        "size": (320, 32), "epochs": (20, 2), "queue": (24_576, 64), "init": ("imagenet", "random"),
        "draws": ("as printed", 3), "fraction": ("0.001 0.01 0.1 1", "0.2 1"),
    }  # fmt: skip
    cells = {cell["id"]: cell for cell in record["cells"]}
    assert cells["edema/resnet18/linear/0.1/moco"]["reason"] == "not among --cells or --fraction"
    assert "--test-root" in cells["edema/resnet18/linear/0.2/moco"]["reason"]
    trials = pl.read_csv(tmp_path / "out/plan.csv")
    assert (trials["cell"] == "edema/resnet18/linear/0.2/moco").sum() == 3
    assert sorted(path.name for path in (tmp_path / "out/draws").iterdir()) == [
        "0.2-0.csv", "0.2-1.csv", "0.2-2.csv", "1-0.csv",
    ]  # fmt: skip


def test_an_uncertain_label_counts_for_no_trial_and_a_blank_one_is_negative(release: Path, tmp_path: Path) -> None:
    settings = ReproduceSettings(dataset="chexpert", root=release / "CheXpert-v1.0-small", out=tmp_path)
    data = read_chexpert(settings)
    table = pl.read_csv(release / "CheXpert-v1.0-small/train.csv", infer_schema=False)
    for task in TASKS["chexpert"]:
        expected = table[task].cast(pl.Float64).fill_null(0).cast(pl.Int8)
        assert data.labels[task].tolist() == expected.to_list()


def test_patterns_choose_cells_and_the_runs_that_they_start_from() -> None:
    cells, runs = every_cell("chexpert", (), None), every_run("chexpert", ("std",))
    _, needed = select(cells, runs, (), ())
    assert [one.name for one in needed] == ["resnet18", "densenet121", "resnet18-std", "densenet121-std"]
    taken, needed = select(cells, runs, ("*/densenet121/linear/1/imagenet",), ())
    assert (len(taken), needed) == (1, [])
    taken, needed = select(cells, runs, ("pretraining/*-lr*",), ())
    assert taken == []
    assert [one.lr for one in needed] == [1e-2, 1e-3, 1e-5]
    with pytest.raises(InputError, match="matches no pretraining run"):
        select(cells, runs, ("pretraining/vgg",), ())


def test_the_sounder_ways_are_studies_of_their_own_and_the_ablation_is_linear_only() -> None:
    studies = {one.name: one for one in studies_of(every_cell("shenzhen", (), None), ("lbfgs", "std"))}
    assert len(studies) == 7 + 7 + 6
    assert studies["tuberculosis-resnet18-1-lbfgs"].modes == ("linear",)
    assert studies["tuberculosis-densenet121-0.25-std"].runs == {"imagenet": None, "moco": "densenet121-std"}
    assert studies["tuberculosis-resnet18-1-lr"].modes == ("linear",)
    assert set(studies["tuberculosis-resnet18-1"].runs) == {"imagenet", "moco"}


def test_shenzhen_is_planned_by_file_names_and_says_which_encoders_it_lacks(tmp_path: Path) -> None:
    write_shenzhen(tmp_path / "images", 40, size=40, jobs=1)
    given = {"dataset": "shenzhen", "pretrained": [f"resnet18={tmp_path}"]}
    record = plan(tmp_path / "out", tmp_path / "images", **given)
    reasons = {cell["id"]: cell["reason"] for cell in record["cells"]}
    assert reasons["tuberculosis/resnet18/linear/1/moco"] == "not reached yet"
    assert "densenet121=ENCODER" in reasons["tuberculosis/densenet121/linear/1/moco"]
    assert "resnet18-lr0.01=ENCODER" in reasons["tuberculosis/resnet18/linear/1/moco-lr0.01"]
    draws = [pl.read_csv(path) for path in sorted((tmp_path / "out/draws").glob("0.25-*.csv"))]
    assert [len(draw) for draw in draws] == [round(0.25 * 26)] * 4
    with pytest.raises(InputError, match="there is no finished run"):
        plan(tmp_path / "other", tmp_path / "images", **given | {"pretrained": [str(tmp_path)]})


@pytest.mark.parametrize(
    "given",
    [{"pretrained": ["x"]}, {"split_file": "x.csv"}, {"epochs": 0}, {"batch": 1}, {"train_epochs": 0.0},
     {"fraction": [2.0]}, {"draws": 0}, {"cells": ["lung/*"]},
     {"cells": ["*/0.01/*"], "fraction": [0.1]}, {"root": "/nowhere"}, {"gpus": 0.5, "dry_run": False}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    release: Path, tmp_path: Path, given: dict
) -> None:
    with pytest.raises(InputError):
        plan(tmp_path / "out", **{"root": release / "CheXpert-v1.0-small", **given})
    assert not (tmp_path / "out").exists()


def test_a_run_without_the_validation_table_is_refused_and_a_plan_is_not(release: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    table = (release / "CheXpert-v1.0-small/train.csv").read_text()
    (tmp_path / "root/train.csv").write_text(table)
    record = plan(tmp_path / "out", tmp_path / "root")
    assert any("234 validation images are assumed" in note for note in record["notes"])
    with pytest.raises(InputError, match=r"no valid\.csv"):
        plan(tmp_path / "out", tmp_path / "root", dry_run=False)


def test_a_folder_in_which_something_was_trained_keeps_its_settings(release: Path, tmp_path: Path) -> None:
    root = release / "CheXpert-v1.0-small"
    plan(tmp_path / "out", root)
    plan(tmp_path / "out", root, size=64)
    (tmp_path / "out/runs").mkdir()
    with pytest.raises(InputError, match="was begun with --size 64"):
        plan(tmp_path / "out", root, size=32)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("keep")
    with pytest.raises(InputError, match="holds no reproduction"):
        plan(tmp_path / "mine", root)


def test_both_arms_start_with_the_grey_scale_that_pretraining_takes_from_its_start(tmp_path: Path) -> None:
    timm_repository(tmp_path / "theirs", CNN)
    init = f"hf:{tmp_path / 'theirs'}"
    settings = ReproduceSettings(dataset="chexpert", root=tmp_path, out=tmp_path, init=init, size=32)
    begun = read_spec(runner.make_start(settings, CNN, None))
    assert (begun.mean, begun.std, begun.size) == ((0.3, 0.4, 0.5), (0.2, 0.25, 0.3), 32)
    with pytest.raises(InputError, match="--variant std changes nothing"):
        runner.make_start(settings, CNN, HONEST_STD)
    with pytest.raises(InputError, match=f"is a {CNN}, and cells of resnet18"):
        runner.make_start(settings, "resnet18", None)
    plain = ReproduceSettings(dataset="chexpert", root=tmp_path, out=tmp_path, init="random", size=32)
    begun = read_spec(runner.make_start(plain, "resnet18", HONEST_STD))
    assert (begun.mean, begun.std) == (0.502, 0.29255)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the stages ask of other commands; none is run."""
    asked: list[dict] = []
    monkeypatch.setattr(runner.commands, "say_and_run", lambda name, **given: asked.append({"command": name, **given}))
    monkeypatch.setattr(runner, "make_start", lambda s, backbone, std: s.out / f"{backbone}-{std}")
    return asked


def test_a_study_takes_the_papers_settings_from_their_one_place(
    commands: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"lr": 1e-3, "weight_decay": 0.1, "checkpoints": 3, "crop_mode": "full", "uncertain": "zeros"}
    for name, value in (changed | {"optimizer": "adamw", "unit": "patient", "aggregate": "mean"}).items():
        monkeypatch.setitem(STUDY, name, value)
    settings = ReproduceSettings(dataset="chexpert", root=tmp_path, out=tmp_path)
    for one in studies_of(every_cell("chexpert", (), None)[:1], ("lbfgs",)):
        runner.run_study(settings, one)
    paper, solved = commands
    assert {name: paper[name] for name in STUDY if name != "mode"} == {
        name: value for name, value in STUDY.items() if name != "mode"
    }
    assert (paper["mode"], paper["linear_solver"], solved["linear_solver"]) == (["linear"], "gradient", "lbfgs")


def test_images_and_trials_go_where_they_are_sent_and_pretraining_stays_here(
    commands: list[dict], tmp_path: Path
) -> None:
    settings = ReproduceSettings(dataset="chexpert", root=tmp_path, out=tmp_path, executor="ray", gpus=0.5, jobs=3)
    runner.prepare_stores(settings)
    runner.pretrain(settings, every_run("chexpert", ())[0])
    runner.run_study(settings, studies_of(every_cell("chexpert", (), None)[:1], ())[0])
    prepare, pretrain, study = commands
    assert (prepare["executor"], prepare["jobs"]) == ("ray", 3)
    assert "executor" not in pretrain
    assert (study["executor"], study["gpus"], study["jobs"]) == ("ray", 0.5, 3)


def test_pretraining_takes_the_preset_in_full_precision(commands: list[dict], tmp_path: Path) -> None:
    settings = ReproduceSettings(dataset="chexpert", root=tmp_path, out=tmp_path)
    runner.pretrain(settings, every_run("chexpert", ("std",))[-1])
    asked = {name: commands[0][name] for name in ("command", "preset", "precision", "lr", "std", "queue")}
    assert asked == {
        "command": "pretrain", "preset": "paper", "precision": "no", "lr": 1e-4, "std": 0.29255, "queue": None,
    }  # fmt: skip


def test_an_arm_without_its_encoder_is_left_out_of_a_sounder_way_and_it_is_said(
    commands: list[dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"resnet18={tmp_path}",)
    settings = ReproduceSettings(dataset="shenzhen", root=tmp_path, out=tmp_path, pretrained=given)
    cells = [c for c in every_cell("shenzhen", (), None) if c.backbone == "resnet18" and "lr" not in c.arm]
    one = studies_of(cells, ("std",))[-1]
    runner.run_study(settings, one)
    assert commands[0]["arm"] == [f"imagenet={tmp_path}/resnet18-0.29255"]
    assert commands[0]["unit"] == "image"
    assert "no encoder resnet18-std" in capsys.readouterr().err


def test_steps_are_timed_through_the_code_that_runs() -> None:
    paces = timing.measure(("test_efficientnet",), size=32, batch=4, queue=64, mean=0.5, std=0.0856, device="cpu")
    pace = paces["test_efficientnet"]
    assert 0 < pace.image < 5
    assert min(pace.pretrain, pace.linear, pace.finetune) > 0
