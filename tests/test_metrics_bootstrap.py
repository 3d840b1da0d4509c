from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

import proc_oracle
from mococxr.errors import UndefinedError
from mococxr.metrics import (
    auroc,
    auroc_measure,
    average_precision_measure,
    bootstrap,
    interval,
    jackknife,
    patient_resamples,
)


def images(seed: int = 0, n: int = 120, trials: int = 3, per_patient: int = 2, digits: int = 1):
    """Labels, scores of several trials with ties, and patients with `per_patient` images on average."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    scores = np.round(rng.normal(size=(trials, n)) + labels, digits)
    patients = rng.integers(0, max(1, n // per_patient), n).astype(str) if per_patient > 1 else np.arange(n)
    return labels, scores, patients


@pytest.mark.parametrize(
    ("measure", "oracle"), [(auroc_measure, roc_auc_score), (average_precision_measure, average_precision_score)]
)
@pytest.mark.parametrize("per_patient", [1, 3])
def test_the_replicates_equal_a_loop_over_scikit_learn_on_the_same_resamples(measure, oracle, per_patient):
    labels, scores, patients = images(per_patient=per_patient)
    found = bootstrap(labels, scores, patients, replicates=12, seed=5, measure=measure)
    resamples = patient_resamples(patients, 12, 5)
    for b, weights in enumerate(resamples.weights_BU):
        rows = np.repeat(np.arange(labels.size), weights[resamples.unit_N])
        for t in range(len(scores)):
            assert found[t, b] == pytest.approx(oracle(labels[rows], scores[t, rows]), abs=1e-12)
            weighted = oracle(labels, scores[t], sample_weight=weights[resamples.unit_N])
            assert found[t, b] == pytest.approx(weighted, abs=1e-12)


def test_patients_are_drawn_and_not_images():
    patients = np.array(["b", "a", "b", "c", "b"])
    resamples = patient_resamples(patients, 200, 0)
    assert resamples.patients_U.tolist() == ["a", "b", "c"]
    assert (resamples.weights_BU.sum(axis=1) == 3).all()
    assert resamples.weights_BU[:, resamples.unit_N].std() > 0
    assert (resamples.weights_BU[:, resamples.unit_N][:, [0, 2, 4]].std(axis=1) == 0).all()


def test_images_of_one_patient_widen_the_interval_against_images_drawn_alone():
    labels, scores, _ = images(1, n=60, trials=1, digits=6)
    labels, scores, patients = np.tile(labels, 5), np.tile(scores, 5), np.tile(np.arange(60), 5)
    by_patient = np.std(bootstrap(labels, scores, patients, 500, 0))
    by_image = np.std(bootstrap(labels, scores, np.arange(300), 500, 0))
    assert by_patient / by_image == pytest.approx(np.sqrt(5), rel=0.15)


def test_the_same_seed_draws_the_same_patients_whatever_the_order_of_the_rows():
    labels, scores, patients = images()
    order = np.random.default_rng(9).permutation(labels.size)
    first = bootstrap(labels, scores, patients, 30, 4)
    np.testing.assert_allclose(bootstrap(labels[order], scores[:, order], patients[order], 30, 4), first)
    assert not np.allclose(bootstrap(labels, scores, patients, 30, 5), first)


def test_each_trial_alone_gets_the_replicates_it_gets_among_others():
    labels, scores, patients = images()
    together = bootstrap(labels, scores, patients, 30, 4)
    np.testing.assert_array_equal(bootstrap(labels, scores[1:2], patients, 30, 4), together[1:2])


def test_the_bound_on_memory_does_not_change_the_numbers(monkeypatch):
    labels, scores, patients = images()
    whole = bootstrap(labels, scores, patients, 25, 4), jackknife(labels, scores, patients)
    monkeypatch.setattr("mococxr.metrics.intervals.BLOCK", 1)
    monkeypatch.setattr("mococxr.metrics.intervals.DRAWN", 150)
    pieces = bootstrap(labels, scores, patients, 25, 4), jackknife(labels, scores, patients)
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_resample_of_one_class_is_nan_and_counted_and_never_a_number():
    labels, scores = np.array([1, 0, 0, 0]), np.array([[0.9, 0.1, 0.2, 0.3]])
    found = bootstrap(labels, scores, np.arange(4), 2000, 0)[0]
    precision = bootstrap(labels, scores, np.arange(4), 2000, 0, measure=average_precision_measure)[0]
    undefined = np.isnan(found)
    assert undefined.mean() == pytest.approx(0.75**4 + 0.25**4, abs=0.03)
    np.testing.assert_array_equal(np.isnan(precision), undefined)
    assert (found[~undefined] == 1).all()
    with pytest.raises(UndefinedError, match="every resample gives the same number"):
        interval(found, 1.0)
    assert interval([np.nan, 0.2, 0.4], 0.3, 0.9).ends() == pytest.approx((0.3, 0.21, 0.39))
    with pytest.raises(UndefinedError, match="none of the 3"):
        interval([np.nan] * 3, 0.5)


def test_a_stratified_resample_keeps_the_patients_of_each_class():
    labels, _, patients = images(per_patient=1)
    resamples = patient_resamples(patients, 50, 0, strata=labels)
    drawn = resamples.weights_BU[:, resamples.unit_N]
    assert (drawn[:, labels == 1].sum(axis=1) == labels.sum()).all()
    with pytest.raises(ValueError, match="two strata"):
        patient_resamples(["a", "a"], 5, 0, strata=[0, 1])


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(ValueError, match="not a finite number"):
        bootstrap([0, 1], [[0.5, np.nan]], ["a", "b"], 5, 0)
    with pytest.raises(ValueError, match="3 patients for 2 rows"):
        bootstrap([0, 1], [[0.5, 0.1]], ["a", "b", "c"], 5, 0)
    with pytest.raises(UndefinedError, match="only one class"):
        bootstrap([1, 1], [[0.5, 0.1]], ["a", "b"], 5, 0)
    with pytest.raises(ValueError, match="at least one"):
        patient_resamples(["a"], 0, 0)


@pytest.mark.parametrize("count", [500, 1001])
def test_the_percentile_ends_are_symmetric_and_not_off_by_one(count):
    ends = interval(np.random.default_rng(0).permutation(count), count / 2)
    assert ends.low == pytest.approx(0.025 * (count - 1), abs=1e-9)
    assert ends.low + ends.high == pytest.approx(count - 1, abs=1e-9)
    assert ends.method == "percentile"


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_agrees_with_scipy_on_one_image_a_patient(method):
    labels, scores, patients = images(3, n=150, trials=1, per_patient=1, digits=6)
    point = auroc(labels, scores[0])
    found = bootstrap(labels, scores, patients, 4000, 0)[0]
    left_out = jackknife(labels, scores, patients)[0]
    ours = interval(found, point, method=method, left_out=left_out)

    def statistic(rows, axis=-1):  # the rank sum of Mann and Whitney
        positive = labels[rows]
        count = positive.sum(axis=axis)
        ranks = (stats.rankdata(scores[0, rows], axis=axis) * positive).sum(axis=axis)
        return (ranks - count * (count + 1) / 2) / (count * (rows.shape[axis] - count))

    oracle = stats.bootstrap(
        (np.arange(labels.size),),
        statistic,
        n_resamples=4000,
        vectorized=True,
        batch=200,
        method={"percentile": "percentile", "bca": "BCa"}[method],
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((oracle.low, oracle.high), abs=0.01)


def test_the_bca_ends_equal_scipy_on_the_same_replicates():
    data = np.random.default_rng(0).exponential(size=25)
    oracle = stats.bootstrap((data,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(1))
    left_out = (data.sum() - data) / (data.size - 1)
    ours = interval(oracle.bootstrap_distribution, data.mean(), method="bca", left_out=left_out)
    ends = oracle.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_the_jackknife_leaves_out_one_patient_at_a_time():
    labels, scores, patients = images(n=30)
    found = jackknife(labels, scores, patients)
    for u, patient in enumerate(np.unique(patients)):
        rest = patients != patient
        assert found[0, u] == pytest.approx(auroc(labels[rest], scores[0, rest]), abs=1e-12)


def test_bca_without_a_finite_correction_is_undefined():
    with pytest.raises(UndefinedError, match="one side"):
        interval([0.5, 0.6, 0.7], 0.9, method="bca", left_out=[0.8, 0.9])
    with pytest.raises(UndefinedError, match="without each patient"):
        interval([0.5, 0.6, 0.7], 0.6, method="bca")
    with pytest.raises(ValueError, match="percentile or bca"):
        interval([0.5, 0.6], 0.6, method="normal")


def test_the_interval_of_stratified_resamples_agrees_with_proc(tmp_path):
    labels, scores, patients = images(4, n=120, trials=1, per_patient=1, digits=6)
    script = """
        set.seed(1)
        r <- roc(data[,1], data[,2], levels=c(0,1), direction="<")
        say(ci.auc(r, method="bootstrap", boot.n=4000, boot.stratified=TRUE, progress="none")[c(1, 3)])
    """
    oracle = proc_oracle.ask({"data": np.stack([labels, scores[0]], axis=1)}, script, tmp_path)
    found = bootstrap(labels, scores, patients, 4000, 0, strata=labels)[0]
    ours = interval(found, auroc(labels, scores[0]))
    assert (ours.low, ours.high) == pytest.approx(tuple(oracle), abs=0.01)


def test_a_study_is_resampled_without_a_loop_over_replicates():
    labels, scores, patients = images(n=500, trials=10, per_patient=1)
    bootstrap(labels, scores, patients, 10, 0)
    spent = []
    for _ in range(3):
        started = time.process_time()
        bootstrap(labels, scores, patients, 500, 0)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.5  # a loop over scikit-learn takes several seconds
