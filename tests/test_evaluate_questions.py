"""What `evaluate` answers beyond one AUROC: the interval to quote, thresholds, calibration, groups, several labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binomtest, bootstrap, norm
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    roc_auc_score,
    roc_curve,
)

from mococxr import metrics
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.evaluation.comparing import Pair, left_out, measured
from mococxr.evaluation.predictions import PredictionFile, Rows
from mococxr.measure.measures import Resampling
from test_metrics_operating import just_below


def table(seed: int = 0, n: int = 240, gain: float = 1.2, images: int = 1, first: int = 0) -> pl.DataFrame:
    """Scores are probabilities; labels, patients and groups are those of the patients' numbers."""
    same = np.random.default_rng([7, first])
    labels = (same.random(n) < 0.35).astype(int)
    return pl.DataFrame(
        {
            "path": [f"image{first + i}.png" for i in range(n)],
            "patient": [f"p{first + i // images}" for i in range(n)],
            "TB": labels,
            "score": expit(np.random.default_rng(seed).normal(size=n) + gain * labels - 1),
            "sex": same.choice(["F", "M"], n, p=[0.4, 0.6]),
            "age": same.integers(18, 80, n),
        }
    )


def saved(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path)
    return path


def ask(path: Path, **more: Any) -> dict[str, Any]:
    given = {"label": "TB", "score": "score", "patient": "patient", "replicates": 200, **more}
    return run("evaluate", {"predictions": path, **given})


def arrays(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return frame["TB"].to_numpy(), frame["score"].to_numpy()


def ends(number: dict[str, Any]) -> list[float]:
    return [number["value"], number["low"], number["high"]]


# --- one table


def test_the_interval_to_quote_is_the_default_one_and_comes_first(tmp_path, capsys):
    frame = table(images=2)
    found = ask(saved(frame, tmp_path / "a.csv"))
    wanted = metrics.auroc_interval(*arrays(frame), frame["patient"].to_numpy())
    assert ends(found["interval"]) == [wanted.value, wanted.low, wanted.high]
    assert found["interval"]["warning"] is None
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("AUROC"))
    assert line.split()[1:5] == [f"{wanted.value:.3f}", f"{wanted.low:.3f}", "to", f"{wanted.high:.3f}"]
    few = ask(saved(frame.with_columns(TB=pl.Series([1, 0, 1] + [0] * 237)), tmp_path / "few.csv"))
    assert "the interval is only approximate" in few["interval"]["warning"]
    one = ask(saved(frame.with_columns(TB=pl.Series([1] + [0] * 239)), tmp_path / "one.csv"))
    assert (one["interval"]["low"], one["interval"]["value"] > 0) == (None, True)
    assert "needs two patients of each class" in one["interval"]["reason"]
    assert "fewer than 10; the interval is only approximate" in one["notes"][-1]


def test_bca_is_scipys(tmp_path):
    frame = table(n=120)
    labels, scores = arrays(frame)

    def area(y: np.ndarray, s: np.ndarray) -> float:
        above = s[y == 1][:, None] - s[y == 0][None]
        return float((above > 0).mean() + 0.5 * (above == 0).mean())

    found = ask(saved(frame, tmp_path / "a.csv"), bootstrap="bca", replicates=4000)["bootstrap"]
    oracle = bootstrap(
        (labels, scores),
        area,
        paired=True,
        vectorized=False,
        n_resamples=3000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found["method"] == "bca"
    assert (found["auroc"]["low"], found["auroc"]["high"]) == pytest.approx((oracle.low, oracle.high), abs=0.012)
    plain = ask(tmp_path / "a.csv", replicates=4000)["bootstrap"]
    assert plain["auroc"]["low"] != found["auroc"]["low"]


def test_average_precision_without_each_patient_is_scikit_learns_on_the_rows_that_are_left():
    frame = table(n=60, images=3)
    labels, scores = arrays(frame)
    patients = frame["patient"].to_numpy()
    found = metrics.jackknife(labels, scores[None], patients, metrics.average_precision_measure)[0]
    wanted = [average_precision_score(labels[patients != one], scores[patients != one]) for one in np.unique(patients)]
    assert np.allclose(found, wanted, rtol=0, atol=1e-12)


def test_stratified_resamples_hold_both_classes_always(tmp_path):
    path = saved(table(n=60).with_columns(TB=pl.Series([1, 1, 1] + [0] * 57)), tmp_path / "a.csv")
    assert ask(path)["bootstrap"]["undefined"] > 0
    stratified = ask(path, stratify=True)["bootstrap"]
    assert (stratified["undefined"], stratified["stratified"]) == (0, True)


# --- thresholds


def test_a_threshold_for_a_sensitivity_is_chosen_on_validation_and_judged_on_the_table(tmp_path):
    frame, other = table(), table(5, first=1000)
    a, v = saved(frame, tmp_path / "a.csv"), saved(other, tmp_path / "v.csv")
    point = ask(a, threshold="sensitivity=0.85", validation=v)["operating_point"]
    _, hits, thresholds = roc_curve(*arrays(other), drop_intermediate=False)
    assert point["threshold"] == just_below(arrays(other)[1], thresholds[np.argmax(hits >= 0.85)])
    labels, scores = arrays(frame)
    called = scores >= point["threshold"]
    tn, fp, fn, tp = confusion_matrix(labels, called).ravel()
    counts = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [point[name] for name in counts] == [tn, fp, fn, tp]
    assert point["ppv"]["value"] == pytest.approx(precision_score(labels, called))
    assert point["f1"]["value"] == pytest.approx(f1_score(labels, called))
    for name, top, bottom in (("sensitivity", tp, tp + fn), ("npv", tn, tn + fn)):
        wilson = binomtest(int(top), int(bottom)).proportion_ci(method="wilson")
        assert ends(point[name]) == pytest.approx([top / bottom, wilson.low, wilson.high], abs=1e-9)


def test_youdens_threshold_of_the_validation_table_is_that_of_its_roc_curve(tmp_path):
    a, v = saved(table(), tmp_path / "a.csv"), saved(table(5, first=1000), tmp_path / "v.csv")
    point = ask(a, threshold="youden", validation=v)["operating_point"]
    alarms, hits, thresholds = roc_curve(*arrays(table(5, first=1000)), drop_intermediate=False)
    scores = arrays(table(5, first=1000))[1]
    assert point["threshold"] == just_below(scores, thresholds[np.argmax(hits - alarms)])
    assert point["validation"] == str(v)


def test_two_tables_are_compared_at_a_threshold_that_both_have(tmp_path, capsys):
    ours, other = table(), table(1)
    a, b = saved(ours, tmp_path / "a.csv"), saved(other, tmp_path / "b.csv")
    found = ask(a, against=b, threshold="0.4")["operating_point"]["difference"]
    labels, score = arrays(ours)
    called, others = score >= 0.4, arrays(other)[1] >= 0.4
    sick = labels == 1
    gained, lost = int((called & ~others & sick).sum()), int((others & ~called & sick).sum())
    assert found["sensitivity"]["value"] == pytest.approx((gained - lost) / sick.sum(), abs=1e-12)
    assert found["sensitivity"]["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue, abs=1e-12)
    assert "sensitivity, less that of --against" in capsys.readouterr().out
    learned = ask(a, against=b, threshold="youden", validation=saved(table(3, first=900), tmp_path / "v.csv"))
    assert learned["operating_point"]["difference"]["reason"].startswith("only a threshold that is a number")
    assert ask(a, threshold="0.4")["operating_point"]["difference"] is None


def test_predictive_values_elsewhere_follow_bayes(tmp_path):
    point = ask(saved(table(), tmp_path / "a.csv"), threshold="0.4", prevalence=0.03)["operating_point"]
    hit, clear = point["sensitivity"]["value"], point["specificity"]["value"]
    ppv = hit * 0.03 / (hit * 0.03 + (1 - clear) * 0.97)
    npv = clear * 0.97 / (clear * 0.97 + (1 - hit) * 0.03)
    assert point["elsewhere"]["ppv"]["value"] == pytest.approx(ppv, abs=1e-12)
    assert point["elsewhere"]["npv"]["value"] == pytest.approx(npv, abs=1e-12)
    assert point["by"] == "given"


def test_images_of_one_patient_widen_the_interval_at_a_threshold(tmp_path):
    frame = table(images=1)
    again = pl.concat([frame] * 4)
    once = ask(saved(frame, tmp_path / "a.csv"), threshold="0.4")["operating_point"]["sensitivity"]
    four = ask(saved(again, tmp_path / "b.csv"), threshold="0.4")["operating_point"]["sensitivity"]
    assert four["method"] == "Wilson over patients"
    assert four["high"] - four["low"] > 0.8 * (once["high"] - once["low"])


@pytest.mark.parametrize("way", ["itself", "turned round", "as Parquet"])
def test_a_rule_may_not_learn_from_the_table_it_is_judged_on(way, tmp_path):
    frame = table()
    a = saved(frame, tmp_path / "a.csv")
    if way == "itself":
        v = a
    elif way == "turned round":
        v = saved(frame.reverse(), tmp_path / "v.csv")
    else:
        v = tmp_path / "v.parquet"
        frame.write_parquet(v)
    for asked in ({"threshold": "youden"}, {"calibrate": "platt"}):
        with pytest.raises(InputError, match="holds the labels and scores of") as refusal:
            ask(a, validation=v, json=tmp_path / "o.json", **asked)
        assert "other patients" in refusal.value.way_out
    assert not (tmp_path / "o.json").exists()


def test_patients_of_both_tables_are_counted_and_said(tmp_path, capsys):
    a = saved(table(), tmp_path / "a.csv")
    v = saved(table(5).head(100), tmp_path / "v.csv")
    found = ask(a, threshold="youden", validation=v)
    assert any("100 patients of" in note for note in found["notes"])
    assert "100 patients of" in capsys.readouterr().err


def test_nothing_is_learned_from_a_few_validation_patients(tmp_path):
    a, v = saved(table(), tmp_path / "a.csv"), saved(table(5, n=20, first=1000), tmp_path / "v.csv")
    found = ask(a, threshold="youden", validation=v, calibrate="platt")
    for block in (found["operating_point"], found["calibration"]):
        assert "validation patients, fewer than 10" in block["reason"]
    assert found["operating_point"]["threshold"] is None
    assert "sensitivity" not in found["operating_point"]
    assert "brier" not in found["calibration"]


# --- calibration


def test_probabilities_as_they_stand_are_judged_as_scikit_learn_does(tmp_path):
    frame = table(n=400)
    labels, scores = arrays(frame)
    found = ask(saved(frame, tmp_path / "a.csv"), calibration=True)["calibration"]
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    shares, means = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert [one["value"] for one in found["curve"]] == pytest.approx(shares, abs=1e-12)
    assert [one["mean_probability"] for one in found["curve"]] == pytest.approx(means, abs=1e-12)
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(scores)[:, None], labels)
    assert found["slope"]["value"] == pytest.approx(float(fit.coef_[0, 0]), abs=1e-4)
    shift = brentq(lambda a: (expit(logit(scores) + a) - labels).sum(), -5, 5, xtol=1e-12)
    assert found["intercept"]["value"] == pytest.approx(shift, abs=1e-8)
    assert found["parameters"] is None


@pytest.mark.parametrize("shape", ["probabilities", "margins"])
def test_platts_calibration_learns_from_the_validation_table_alone(tmp_path, shape):
    frame, other = table(), table(5, n=300, first=1000)
    if shape == "margins":
        frame, other = (one.with_columns(score=3 * pl.col("score") - 1) for one in (frame, other))
    a, v = saved(frame, tmp_path / "a.csv"), saved(other, tmp_path / "v.csv")
    found = ask(a, calibrate="platt", validation=v)["calibration"]
    labels, scores = arrays(other)
    x = logit(scores) if shape == "probabilities" else scores
    count, rest = labels.sum(), (1 - labels).sum()
    soft = np.where(labels == 1, (count + 1) / (count + 2), 1 / (rest + 2))
    twice = np.repeat([1, 0], labels.size)
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.tile(x, 2)[:, None], twice, sample_weight=np.concatenate([soft, 1 - soft])
    )
    assert found["parameters"]["slope"] == pytest.approx(float(fit.coef_[0, 0]), abs=1e-4)
    assert found["parameters"]["intercept"] == pytest.approx(float(fit.intercept_[0]), abs=1e-4)
    mine, ours = arrays(frame)
    given = logit(ours) if shape == "probabilities" else ours
    wanted = fit.predict_proba(given[:, None])[:, 1]
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(mine, wanted), abs=1e-6)
    assert found["scores_taken_for"] == ("probabilities" if shape == "probabilities" else "logits")


def test_isotonic_calibration_is_scikit_learns(tmp_path):
    frame, other = table(), table(5, n=300, first=1000)
    a, v = saved(frame, tmp_path / "a.csv"), saved(other, tmp_path / "v.csv")
    found = ask(a, calibrate="isotonic", validation=v)["calibration"]
    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logit(other["score"]), other["TB"])
    labels, scores = arrays(frame)
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(labels, fit.predict(logit(scores))), abs=1e-9)


def test_calibration_is_not_judged_on_a_few_patients(tmp_path, capsys):
    found = ask(saved(table(n=22), tmp_path / "a.csv"), calibration=True)["calibration"]
    assert "no calibration is judged" in found["reason"]
    assert "brier" not in found
    assert "not judged. Too few to judge" in capsys.readouterr().out


def test_calibration_has_o_e_a_decision_curve_and_a_curve_without_bins(tmp_path, capsys):
    frame = table(n=400)
    found = ask(saved(frame, tmp_path / "a.csv"), calibration=True, threshold="0.4")
    labels, scores = arrays(frame)
    block, point = found["calibration"], found["operating_point"]
    assert block["observed_expected"]["value"] == pytest.approx(labels.sum() / scores.sum(), abs=1e-12)
    for benefit in block["net_benefit"]:
        price = benefit["threshold"] / (1 - benefit["threshold"])
        called = scores >= benefit["threshold"]
        worth = ((called & (labels == 1)).sum() - price * (called & (labels == 0)).sum()) / labels.size
        assert benefit["model"]["value"] == pytest.approx(worth, abs=1e-12)
        assert benefit["gain"]["value"] == pytest.approx(worth - benefit["all_positive"]["value"], abs=1e-12)
    curve = block["smooth"]["curve"]
    assert len(curve) == 25
    assert all(at["low"] < at["observed"] < at["high"] for at in curve)
    sensitivity, specificity = point["sensitivity"]["value"], point["specificity"]["value"]
    assert point["lr_positive"]["value"] == pytest.approx(sensitivity / (1 - specificity))
    assert point["lr_negative"]["value"] == pytest.approx((1 - sensitivity) / specificity)
    shown = capsys.readouterr().out
    for words in ("positive likelihood ratio", "observed / expected positives", "net benefit at 20 %"):
        assert words in shown


def test_hard_scores_have_reasons_where_a_number_would_be_infinite_or_without_a_width(tmp_path, capsys):
    frame = table(n=80).with_columns(score=pl.col("TB").cast(float))
    found = ask(saved(frame, tmp_path / "a.csv"), calibration=True, threshold="0.5", json=tmp_path / "a.json")
    assert "NaN" not in (tmp_path / "a.json").read_text()
    assert "every patient is as expected" in found["calibration"]["observed_expected"]["reason"]
    assert "too few values" in found["calibration"]["smooth"]["reason"]
    assert (
        "no negative row is called positive: the ratio is infinite" in found["operating_point"]["lr_positive"]["reason"]
    )
    for benefit in found["calibration"]["net_benefit"]:
        assert benefit["model"]["low"] < benefit["model"]["high"]
    shown = capsys.readouterr().out
    assert "nan" not in shown
    assert "smooth reliability curve: none. the probabilities take too few values" in shown


# --- groups


def test_groups_have_their_own_auroc_their_gap_and_one_adjustment_for_all_columns(tmp_path):
    frame = table(n=500)
    found = ask(saved(frame, tmp_path / "a.csv"), subgroup=["sex", "age"])["subgroups"]
    assert [block["column"] for block in found] == ["sex", "age"]
    for group in found[0]["groups"]:
        rows = frame.filter(sex=group["name"])
        assert group["auroc"]["value"] == pytest.approx(roc_auc_score(*arrays(rows)), abs=1e-12)
        assert group["patients"] == len(rows)
    gap = found[0]["gaps"][0]
    assert (gap["group"], gap["against"]) == ("F", "M")
    assert gap["difference"] == pytest.approx(
        found[0]["groups"][0]["auroc"]["value"] - found[0]["groups"][1]["auroc"]["value"], abs=1e-12
    )
    assert {group["name"] for group in found[1]["groups"]} == {"18 to 39", "40 to 59", "60 to 79"}
    gaps = [gap for block in found for gap in block["gaps"]]
    p = sorted(gap["p"] for gap in gaps)
    assert min(gap["p_holm"] for gap in gaps) == min(1, 3 * p[0])


def test_ages_that_stand_in_bands_already_stay_in_them(tmp_path):
    frame = table(n=400)
    bands = frame.with_columns(age=pl.when(pl.col("age") < 50).then(pl.lit("young")).otherwise(pl.lit("old")))
    found = ask(saved(bands, tmp_path / "a.csv"), subgroup="age")["subgroups"][0]
    assert [group["name"] for group in found["groups"]] == ["old", "young"]


def test_a_group_that_is_served_worse_is_flagged_and_a_small_one_gets_words(tmp_path, capsys):
    frame = table(n=400, gain=2.5)
    worse = np.where(frame["sex"] == "F", np.random.default_rng(1).random(400), frame["score"])
    site = ["A"] * 385 + ["B"] * 12 + [None] * 3
    found = ask(
        saved(frame.with_columns(score=worse, site=pl.Series(site)), tmp_path / "a.csv"), subgroup=["sex", "site"]
    )["subgroups"]
    gap = found[0]["gaps"][0]
    assert gap["flagged"]
    assert gap["high"] < 0
    small = found[1]["groups"][1]
    assert small["auroc"]["value"] is None
    assert "no AUROC of this group is computed" in small["auroc"]["reason"]
    assert found[1]["left_out"] == 3
    assert found[1]["gaps"][0]["p"] is None
    assert "F minus M" in capsys.readouterr().out


def test_groups_at_the_threshold_have_rates_with_gaps_beside_the_auroc(tmp_path, capsys):
    frame = table(n=500)
    found = ask(saved(frame, tmp_path / "a.csv"), subgroup=["sex", "age"], threshold="0.4", calibration=True)[
        "subgroups"
    ]
    for group in found[0]["groups"]:
        rows = frame.filter(sex=group["name"])
        labels, scores = arrays(rows)
        tn, fp, fn, tp = confusion_matrix(labels, scores >= 0.4).ravel()
        assert group["sensitivity"]["value"] == pytest.approx(tp / (tp + fn), abs=1e-12)
        assert group["specificity"]["value"] == pytest.approx(tn / (tn + fp), abs=1e-12)
        assert group["observed_expected"]["value"] == pytest.approx(labels.sum() / scores.sum(), abs=1e-12)
        wilson = binomtest(int(tp), int(tp + fn)).proportion_ci(method="wilson")
        assert (group["sensitivity"]["low"], group["sensitivity"]["high"]) == pytest.approx(tuple(wilson), abs=1e-12)
    for rate in ("sensitivity", "specificity", "observed_expected"):
        gaps = [gap for block in found for gap in block["rate_gaps"][rate]]
        assert len(gaps) == 3
        assert min(gap["p_holm"] for gap in gaps) == min(1, 3 * min(gap["p"] for gap in gaps))
    shown = capsys.readouterr().out
    assert "Sensitivity by sex" in shown
    assert "Ratio of observed to expected positives by age" in shown
    plain = ask(saved(frame, tmp_path / "a.csv"), subgroup=["sex"])["subgroups"][0]
    assert (plain["rate_gaps"], "sensitivity" in plain["groups"][0]) == ({}, False)


# --- two tables


def test_margins_are_judged_by_two_one_sided_tests(tmp_path):
    a, b = saved(table(), tmp_path / "a.csv"), saved(table(1), tmp_path / "b.csv")
    found = ask(a, against=b, margin=0.08)
    comparison, margin = found["comparison"], found["margin"]
    value, error = comparison["value"], comparison["variance"] ** 0.5
    lower, upper = norm.sf((value + 0.08) / error), norm.cdf((value - 0.08) / error)  # of DeLong's interval alone
    assert 1.3 * lower > margin["noninferior"]["p"] >= lower - 1e-12
    assert 1.3 * max(lower, upper) > margin["equivalent"]["p"] >= max(lower, upper) - 1e-12
    assert margin["noninferior"]["low"] == comparison["low"]  # one-sided at 2.5 %: the 95 % interval
    assert comparison["low"] < margin["equivalent"]["low"] < value
    assert margin["noninferior"]["shown"] == (margin["noninferior"]["p"] < 0.025) == (comparison["low"] > -0.08)


def test_nothing_is_shown_against_a_margin_where_the_reference_may_guess(tmp_path, capsys):
    a = saved(table(), tmp_path / "a.csv")
    margin = ask(a, against=saved(table(1), tmp_path / "b.csv"), margin=0.08)["margin"]
    printed = capsys.readouterr().out
    assert f"alpha 0.025); equivalence: {margin['equivalent']['conclusion']}" in printed
    guessing = ask(a, against=saved(table(1, gain=0.0), tmp_path / "c.csv"), margin=0.08)["margin"]
    assert (guessing["margin"], guessing["noninferior"], guessing["equivalent"]) == (0.08, None, None)
    assert "not shown to be better than chance" in guessing["reason"]


def test_the_next_study_is_planned_from_the_variance_that_was_seen(tmp_path):
    a, b = saved(table(images=2), tmp_path / "a.csv"), saved(table(1, images=2), tmp_path / "b.csv")
    found = ask(a, against=b, target_difference=0.05)
    reach = norm.ppf(0.975) + norm.ppf(0.8)
    wanted = found["comparison"]["variance"] * 120 * (reach / 0.05) ** 2
    assert found["planning"]["patients"] == int(np.ceil(wanted))
    assert "To see a difference of 0.05" in found["planning"]["words"]


def test_the_comparison_to_quote_is_over_patients_and_says_over_what(tmp_path, capsys):
    first, second = table(images=3), table(1, images=3)
    a, b = saved(first, tmp_path / "a.csv"), saved(second, tmp_path / "b.csv")
    found = ask(a, against=b)
    wanted = metrics.clustered_paired(*arrays(first), second["score"], first["patient"].to_numpy())
    assert found["comparison"]["p"] == wanted.p
    assert found["comparison"]["words"] in capsys.readouterr().out
    assert "over other test patients" in found["comparison"]["words"]
    assert found["comparison"]["words"].endswith("The interval does not cover retraining either model.")
    assert found["difference"]["method"] == "bootstrap"


def test_three_positives_give_words_and_no_p_anywhere(tmp_path, capsys):
    few = pl.Series([1, 1, 1] + [0] * 237)
    a = saved(table().with_columns(TB=few), tmp_path / "a.csv")
    b = saved(table(1).with_columns(TB=few), tmp_path / "b.csv")
    found = ask(a, against=b, margin=0.1, json=tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text()) == found
    assert "3 positive test patients, fewer than 10" in found["comparison"]["words"]
    assert found["margin"]["noninferior"] is None
    assert [found[name]["p"] for name in ("difference", "comparison")] == [None, None]
    told = capsys.readouterr().out
    assert ", p " not in told
    assert "(p " not in told


def test_tables_of_different_patients_are_compared_unpaired(tmp_path):
    ours, theirs = table(), table(1, n=300, gain=0.8, first=1000)
    a, b = saved(ours, tmp_path / "a.csv"), saved(theirs, tmp_path / "b.csv")
    found = ask(a, against=b, unpaired=True)
    wanted = metrics.clustered_unpaired(*arrays(ours), None, *arrays(theirs), None)
    for block, result, names in (
        ("difference", wanted.delong, ("low", "high", "z", "p")),
        ("comparison", wanted, ("low", "high", "p")),
    ):
        for name in names:
            assert found[block][name] == pytest.approx(getattr(result, name), abs=1e-12)
    assert found["difference"]["method"] == "delong"
    assert found["against"]["n"] == 300
    assert (found["paired_by"], found["planning"]) == (None, None)
    spread = found["bootstrap"]["difference"]["variance"]
    assert spread == pytest.approx(wanted.variance, rel=0.35)
    bca = ask(a, against=b, unpaired=True, bootstrap="bca")["bootstrap"]["difference"]
    assert bca["low"] == pytest.approx(wanted.low, abs=0.03)


def test_the_resamples_of_unpaired_tables_are_drawn_apart(tmp_path):
    frame = table()
    a = saved(frame, tmp_path / "a.csv")
    b = saved(frame.with_columns(patient="q" + pl.col("patient")), tmp_path / "b.csv")
    found = ask(a, against=b, unpaired=True, replicates=2000)["bootstrap"]
    assert found["difference"]["variance"] == pytest.approx(2 * found["auroc"]["variance"], rel=0.15)


def test_bca_of_unpaired_tables_leaves_out_each_patient_of_either():
    frames = [table(n=40, images=2), table(1, n=30, images=2, first=1000)]
    how = Resampling(50, 0, 0.95, "bca", False)
    rows = [Rows("t", *arrays(frame), frame["patient"].to_numpy()) for frame in frames]
    pair = Pair(*rows, True)
    found = left_out(pair, *(measured(one, how)[1] for one in rows))
    wanted = []
    for place, frame in enumerate(frames):
        for one in sorted(set(frame["patient"])):
            rest = [frame.filter(pl.col("patient") != one) if i == place else f for i, f in enumerate(frames)]
            wanted.append(roc_auc_score(*arrays(rest[0])) - roc_auc_score(*arrays(rest[1])))
    assert found == pytest.approx(wanted, abs=1e-12)


def test_unpaired_tables_whose_patients_have_several_images_count_patients(tmp_path):
    ours, theirs = table(images=4), table(1, images=4, first=1000)
    found = metrics.clustered_unpaired(
        *arrays(ours), ours["patient"].to_numpy(), *arrays(theirs), theirs["patient"].to_numpy()
    )
    parts = [
        metrics.delong_interval(labels, scores, frame["patient"].to_numpy()).variance
        for frame in (ours, theirs)
        for labels, scores in [arrays(frame)]
    ]
    assert found.variance == pytest.approx(sum(parts), abs=1e-15)
    assert found.delong.df == pytest.approx(sum(parts) ** 2 / sum(part**2 / 59 for part in parts), rel=1e-12)
    asked = ask(saved(ours, tmp_path / "a.csv"), against=saved(theirs, tmp_path / "b.csv"), unpaired=True)
    assert asked["comparison"]["p"] == found.p
    assert asked["difference"]["method"] == "bootstrap"


def test_patients_of_both_tables_are_not_compared_unpaired(tmp_path):
    a, b = saved(table(), tmp_path / "a.csv"), saved(table(1), tmp_path / "b.csv")
    with pytest.raises(InputError, match="240 patients are in both") as refusal:
        ask(a, against=b, unpaired=True)
    assert "Leave --unpaired out" in refusal.value.way_out


# --- several labels


def test_several_labels_have_macro_and_micro_averages_and_adjusted_differences(tmp_path, capsys):
    def two(seed: int) -> pl.DataFrame:
        frame = table(seed)
        effusion = pl.Series(np.random.default_rng(3).integers(0, 2, 240))
        noise = np.random.default_rng([seed, 4]).normal(size=240)
        blank = effusion.cast(pl.String).set(pl.Series(np.arange(240) < 6), None)
        return frame.with_columns(Effusion=blank, fluid=pl.Series(noise) + 0.7 * effusion)

    first, second = two(0), two(1)
    a, b = saved(first, tmp_path / "a.csv"), saved(second, tmp_path / "b.csv")
    found = ask(a, against=b, label=["TB", "Effusion"], score=["score", "fluid"], json=tmp_path / "o.json")
    known = first.tail(234)
    areas = [
        roc_auc_score(first["TB"], first["score"]),
        roc_auc_score(known["Effusion"].cast(pl.Int64), known["fluid"]),
    ]
    assert [block["auroc"]["value"] for block in found["labels"]] == pytest.approx(areas, abs=1e-12)
    assert found["macro"]["auroc"]["value"] == pytest.approx(np.mean(areas), abs=1e-12)
    labels = np.concatenate([first["TB"], known["Effusion"].cast(pl.Int64)])
    scores = np.concatenate([first["score"], known["fluid"]])
    assert found["micro"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["micro"]["average_precision"]["value"] == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    p = [block["comparison"]["p"] for block in found["labels"]]
    assert min(block["comparison"]["p_holm"] for block in found["labels"]) == min(1, 2 * min(p))
    assert max(block["comparison"]["p_bh"] for block in found["labels"]) == max(p)
    assert found["labels"][1]["left_out"]["blank"] == 6
    assert json.loads((tmp_path / "o.json").read_text()) == found
    assert "macro AUROC" in capsys.readouterr().out
    assert found["labels"][0]["auroc"] == ask(a, against=b)["auroc"]


def test_a_table_is_read_once_however_many_labels_are_asked_of_it(tmp_path, monkeypatch):
    frame = table().with_columns(Edema="TB", Mass="TB")
    a, b = (saved(frame, tmp_path / "a.csv"), saved(frame.with_columns(score=1 - pl.col("score")), tmp_path / "b.csv"))
    read, paths = PredictionFile.read, []
    monkeypatch.setattr(PredictionFile, "read", lambda path: paths.append(path) or read(path))
    ask(a, against=b, label=["TB", "Edema", "Mass"], score=["score"] * 3, replicates=200)
    assert sorted(paths) == [a, b]


def test_a_label_of_one_class_is_refused_by_name_among_several_too(tmp_path):
    path = saved(table().with_columns(Effusion=0), tmp_path / "a.csv")
    with pytest.raises(InputError, match="'Effusion': all 240 known labels are 0"):
        ask(path, label=["TB", "Effusion"], score=["score", "score"])


# --- what is refused


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a rule without a validation table": ({"threshold": "youden"}, "is fitted to labels"),
    "a calibration without a validation table": ({"calibrate": "platt"}, "is fitted to labels"),
    "a validation table for nothing": ({"validation": "v.csv"}, "is not used"),
    "a number and a validation table": ({"threshold": "0.5", "validation": "v.csv"}, "is not used"),
    "a word as threshold": ({"threshold": "best"}, "cannot be 'best'"),
    "no sensitivity": ({"threshold": "sensitivity=0"}, "cannot be 'sensitivity=0'"),
    "too much sensitivity": ({"threshold": "sensitivity=1.5"}, "cannot be"),
    "an endless threshold": ({"threshold": "inf"}, "cannot be"),
    "a prevalence alone": ({"prevalence": 0.1}, "needs --threshold"),
    "a prevalence of 1": ({"prevalence": 1.0, "threshold": "0.5"}, "must be"),
    "a margin alone": ({"margin": 0.05}, "needs two tables"),
    "unpaired alone": ({"unpaired": True}, "needs two tables"),
    "a margin of 0": ({"margin": 0.0, "against": "v.csv"}, "must be above 0"),
    "a plan for nothing": ({"target_difference": 0.0}, "must be above 0"),
    "unpaired with a key": ({"unpaired": True, "against": "v.csv", "key": "path"}, "cannot be combined"),
    "two labels, one score": ({"label": ["TB", "sex"]}, "2 labels and 1 scores"),
    "no such group": ({"subgroup": ["hospital"]}, "no column 'hospital'"),
    "a group of one": ({"subgroup": ["one"]}, "makes 1 groups"),
    "a group for each image": ({"subgroup": ["path"]}, "makes 240 groups"),
    "margins as probabilities": ({"score": "margin", "calibration": True}, "'margin': the scores are not prob"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(table().with_columns(one=pl.lit("x"), margin=12 * pl.col("TB")), Path("a.csv"))
    saved(table(5, first=1000), Path("v.csv"))
    asked, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as refusal:
        ask(Path("a.csv"), json="o.json", **asked)
    assert refusal.value.way_out
    assert not Path("o.json").exists()


def test_a_score_that_is_turned_round_and_resamples_that_are_fewer_are_said(tmp_path):
    frame = table().with_columns(score=1 - pl.col("score"))
    notes = ask(saved(frame, tmp_path / "a.csv"))["notes"]
    assert any("may be turned round" in note for note in notes)
    large = pl.concat([table()] * 50)  # 12,000 rows
    found = ask(saved(large, tmp_path / "b.csv"), replicates=2000)
    assert found["bootstrap"]["replicates"] == 10_000_000 // 12_000
    assert any("833 resamples instead of 2,000" in note for note in found["notes"])
    assert not any("turned round" in note for note in found["notes"])
