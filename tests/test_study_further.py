"""Studies tested on another store, on draws made elsewhere, measured again, grown by a mode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import InputError
from mococxr.heads.targets import read_target
from mococxr.metrics import patient_resamples
from mococxr.store import Store
from small_store import BACKBONE, make_store, run_study

SMALL = {
    "target": ["Finding"], "arm": ["random", "moco=RUN"], "fraction": [0.3, 1.0], "draws": 2, "replicates": 200,
    "device": "cpu", "jobs": 1,
}  # fmt: skip
BOTH = {"mode": ["linear", "finetune"], "epochs": 1.0, "fraction": [0.3]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and one of another hospital whose images are all test images, with a run."""
    folder = tmp_path_factory.mktemp("stores")
    make_store(folder, patients=40)
    images = folder / "images"
    table = pl.read_csv(images / "labels.csv", infer_schema=False).filter(pl.col("patient").str.len_chars() < 3)
    table.with_columns(patient="other-" + pl.col("patient")).write_csv(images / "other.csv")
    how = {"size": 72, "jobs": 1}
    run("prepare", {"source": images / "other.csv", "out": folder / "other", "split": (0, 0, 1), **how})
    save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=1), folder / "run", {})
    return folder


def study(place: Path, out: Path, **changed: object) -> Path:
    given = {"store": place / "store", "out": out, **SMALL, **changed}
    given["arm"] = [arm.replace("RUN", str(place / "run")) for arm in given["arm"]]  # type: ignore[attr-defined]
    return run_study(given)


def predictions(folder: Path) -> dict[str, pl.DataFrame]:
    return {file.stem: pl.read_parquet(file) for file in sorted((folder / "predictions").iterdir())}


def facts(folder: Path) -> dict:
    return json.loads((folder / "study.json").read_text())


def write_draw(folder: Path, name: str, table: pl.DataFrame) -> None:
    folder.mkdir(exist_ok=True)
    table.write_csv(folder / name)


def test_images_of_another_store_are_judged_as_they_are_in_a_study_of_that_store(place: Path, tmp_path: Path) -> None:
    """The same patients' labels train: an image scores the same whichever store its copy lies in."""
    inside = predictions(study(place, tmp_path / "inside"))
    outside = study(place, tmp_path / "outside", test_on=place / "other")
    other = Store.open(place / "other")
    found = predictions(outside)
    assert found.keys() == inside.keys()
    for name, table in found.items():
        assert table["path"].to_list() == other.index["path"].to_list()
        assert {*table["patient"]} == {*other.index["patient"]}
        both = table.join(inside[name], on="path")
        assert len(both) >= 4
        assert both["score"].to_list() == pytest.approx(both["score_right"].to_list(), abs=1e-6)
    assert facts(outside)["store"]["path_name"] == "store"
    assert facts(outside)["test_store"]["path_name"] == "other"
    assert facts(outside)["targets"]["Finding"]["test_positives"] == int(other.index["Finding"].sum())
    assert facts(tmp_path / "inside")["test_store"] is None


def test_a_store_that_cannot_test_is_refused(place: Path, tmp_path: Path) -> None:
    table = pl.read_csv(place / "images" / "other.csv", infer_schema=False)
    table.drop("Finding").write_csv(place / "images" / "bare.csv")
    how = {"size": 72, "jobs": 1}
    run("prepare", {"source": place / "images/bare.csv", "out": tmp_path / "bare", "split": (0, 0, 1), **how})
    run("prepare", {"source": place / "images/other.csv", "out": tmp_path / "none", "split": (1, 0, 0), **how})
    with pytest.raises(InputError, match="bare: --target Finding"):
        study(place, tmp_path / "study", test_on=tmp_path / "bare")
    with pytest.raises(InputError, match="none of its images is a test image"):
        study(place, tmp_path / "study", test_on=tmp_path / "none")
    own = tmp_path / "own"
    run("prepare", {"source": place / "images/labels.csv", "out": own, "split": (0, 0, 1), **how})
    rename_source(own, Store.open(place / "store").source)
    with pytest.raises(InputError, match="train or validate in"):
        study(place, tmp_path / "study", test_on=own)
    assert not (tmp_path / "study").exists()


def rename_source(store: Path, source: str) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"source": source}))


def test_given_draws_are_matched_by_path_and_images_without_a_label_drop_out(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(place / "store")
    target = read_target(store, "Rare")
    train = store.rows_in("train")
    chosen = train[::2]
    images = store.index.select("path", "patient")[chosen.tolist()]
    elsewhere = images.with_columns(path="release-2/" + pl.col("path"))
    absent = pl.DataFrame({"path": ["images/gone.png"], "patient": ["p1"]})
    draws = tmp_path / "draws"
    write_draw(draws, "0.3-0.csv", pl.concat([images, absent]))
    write_draw(draws, "0.3-1.csv", elsewhere)
    out = study(place, tmp_path / "study", draws_from=draws, fraction=[0.3], target=["Rare"], arm=["moco=RUN"])
    trials = pl.read_csv(out / "trials.csv")
    expected = np.intersect1d(chosen, target.train)
    assert trials["train_images"].to_list() == [len(expected)] * 2
    for i in range(2):
        assert pl.read_csv(out / f"draws/Rare-0.3-{i}.csv")["row"].to_list() == expected.tolist()
    assert "0.3-0.csv: 1 of" in capsys.readouterr().err


def test_a_given_draw_of_nobody_is_undefined_and_the_study_goes_on(place: Path, tmp_path: Path) -> None:
    draws = tmp_path / "draws"
    nobody = pl.DataFrame(schema={"path": pl.String, "patient": pl.String})
    write_draw(draws, "0.3-0.csv", nobody)
    out = study(place, tmp_path / "study", draws_from=draws, fraction=[0.3], arm=["moco=RUN"])
    row = pl.read_csv(out / "cells.csv").row(0, named=True)
    assert row["auroc"] is None
    assert row["reason"]


def test_a_given_draw_of_one_class_is_undefined_and_its_cell_says_why(place: Path, tmp_path: Path) -> None:
    store = Store.open(place / "store")
    train = store.index[store.rows_in("train").tolist()]
    draws = tmp_path / "draws"
    write_draw(draws, "0.3-0.csv", train.filter(pl.col("Finding") == 0).select("path", "patient"))
    write_draw(draws, "1-0.csv", train.select("path", "patient"))
    out = study(place, tmp_path / "study", draws_from=draws)
    cells = pl.read_csv(out / "cells.csv")
    for row in cells.iter_rows(named=True):
        assert (row["auroc"] is None) == (row["fraction"] == 0.3)
        assert (row["reason"] or "").endswith("draw 0 is positive") == (row["fraction"] == 0.3)
    gap = pl.read_csv(out / "differences.csv").filter(pl.col("fraction") == 0.3).row(0, named=True)
    assert gap["difference"] is None
    assert "is positive" in gap["reason"]


def test_draws_that_would_train_on_test_images_or_that_are_not_there_are_refused(place: Path, tmp_path: Path) -> None:
    store = Store.open(place / "store")
    draws = tmp_path / "draws"
    with pytest.raises(InputError, match=r"has no table 0\.3-0\.csv"):
        study(place, tmp_path / "study", draws_from=draws)
    write_draw(draws, "0.3-0.csv", store.index.select("path", "patient"))
    with pytest.raises(InputError, match="are not of training patients"):
        study(place, tmp_path / "study", draws_from=draws, fraction=[0.3])
    (draws / "0.3-0.csv").write_text("image\n1\n")
    with pytest.raises(InputError, match="has no column 'path'"):
        study(place, tmp_path / "study", draws_from=draws, fraction=[0.3])
    assert not (tmp_path / "study").exists()


def test_other_given_draws_are_another_study(place: Path, tmp_path: Path) -> None:
    train = Store.open(place / "store").index[Store.open(place / "store").rows_in("train").tolist()]
    draws = tmp_path / "draws"
    write_draw(draws, "0.3-0.csv", train.select("path", "patient"))
    out = study(place, tmp_path / "study", draws_from=draws, fraction=[0.3])
    write_draw(draws, "0.3-0.csv", train.select("path", "patient")[2:])
    with pytest.raises(InputError, match="the draws given"):
        study(place, out, draws_from=draws, fraction=[0.3])


@pytest.fixture(scope="module")
def both(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(place, tmp_path_factory.mktemp("both") / "study", **BOTH)


def test_a_linear_head_is_compared_with_the_reference_trained_by_gradient(both: Path) -> None:
    table = pl.read_csv(both / "across_modes.csv")
    assert len(table) == 1
    row = table.row(0, named=True)
    assert (row["arm"], row["mode"], row["against"], row["against_mode"]) == (
        "moco", "linear", "random", "finetune",
    )  # fmt: skip
    resampled, point = by_hand(both, "Finding-linear-moco-0-0.3", "Finding-finetune-random-0-0.3", roc_auc)
    assert row["difference"] == pytest.approx(point, abs=1e-12)
    assert [row["low_bootstrap"], row["high_bootstrap"]] == pytest.approx(
        np.percentile(resampled, [2.5, 97.5]), abs=1e-12
    )
    assert pl.read_csv(both / "differences.csv")["mode"].to_list() == ["linear", "finetune"]


def roc_auc(labels, scores, weights=None):  # type: ignore[no-untyped-def]
    return roc_auc_score(labels, scores, sample_weight=weights)


def precision(labels, scores, weights=None):  # type: ignore[no-untyped-def]
    return average_precision_score(labels, scores, sample_weight=weights)


def partial(labels, scores, weights=None):  # type: ignore[no-untyped-def]
    return roc_auc_score(1 - labels, -scores, max_fpr=0.1, sample_weight=weights)


@pytest.mark.parametrize(("prefix", "oracle"), [("ap", precision), ("pauroc", partial)])
def test_other_metrics_differ_as_scikit_learn_says(both: Path, prefix: str, oracle) -> None:  # type: ignore[no-untyped-def]
    row = pl.read_csv(both / "differences.csv").row(0, named=True)
    resampled, point = by_hand(both, "Finding-linear-moco-0-0.3", "Finding-linear-random-0-0.3", oracle)
    assert row[f"{prefix}_difference"] == pytest.approx(point, abs=1e-12)
    ends = [row[f"{prefix}_low"], row[f"{prefix}_high"]]
    assert ends == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=1e-9)
    assert row["low_total"] < row["high_total"]


def by_hand(folder, ours, theirs, measured):  # type: ignore[no-untyped-def]
    """Replicates and value of the difference of two cells of two draws, in a slow loop."""
    tables = predictions(folder)
    pairs = [(tables[f"{ours}-{i}"], tables[f"{theirs}-{i}"]) for i in range(2)]
    first = pairs[0][0]
    labels = first["label"].to_numpy()
    resamples = patient_resamples(first["patient"].to_numpy(), SMALL["replicates"], 0)

    def gap(weights):  # type: ignore[no-untyped-def]
        both = [[measured(labels, t["score"].to_numpy(), weights) for t in pair] for pair in pairs]
        return np.mean([a - b for a, b in both])

    weightings = (row[resamples.unit_N].astype(float) for row in resamples.weights_BU)
    return [gap(weights) for weights in weightings], gap(None)


def test_a_study_is_measured_again_without_training_when_only_the_measuring_changes(
    place: Path, both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pl.read_csv(both / "cells.csv")
    again = {"replicates": 200, "unit": "patient", "aggregate": "mean", "against": "moco"}
    study(place, both, **BOTH, **again)
    assert "8 of 8 trials are done already" in capsys.readouterr().err
    changed = pl.read_csv(both / "cells.csv")
    assert changed["n_units"][0] < before["n_units"][0]
    assert pl.read_csv(both / "differences.csv")["against"].to_list() == ["moco"] * 2
    assert "unit: patient" in (both / "settings.yaml").read_text()
    study(place, both, **BOTH)
    assert pl.read_csv(both / "cells.csv").equals(before)


def test_a_mode_or_an_arm_is_added_to_a_study_and_what_is_done_stays(
    place: Path, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study(place, tmp_path / "study", **BOTH | {"mode": ["linear"]}, arm=["moco=RUN"])
    capsys.readouterr()
    study(place, out, **BOTH)
    assert "2 of 8 trials are done already" in capsys.readouterr().err
    assert pl.read_csv(out / "cells.csv").equals(pl.read_csv(both / "cells.csv"))
    with pytest.raises(InputError, match="--mode"):
        study(place, out, **BOTH | {"mode": ["linear"]})
    with pytest.raises(InputError, match="the encoder of arm random"):
        study(place, out, **BOTH, arm=["moco=RUN"])
