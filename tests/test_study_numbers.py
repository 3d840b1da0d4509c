"""The tables of a study against the same numbers worked out from its predictions by other means."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import false_discovery_control, norm, t
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from mococxr import metrics
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import InputError
from mococxr.metrics import clustered_paired, patient_resamples
from mococxr.results import write_tables
from mococxr.settings import StudySettings, make
from mococxr.store import Store
from mococxr.studies.design import Arm, Design, TargetData, read_primary
from mococxr.studies.measuring import attributes, measure_study
from mococxr.studies.study import summary
from scored_study import IMAGES, Scored, scored_study
from small_store import BACKBONE, make_store, run_study
from test_metrics_operating import just_below

FRACTIONS = (0.01, 0.1, 1.0)


def judging(**changed) -> StudySettings:
    return make(StudySettings, {"store": "s", "out": "o", "arm": ["imagenet"], "target": ["Finding"], **changed})


def design_of(store, **changed) -> Design:
    asked = {
        "arms": ["imagenet", "moco"], "reference": "imagenet", "modes": ["linear"], "targets": ["Finding"],
        "fractions": FRACTIONS,
    } | changed  # fmt: skip
    arms = [Arm(name, (), ()) for name in asked.pop("arms")]
    images = TargetData(store, {}, nothing := np.empty(0, dtype=np.int64), nothing)
    return Design(train=images, test=images, arms=arms, draws=(), draws_hash=None, **asked)


def judged(scored: Scored, how: StudySettings | None = None, **changed) -> tuple[dict, dict]:
    groups = attributes(scored.store, changed.pop("subgroup", []))
    design = design_of(scored.store, **changed)
    tables, facts = measure_study(scored.out, scored.records, design, how or judging(replicates=200), groups)
    write_tables(scored.out, tables)
    return tables, facts


def read(scored: Scored, name: str, **wanted) -> list[dict]:
    rows = pl.read_csv(scored.out / f"{name}.csv", infer_schema_length=None).rows(named=True)
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def names(arm: str, fraction: float, runs: int = 1) -> list[str]:
    draws = 1 if fraction == 1 else 3
    return [f"Finding-linear-{arm}-{r}-{fraction:g}-{d}" for d in range(draws) for r in range(runs)]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Scored:
    """Two arms, one of them with two pretraining runs; 160 patients of two images."""
    scored = scored_study(
        tmp_path_factory.mktemp("scored"), runs={"moco": 2}, gain={"imagenet": 0.8, "moco": 1.2}, too_sure=3.0
    )
    judged(scored, judging(replicates=200, margin=0.02))
    return scored


def kernel_mean(scored: Scored, trials: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair of a positive and a negative image, the mean over trials of who wins; and their patients."""
    won = []
    for trial in trials:
        images = scored.images(trial)
        labels, scores = images["label"].to_numpy(), images["score"].to_numpy()
        ups, downs = scores[labels == 1], scores[labels == 0]
        won.append([[float(u > d) + 0.5 * float(u == d) for d in downs] for u in ups])
    people = images["patient"].to_numpy()
    return np.mean(won, axis=0), people[labels == 1], people[labels == 0]


def slow_variance(kernel: np.ndarray, ups: np.ndarray, downs: np.ndarray) -> np.ndarray:
    """Obuchowski (1997) by sums over patients, from positives and from negatives; no patient here has both."""
    total, parts = kernel.mean(), []
    for axis, people in ((1, ups), (0, downs)):
        left = kernel.mean(axis=axis) - total
        own = [left[people == person].sum() for person in np.unique(people)]
        parts.append(len(own) / (len(own) - 1) * np.sum(np.square(own)) / len(left) ** 2)
    return np.array(parts)


def test_a_cell_is_the_mean_over_trials_with_an_interval_over_patients(study):
    for row in read(study, "cells"):
        trials = names(row["arm"], row["fraction"], 2 if row["arm"] == "moco" else 1)
        areas = [roc_auc_score(*study.images(one).select("label", "score")) for one in trials]
        assert row["auroc"] == pytest.approx(np.mean(areas), abs=1e-12)
        parts = slow_variance(*kernel_mean(study, trials))
        df = parts.sum() ** 2 / (parts**2 / (np.array([48, 112]) - 1)).sum()
        area = row["auroc"]
        half = t.ppf(0.975, df) * np.sqrt(parts.sum()) / (area * (1 - area))
        low, high = expit(logit(area) + np.array([-half, half]))
        assert row["low"] == pytest.approx(low, abs=0.006)
        assert row["high"] == pytest.approx(high, abs=0.006)
        assert row["low"] <= low + 1e-9  # the wider of this and the score interval
        assert row["high"] >= high - 1e-9
        assert (row["patients"], row["positive_patients"], row["n_units"]) == (160, 48, 320)
        assert "over patients" in row["method"]
        assert row["warning"] is None


def test_a_difference_and_its_p_are_those_of_delong_over_patients_by_loops(study):
    for row in read(study, "differences"):
        ours, ups, downs = kernel_mean(study, names("moco", row["fraction"], 2))
        theirs, _, _ = kernel_mean(study, names("imagenet", row["fraction"]))
        gap, error = (ours - theirs).mean(), np.sqrt(slow_variance(ours - theirs, ups, downs).sum())
        assert row["difference"] == pytest.approx(gap, abs=1e-12)
        plain = gap + 1.959964 * error * np.array([-1, 1])  # the wider of this and MOVER's
        assert plain[0] - 0.01 < row["low"] <= plain[0] + 1e-7
        assert plain[1] + 0.01 > row["high"] >= plain[1] - 1e-7
        below, above = norm.sf((gap + 0.02) / error), norm.cdf((gap - 0.02) / error)
        for name, p in (
            ("p", 2 * norm.sf(abs(gap) / error)),
            ("p_noninferior", below),
            ("p_equivalent", max(below, above)),
        ):
            assert p > 0.5 or max(3 * p, 1e-3) > row[name] >= p * (1 - 1e-7), name
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)
        low, high = (row["low"], row["high"]) if row["p_total"] is None else (row["low_total"], row["high_total"])
        assert row["verdict"] == ("better" if low > 0 else "worse" if high < 0 else "no difference shown")


def test_the_interval_over_draws_and_runs_too_is_never_narrower_than_that_over_patients_and_leads(study):
    for row, source in zip(read(study, "differences"), read(study, "variance"), strict=True):
        assert (source["low"], source["high"]) == (row["low_total"], row["high_total"])
        assert row["low_total"] <= row["low"] < row["high"] <= row["high_total"]
        assert row["p_total"] >= row["p"]
        assert (row["p_total"] < 0.05) == (row["low_total"] > 0 or row["high_total"] < 0)


def test_the_papers_interval_is_the_percentile_one_of_resampled_patients(study):
    row = read(study, "differences", fraction=0.1)[0]
    first = study.images(names("moco", 0.1)[0])
    resamples = patient_resamples(first["patient"].to_numpy(), 200, 0)

    def pairs(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        positive, score = table["label"].to_numpy() == 1, table["score"].to_numpy()
        above = np.sign(score[positive][:, None] - score[~positive]) / 2 + 0.5
        return positive, above

    tables = {
        arm: [pairs(study.images(one)) for one in names(arm, 0.1, runs)] for arm, runs in (("moco", 2), ("imagenet", 1))
    }

    def mean_area(arm: str, weights: np.ndarray) -> float:
        def area(positive: np.ndarray, above: np.ndarray) -> float:
            of_class = weights[positive], weights[~positive]
            return of_class[0] @ above @ of_class[1] / (of_class[0].sum() * of_class[1].sum())

        return float(np.mean([area(*table) for table in tables[arm]]))

    gaps = []
    for weights in resamples.weights_BU:
        heavy = weights[resamples.unit_N].astype(float)
        gaps.append(mean_area("moco", heavy) - mean_area("imagenet", heavy))
    ends = np.percentile(gaps, [2.5, 97.5])
    assert (row["low_bootstrap"], row["high_bootstrap"]) == pytest.approx(tuple(ends), abs=1e-12)
    count = min(np.sum(np.array(gaps) <= 0), np.sum(np.array(gaps) >= 0))
    assert row["p_bootstrap"] == pytest.approx(2 * (1 + count) / 201)


def test_p_is_adjusted_for_the_comparisons_of_the_file(study):
    rows = read(study, "differences")
    p = np.array([row["p"] if row["p_total"] is None else row["p_total"] for row in rows])
    assert [row["p_bh"] for row in rows] == pytest.approx(false_discovery_control(p).tolist(), rel=1e-12)
    order, running, slow = np.argsort(p), 0.0, {}
    for rank, place in enumerate(order):
        running = slow[place] = max(running, min(1.0, p[place] * (len(p) - rank)))
    assert [row["p_holm"] for row in rows] == pytest.approx([slow[i] for i in range(len(p))], rel=1e-12)


def test_the_variance_is_split_over_draws_and_runs_as_an_analysis_of_variance_says(study):
    row = read(study, "variance", fraction=0.1)[0]
    table = np.array(
        [
            [
                roc_auc_score(*study.images(f"Finding-linear-moco-{r}-0.1-{d}").select("label", "score"))
                - roc_auc_score(*study.images(f"Finding-linear-imagenet-0-0.1-{d}").select("label", "score"))
                for r in range(2)
            ]
            for d in range(3)
        ]
    )
    assert (row["count_draws"], row["count_runs"]) == (3, 2)
    assert row["difference"] == pytest.approx(table.mean(), abs=1e-12)
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    squares = {"draw_x_run": (left**2).sum() / 2, "draws": 2 * table.mean(axis=1).var(ddof=1)}
    squares["runs"] = 3 * table.mean(axis=0).var(ddof=1)
    assert row["draw_x_run"] <= squares["draw_x_run"] + 1e-12
    assert row["draws"] <= max(0.0, squares["draws"]) / 2 + 1e-12
    assert row["standard_error"] ** 2 >= row["patients"]
    whole = read(study, "variance", fraction=1.0)[0]
    assert (whole["count_draws"], whole["draws"], whole["draw_x_run"]) == (1, None, None)
    assert "One label subset" in whole["words"]
    wide = read(study, "differences", fraction=0.1)[0]
    assert (wide["low_total"], wide["high_total"]) == (row["low"], row["high"])
    assert "label subsets and pretraining runs" in wide["words"]
    assert "It says nothing about other label subsets." in read(study, "differences", fraction=1.0)[0]["words"]


def test_labels_saved_is_the_references_curve_read_backwards(study):
    curve = [read(study, "cells", arm="imagenet", fraction=f)[0]["auroc"] for f in FRACTIONS]
    assert (np.diff(curve) > 0).all()
    counts = np.log([IMAGES[f] for f in FRACTIONS])
    seen = set()
    for row in read(study, "labels_saved"):
        reached = read(study, "cells", arm="moco", fraction=row["fraction"])[0]["auroc"]
        assert row["train_images"] == IMAGES[row["fraction"]]
        if reached > curve[-1]:
            assert row["reference_images"] == "more than 2,000"
            assert row["factor"] is None
            seen.add("more")
        else:
            needed = np.exp(np.interp(reached, curve, counts))
            assert float(row["reference_images"]) == pytest.approx(needed, rel=1e-5)
            assert row["factor"] == pytest.approx(needed / row["train_images"], rel=1e-9)
            seen.add("exactly")
    assert seen == {"more", "exactly"}


def test_a_forecast_is_the_power_law_through_the_cells_of_an_arm(study):
    _, facts = judged(study)
    for curve in facts["learning_curves"]:
        cells = [read(study, "cells", arm=curve["arm"], fraction=f)[0] for f in FRACTIONS]
        assert curve["auroc"] == pytest.approx([row["auroc"] for row in cells], abs=1e-9)
        assert curve["labels"] == [IMAGES[f] for f in FRACTIONS]
        for row, variance, draws in zip(cells, np.diag(curve["covariance"]), (3, 3, 1), strict=True):
            patients = variance - 0.005**2 - 0.25 / IMAGES[row["fraction"]] / draws  # of resamples
            assert np.sqrt(patients) == pytest.approx((row["high"] - row["low"]) / 3.92, rel=0.25)
        curves = metrics.forecast(curve["labels"], curve["auroc"], curve["covariance"], 2000, spread=0.5 / 2000**0.5)
        for times, row in zip((1, 2, 4), read(study, "forecast", arm=curve["arm"]), strict=True):
            ours = curves.at(2000 * times, 0.9)
            assert (row["times"], row["labels"]) == (times, 2000 * times)
            assert [row["auroc"], row["low"], row["high"]] == pytest.approx([ours.value, ours.low, ours.high])
            assert row["reason"] == ours.reason


def test_what_no_curve_can_tell_is_not_forecast(tmp_path):
    two = scored_study(tmp_path / "two", fractions=(0.1, 1.0), runs={"imagenet": 1})
    few = scored_study(tmp_path / "few", patients=30, runs={"imagenet": 1})
    for scored, fractions, why in ((two, (0.1, 1.0), "has 2"), (few, FRACTIONS, "fewer than 10")):
        judged(scored, fractions=fractions, arms=["imagenet"])
        rows = read(scored, "forecast")
        assert [row["auroc"] for row in rows] == [None] * 3
        assert all(row["reason"].startswith("It cannot be said yet: ") and why in row["reason"] for row in rows)


def platt(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Intercept and slope by scipy, with Platt's soft targets."""
    ups, downs = labels.sum(), (1 - labels).sum()
    soft = np.where(labels == 1, (ups + 1) / (ups + 2), 1 / (downs + 2))
    x = np.log(scores / (1 - scores))

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * x
        return float(np.sum(np.logaddexp(0, z) - soft * z))

    return minimize(loss, [0.0, 1.0], method="BFGS", options={"gtol": 1e-10}).x


def test_calibration_and_threshold_come_from_the_validation_images_and_are_judged_on_the_test_images(study):
    for row in read(study, "calibration"):
        trial = names(row["arm"], row["fraction"])[0]
        valid, tested = study.images(trial, "validation"), study.images(trial)
        scores, labels = (valid[name].to_numpy().astype(float) for name in ("score", "label"))
        assert (row["draw"], row["n_validation"], row["validation_positives"]) == (0, 120, labels.sum())
        ups = np.sort(scores[labels == 1])[::-1]
        assert row["threshold"] == just_below(scores, ups[int(np.ceil(0.9 * len(ups))) - 1])
        called = tested["score"].to_numpy() >= row["threshold"]
        truth = tested["label"].to_numpy() == 1
        assert row["sensitivity"] == pytest.approx(called[truth].mean())
        assert row["specificity"] == pytest.approx((~called)[~truth].mean())
        assert (row["ppv"], row["npv"]) == pytest.approx((truth[called].mean(), (~truth)[~called].mean()))
        assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]
        intercept, slope = platt(scores, labels)
        raw = tested["score"].to_numpy()
        x = np.log(raw / (1 - raw))
        p = 1 / (1 + np.exp(-(intercept + slope * x)))
        assert row["brier"] == pytest.approx(brier_score_loss(truth, p), abs=1e-6)
        again = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit((intercept + slope * x)[:, None], truth)
        assert row["slope"] == pytest.approx(again.coef_[0, 0], abs=1e-3)
        assert 0.5 < row["slope"] < 2 < 1 / slope  # the scores were three times too sure
        bins = read(study, "reliability", arm=row["arm"], fraction=row["fraction"])
        assert sum(one["count"] for one in bins) == 320
        ece = sum(one["count"] * abs(one["observed"] - one["mean_probability"]) for one in bins) / 320
        assert row["ece"] == pytest.approx(ece, abs=1e-12)
        for one in read(study, "prevalence", arm=row["arm"], fraction=row["fraction"]):
            hits, alarms = (one["prevalence"] * row["sensitivity"], (1 - one["prevalence"]) * (1 - row["specificity"]))
            assert one["ppv"] == pytest.approx(hits / (hits + alarms))


def test_sensitivity_and_specificity_are_compared_each_arm_at_its_own_threshold(study):
    rows = read(study, "threshold_differences")
    assert len(rows) == 2 * len(read(study, "differences"))
    for row in rows:
        right = []
        for arm in (row["arm"], row["against"]):
            images = study.images(names(arm, row["fraction"])[0])
            (point,) = read(study, "calibration", arm=arm, fraction=row["fraction"])
            called = images["score"].to_numpy() >= point["threshold"]
            rows_of = images["label"].to_numpy() == (row["rate"] == "sensitivity")
            right.append((called == (row["rate"] == "sensitivity"))[rows_of])
        assert row["difference"] == pytest.approx(right[0].mean() - right[1].mean(), abs=1e-12)
        assert row["only_arm"] == (right[0] & ~right[1]).sum()
        assert row["only_reference"] == (right[1] & ~right[0]).sum()
        assert row["low"] <= row["difference"] <= row["high"]


def test_test_labels_change_neither_calibration_nor_threshold(tmp_path):
    one, two = (scored_study(tmp_path / name, fractions=(1.0,)) for name in "ab")
    for file in (two.out / "predictions").iterdir():
        table = pl.read_parquet(file)
        table.with_columns(label=(1 - pl.col("label")).cast(pl.Int8)).write_parquet(file)
    thresholds = []
    for scored in (one, two):
        judged(scored, fractions=(1.0,))
        thresholds.append([row["threshold"] for row in read(scored, "calibration")])
    assert thresholds[0] == thresholds[1]
    for a, b in zip(read(one, "reliability"), read(two, "reliability"), strict=True):
        assert a["mean_probability"] == b["mean_probability"]


def test_a_primary_comparison_named_in_advance_is_tested_first_and_the_others_behind_it(tmp_path):
    scored = scored_study(tmp_path, gain={"imagenet": 0.8, "moco": 1.0, "better": 2.2}, fractions=(0.1, 1.0))
    design = {"arms": ["imagenet", "moco", "better"], "fractions": (0.1, 1.0)}
    for arm, fraction in (("better", 1.0), ("moco", 0.1)):
        primary = {"target": "Finding", "mode": "linear", "fraction": fraction, "arm": arm, "against": "imagenet"}
        _, facts = judged(scored, **design, primary=primary)
        assert (facts["primary"], facts["prespecified"]) == (primary, True)
        assert "tested first" in facts["tests"]["words"]
        rows = read(scored, "differences")
        leading = [row["p"] if row["p_total"] is None else row["p_total"] for row in rows]
        (first,) = [i for i, row in enumerate(rows) if (row["arm"], row["fraction"]) == (arm, fraction)]
        assert rows[first]["p_holm"] == leading[first]
        others = [i for i in range(4) if i != first]
        order = sorted(others, key=lambda i: leading[i])
        stepped = np.maximum.accumulate([leading[i] * (3 - k) for k, i in enumerate(order)])
        for i, p in zip(order, stepped, strict=True):
            assert rows[i]["p_holm"] == pytest.approx(min(1, max(p, leading[first])), rel=1e-12)
    assert judged(scored, **design)[1]["prespecified"] is False


def test_the_spread_of_decisions_is_that_of_every_trial_at_its_own_threshold_and_calibration(study):
    for arm, runs, fraction in (("imagenet", 1, 0.1), ("moco", 2, 0.1), ("moco", 2, 1.0)):
        numbers = []
        for trial in names(arm, fraction, runs):
            valid, test = study.images(trial, "validation"), study.images(trial)
            labels = valid["label"].to_numpy()
            scores, y = test["score"].to_numpy(), test["label"].to_numpy()
            reached = np.sort(valid["score"].to_numpy()[labels == 1])[::-1][int(np.ceil(0.9 * labels.sum() - 1e-9)) - 1]
            threshold = just_below(valid["score"].to_numpy(), reached)
            soft = np.where(labels == 1, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((1 - labels).sum() + 2))
            a, b = minimize(platt_loss, [1, 0], args=(logit(valid["score"].to_numpy()), soft)).x
            brier = brier_score_loss(y, expit(a * logit(scores) + b))
            called = scores >= threshold
            numbers.append([threshold, called[y == 1].mean(), 1 - called[y == 0].mean(), brier])
        (row,) = read(study, "decisions", arm=arm, fraction=fraction)
        assert row["classifiers"] == len(numbers)
        for i, name in enumerate(("threshold", "sensitivity", "specificity", "brier")):
            column = np.array(numbers)[:, i]
            found = [row[name], row[f"{name}_median"], row[f"{name}_least"], row[f"{name}_most"]]
            assert found == pytest.approx([column[0], np.median(column), column.min(), column.max()], abs=1e-5)


@pytest.mark.parametrize("unit", ["image", "patient"])
def test_the_errors_listed_are_the_wrong_calls_farthest_from_the_threshold(tmp_path, unit):
    scored = scored_study(tmp_path, fractions=(1.0,), seed=4)
    judged(scored, judging(replicates=200, unit=unit), fractions=(1.0,))
    for arm in ("imagenet", "moco"):
        table = scored.images(names(arm, 1.0)[0])
        if unit == "patient":
            table = table.group_by("patient").agg(pl.col("label").max(), pl.col("score").max())
        threshold = read(scored, "calibration", arm=arm)[0]["threshold"]
        for kind, label in (("false negative", 1), ("false positive", 0)):
            wrong = table.filter((pl.col("label") == label) & ((pl.col("score") >= threshold) == (label == 0)))
            worst = wrong.sort("score", descending=label == 0).head(10)
            rows = read(scored, "errors", arm=arm, kind=kind)
            assert [row["rank"] for row in rows] == list(range(1, len(worst) + 1))
            assert [row["score"] for row in rows] == pytest.approx(worst["score"].to_list())
            assert [row["patient"] for row in rows] == worst["patient"].to_list()
            assert [row["path"] for row in rows] == (
                worst["path"].to_list() if unit == "image" else [None] * len(worst)
            )
            assert all(0 < row["probability"] < 1 for row in rows)


def platt_loss(ab: np.ndarray, x: np.ndarray, soft: np.ndarray) -> float:
    line = ab[0] * x + ab[1]
    return float(np.mean(np.logaddexp(0, line) - soft * line))


def test_net_benefit_o_e_and_curve_are_of_the_calibrated_probabilities_of_the_first_trial(study):
    for arm in ("imagenet", "moco"):
        test, valid = (study.images(names(arm, 0.1)[0], folder) for folder in ("predictions", "validation"))
        y, target = valid["label"].to_numpy(), test["label"].to_numpy()
        soft = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
        x, at = logit(valid["score"].to_numpy()), logit(test["score"].to_numpy())
        a, b = minimize(platt_loss, [1, 0], args=(x, soft)).x
        p = expit(a * at + b)
        cell = read(study, "calibration", arm=arm, fraction=0.1)[0]
        assert cell["observed_expected"] == pytest.approx(target.sum() / p.sum(), rel=1e-4)
        ratio = cell["sensitivity"] / (1 - cell["specificity"])
        assert cell["lr_positive"] == pytest.approx(ratio)
        assert cell["lr_positive_low"] < ratio < cell["lr_positive_high"]
        rows = {row["threshold"]: row for row in read(study, "decision_curve", arm=arm, fraction=0.1)}
        worth = np.where(target == 1, 1, -0.25)
        assert rows[0.2]["model"] == pytest.approx((worth * (p >= 0.2)).mean(), abs=2e-3)
        assert rows[0.2]["all_positive"] == pytest.approx(worth.mean(), abs=1e-12)
        curve = read(study, "smooth_calibration", arm=arm, fraction=0.1)
        assert [row["point"] for row in curve] == list(range(25))
        assert all(row["low"] < row["observed"] < row["high"] for row in curve)


def test_a_target_that_is_a_value_of_a_column_is_not_judged_in_the_groups_of_that_column(tmp_path):
    scored = scored_study(tmp_path, fractions=(1.0,), targets=("sex=M", "Finding"))
    judged(scored, fractions=(1.0,), targets=["sex=M", "Finding"])
    found = {
        target: {row["attribute"] for row in read(scored, "subgroups", target=target)}
        for target in ("sex=M", "Finding")
    }
    assert found["Finding"] - found["sex=M"] == {"sex"}
    assert found["sex=M"]


def test_groups_are_judged_on_the_mean_over_trials_and_small_ones_get_words(study):
    judged(study, judging(replicates=200, margin=0.02), subgroup=["sex", "age", "site"])
    index = study.store.index
    for arm, runs in (("imagenet", 1), ("moco", 2)):
        rows = read(study, "subgroups", arm=arm, fraction=0.1)
        found = {row["group"]: row for row in rows if row["attribute"] == "sex"}
        for sex, row in found.items():
            kept = (index["sex"] == sex).to_numpy()
            tables = [study.images(one).filter(kept) for one in names(arm, 0.1, runs)]
            area = np.mean([roc_auc_score(f["label"], f["score"]) for f in tables])
            assert row["auroc"] == pytest.approx(area, abs=1e-12)
            assert (row["n"], row["patients"]) == (kept.sum(), index["patient"].filter(kept).n_unique())
        gaps = [row for row in found.values() if row["gap"] is not None]
        assert len(gaps) == 1
        other = next(row for row in found.values() if row["gap"] is None)
        assert gaps[0]["against_group"] == other["group"]
        assert gaps[0]["gap"] == pytest.approx(gaps[0]["auroc"] - other["auroc"], abs=1e-12)
        for row in rows:
            if row["gap"] is not None:
                assert row["flagged"] == int(row["gap_low"] > 0 or row["gap_high"] < 0)
                assert row["p_holm"] <= 1
        trial = study.images(names(arm, 0.1)[0])
        cell = next(iter(read(study, "calibration", arm=arm, fraction=0.1)))
        for row in read(study, "subgroup_rates", arm=arm, fraction=0.1, attribute="sex"):
            kept = trial.filter((index["sex"] == row["group"]).to_numpy())
            calls = (kept["score"] >= cell["threshold"]).cast(int)
            if row["rate"] != "observed_expected":
                sick = int(row["rate"] == "sensitivity")
                rate = (calls == kept["label"]).filter(kept["label"] == sick).mean()
                assert row["value"] == pytest.approx(rate, abs=1e-12)
            else:
                assert 0 < row["value_low"] < row["value"] < row["value_high"]
            assert (row["gap"] is None) == (row["group"] == row["against_group"])
        words = read(study, "subgroup_rates", arm=arm, fraction=0.1, group="tiny")
        assert [row["value"] for row in words] == [None] * 3
        assert all("fewer than 10" in row["reason"] for row in words)
        tiny = next(row for row in rows if row["group"] == "tiny")
        assert (tiny["auroc"], tiny["gap"], tiny["flagged"]) == (None, None, None)
        assert "fewer than 10" in tiny["reason"]
        assert {row["group"] for row in rows if row["attribute"] == "age"} == {
            "18 to 39", "40 to 59", "60 to 79", "80 and over",
        }  # fmt: skip


def test_three_positive_patients_give_words_no_p_and_no_asterisk(tmp_path):
    scored = scored_study(tmp_path, patients=100, prevalence=0.03, gain={"imagenet": 0.5, "moco": 4.0})
    tables, facts = judged(scored)
    for row in read(scored, "differences"):
        assert row["verdict"] == "too few"
        assert [row[name] for name in ("p", "p_bootstrap", "p_holm", "p_bh")] == [None] * 4
        assert "3 positive test patients" in row["words"] == row["reason"]
        assert row["difference"] is not None
    for row in read(scored, "cells"):
        assert row["low"] < row["auroc"] <= row["high"]
        assert "3 positive test patients" in row["warning"]
    assert all("Too few" in row["reason"] for row in read(scored, "labels_saved"))
    assert all("too few" in row["reason"].lower() and row["brier"] is None for row in read(scored, "calibration"))
    said = summary(tables, facts["primary"])
    assert "*" not in said
    assert said.count("(too few)") == 3
    assert said.splitlines()[-1].endswith("no test is made of the difference.")
    assert facts["planning"]["Finding"]["patients"] is None
    assert facts["tests"]["too_few"] == 3


def test_one_positive_patient_has_a_point_and_the_reason_why_there_is_no_interval(tmp_path):
    scored = scored_study(tmp_path, patients=60, prevalence=1 / 60, images=1, fractions=(1.0,))
    judged(scored, fractions=(1.0,))
    for row in read(scored, "cells"):
        assert row["auroc"] is not None
        assert row["low"] is None
        assert "1 positive" in row["reason"] or "1 patient" in row["reason"]
    gap = read(scored, "differences")[0]
    assert (gap["low"], gap["p"], gap["verdict"]) == (None, None, "too few")


def test_the_summary_marks_what_is_shown_and_ends_with_the_primary_comparison(study):
    tables, facts = judged(study, judging(replicates=200, margin=0.02))
    lines = summary(tables, facts["primary"]).splitlines()
    rows = {row["fraction"]: row for row in read(study, "differences")}
    for line, fraction in zip(lines, FRACTIONS, strict=False):
        assert line.endswith("*") == (rows[fraction]["verdict"] in ("better", "worse"))
    assert lines[-1].startswith("moco against imagenet (Finding, linear, 1 % of the labels): ")
    assert lines[-1].endswith(rows[0.01]["words"])
    assert "over other test patients" in lines[-1]


def plain_error(scored, fraction: float) -> float:
    """DeLong's standard error of the difference of two arms."""
    trials = {
        arm: [r for r in scored.records if r["arm"] == arm and r["fraction"] == fraction]
        for arm in ("moco", "imagenet")
    }
    tables = {arm: [scored.images(r["id"]) for r in records] for arm, records in trials.items()}
    first, scores = tables["moco"][0], {arm: np.stack([t["score"] for t in of]) for arm, of in tables.items()}
    return clustered_paired(first["label"], scores["moco"], scores["imagenet"], first["patient"]).variance ** 0.5


def test_as_many_patients_as_are_planned_would_give_the_planned_power(study):
    _, facts = judged(study, judging(replicates=200, margin=0.02))
    plan = facts["planning"]["Finding"]
    error = plain_error(study, 0.01)
    moved = error * np.sqrt(160 / plan["patients"])
    assert norm.sf(1.959964 - 0.03 / moved) == pytest.approx(0.8, abs=0.005)


def test_near_guessing_no_patients_are_counted_and_the_next_share_of_labels_is_taken(tmp_path):
    shares = (0.1, 1.0)
    scored = scored_study(tmp_path, gain={"imagenet": 0.45, "moco": 1.6}, fractions=shares, seed=1)
    _, facts = judged(scored, fractions=shares)
    plan = facts["planning"]["Finding"]
    first, last = read(scored, "cells", arm="imagenet")
    assert facts["primary"]["fraction"] == 0.1
    assert first["auroc"] < 0.6 <= last["auroc"]
    error = plain_error(scored, 1.0)
    assert plan["patients"] == pytest.approx(160 * (error * (norm.ppf(0.975) + norm.ppf(0.8)) / 0.03) ** 2, abs=1)
    assert "Worked out at 100 % of the labels, the least with which both arms reach" in plan["words"]
    lost = scored_study(tmp_path / "lost", gain={"imagenet": 0.1, "moco": 0.2}, fractions=(0.1,))
    plan = judged(lost, fractions=(0.1,))[1]["planning"]["Finding"]
    assert plan["patients"] is None
    assert "at no share of the labels do both arms reach an AUROC of 0.6" in plan["words"]


def test_nothing_is_shown_against_a_margin_where_the_reference_may_guess(tmp_path):
    scored = scored_study(tmp_path, gain={"imagenet": 0.0, "moco": 1.6}, fractions=(1.0,))
    judged(scored, judging(replicates=200, margin=0.05), fractions=(1.0,))
    (row,) = read(scored, "differences")
    assert row["p"] is not None
    assert (row["margin"], row["p_noninferior"], row["p_equivalent"]) == (0.05, None, None)
    assert row["margin_words"].startswith("Not judged: the reference is not shown to be better than chance")


def test_a_threshold_that_calls_all_images_positive_leaves_npv_out_with_the_reason(tmp_path):
    scored = scored_study(tmp_path, fractions=(1.0,))
    for trial in ("Finding-linear-imagenet-0-1-0", "Finding-linear-moco-0-1-0"):
        images = scored.images(trial, "validation")
        lowest = (images["label"] == 1) & (images["label"].cum_sum() == 1)
        images = images.with_columns(score=pl.when(lowest).then(0.0).otherwise(pl.col("score")))
        images.write_parquet(scored.out / "validation" / f"{trial}.parquet")
    judged(scored, judging(replicates=200, sensitivity=1.0), fractions=(1.0,))
    for name in ("calibration", "prevalence"):
        for row in read(scored, name):
            assert row["ppv"] is not None
            assert (row["npv"], row["npv_low"]) == (None, None)
            both = "; LR−: no row is called negative" if name == "calibration" else ""
            assert row["reason"] == f"NPV: no row is called negative{both}"


def test_without_validation_images_calibration_says_so(tmp_path):
    bare = scored_study(tmp_path / "bare", validation=0, fractions=(1.0,))
    few = scored_study(tmp_path / "few", validation=12, fractions=(1.0,))
    for scored, words in ((bare, "no validation images"), (few, "4 positive validation patients")):
        judged(scored, fractions=(1.0,))
        for row in read(scored, "calibration"):
            assert (row["brier"], row["threshold"], row["sensitivity"]) == (None, None, None)
            assert words in row["reason"]
        assert read(scored, "reliability") == read(scored, "prevalence") == []


def test_patients_that_are_judged_as_one_unit_have_the_group_of_all_their_images(tmp_path):
    scored = scored_study(tmp_path, fractions=(1.0,))
    judged(
        scored, judging(unit="patient", aggregate="mean", replicates=200), fractions=(1.0,), subgroup=["view", "sex"]
    )
    rows = read(scored, "subgroups", arm="moco")
    views = scored.store.index.group_by("patient").agg(pl.col("view").unique(), pl.col("sex").first())
    one = views.filter(pl.col("view").list.len() == 1)
    assert sum(row["n"] for row in rows if row["attribute"] == "view") == len(one) < 160
    assert sum(row["n"] for row in rows if row["attribute"] == "sex") == 160
    assert read(scored, "calibration")[0]["n_validation"] == 60


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    make_store(folder, patients=30)
    save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=1), folder / "run", {})
    return folder


def command(place: Path, out: Path, **changed) -> Path:
    given = {
        "store": place / "store", "out": out, "target": ["Finding"], "arm": ["random", f"moco={place / 'run'}"],
        "fraction": [1.0], "replicates": 200, "device": "cpu", "jobs": 1,
    }  # fmt: skip
    return run_study(given | changed)


@pytest.fixture(scope="module")
def real(place: Path, tmp_path_factory) -> Path:
    return command(place, tmp_path_factory.mktemp("real") / "study")


def test_a_trial_keeps_scores_of_the_validation_images_apart_from_what_it_trained_on(real, place):
    split = dict(Store.open(place / "store").splits.rows())
    files = sorted((real / "validation").iterdir())
    assert [file.name for file in files] == [file.name for file in sorted((real / "predictions").iterdir())]
    for file in files:
        table = pl.read_parquet(file)
        assert table.columns == ["path", "patient", "study", "label", "score"]
        assert {split[p] for p in table["patient"]} == {"val"}
    facts = json.loads((real / "study.json").read_text())
    assert facts["validation_labels"] == {"linear": 0}
    assert facts["calibration_labels"] == {"Finding": len(table)} != {"Finding": 0}
    assert set(facts["planning"]) == {"Finding"}
    assert facts["tests"]["differences"] + facts["tests"]["too_few"] == 1


def test_other_ways_of_judging_train_nothing_and_a_lost_validation_file_does(real, place, capsys):
    command(place, real, margin=0.1, sensitivity=0.8, subgroup=["sex", "site"], group_minimum=2)
    assert "2 of 2 trials are done already" in capsys.readouterr().err
    assert {row["attribute"] for row in pl.read_csv(real / "subgroups.csv").rows(named=True)} == {"sex", "site"}
    gone = sorted((real / "validation").iterdir())[0]
    before = gone.read_bytes()
    gone.unlink()
    command(place, real)
    assert "1 of 2 trials are done already" in capsys.readouterr().err
    assert gone.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["Finding", "Finding:linear", "Finding:1", "Finding:1.0:moco", "Finding:moco:linear:1"]
)
def test_parts_of_a_primary_comparison_may_come_in_any_order_or_be_left_out(text):
    arms = tuple(Arm(name, (), ()) for name in ("random", "moco", "other"))
    images = TargetData(None, {}, nothing := np.empty(0, dtype=np.int64), nothing)
    design = Design(images, images, arms, "random", ("linear", "lpft"), ("Finding", "Finding:2"), (1.0, 0.1), (), None)
    found = read_primary(text, design)
    fraction = 1.0 if "1" in text else 0.1
    assert found == {"target": "Finding", "mode": "linear", "fraction": fraction, "arm": "moco", "against": "random"}
    assert read_primary("Finding:2:lpft:other", design)["target"] == "Finding:2"
    numbered = replace(design, arms=(*arms[:2], Arm("007", (), ())))
    assert read_primary("Finding:007", numbered) == {
        "target": "Finding",
        "mode": "linear",
        "fraction": 0.1,
        "arm": "007",
        "against": "random",
    }


@pytest.mark.parametrize(
    "changed",
    [{"primary": "Nothing"}, {"primary": "Finding:finetune"}, {"primary": "Finding:0.5"}, {"primary": "Finding:random"},
     {"primary": "Finding:linear:linear"},
     {"margin": 0.0}, {"margin": 1.0}, {"sensitivity": 0.0}, {"sensitivity": 1.1}, {"group_minimum": 1},
     {"subgroup": ["ward"]}, {"subgroup": ["noise"]}],
)  # fmt: skip
def test_ways_of_judging_that_cannot_be_write_nothing(place, tmp_path, changed):
    with pytest.raises(InputError, match="--" + next(iter(changed)).replace("_", "-")):
        command(place, tmp_path / "study", **changed)
    assert not (tmp_path / "study").exists()
