"""Few labels: cross-fitted scores by patient, labels that were chosen by a rule, and their weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

import mococxr
from mococxr import metrics
from mococxr.classifier.operating_point import choose_judged
from mococxr.commands import run
from mococxr.errors import InputError, UndefinedError
from mococxr.heads.cross_fit import cross_fitted, deal_patients
from mococxr.heads.targets import read_target
from mococxr.store import Store
from small_store import HOW, make_store, of_target


def labelled(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and patients of two images each; the labels may differ within a patient."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.int8)
    return rng.normal(size=(n, 4)) + y[:, None], y, np.repeat(np.arange(n // 2), 2)


def test_cross_fitted_scores_are_those_of_a_slow_loop_over_folds():
    x, y, patients = labelled(0)
    fold = deal_patients(y, patients, 10, 0)
    slow = np.empty(len(y))
    for i in range(len(y)):
        inside = fold != fold[i]
        mean, spread = x[inside].mean(0), x[inside].std(0)
        head = LogisticRegression(C=0.1, tol=1e-10).fit((x[inside] - mean) / spread, y[inside])
        slow[i] = head.predict_proba((x[i : i + 1] - mean) / spread)[0, 1]
    assert np.allclose(cross_fitted(x, y, patients, C=0.1), slow, rtol=0, atol=5e-4)


def test_no_score_comes_from_a_head_that_saw_another_image_of_its_patient():
    x, y, patients = labelled(1)
    before = cross_fitted(x, y, patients)
    for row in (0, 20, 40):
        moved = x.copy()
        moved[row] += 5
        after = cross_fitted(moved, y, patients)
        assert after[row + 1] == before[row + 1]
        assert (after != before).sum() > len(y) / 2, "heads of other patients see it"


@pytest.mark.parametrize("seed", range(20))
def test_folds_keep_patients_whole_and_leave_both_classes_to_every_head(seed):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 25, 60)
    y = np.zeros(60, np.int8)
    y[np.isin(patients, rng.choice(np.unique(patients), 2, replace=False))] = 1  # two positive patients
    y[rng.integers(0, 60, 5)] = 2
    if min(len(np.unique(patients[y == value])) for value in (0, 1)) < 2:
        pytest.skip("uncertain labels took a patient")
    fold = deal_patients(y, patients, 10, seed)
    assert all(len(np.unique(fold[patients == patient])) == 1 for patient in patients)
    assert all({0, 1} <= set(y[fold != held].tolist()) for held in np.unique(fold))
    assert np.ptp(np.bincount(fold[np.unique(patients, return_index=True)[1]])) <= 1


def test_one_patient_of_a_class_cannot_be_cross_fitted():
    with pytest.raises(UndefinedError, match="one class only"):
        cross_fitted(np.eye(6), [1, 0, 0, 0, 0, 0], np.arange(6))


# --- weights


def chosen_rows(rng: np.random.Generator, n: int = 20_000) -> tuple[np.ndarray, ...]:
    """A population and a sample whose images were chosen the likelier the higher their score and, besides, the label."""
    y = rng.random(n) < 0.2
    x = rng.normal(size=n) + 1.5 * y
    p = np.clip(0.02 + 0.3 * expit(2 * x), 0, 1)
    return y.astype(np.int8), x, p, rng.random(n) < p


def test_weights_bring_back_what_the_whole_population_would_have_said():
    rng = np.random.default_rng(0)
    differences: dict[str, list[np.ndarray]] = {"weighted": [], "plain": []}
    covered = 0
    for _ in range(60):
        y, x, p, drawn = chosen_rows(rng, 3000)
        wanted = numbers(y, x, None)
        differences["weighted"].append(numbers(y[drawn], x[drawn], 1 / p[drawn]) - wanted)
        differences["plain"].append(numbers(y[drawn], x[drawn], None) - wanted)
        share = metrics.proportion(y[drawn], np.arange(drawn.sum()), weights=1 / p[drawn])
        covered += share.low <= 0.2 <= share.high
    bias = {name: np.abs(np.mean(rows, 0)) for name, rows in differences.items()}
    error = np.std(differences["weighted"], 0) / np.sqrt(60)
    assert (bias["weighted"] < 4 * error + 0.01).all()
    assert bias["plain"][[2, 3]].min() > 0.05, "share and threshold are off without weights"
    assert covered >= 52


def numbers(y: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Slope, intercept, share of positives, threshold and specificity there."""
    weights = None if weights is None else weights / weights.mean()
    made = metrics.fit_calibrator("platt", y, x, weights=weights)
    at = metrics.threshold_for_sensitivity(y, x, 0.8, weights)
    point = metrics.operating_point(y, x, at, weights=weights)
    share = metrics.proportion(y == 1, np.arange(len(y)), weights=weights).value
    return np.array([made.slope, made.intercept, share, at, point.specificity.value])


@pytest.mark.parametrize("kind", ["platt", "isotonic", "temperature"])
def test_a_weight_of_three_is_three_rows(kind):
    rng = np.random.default_rng(2)
    y = np.repeat([0, 1], 40)
    x, w = rng.normal(size=80) + y - 0.5, rng.integers(1, 4, 80)
    once = metrics.fit_calibrator(kind, y, x, weights=w.astype(float))
    again = metrics.fit_calibrator(kind, np.repeat(y, w), np.repeat(x, w), patients=np.repeat(np.arange(80), w))
    assert np.allclose(once.apply(x), again.apply(x), atol=1e-9)
    for rule in (metrics.threshold_by_youden, lambda *a: metrics.threshold_for_sensitivity(*a[:2], 0.8, *a[2:])):
        assert rule(y, x, w.astype(float)) == rule(np.repeat(y, w), np.repeat(x, w))
    point, rows = metrics.operating_point(y, x, 0.0, weights=w / w.mean()), np.repeat(np.arange(80), w)
    other = metrics.operating_point(y[rows], x[rows], 0.0, rows)
    assert point.youden.value == pytest.approx(other.youden.value)
    assert point.specificity.ends() == pytest.approx(other.specificity.ends(), abs=0.02)


def test_intervals_of_platts_numbers_cover_those_of_the_population():
    rng = np.random.default_rng(4)
    hits = np.zeros(2)
    for _ in range(200):
        y = rng.random(80) < 0.4
        x = rng.normal(size=80) + y  # log odds: x - 0.5 + logit(0.4)
        made = metrics.fit_calibrator("platt", y, x)
        ends = metrics.platt_intervals(made, y, x, np.arange(80))
        hits += [
            ends["slope"][0] <= 1 <= ends["slope"][1],
            ends["intercept"][0] <= logit(0.4) - 0.5 <= ends["intercept"][1],
        ]
    assert (hits >= 184).all()


# --- which labels


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """120 patients whose finding nobody has labelled; the column `Truth` has it."""
    made = make_store(tmp_path_factory.mktemp("few"), patients=120, split=(0.5, 0.1, 0.4))
    index = made.index.with_columns(Truth=pl.col("Finding"), Finding=pl.lit(None, pl.Int8))
    index.write_parquet(made.path / "index.parquet")
    return Store.open(made.path)


def enter(store: Store, folder: Path, rows: np.ndarray, **columns: Any) -> Store:
    """A copy of the store with the true labels of these rows."""
    path = folder / f"store{len(list(folder.iterdir()))}"
    shutil.copytree(store.path, path)
    truth = store.index[rows].select("path", target=pl.lit("Finding"), value="Truth").with_columns(**columns)
    return mococxr.label(path, truth)


def chosen(store: Store) -> tuple[Any, Any]:
    target = read_target(store, "Finding")
    return target, choose_judged(store, target, target.val, target.train)


def test_random_labels_count_and_those_chosen_by_a_rule_do_not(bare, tmp_path):
    pool = bare.rows_in("train", "val")
    rule = pl.Series(["Random", "coverage", None] * len(pool))[: len(pool)]
    _, judged = chosen(enter(bare, tmp_path, pool, chosen_by=rule))
    used = np.concatenate([judged.held, judged.crossed])
    assert set(used) == set(pool[np.arange(len(pool)) % 3 != 1])
    assert (judged.weights, judged.left_out) == (None, len(pool) - len(used))
    assert set(judged.held) <= set(bare.rows_in("val"))
    assert set(judged.crossed) <= set(bare.rows_in("train"))


def test_labels_with_known_probabilities_are_weighted_where_random_ones_are_too_few(bare, tmp_path):
    pool = bare.rows_in("train", "val")
    p = np.random.default_rng(0).uniform(0.2, 0.9, len(pool))
    store = enter(bare, tmp_path, pool, chosen_by=pl.lit("uncertainty"), probability=pl.Series(p))
    _, judged = chosen(store)
    used = np.concatenate([judged.held, judged.crossed])
    assert np.ptp(judged.weights * p[np.searchsorted(pool, used)]) < 1e-12
    assert judged.weights.mean() == pytest.approx(1)
    _, unknown = chosen(enter(bare, tmp_path, pool, chosen_by=pl.lit("uncertainty")))
    assert (len(unknown.held), unknown.left_out) == (0, len(pool))
    assert "chosen at random" in unknown.remedy


def test_the_first_choice_of_an_image_counts_and_prepares_labels_are_random(bare, tmp_path):
    pool = bare.rows_in("train", "val")
    store = enter(bare, tmp_path, pool[:40], chosen_by=pl.lit("coverage"), reader=pl.lit("A"))
    again = store.index[pool[:40]].select("path", target=pl.lit("Finding"), value="Truth")
    again = again.with_columns(chosen_by=pl.lit("random"), reader=pl.lit("B"))
    store = mococxr.label(store.path, again)
    assert set(store.chosen("Finding")["chosen_by"][pool[:40]]) == {"coverage"}
    assert store.chosen("Finding")["chosen_by"][pool[40:]].null_count() == len(pool) - 40
    rare = (
        store.index.filter(pl.col("Rare") == 0)
        .head(4)
        .select("path", "Rare")
        .with_columns(chosen_by=pl.lit("coverage"))
    )
    store = mococxr.label(store.path, rare)
    assert store.chosen("Rare")["chosen_by"].null_count() == len(store), "they were there before"
    store = mococxr.retract(store.path, rare)
    store = mococxr.label(store.path, rare)
    assert store.chosen("Rare")["chosen_by"].drop_nulls().to_list() == ["coverage"] * 4
    assert store.chosen("sex")["chosen_by"].null_count() == len(store)


def test_sixty_random_labels_give_a_calibrated_answer_that_says_how(bare, tmp_path, capsys):
    rows = np.random.default_rng(3).permutation(bare.rows_in("train", "val"))[:60]
    tests = bare.rows_in("test")
    about = {}
    for name, more in (("once", tests[:0]), ("again", tests)):
        store = enter(bare, tmp_path, np.concatenate([rows, more]), chosen_by=pl.lit("random"))
        how = {"store": store.path, "encoder": "random", "target": "Finding", "out": tmp_path / name, **HOW}
        run("fit", how)
        about[name] = of_target(tmp_path / name)
    block = about["once"]["calibration"]
    assert (block["how"], block["images"], block["weighted"], block["method"]) == ("cross-fitted", 60, False, "platt")
    assert block["intervals"]["prevalence"][0] < block["prevalence"] < block["intervals"]["prevalence"][1]
    told = capsys.readouterr().err
    assert "calibrated by platt on 60 labelled images, " in told
    assert "training images cross-fitted by patient, since those of validation are too few" in told
    blind = " ".join(told.split()).count("No image of a test patient has a label of Finding")
    assert blind == 2, "label and fit say so, until test images have labels"
    for name in ("calibration", "threshold"):
        assert about["again"][name] == about["once"][name], "labels of test images change nothing"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in about]
    assert weights[0] == weights[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mococxr.classifier.fit.cross_fit", lambda *_: pytest.fail("by gradient nothing is cross-fitted"))
        run("fit", {**how, "mode": "finetune", "epochs": 0.1, "checkpoints": 0})
    assert "A linear head (--mode linear, lbfgs) needs fewer" in capsys.readouterr().err


# --- another site


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """A model, and a store of another hospital where fewer images are positive."""
    folder = tmp_path_factory.mktemp("sites")
    for name in ("home", "away"):
        (folder / name).mkdir()
    home = make_store(folder / "home", patients=90)
    how = {"store": home.path, "encoder": "random", "target": "Finding", "out": folder / "model", **HOW}
    run("fit", how)
    away = make_store(folder / "away", patients=100, split=(0.3, 0.2, 0.5))
    manifest = json.loads((away.path / "manifest.json").read_text())
    (away.path / "manifest.json").write_text(json.dumps({**manifest, "source": "away"}))
    return folder / "model", Store.open(away.path)


def test_recalibration_leaves_the_weights_and_learns_from_all_but_test_images(sites, tmp_path):
    model, store = sites
    mococxr.recalibrate(model, store.path, out=tmp_path / "new", threshold_by="youden", device="cpu", jobs=1)
    assert (tmp_path / "new/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    kept, had = (json.loads((folder / "model.json").read_text()) for folder in (tmp_path / "new", model))
    assert {name for name in kept if kept[name] != had[name]} == {"targets"}
    about, before = (of_target(folder) for folder in (tmp_path / "new", model))
    changed = {"calibration", "threshold", "recalibrated", "validation_used_for"}
    assert {name for name in about if about[name] != before.get(name)} == changed
    scores = mococxr.load_classifier(model).predict([store.pixels(i) for i in range(len(store))])["score"].to_numpy()
    target = read_target(store, "Finding")
    rows = np.sort(np.concatenate([target.train, target.val]))
    made = metrics.fit_calibrator("platt", target.labels[rows], metrics.as_logits(scores[rows]))
    assert about["calibration"]["parameters"] == pytest.approx(made.parameters(), rel=1e-3)
    assert about["calibration"]["how"] == "another site"
    assert about["threshold"]["value"] == pytest.approx(metrics.threshold_by_youden(target.labels[rows], scores[rows]))


def test_what_cannot_be_recalibrated_writes_nothing(sites, tmp_path):
    model, store = sites
    for changed, says in (
        ({"where": ["sex=F", "site=A"]}, "label more training or validation images"),
        ({"target": "Finger"}, "no column"),
        ({"calibrate": "none", "threshold_by": "none"}, "nothing to do"),
        ({"out": model}, "the model itself"),
    ):
        with pytest.raises(InputError, match=says):
            mococxr.recalibrate(model, store.path, **{"out": tmp_path / "new", "device": "cpu", "jobs": 1, **changed})
    assert not (tmp_path / "new").exists()


def test_at_home_only_validation_images_recalibrate(sites, tmp_path):
    model, _ = sites
    home = Store.open(model.parent / "home/store")
    with pytest.raises(InputError, match="validation patients"):
        mococxr.recalibrate(model, home.path, out=tmp_path / "new", device="cpu", jobs=1)
