"""`mococxr evaluate`: measure a table of labels and scores, alone or against a second one.

A *block* is a dict as `--json` writes it (docs/contract.md); None is written where the data define no number.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mococxr import console, files, metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.evaluation.comparing import Pair, compared, make_pair, measured
from mococxr.evaluation.predictions import PredictionFile, Rows, Table, paired
from mococxr.evaluation.readers import reader_block
from mococxr.evaluation.summary import summary
from mococxr.measure import comparison, operating, subgroups
from mococxr.measure.measures import Block, Resampling, averages, or_reason
from mococxr.measure.operating import ThresholdRule
from mococxr.measure.units import images_by_class
from mococxr.metrics.checks import Floats

if TYPE_CHECKING:
    from mococxr.settings import EvaluateSettings


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluate, print a small table, and write the numbers where `--json` says; models by `models.run_models`.

    Returns:
        what `--json` writes (docs/contract.md); None where the data define no number, with a `reason`. Of
        several labels: `labels`, a block each, and `macro` and `micro`.

    Raises:
        InputError: a table, column, row or setting that cannot be used; nothing was written.
    """
    if len(settings.predictions) > 1 or any(path.is_dir() for path in settings.predictions):
        from mococxr.evaluation.models import run_models  # here: torch is for models, not for tables

        return run_models(settings)
    rule = _checked(settings)
    how = Resampling(settings.replicates, settings.seed, settings.level, settings.bootstrap, settings.stratify)
    inputs = {
        path: PredictionFile.read(path)  # once each: several labels are columns of one file
        for path in (settings.predictions[0], settings.against, settings.validation)
        if path is not None
    }
    tables = [
        _read(inputs, label, score, settings) for label, score in zip(settings.label, settings.score, strict=True)
    ]
    blocks = [
        label_block(*three, score, rule, settings, how) for three, score in zip(tables, settings.score, strict=True)
    ]
    result = blocks[0]
    read = [note for file in inputs.values() for note in file.notes]
    if len(blocks) > 1:
        # Holm over the labels: they are one family of tests.
        comparison.adjust([block["comparison"] for block in blocks if block["comparison"]])
        notes = list(dict.fromkeys(note for block in blocks for note in block["notes"]))
        # NaN for -1 too: an uncertain row is of no class.
        labels_NL = np.stack([np.where(table.known, table.labels, np.nan) for table, *_ in tables], axis=1)
        # Any finite number: rows without a label are not judged.
        scores_NL = np.stack([np.where(table.known, table.scores, 0.0) for table, *_ in tables], axis=1)
        result = {"labels": blocks, **averages(labels_NL, scores_NL, tables[0][0].patients, how), "notes": notes}
    result["notes"] = [*read, *result["notes"]]
    if settings.json:
        files.write_json(settings.json, result)
    console.result(summary(result))
    for note in result["notes"]:
        console.warn(note)
    return result


def _read(
    inputs: dict[Path, PredictionFile], label: str, score: str, settings: EvaluateSettings
) -> tuple[Table, Table | None, Table | None]:
    """One label of the table, of the second table and of the validation table, whose images are joined to units."""
    columns = (label, score, settings.patient)
    file = inputs[settings.predictions[0]]
    table = file.table(*columns, settings.key, settings.subgroup, settings.study, settings.reader)
    second, validation = (
        None if path is None else inputs[path].table(*columns, key, (), settings.study)
        for path, key in ((settings.against, settings.key), (settings.validation, None))
    )
    if settings.unit == "image":
        return table, second, validation
    if second is not None and not settings.unpaired:
        second = paired(table, second, settings.key)  # before images are joined: units have no key
    second, validation = (
        None if other is None else other.joined(settings.unit, settings.aggregate) for other in (second, validation)
    )
    return table.joined(settings.unit, settings.aggregate), second, validation


def _checked(settings: EvaluateSettings) -> ThresholdRule | None:
    """The rule of `--threshold`; settings that do not go together are refused before any table is read."""
    if not settings.predictions or settings.out is not None or settings.maps:
        name = "--maps" if settings.maps else "--out"
        raise InputError(
            f"{name} is for models on a store." if settings.predictions else "There is nothing to evaluate.",
            "Name one table, whose numbers go to --json; or models and a store.",
        )
    if len(settings.label) != len(settings.score) or not settings.label:  # before any file is read
        raise InputError(
            f"{len(settings.label)} labels and {len(settings.score)} scores cannot be matched.",
            "Give --label and --score equally often, in the same order.",
        )
    if settings.against is None and (settings.unpaired or settings.margin is not None):
        name = "--unpaired" if settings.unpaired else f"--margin {settings.margin:g}"
        raise InputError(f"{name} needs two tables to compare.", "Give the second table by --against.")
    if settings.unpaired and settings.key is not None:
        raise InputError("--unpaired and --key cannot be combined.", "Leave one of the two out.")
    if settings.unit != "image" and settings.patient is None:  # studies are numbered within a patient
        raise InputError(f"--unit {settings.unit} needs the patients.", "Give --patient COLUMN.")
    if (settings.unit == "study") != (settings.study is not None):
        raise InputError("--unit study and --study COLUMN belong together.", "Give both, or leave both out.")
    if settings.reader and (settings.threshold is None or len(settings.label) > 1):  # a reader's call is of one finding
        raise InputError(
            "--reader needs --threshold and one --label.", "Give both: a reader is held against one model's calls."
        )
    rule = None if settings.threshold is None else _read_rule(settings.threshold)
    _check_validation(rule, settings)
    return rule


def _read_rule(text: str) -> ThresholdRule:
    """`--threshold`: a number, `youden` or `sensitivity=SHARE`."""
    name, _, share = text.strip().partition("=")
    try:
        if name == "youden" and not share:
            return ThresholdRule("youden")
        if name == "sensitivity" and 0 < float(share) <= 1:
            return ThresholdRule("sensitivity", sensitivity=float(share))
        if np.isfinite(float(text)):
            return ThresholdRule("given", value=float(text))
    except ValueError:
        pass  # a word, or a share that is no number: refused below
    raise InputError(
        f"--threshold cannot be {text!r}.",
        "Give a score, youden, or sensitivity=SHARE with a share above 0 and up to 1 (sensitivity=0.9).",
    )


def _check_validation(rule: ThresholdRule | None, settings: EvaluateSettings) -> None:
    """Refuse what would be fitted on the rows that judge it, and a validation table or prevalence without use."""
    fitted = [f"--threshold {settings.threshold}"] if rule and rule.value is None else []
    fitted += [f"--calibrate {settings.calibrate}"] if settings.calibrate != "none" else []
    if fitted and settings.validation is None:
        raise InputError(
            f"{fitted[0]} is fitted to labels, and must not be fitted to those that judge it.",
            "Give --validation a table of other patients"
            + (", or --threshold a number fixed in advance." if rule and rule.value is None else "."),
        )
    if settings.validation is not None and not fitted:
        raise InputError(
            f"--validation {settings.validation} is not used: nothing is fitted to it.",
            "Add --threshold youden, --threshold sensitivity=0.9 or --calibrate platt, or leave it out.",
        )
    if settings.prevalence is not None and rule is None:
        raise InputError(
            "--prevalence needs --threshold, whose PPV and NPV it changes.",
            "Give --threshold, or leave --prevalence out.",
        )


def label_block(
    table: Table, second: Table | None, fitted: Table | None, score: str, rule: ThresholdRule | None,
    settings: EvaluateSettings, how: Resampling, calibrated: Floats | None = None,
) -> Block:  # fmt: skip
    """Everything about one label; `calibrated` are probabilities of the judged rows that a model made itself."""
    rows = table.rows()
    # As many resamples of both tables: replicates are subtracted one by one.
    how = how.on(max(other.labels.size for other in (table, second) if other is not None))
    first, replicates = measured(rows, how)
    bootstrap: Block = {
        **dataclasses.asdict(how),
        "undefined": int(np.isnan(replicates.values_B).sum()),
        "auroc": replicates.ends(how),
    }
    block: Block = {
        "label": table.label, "score": score, "level": how.level,
        "unit": settings.unit, "aggregate": None if settings.unit == "image" else settings.aggregate,
        "left_out": dict(zip(("blank", "uncertain"), table.left_out, strict=True)),
        **first, "patients_assumed": settings.patient is None, "paired_by": None,
        "too_few": metrics.too_few(rows.labels, rows.patients, consequence="the interval is only approximate"),
        "against": None, "difference": None, "comparison": None, "margin": None, "planning": None,
        "bootstrap": bootstrap, "operating_point": None, "calibration": None,
    }  # fmt: skip
    pair = None
    if second is not None:
        pair = make_pair(table, rows, second, settings)
        block.update(compared(pair, replicates, bootstrap, settings, how))
    notes = _notes(block, settings.replicates)
    if settings.unit == "image" and (uneven := images_by_class(rows.labels, rows.patients)):
        notes.append(
            f"Patients with {table.label} have {uneven[0]:.2g} images each, the others {uneven[1]:.2g}: a number over "
            "images counts the patients with many images for more. --unit patient counts each once."
        )
    validation = None
    if fitted is not None:
        validation = fitted.rows()
        overlap = _check_disjoint(rows, validation)
        notes += [overlap] if overlap else []
    called = probabilities = None
    if rule is not None:
        point = block["operating_point"] = _operating_block(rule, rows, validation, settings.prevalence, how)
        point |= {"difference": _at_threshold(rule, pair, how), "readers": []}
        if (threshold := point["threshold"]) is not None:
            called = rows.scores >= threshold
            reads = {name: values[table.known] for name, values in table.reads.items()}
            point["readers"] = [reader_block(name, rows, read, threshold, how) for name, read in reads.items()]
    if calibrated is not None:
        probabilities = calibrated
        judge = partial(operating.calibration_block, rows.labels, calibrated, rows.patients, how)
        block["calibration"] = {"method": "by the model", **or_reason(judge, {})}
    elif settings.calibration or settings.calibrate != "none":
        block["calibration"], probabilities = _calibration_block(settings.calibrate, rows, validation, how, score)
    groups = {name: _groups(table, name) for name in table.groups}
    block["subgroups"] = subgroups.subgroup_blocks(
        groups, rows.labels, rows.scores, rows.patients, how, called=called, probabilities=probabilities
    )
    return {**block, "notes": notes}


def _check_disjoint(tested: Rows, validation: Rows) -> str | None:
    """Refuse a validation table that is the table of predictions; a warning where patients are in both."""
    # Sorted below: a shuffled copy of the table is the same rows.
    judged, fitted = (np.stack([rows.scores, rows.labels]) for rows in (tested, validation))
    if judged.shape == fitted.shape and (judged[:, np.lexsort(judged)] == fitted[:, np.lexsort(fitted)]).all():
        raise InputError(
            f"{validation.name} holds the labels and scores of {tested.name}: a threshold or calibration that is "
            "fitted and judged on the same rows looks better than it is.",
            "Give --validation a table of other patients, or --threshold a number fixed in advance.",
        )
    shared = tested.shared_patients(validation)  # a warning only: numbers of two hospitals may agree by chance
    if not shared:
        return None
    return (
        f"{len(shared)} patients of {tested.name} are in {validation.name} too: if they are the same people, what was "
        "fitted to it looks better than it is."
    )


def _operating_block(
    rule: ThresholdRule, tested: Rows, validation: Rows | None, prevalence: float | None, how: Resampling
) -> Block:
    """What the threshold does on the tested rows; the `reason` alone where none could be chosen."""
    block: Block = {
        "by": rule.by,
        "wanted_sensitivity": rule.sensitivity,
        "validation": validation.name if validation and rule.value is None else None,
    }
    threshold = rule.value
    if threshold is None:
        assert validation is not None  # checked with the settings
        try:
            threshold = operating.choose_threshold(rule, validation.labels, validation.scores, validation.patients)
        except UndefinedError as error:
            return {"threshold": None, **block, "reason": str(error)}
    numbers, point = operating.point_block(threshold, tested.labels, tested.scores, tested.patients, how)
    elsewhere = None if prevalence is None else operating.predictive_blocks(point, [prevalence])[0]
    shown = operating.predictive_blocks(point, operating.PREVALENCES)
    return {"threshold": threshold, **block, **numbers, "elsewhere": elsewhere, "at_prevalences": shown}


def _at_threshold(rule: ThresholdRule, pair: Pair | None, how: Resampling) -> Block | None:
    """Sensitivity and specificity of the first table less those of the second, at a threshold that both have."""
    if pair is None:
        return None
    if pair.unpaired or rule.value is None:  # a threshold chosen for one score means nothing on the other's scale
        why = "the tables do not pair" if pair.unpaired else "only a threshold that is a number holds for both tables"
        return {"sensitivity": None, "specificity": None, "reason": why}
    scores = (pair.first.scores, pair.second.scores)
    labels, patients = pair.first.labels, pair.first.patients
    return dict(operating.paired_blocks(labels, scores, (rule.value, rule.value), patients, how.level))


def _calibration_block(
    kind: str, tested: Rows, validation: Rows | None, how: Resampling, column: str
) -> tuple[Block, Floats | None]:
    """How right the scores are as probabilities, as they are (`none`) or calibrated on validation rows; and these."""
    block: Block = {
        "method": kind,
        "validation": validation.name if validation and kind != "none" else None,
        "parameters": None,
    }
    try:
        if kind == "none":
            _check_probabilities(tested, column)
            probabilities = tested.scores
        else:
            assert validation is not None  # checked with the settings
            probable = _are_probabilities(validation, tested)  # both: a map fitted to logits cannot take probabilities
            block["scores_taken_for"] = "probabilities" if probable else "logits"
            as_logits = metrics.as_logits if probable else np.asarray
            try:
                inputs = as_logits(validation.scores)
                fitted = metrics.fit_calibrator(kind, validation.labels, inputs, validation.patients)
            except UndefinedError as error:
                raise UndefinedError(f"No calibration is fitted: {error}") from error
            block["parameters"] = fitted.parameters()
            probabilities = fitted.apply(as_logits(tested.scores))
        judged = operating.calibration_block(tested.labels, probabilities, tested.patients, how)
    except UndefinedError as error:
        return {**block, "reason": str(error)}, None
    return {**block, **judged}, probabilities


def _are_probabilities(*tables: Rows) -> bool:
    return all(bool(((rows.scores >= 0) & (rows.scores <= 1)).all()) for rows in tables)


def _check_probabilities(rows: Rows, column: str) -> None:
    if not _are_probabilities(rows):
        worst = float(rows.scores[np.argmax(np.abs(rows.scores - 0.5))])
        raise InputError(
            f"{rows.name}, column {column!r}: the scores are not probabilities, one is {worst:g}.",
            "Calibrate them first: --calibrate platt --validation TABLE.",
        )


def _groups(table: Table, name: str) -> pl.Series:
    """The group of each known row."""
    known = subgroups.as_groups(table.groups[name]).filter(pl.Series(table.known))  # of the rows that are judged
    names = known.drop_nulls().unique().sort()
    if not 2 <= names.len() <= subgroups.MAX_GROUPS:  # one group has nothing to be compared with
        examples = ", ".join(names[:5].to_list()) or "none"
        raise InputError(
            f"{table.path}: --subgroup {name} makes {names.len()} groups of the labelled rows ({examples}).",
            f"Give a column of 2 to {subgroups.MAX_GROUPS} groups; make bands of a number first.",
        )
    return known


BELOW_CHANCE = 0.4
"""An AUROC below it, with an interval that leaves 0.5 out, is worth a look at the direction of the score."""


def _notes(block: Block, asked: int) -> list[str]:
    """What a reader must know besides the numbers, one sentence each; `asked` are resamples."""
    notes = []
    if block["patients_assumed"]:
        notes.append("No --patient was given: each row was taken for a patient of its own.")
    blank, uncertain = block["left_out"].values()
    if blank or uncertain:
        notes.append(f"Rows left out: {blank} without a label, {uncertain} uncertain (-1).")
    bootstrap = block["bootstrap"]
    if bootstrap["undefined"]:
        share = f"{bootstrap['undefined']} of {bootstrap['replicates']}"
        notes.append(f"{share} resamples held one class only; they were left out.")
    if bootstrap["replicates"] < asked:
        notes.append(
            f"{bootstrap['replicates']:,} resamples instead of {asked:,}: so many are taken of {block['n']:,} rows. The "
            "AUROC to report and the comparison use none."
        )
    if (high := block["interval"]["high"]) is not None and high < 0.5 and block["interval"]["value"] < BELOW_CHANCE:
        notes.append(
            f"The AUROC of {block['score']} is {block['interval']['value']:.3f}, below that of chance: the score may be "
            f"turned round (higher for rows without {block['label']}), or the labels may be."
        )
    return [*notes, block["too_few"]] if block["too_few"] else notes
