"""What validation images give a classifier: calibration and threshold in `model.json`, and `predict`'s use of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, xlogy
from scipy.stats import binomtest
from sklearn.isotonic import IsotonicRegression

from deadly_folder import DeadlyFile
from mococxr import metrics, workers
from mococxr.classifier import inputs
from mococxr.classifier.inputs import Image, images_of
from mococxr.classifier.operating_point import read_rule
from mococxr.commands import run
from mococxr.errors import ImageError, InputError
from mococxr.heads.targets import read_target
from mococxr.images import Reading
from mococxr.measure.operating import ScoredRows, fit_blocks
from mococxr.store import Store
from small_store import HOW, make_store, of_target


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("operating"), patients=90, split=(0.3, 0.5, 0.2))


def fit(store: Store, out: Path, **changed: Any) -> dict[str, Any]:
    run("fit", {"store": store.path, "encoder": "random", "target": "Finding", "out": out, **HOW, **changed})
    return of_target(out)


def predict(model: Path, images: list[Path], out: Path, **changed: Any) -> pl.DataFrame:
    run("predict", {"model": model, "images": images, "out": out, "device": "cpu", "jobs": 1, **changed})
    return pl.read_csv(out)


def validation(store: Store, scores: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and decisions of the validation images, as `predict` wrote them."""
    target = read_target(store, "Finding")
    assert scores["path"].to_list() == store.index["path"].to_list()
    chosen = scores[target.val]
    return target.labels[target.val], chosen["score"].to_numpy(), chosen["decision"].to_numpy()


def blocks_of(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, calibrate: str, rule: str
) -> dict[str, Any]:
    """Those of validation rows."""
    rows = ScoredRows(labels, scores, patients, np.ones(len(labels), bool))
    return fit_blocks(rows, calibrate, read_rule(rule, None))


def platt(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by minimising Platt's own loss, soft targets written out."""
    count, rest = labels.sum(), (1 - labels).sum()
    wanted = np.where(labels == 1, (count + 1) / (count + 2), 1 / (rest + 2))

    def loss(two: np.ndarray) -> float:
        p = expit(two[0] * logits + two[1])
        return float(-(xlogy(wanted, p) + xlogy(1 - wanted, 1 - p)).sum())

    return tuple(minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x)


def test_the_calibration_is_platts_on_the_validation_images_alone(store, tmp_path):
    about = fit(store, tmp_path / "model")
    scores = predict(tmp_path / "model", [store.path], tmp_path / "s.csv")
    assert scores.columns == ["path", "patient", "study", "score", "calibrated", "decision", "view", "warning"]
    labels, ours, _ = validation(store, scores)
    block = about["calibration"]
    assert (block["method"], block["reason"]) == ("platt", None)
    assert (block["validation_images"], block["validation_positives"]) == (labels.size, labels.sum())
    slope, intercept = platt(labels, logit(ours))
    assert block["parameters"] == pytest.approx({"slope": slope, "intercept": intercept}, abs=1e-3)
    wanted = expit(block["parameters"]["slope"] * logit(scores["score"]) + block["parameters"]["intercept"])
    assert np.allclose(scores["calibrated"], wanted, rtol=0, atol=1e-12)
    assert np.ptp(scores["calibrated"].to_numpy()) > 0.05
    assert about["validation_used_for"] == ["calibration", "threshold"]


def test_labels_of_training_and_test_images_do_not_move_calibration_or_threshold(store, tmp_path):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], 40)).astype(np.int8)
    patients, scores = np.arange(80), expit(np.random.default_rng(1).normal(size=80) + labels)
    once, again = (blocks_of(labels, scores, patients, "platt", "youden") for _ in range(2))
    assert once == again
    about = fit(store, tmp_path / "model")
    target = read_target(store, "Finding")
    turned = Store.open(shutil.copytree(store.path, tmp_path / "store"))
    index = turned.index.with_columns(
        Finding=pl.Series(np.where(np.isin(np.arange(len(store)), target.test), 1 - target.labels, target.labels))
    )
    index.write_parquet(tmp_path / "store" / "index.parquet")
    other = fit(Store.open(tmp_path / "store"), tmp_path / "other")
    assert other["calibration"] == about["calibration"]
    assert other["threshold"] == about["threshold"]


def test_the_threshold_reaches_the_wanted_sensitivity_on_validation_images_and_no_higher_one_does(store, tmp_path):
    about = fit(store, tmp_path / "model", sensitivity=0.8)
    scores = predict(tmp_path / "model", [store.path], tmp_path / "s.csv")
    labels, ours, decisions = validation(store, scores)
    value = about["threshold"]["value"]
    assert about["threshold"]["wanted_sensitivity"] == 0.8
    assert np.array_equal(scores["decision"], scores["score"].to_numpy() >= value)
    assert decisions[labels == 1].mean() >= 0.8
    above = ours[ours > value].min()
    assert (ours[labels == 1] > above).mean() < 0.8
    assert about["threshold"]["sensitivity"]["value"] == decisions[labels == 1].mean()
    assert about["threshold"]["specificity"]["value"] == 1 - decisions[labels == 0].mean()


def test_youdens_threshold_and_wilsons_intervals_where_each_image_is_a_patient():
    rng = np.random.default_rng(3)
    labels = (rng.random(200) < 0.3).astype(np.int8)
    scores = expit(rng.normal(size=200) + 1.5 * labels)
    block = blocks_of(labels, scores, np.arange(200), "none", "youden")["threshold"]
    sums = [(scores[labels == 1] >= t).mean() + (scores[labels == 0] < t).mean() for t in np.sort(scores)]
    at = block["value"]
    assert (scores[labels == 1] >= at).mean() + (scores[labels == 0] < at).mean() == pytest.approx(max(sums))
    hits, all_ = int((scores[labels == 1] >= at).sum()), int(labels.sum())
    ends = binomtest(hits, all_).proportion_ci(method="wilson")
    found = block["sensitivity"]
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_an_isotonic_calibrator_is_scikit_learns_and_comes_back_from_the_file(store, tmp_path):
    about = fit(store, tmp_path / "model", calibrate="isotonic", threshold_by="none")
    scores = predict(tmp_path / "model", [store.path], tmp_path / "s.csv")
    target = read_target(store, "Finding")
    labels, ours = target.labels[target.val], scores["score"].to_numpy()[target.val]
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logit(ours), labels)
    # images of the seam between two steps may fall either side by rounding of the features
    apart = np.abs(oracle.predict(logit(ours)) - scores["calibrated"].to_numpy()[target.val])
    assert np.quantile(apart, 0.95) < 1e-6
    assert scores["decision"].null_count() == len(scores)
    assert about["threshold"]["reason"] == "--threshold-by none"


@pytest.mark.parametrize("prevalence", [0.02, 0.6])
def test_another_prevalence_moves_the_odds_and_leaves_scores_and_decisions(store, tmp_path, prevalence):
    about = fit(store, tmp_path / "model")
    plain = predict(tmp_path / "model", [store.path], tmp_path / "a.csv")
    moved = predict(tmp_path / "model", [store.path], tmp_path / "b.csv", prevalence=prevalence)
    assert plain.drop("calibrated").equals(moved.drop("calibrated"))
    p, was = plain["calibrated"].to_numpy(), about["calibration"]["prevalence"]
    positive, negative = p * prevalence / was, (1 - p) * (1 - prevalence) / (1 - was)  # Bayes, written out
    assert np.allclose(moved["calibrated"], positive / (positive + negative), rtol=0, atol=1e-12)


def test_moved_probabilities_are_calibrated_where_the_prevalence_is_another():
    rng = np.random.default_rng(5)
    labels = (rng.random(200_000) < 0.5).astype(np.int8)
    p = expit(rng.normal(loc=labels, size=labels.size) - 0.5)  # normals one apart: calibrated exactly
    kept = (labels == 0) | (rng.random(labels.size) < 1 / 9)  # prevalence 10 %
    moved = metrics.at_prevalence(p[kept], 0.5, 0.1)
    assert metrics.calibration(labels[kept], moved, replicates=200).ece.value < 0.005
    assert metrics.calibration(labels[kept], p[kept], replicates=200).ece.value > 0.2
    assert metrics.at_prevalence([0.0, 1.0], 0.5, 0.1).tolist() == [0.0, 1.0]
    for was, now in ((0, 0.5), (0.5, 1)):
        with pytest.raises(ValueError, match="prevalence"):
            metrics.at_prevalence([0.5], was, now)


def test_few_labels_give_words_and_blank_columns(small_store, tmp_path, capsys):
    about = fit(small_store, tmp_path / "model", fraction=0.5)
    for block in ("calibration", "threshold"):
        assert "4 positive labelled patients, fewer than 10; no " in about[block]["reason"]
        assert "label images of about 17 more training or validation patients" in about[block]["reason"]
    assert about["calibration"]["method"] is None
    assert about["threshold"]["value"] is None
    told = capsys.readouterr().err
    assert "No calibrated probability. Too few to judge" in told
    assert "No decision. Too few to judge" in told
    scores = predict(tmp_path / "model", [small_store.path], tmp_path / "s.csv")
    assert scores["calibrated"].null_count() == scores["decision"].null_count() == len(scores)
    told = capsys.readouterr().err
    assert told.count("Column calibrated is blank. Too few to judge") == 1
    with pytest.raises(InputError, match="no calibrated probability to move"):
        predict(tmp_path / "model", [small_store.path], tmp_path / "t.csv", prevalence=0.1)
    assert not (tmp_path / "t.csv").exists()


def test_without_validation_images_training_images_are_cross_fitted(store, tmp_path):
    bare = shutil.copytree(store.path, tmp_path / "bare")
    (bare / "splits.csv").write_text((bare / "splits.csv").read_text().replace(",val", ",train"))
    about = fit(Store.open(bare), tmp_path / "model")
    assert (about["threshold"]["how"], about["threshold"]["validation_images"]) == ("cross-fitted", 0)
    assert about["threshold"]["value"] is not None
    assert about["validation_used_for"] == []


def test_images_that_chose_checkpoints_and_threshold_both_are_said(store, tmp_path, capsys):
    how = {"mode": "finetune", "epochs": 1.0, "lr": 1e-3, "checkpoints": 2}
    about = fit(store, tmp_path / "model", **how)
    assert about["validation_used_for"][0] == "checkpoints"
    assert "threshold" in about["validation_used_for"]
    assert "chose the checkpoints gave the" in capsys.readouterr().err
    scores = predict(tmp_path / "model", [store.path], tmp_path / "s.csv")
    labels, _, decisions = validation(store, scores)
    assert decisions[labels == 1].mean() >= 0.9
    assert about["threshold"]["sensitivity"]["value"] == decisions[labels == 1].mean()


def test_scores_that_do_not_rise_with_the_label_get_no_calibration():
    labels = np.repeat([0, 1], 30).astype(np.int8)
    scores = np.linspace(0.9, 0.1, 60)
    block = blocks_of(labels, scores, np.arange(60), "platt", "sensitivity")
    assert "do not rise with the label" in block["calibration"]["reason"]
    assert block["threshold"]["value"] is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"sensitivity": 0.0},
        {"sensitivity": 1.1},
        {"sensitivity": 0.8, "threshold_by": "youden"},
        {"threshold_by": "f1"},
        {"calibrate": "beta"},
    ],
)
def test_wishes_that_cannot_be_write_nothing(store, tmp_path, changed):
    with pytest.raises(InputError):
        fit(store, tmp_path / "model", **changed)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.5])
def test_a_prevalence_that_cannot_be_writes_nothing(store, tmp_path, prevalence):
    fit(store, tmp_path / "model")
    with pytest.raises(InputError, match="above 0 and below 1"):
        predict(tmp_path / "model", [store.path], tmp_path / "s.csv", prevalence=prevalence)
    assert not (tmp_path / "s.csv").exists()


# --- decoding in processes


def many(folder: Path, count: int) -> list[Image]:
    """Files of odd sizes, each tenth broken."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (90 + i % 7, 80 + i % 5), dtype=np.uint8))
        if i % 10 == 3:
            (folder / f"{i}.png").write_bytes(b"no picture")
    return images_of(folder, None)[0]


def told(found: list[inputs.Read]) -> list[tuple[str, object]]:
    return [(image.path, str(one) if isinstance(one, ImageError) else one.tobytes()) for image, one in found]


def test_processes_give_the_images_in_order_with_the_same_pixels_as_one(tmp_path, store, monkeypatch):
    monkeypatch.setattr(inputs, "WORTH", 0.0)
    monkeypatch.setattr(inputs, "CHUNK", 4)
    files = many(tmp_path / "images", 50)
    images = [*files[:20], *images_of(store.path, None)[0], *files[20:]]
    how = {"reading": Reading(), "size": 72, "key": None}
    alone = told(list(inputs.decoded(images, jobs=1, **how)))
    assert [path for path, _ in alone] == [image.path for image in images]
    assert sum(isinstance(one, str) for _, one in alone) == 5
    started = []
    pool = workers.process_pool
    monkeypatch.setattr(workers, "process_pool", lambda *how: started.append(how[0]) or pool(*how))
    assert told(list(inputs.decoded(images, jobs=2, **how))) == alone
    assert started == [2, 2]
    monkeypatch.setattr(inputs, "WORTH", 1e9)
    assert told(list(inputs.decoded(images, jobs=2, **how))) == alone
    assert started == [2, 2], "images that are read at once are not worth a process"


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_the_only_one_that_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "WORTH", 0.0)
    monkeypatch.setattr(inputs, "TRIED", 1)
    monkeypatch.setattr(inputs, "CHUNK", 3)
    images = many(tmp_path / "images", 9)
    images[7] = replace(images[7], file=DeadlyFile("deadly.png"))
    found = list(inputs.decoded(images, reading=Reading(), size=72, key=None, jobs=2))
    assert [image.path for image, _ in found] == [image.path for image in images]
    lost = {image.path.rpartition("/")[2]: str(one) for image, one in found if isinstance(one, ImageError)}
    assert lost.keys() == {"3.png", "7.png"}
    assert lost["7.png"] == workers.CRASHED
