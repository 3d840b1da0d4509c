"""A model beside readers: sensitivity at the reader's specificity, and `evaluate --reader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from sklearn.metrics import recall_score, roc_curve

import mococxr.metrics as metrics
from mococxr.commands import run
from mococxr.errors import InputError


def read(seed: int = 0, n: int = 200, digits: int = 8):
    """Labels, scores, reads and patients; model and reader are taken in by the same images."""
    rng = np.random.default_rng(seed)
    labels, hard, ids = (np.arange(n) < n // 3).astype(int), rng.normal(size=n), rng.integers(0, n // 2, n)
    scores = np.round(hard + rng.normal(size=n) + 1.8 * labels, digits)
    return labels, scores, (hard + rng.normal(size=n) + 1.6 * labels > 1).astype(int), ids


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("digits", [8, 0])
def test_the_sensitivity_is_read_off_scikit_learns_roc_curve_at_the_readers_specificity(seed, digits):
    labels, scores, reads, ids = read(seed, digits=digits)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    at = reads[labels == 0].mean()
    # The curve is a step function: at a jump the upper end is meant.
    oracle = max(np.interp(at, false, true), true[false <= at + 1e-12].max())
    model, less = metrics.at_reader_specificity(labels, scores, reads, ids, replicates=200)
    assert model.value == pytest.approx(oracle, abs=1e-12)
    assert less.value == pytest.approx(oracle - reads[labels == 1].mean(), abs=1e-12)


def test_the_intervals_are_those_of_a_loop_over_resampled_patients():
    labels, scores, reads, ids = read(1)
    model, less = metrics.at_reader_specificity(labels, scores, reads, ids, replicates=150, seed=3)
    drawn = metrics.patient_resamples(ids, 150, 3)
    slow = []
    for weights in drawn.weights_BU:
        rows = np.repeat(np.arange(labels.size), weights[drawn.unit_N])
        false, true, _ = roc_curve(labels[rows], scores[rows], drop_intermediate=False)
        at = reads[rows][labels[rows] == 0].mean()
        sensitivity = true[false <= at + 1e-12].max()
        slow.append((sensitivity, sensitivity - reads[rows][labels[rows] == 1].mean()))
    for estimate, column in zip((model, less), np.array(slow).T, strict=True):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(column, [2.5, 97.5])), abs=1e-12)


@pytest.mark.parametrize(("call", "sensitivity"), [(1, 1.0), (0, 0.0)])
def test_a_reader_who_calls_all_or_none_is_at_an_end_of_the_curve(call, sensitivity):
    labels, scores, _, _ = read(2)
    scores = np.where(np.arange(200) == 199, 99.0, scores)  # the highest score is a negative's
    model, less = metrics.at_reader_specificity(labels, scores, np.full(200, call), replicates=200)
    assert model.value == sensitivity
    assert less.value == 0
    if call:
        assert "every resample gives the same number" in model.reason


def ask(path: Path, seed: int = 0, **more: Any) -> tuple[dict[str, Any], pl.DataFrame]:
    labels, scores, reads, ids = read(seed)
    texts = [str(call) for call in reads]
    texts[5:9] = ["", "-1", "yes", "no"]
    frame = pl.DataFrame({"TB": labels, "score": scores, "patient": ids, "A": texts, "B": 1 - labels})
    frame.write_csv(path / "a.csv")
    given = {"predictions": path / "a.csv", "label": "TB", "score": "score", "replicates": 200, "threshold": "1"}
    return run("evaluate", given | {"reader": ["A", "B"]} | more), frame


def test_reader_and_model_are_compared_on_the_rows_that_were_read(tmp_path, capsys):
    found, frame = ask(tmp_path)
    a, b = found["operating_point"]["readers"]
    assert (a["reader"], a["n"], a["left_out"]) == ("A", 198, 2)
    known = frame.with_columns(pl.col("A").replace({"yes": "1", "no": "0"})).filter(pl.col("A").is_in(["0", "1"]))
    labels, reads, calls = known["TB"].to_numpy(), known["A"].cast(int).to_numpy(), (known["score"] >= 1).to_numpy()
    for share, value in (("sensitivity", 1), ("specificity", 0)):
        oracle = [recall_score(labels, read_by, pos_label=value) for read_by in (reads, calls.astype(int))]
        assert [a[share]["value"], a["model"][share]["value"]] == pytest.approx(oracle, abs=1e-12)
        rows = labels == value
        only = [int(((x == value) & (y != value))[rows].sum()) for x, y in ((calls, reads), (reads, calls))]
        assert a["difference"][share]["value"] == pytest.approx(oracle[1] - oracle[0], abs=1e-12)
        assert a["difference"][share]["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue, abs=1e-12)
    assert b["sensitivity"]["value"] == b["specificity"]["value"] == 0
    assert b["sensitivity"]["high"] > 0
    shown = capsys.readouterr().out
    assert "Reader A: 198 read, 2 not read" in shown
    assert "model's sensitivity at reader's specificity" in shown
    clustered, _ = ask(tmp_path, patient="patient")
    assert clustered["operating_point"]["readers"][0]["difference"]["sensitivity"]["method"].startswith("Obuchowski")


def test_reads_of_a_patients_images_are_joined_as_labels_are(tmp_path):
    found, frame = ask(tmp_path, patient="patient", unit="patient")
    reader = found["operating_point"]["readers"][1]
    units = frame.group_by("patient").agg(pl.col("TB").max(), pl.col("B").max())
    assert reader["n"] == len(units)
    assert reader["sensitivity"]["value"] == pytest.approx(recall_score(units["TB"], units["B"]), abs=1e-12)


def test_a_reader_of_one_class_gets_a_reason(tmp_path, capsys):
    labels, scores, _, _ = read()
    frame = pl.DataFrame({"TB": labels, "score": scores, "A": ["1" if label else "" for label in labels]})
    frame.write_csv(tmp_path / "b.csv")
    given = {"predictions": tmp_path / "b.csv", "label": "TB", "score": "score", "replicates": 200, "threshold": "1"}
    (reader,) = run("evaluate", given | {"reader": ["A"]})["operating_point"]["readers"]
    assert reader["model"] is None
    assert "only one class" in reader["reason"]
    assert "Reader A: 66 read, 134 not read. Not compared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [({"threshold": None}, "--threshold"), ({"label": ["TB", "TB"], "score": ["score", "score"]}, "one --label"),
     ({"reader": ["C"]}, "C"), ({"reader": ["score"]}, "score")],
)  # fmt: skip
def test_reads_that_cannot_be_compared_are_refused(tmp_path, more, words):
    with pytest.raises(InputError, match=words):
        ask(tmp_path, **more)
