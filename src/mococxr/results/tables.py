"""The tables of a study, declared once: what each column holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: its type, what it holds (as docs/contract.md says), and whether it is a key.

    Keys are never blank and name each row once; other values are blank where the data do not define them.
    """

    dtype: type[pl.DataType]
    words: str
    key: bool = False


Columns = dict[str, Column]


def _columns(dtype: type[pl.DataType], key: bool = False, /, **words: str) -> Columns:
    # Positional only, so that a column may be called `key`.
    return {name: Column(dtype, what, key) for name, what in words.items()}


_text, _number, _count = (partial(_columns, dtype) for dtype in (pl.String, pl.Float64, pl.Int64))


def _interval(**words: str) -> Columns:
    """Each number with the ends of its interval."""
    ends = {"": "", "_low": ", lower limit", "_high": ", upper limit"}
    return _number(**{name + end: what + text for name, what in words.items() for end, text in ends.items()})


def _spread(**words: str) -> Columns:
    """Each number of the first draw and run, with median, least and most over all of them."""
    ends = {"": ", first draw and run", "_median": ", median over all", "_least": ", least", "_most": ", greatest"}
    return _number(**{name + end: what + text for name, what in words.items() for end, text in ends.items()})


_ARM = _columns(pl.String, True, arm="name of the encoder")
_CONDITION = _columns(pl.String, True, mode="how the head is trained", target="label that is predicted") | _columns(
    pl.Float64, True, fraction="share of the labelled training patients"
)
_CELL = _ARM | _CONDITION  # the order here is that of the columns in the file
_PAIR = _ARM | _columns(pl.String, True, against="arm that it is compared with: baseline or reference") | _CONDITION
_AGAINST_MODE = _columns(pl.String, True, against_mode="how the head of that arm is trained")
CELL_KEYS, PAIR_KEYS = tuple(_CELL), tuple(_PAIR)
_REASON = _text(reason="why a number of the row is blank")
_DIFFERENCE = (
    _PAIR
    | _number(
        difference="AUROC of the arm less that of the other",
        low="lower limit over test patients",
        high="upper limit over test patients",
        p="over test patients, belongs to low and high; blank with fewer than 10 patients of a class",
    )
    | _text(method="how low, high and p were computed")
    | _number(
        low_total="lower limit over test patients, draws of labels and pretraining runs together",
        high_total="upper limit of the same; blank with one draw and one run",
        p_total="p over the same; where it stands, the verdict rests on it",
        ap_difference="difference of average precision",
        ap_low="its lower bootstrap limit",
        ap_high="its upper bootstrap limit",
        pauroc_difference="difference of partial AUROC (sensitivity 0.9 to 1)",
        pauroc_low="its lower bootstrap limit",
        pauroc_high="its upper bootstrap limit",
    )
    | _REASON
    | _number(
        low_bootstrap="lower limit, percentiles over resampled test patients",
        high_bootstrap="upper limit of the same",
        p_bootstrap="p of the same resamples",
        p_holm="p_total (or else p) by Holm, over the rows of the file; with --primary behind that one, whose own p stays",
        p_bh="the same by Benjamini-Hochberg",
        margin="--margin",
        p_noninferior="p that the arm is worse by the margin or more",
        p_equivalent="p that the two differ by the margin or more",
    )
    | _text(
        margin_words="what is shown against the margin and at which level, or why nothing is",
        verdict="better, worse, no difference shown, too few, undefined",
        words="the verdict in a sentence",
    )
    | _AGAINST_MODE
)

TABLES: Mapping[str, Columns] = {
    "trials": (
        _columns(pl.String, True, trial="name of the trial's files")
        | _ARM
        | _text(run="pretraining run of the arm")
        | _CONDITION
        | _count(
            draw="number of the draw of labels",
            train_images="labelled training images",
            train_patients="their patients",
            train_positives="those that are positive",
        )
        | _number(
            auroc="AUROC of the trial",
            average_precision="average precision of the trial",
            partial_auroc="partial AUROC of the trial (sensitivity 0.9 to 1)",
        )
        | _text(status="done, or undefined and why")
        | _number(seconds="time taken")
    ),
    "flow": (
        _columns(pl.String, True, target="label that is predicted", split="train, val, test", label="its value, or all")
        | _count(images="images", patients="their patients", studies="their studies, where known")
        | _count(restricted="left out by --where", uncertain="as uncertain", unlabelled="as nothing is known")
        | _number(age_median="median age in years, where known", age_q1="lower quartile", age_q3="upper quartile")
        | _text(sex="images by sex", view="images by view", device="images by device")
    ),
    "cells": (
        _CELL
        | _number(
            auroc="mean AUROC over the trials",
            low="lower limit over test patients",
            high="upper limit over test patients",
            draw_sd="standard deviation over the draws of labels",
        )
        | _count(n_units="units that are judged", positives="those that are positive")
        | _number(
            average_precision="mean average precision",
            ap_low="its lower bootstrap limit",
            ap_high="its upper bootstrap limit",
            partial_auroc="mean partial AUROC (sensitivity 0.9 to 1)",
            pauroc_low="its lower bootstrap limit",
            pauroc_high="its upper bootstrap limit",
        )
        | _count(draws="draws of labels that gave a number")
        | _REASON
        | _text(method="how low and high were computed")
        | _number(
            low_bootstrap="lower limit, percentiles over resampled test patients",
            high_bootstrap="upper limit of the same",
        )
        | _count(
            patients="test patients",
            positive_patients="those with a positive unit",
            negative_patients="those with a negative unit",
        )
        | _text(warning="why low and high may be off")
    ),
    "differences": _DIFFERENCE,
    "across_modes": _DIFFERENCE,
    "variance": (
        _PAIR
        | _number(
            difference="AUROC of the arm less that of the other",
            patients="variance of one trial's difference over test patients",
            draws="over draws of labels; blank with one",
            runs="over pretraining runs; blank with one",
            draw_x_run="over draws and runs together",
            patient_interactions="of these with the test patients",
            standard_error="of the difference, over all of them",
            df="degrees of freedom; blank where infinite",
            low="lower limit of the difference",
            high="upper limit of the difference",
        )
        | _count(count_draws="draws of labels", count_runs="pretraining runs")
        | _text(words="what the interval leaves out")
        | _REASON
        | _AGAINST_MODE
    ),
    "labels_saved": (
        _PAIR
        | _number(train_images="labelled images of the arm")
        | _text(
            reference_images="images with which the other reaches the same: a number, at most N or more than N",
            low="lower limit of the same",
            high="upper limit of the same",
        )
        | _number(
            factor="reference_images by train_images",
            factor_low="lower limit of the same",
            factor_high="upper limit of the same",
        )
        | _text(words="the saving in a sentence")
        | _REASON
        | _AGAINST_MODE
    ),
    "forecast": (
        _ARM
        | _columns(pl.String, True, mode="how the head is trained", target="label that is predicted")
        | _columns(pl.Float64, True, times="multiple of the labels of the largest fraction")
        | _number(
            labels="so many labels",
            auroc="AUROC that a new draw of so many labels gives, by power laws through the arm's cells",
            low="lower limit (90 %)",
            high="upper limit (90 %)",
        )
        | _text(reason="why it cannot be said yet; beside numbers, their interval is wider than 0.2")
    ),
    "calibration": (
        _CELL
        | _count(draw="the draw that is judged: the first")
        | _text(method="how scores become probabilities")
        | _count(n_validation="validation units that chose both", validation_positives="those positive")
        | _interval(brier="Brier score on the test units", ece="expected calibration error")
        | _number(ece_if_perfect="expected ECE of perfect probabilities on as many units")
        | _interval(
            slope="calibration slope",
            intercept="calibration intercept",
            observed_expected="positives by the sum of the probabilities",
        )
        | _number(threshold="of the score", wanted_sensitivity="--sensitivity")
        | _interval(
            sensitivity="at the threshold, on the test units",
            specificity="specificity",
            ppv="positive predictive value",
            npv="negative predictive value",
            lr_positive="positive likelihood ratio",
            lr_negative="negative likelihood ratio",
        )
        | _number(prevalence="share of positive test units")
        | _REASON
    ),
    "decisions": (
        _CELL
        | _count(classifiers="draws and runs that have a threshold")
        | _spread(
            threshold="of the score",
            sensitivity="at the classifier's own threshold, on the test units",
            specificity="the same",
            brier="Brier score of its own probabilities on the test units",
        )
        | _REASON
    ),
    "errors": (
        _CELL
        | _columns(pl.String, True, kind="false negative or false positive, of the first draw's classifier")
        | _columns(pl.Int64, True, rank="1 for the score that is farthest from the threshold; 10 of a kind at the most")
        | _number(score="of the classifier", probability="calibrated")
        | _text(path="of the image, where images are judged", patient="its patient", study="its study, where known")
    ),
    "threshold_differences": (
        _PAIR
        | _columns(pl.String, True, rate="sensitivity or specificity, each arm at its own threshold")
        | _number(
            difference="rate of the arm less that of the other",
            low="its lower limit over test patients",
            high="its upper limit",
            p="over test patients; blank with fewer than 10 patients of a class",
        )
        | _count(only_arm="test units that the arm alone calls right", only_reference="the other alone")
        | _text(method="how p, low and high were computed")
        | _REASON
        | _AGAINST_MODE
    ),
    "reliability": (
        _CELL
        | _columns(pl.Int64, True, bin="number of the bin, from 0")
        | _number(
            mean_probability="mean predicted probability",
            observed="observed share of positives",
            low="its lower limit",
            high="its upper limit",
        )
        | _count(count="test units in the bin")
    ),
    "smooth_calibration": (
        _CELL
        | _columns(pl.Int64, True, point="number of the point, from 0")
        | _number(
            probability="predicted probability",
            observed="share of positives there, by a restricted cubic spline",
            low="its lower limit, pointwise",
            high="its upper limit, pointwise",
        )
    ),
    "decision_curve": (
        _CELL
        | _columns(pl.Float64, True, threshold="of the probability")
        | _interval(
            model="net benefit, by test unit; 0 where no unit is called positive",
            all_positive="the same where every unit is called positive",
            gain="model less all_positive",
        )
    ),
    "prevalence": (
        _CELL
        | _columns(pl.Float64, True, prevalence="share of positives where the classifier is used")
        | _interval(ppv="positive predictive value there", npv="negative predictive value there")
        | _REASON
    ),
    "subgroups": (
        _CELL
        | _columns(pl.String, True, attribute="column of the store", group="its value")
        | _count(n="test units of the group", patients="their patients", positives="positive patients")
        | _number(auroc="mean AUROC over the trials", low="its lower limit", high="its upper limit")
        | _text(against_group="group that it is compared with: the largest")
        | _interval(gap="AUROC less that of the other group")
        | _number(p_holm="p of the gap by Holm, over the gaps of the cell")
        | _count(flagged="1 where the gap's interval leaves out 0")
        | _REASON
    ),
    "subgroup_rates": (
        _CELL
        | _columns(
            pl.String,
            True,
            attribute="column of the store",
            group="its value",
            rate="sensitivity, specificity or observed_expected (positives by the sum of the probabilities)",
        )
        | _interval(value="the rate of the first draw's classifier at its threshold, or of its probabilities")
        | _text(against_group="group that it is compared with: the largest")
        | _interval(gap="the rate less that of the other group")
        | _number(p_holm="p of the gap by Holm, over the gaps of the rate in the cell")
        | _count(flagged="1 where the gap's interval leaves out 0")
        | _REASON
    ),
}
"""File name without `.csv` -> columns in order."""
