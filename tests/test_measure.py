"""What `measure` says of numbers: verdicts in words, averages over several labels, one row a metric."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import mococxr.metrics as metrics
from mococxr.measure.comparison import SOURCES, verdict
from mococxr.measure.measures import MEASURES, Resampling, averages

LABELS, PATIENTS = np.repeat([1, 0], 30), np.arange(60)


def difference(low: float, high: float) -> metrics.Difference:
    return metrics.Difference((low + high) / 2, low, high, p=0.03)


@pytest.mark.parametrize(
    ("ends", "word"), [((0.01, 0.05), "better"), ((-0.05, -0.01), "worse"), ((-0.01, 0.05), "no difference shown")]
)
def test_the_word_follows_the_interval_and_the_sentence_says_over_what(ends, word):
    result = verdict(difference(*ends), LABELS, PATIENTS)
    assert (result.word, result.p) == (word, 0.03)
    assert result.sentence.startswith(f"{word.capitalize()} over other test patients: ")
    assert f"({ends[0]:+.3f} to {ends[1]:+.3f})" in result.sentence
    assert result.sentence.endswith("It says nothing about other label subsets or pretraining runs.")


def test_of_two_tables_of_scores_nothing_is_said_about_label_subsets_or_runs():
    result = verdict(difference(0.01, 0.05), LABELS, PATIENTS, sources=SOURCES[:1])
    assert result.sentence == "Better over other test patients: +0.030 (+0.010 to +0.050)."


def test_scores_without_order_give_each_metric_its_value_of_chance():
    values = {name: words.value(LABELS, np.zeros(60)) for name, words in MEASURES.items() if words.chance is not None}
    assert values == pytest.approx({"auroc": 0.5, "partial_auroc": 0.5})


def test_three_positives_give_words_and_no_p():
    result = verdict(difference(0.1, 0.3), LABELS[27:], PATIENTS[27:])
    assert (result.word, result.p) == ("too few", None)
    assert result.sentence == (
        "Too few to judge: 3 positive test patients, fewer than 10; no test is made of the difference."
    )


@pytest.mark.parametrize(
    ("ends", "wider", "word", "alone"),
    [
        ((0.01, 0.05), (0.002, 0.06), "better", "the same"),
        ((0.01, 0.05), (-0.02, 0.08), "no difference shown", "better"),
        ((-0.01, 0.05), (-0.02, 0.06), "no difference shown", "the same"),
        ((-0.05, -0.01), (-0.06, -0.002), "worse", "the same"),
    ],
)
def test_an_interval_over_more_sources_leads_and_that_over_patients_stands_beside_it(ends, wider, word, alone):
    total = metrics.Difference(sum(wider) / 2, *wider, p=0.2)
    result = verdict(difference(*ends), LABELS, PATIENTS, total, SOURCES[:2])
    assert (result.word, result.p) == (word, 0.2)
    assert f"{word.capitalize()} over other test patients and label subsets: " in result.sentence
    assert f"({wider[0]:+.3f} to {wider[1]:+.3f}). " in result.sentence
    assert f"Over other test patients alone: {alone} ({ends[0]:+.3f} to {ends[1]:+.3f})." in result.sentence
    assert result.sentence.endswith("It says nothing about other pretraining runs.")
    assert "nothing" not in verdict(difference(*ends), LABELS, PATIENTS, total).sentence


@pytest.mark.parametrize(("name", "oracle"), [("auroc", roc_auc_score), ("average_precision", average_precision_score)])
def test_macro_and_micro_equal_scikit_learn(name, oracle):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (80, 4)).astype(float)
    scores = np.round(rng.normal(size=(80, 4)) + labels, 1)
    result = averages(labels, scores, None, Resampling(50))
    for average in ("macro", "micro"):
        expected = oracle(labels, scores, average=average)
        assert result[average][name]["value"] == pytest.approx(expected, abs=1e-12)
    assert set(result["macro"]) == set(MEASURES)


def test_the_interval_of_the_macro_average_is_that_of_means_on_the_same_resamples():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (60, 3)).astype(float)
    scores, ids = rng.normal(size=(60, 3)) + labels, rng.integers(0, 30, 60)
    labels[rng.random((60, 3)) < 0.2] = np.nan
    result = averages(labels, scores, ids, Resampling(80, seed=4))
    resamples = metrics.patient_resamples(ids, 80, 4)
    slow = {"macro": [], "micro": []}
    for weights in resamples.weights_BU:
        rows = np.repeat(np.arange(60), weights[resamples.unit_N])
        known = [rows[~np.isnan(labels[rows, k])] for k in range(3)]
        slow["macro"].append(np.mean([roc_auc_score(labels[r, k], scores[r, k]) for k, r in enumerate(known)]))
        flat = ~np.isnan(labels[rows].ravel())
        slow["micro"].append(roc_auc_score(labels[rows].ravel()[flat], scores[rows].ravel()[flat]))
    for average, values in slow.items():
        block = result[average]["auroc"]
        assert (block["low"], block["high"]) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-12)


def test_a_label_of_one_class_leaves_the_macro_average_undefined_with_its_number():
    labels = np.array([[1.0, 0], [0, 0], [1, 0], [0, 0]])
    result = averages(labels, np.arange(8.0).reshape(4, 2), None, Resampling(20))
    assert result["macro"]["auroc"]["value"] is None
    assert "label 1: all 4 labels are 0" in result["macro"]["auroc"]["reason"]
    assert result["micro"]["auroc"]["value"] is not None
