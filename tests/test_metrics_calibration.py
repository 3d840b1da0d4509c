from __future__ import annotations

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit, logit
from sklearn.calibration import _SigmoidCalibration, calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

import mococxr.metrics as metrics
from mococxr.errors import UndefinedError
from mococxr.metrics.calibration import bin_of
from mococxr.metrics.logistic import logistic_fit


def scored(seed: int = 0, n: int = 300, slope: float = 1.0, intercept: float = 0.0):
    """Logits that are right where slope is 1 and intercept 0, and labels."""
    rng = np.random.default_rng(seed)
    logits = np.round(1.5 * rng.normal(size=n) - 0.5, 2)
    return (rng.random(n) < expit(slope * logits + intercept)).astype(int), logits


def test_equal_probabilities_have_no_slope_and_the_right_reason():
    found = metrics.calibration([1] * 20 + [0] * 20, np.full(40, 0.4), replicates=20)
    assert found.slope.value is None
    assert found.slope.reason == "all probabilities are equal: no slope is defined"


@pytest.mark.parametrize("seed", range(4))
def test_a_logistic_fit_equals_scikit_learn(seed):
    labels, logits = scored(seed, n=120, slope=0.5 * seed)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=500).fit(logits[:, None], labels)
    intercept, slope = logistic_fit(logits, labels.astype(float))
    assert (slope, intercept) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-5)


def test_separated_classes_have_no_slope():
    x = np.array([-2.0, -1, 1, 2])
    assert np.isnan(logistic_fit(x, np.array([0.0, 0, 1, 1]))).all()
    assert np.isnan(logistic_fit(np.array([-2.0, -1, 1, 1]), np.array([0.0, 0, 0, 1]))).all()
    assert np.isnan(logistic_fit(x, np.ones(4))).all()


def test_platt_equals_scikit_learn():
    labels, logits = scored(1)
    oracle = _SigmoidCalibration().fit(logits, labels)
    found = metrics.fit_calibrator("platt", labels, logits)
    np.testing.assert_allclose(found.apply(logits), oracle.predict(logits), atol=2e-5)


def test_platts_soft_targets_keep_separated_rows_finite():
    found = metrics.fit_calibrator("platt", [0] * 12 + [1] * 12, np.r_[np.linspace(-2, -1, 12), np.linspace(1, 2, 12)])
    assert 1 < found.slope < 10
    assert 0.8 < found.apply(1.5) < 0.99


def test_isotonic_equals_scikit_learn_beyond_the_ends_too():
    labels, logits = scored(2)
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, labels)
    found = metrics.fit_calibrator("isotonic", labels, logits)
    new = np.linspace(-9, 9, 400)
    np.testing.assert_allclose(found.apply(new), oracle.predict(new), atol=1e-12)


def test_temperature_is_the_least_loss_over_all_temperatures():
    labels, logits = scored(3, slope=0.5)
    found = metrics.fit_calibrator("temperature", labels, logits)
    loss = lambda s: -np.mean(labels * log_expit(s * logits) + (1 - labels) * log_expit(-s * logits))  # noqa: E731
    oracle = minimize(lambda s: loss(s[0]), [1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    assert found.slope == pytest.approx(oracle.x[0], abs=1e-6)
    assert found.apply(0.0) == 0.5


@pytest.mark.parametrize("kind", ["platt", "isotonic", "temperature"])
def test_a_calibrator_mends_scores_that_are_too_sure_on_rows_it_never_saw(kind):
    labels, logits = scored(4, n=1500, slope=0.4)
    made = metrics.fit_calibrator(kind, labels, logits)
    new_labels, new_logits = scored(5, n=1500, slope=0.4)
    before, after = expit(new_logits), np.clip(made.apply(new_logits), 1e-6, 1 - 1e-6)
    assert brier_score_loss(new_labels, after) < brier_score_loss(new_labels, before)
    assert log_loss(new_labels, after) < log_loss(new_labels, before)
    ranks = np.diff(made.apply(np.sort(new_logits)))
    assert (ranks >= 0).all()


@pytest.mark.parametrize("kind", ["platt", "isotonic", "temperature"])
def test_a_calibrator_goes_through_json_and_keeps_its_numbers(kind):
    labels, logits = scored(6)
    made = metrics.fit_calibrator(kind, labels, logits)
    back = metrics.Calibrator(**json.loads(json.dumps(dataclasses.asdict(made))))
    np.testing.assert_array_equal(back.apply(logits), made.apply(logits))


@pytest.mark.parametrize("kind", ["platt", "isotonic", "temperature"])
def test_too_few_patients_or_scores_that_fall_give_words_and_no_calibration(kind):
    labels, logits = scored(7)
    with pytest.raises(UndefinedError, match=r"3 positive validation patients.*no calibration is fitted"):
        metrics.fit_calibrator(kind, [1] * 3 + [0] * 30, np.arange(33))
    with pytest.raises(UndefinedError, match="1 positive validation patient, fewer"):
        metrics.fit_calibrator(kind, labels, logits, patients=np.where(labels == 1, 0, np.arange(1, 301)))
    with pytest.raises(UndefinedError, match="do not rise"):
        metrics.fit_calibrator(kind, [1] * 20 + [0] * 20, np.arange(40) - 19.5)
    with pytest.raises(ValueError, match="platt, isotonic, temperature"):
        metrics.fit_calibrator("beta", labels, logits)


def test_a_temperature_that_has_no_end_is_said():
    with pytest.raises(UndefinedError, match="no temperature"):
        metrics.fit_calibrator("temperature", [0] * 20 + [1] * 20, np.arange(40) - 19.5)


def test_logits_of_probabilities_are_finite_and_what_is_no_probability_is_refused():
    assert np.isfinite(metrics.as_logits([0, 0.5, 1])).all()
    np.testing.assert_allclose(expit(metrics.as_logits([0.01, 0.5, 0.99])), [0.01, 0.5, 0.99])
    for wrong in (1.01, -0.1, np.nan):
        with pytest.raises(ValueError, match="probability"):
            metrics.as_logits([0.5, wrong])


def test_the_reliability_curve_equals_scikit_learn_and_its_gaps_make_the_ece():
    labels, logits = scored(8)
    probabilities = expit(logits)
    found = metrics.calibration(labels, probabilities, replicates=20)
    observed, mean = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([point.observed.value for point in found.curve], observed, atol=1e-12)
    np.testing.assert_allclose([point.mean_probability for point in found.curve], mean, atol=1e-12)
    weights = np.array([point.rows for point in found.curve])
    assert found.ece.value == pytest.approx((weights * np.abs(observed - mean)).sum() / 300, abs=1e-12)
    assert found.brier.value == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-12)


@pytest.mark.parametrize("kind", ["hard", "votes of 4", "saturated"])
def test_scores_of_0_and_1_have_the_intercept_that_root_finding_gives(kind):
    rng = np.random.default_rng(2)
    labels = (np.arange(120) % 3 == 0).astype(int)
    u = np.clip(0.3 * labels + 0.7 * rng.random(120), 0, 1)
    scores = {
        "hard": (u > 0.5) * 1.0,
        "votes of 4": np.round(4 * u) / 4,
        "saturated": np.where(u > 0.6, 1, np.where(u < 0.3, 0, u)),
    }[kind]
    logits = logit(np.clip(scores, 1e-7, 1 - 1e-7))
    root = brentq(lambda a: expit(logits + a).sum() - labels.sum(), -40, 40)
    found = metrics.calibration(labels, scores, replicates=50)
    assert found.intercept.value == pytest.approx(root, abs=1e-9)
    assert found.intercept.low < root < found.intercept.high


@pytest.mark.parametrize("kind", ["all 0", "constant", "hard", "reversed"])
def test_the_interval_of_an_ece_has_a_width_where_no_line_fits(kind):
    labels = (np.arange(120) % 3 == 0).astype(int)
    scores = {"all 0": 0 * labels, "constant": np.full(120, 1 / 3), "hard": labels, "reversed": 1 - labels}[kind]
    found = metrics.calibration(labels, scores.astype(float), replicates=100).ece
    assert found.low <= found.value <= found.high
    assert found.high - found.low > 0.01


def test_equal_probabilities_share_a_bin():
    place = bin_of(np.array([0.2] * 50 + [0.7] * 50), 10)
    assert np.unique(place[:50]).size == np.unique(place[50:]).size == 1


def test_the_intervals_of_slope_intercept_and_brier_score_agree_with_resampled_patients():
    labels, logits = scored(9, n=900)
    probabilities, ids = expit(logits), np.random.default_rng(0).integers(0, 360, 900)
    found = metrics.calibration(labels, probabilities, ids, replicates=50)
    slow = {"brier": [], "slope": [], "intercept": []}
    for weights in metrics.patient_resamples(ids, 300, 2).weights_BU:
        rows = np.repeat(np.arange(900), weights[np.unique(ids, return_inverse=True)[1]])
        x, y = logits[rows], labels[rows].astype(float)
        slow["brier"].append(brier_score_loss(y, probabilities[rows]))
        slow["slope"].append(logistic_fit(x, y)[1])
        slow["intercept"].append(brentq(lambda a, x=x, y=y: (y - expit(a + x)).sum(), -5, 5))
    for name, values in slow.items():
        number = getattr(found, name)
        low, high = np.percentile(values, [2.5, 97.5])
        assert (number.low, number.high) == pytest.approx((low, high), abs=0.12 * (high - low)), name


def test_the_interval_of_an_ece_holds_the_true_one_where_perfect_and_where_not():
    held = []
    for seed, slope in product(range(40), (1.0, 0.5)):
        labels, logits = scored(seed, n=200, slope=slope)
        found = metrics.calibration(labels, expit(logits), replicates=100).ece
        x = np.sort(np.round(1.5 * np.random.default_rng(1).normal(size=100_000) - 0.5, 2))
        truth = sum(abs((expit(slope * part) - expit(part)).sum()) for part in np.array_split(x, 10)) / x.size
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.9


def test_images_of_one_patient_widen_the_intervals():
    labels, logits = scored(10, n=100)
    probabilities = expit(logits)
    alone = metrics.calibration(labels, probabilities, bins=4)
    copied = metrics.calibration(np.tile(labels, 4), np.tile(probabilities, 4), np.tile(np.arange(100), 4), bins=4)
    for one, four in ((alone.brier, copied.brier), (alone.slope, copied.slope), (alone.intercept, copied.intercept)):
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.02)
    assert copied.curve[2].patients == alone.curve[2].rows


def test_perfect_probabilities_are_not_called_wrong_and_wrong_ones_are():
    beginnings, slopes, shifts = [], [], []
    for seed in range(24):
        labels, logits = scored(seed, n=250)
        found = metrics.calibration(labels, expit(logits), replicates=200)
        beginnings.append(found.ece.low == 0)
        slopes.append(found.slope.low <= 1 <= found.slope.high)
        shifts.append(found.intercept.low <= 0 <= found.intercept.high)
    assert np.mean(beginnings) >= 0.9
    assert np.mean(slopes) >= 0.85
    assert np.mean(shifts) >= 0.85
    labels, logits = scored(0, n=1000, slope=0.4, intercept=0.8)
    wrong = metrics.calibration(labels, expit(logits), replicates=200)
    assert wrong.ece.low > wrong.ece_if_perfect > 0
    assert wrong.slope.high < 1
    assert wrong.intercept.low > 0
    assert expit(logits + wrong.intercept.value).mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_probabilities_that_separate_the_classes_have_no_slope_and_say_so():
    found = metrics.calibration([0] * 15 + [1] * 15, np.r_[np.full(15, 0.2), np.full(15, 0.9)], replicates=50)
    assert found.slope.value is None
    assert "separate" in found.slope.reason
    assert found.brier.value == pytest.approx((15 * 0.04 + 15 * 0.01) / 30)


def test_squares_that_are_equal_but_for_rounding_have_no_interval():
    labels = np.tile([1, 0], 60)
    found = metrics.calibration(labels, labels * 0.6 + 0.2, np.arange(120) // 2, replicates=50)
    assert (found.brier.value, found.brier.low) == (pytest.approx(0.04), None)
    assert "all squares are equal" in found.brier.reason
    assert found.intercept.low is found.observed_expected.low is None  # a patient's two images are wrong by as much
    assert "together as expected" in found.intercept.reason
