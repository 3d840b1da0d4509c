"""The command `study`, top to bottom: inputs, design, training, measuring, the folder, the console."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.feature_cache import FeatureCache, check_folder, trim
from mococxr.features import pick_device
from mococxr.files import write_json
from mococxr.heads import MODES
from mococxr.heads.classifier import read_config
from mococxr.heads.scaling import scaling_facts, scaling_words
from mococxr.results import Row, write_tables
from mococxr.settings import StudySettings, to_mapping, to_yaml
from mococxr.studies import folder, provenance
from mococxr.studies.cells import LEVEL, undefined_entries
from mococxr.studies.design import Design, check_modes, read_design
from mococxr.studies.executors import Local, OnRay, executor_of
from mococxr.studies.flow import flow_rows
from mococxr.studies.measuring import attributes, measure_study
from mococxr.studies.trial import TrialContext, encoder_hashes, feature_jobs
from mococxr.trackers import check_tracker
from mococxr.version import VERSION


def run(settings: StudySettings) -> Path:
    """Compare encoders at several label fractions; finished trials of an earlier run are skipped.

    Returns:
        The study folder.

    Raises:
        InputError: bad settings or inputs, or a folder that holds another study; nothing was written.
    """
    out = Path(settings.out)
    check_tracker(settings.tracker)
    design = read_design(settings)
    groups = attributes(design.test.store, settings.subgroup)  # refused here, before anything is trained
    context = _context(settings, design)
    # Whether a mode trains by gradient depends on the solver.
    check_modes(design.arms, [mode for mode in design.modes if MODES[mode].by_gradient(context.config)])
    with executor_of(settings.executor, context, settings.jobs, settings.device, settings.gpus) as executor:
        # Of opened encoders: one that does not open writes no folder.
        hashes = encoder_hashes(design.sources, settings.seed)
        arms = _named(hashes, design, settings.linear_solver)
        inputs = folder.inputs_of(to_mapping(settings), design.train, design.test, arms, design.draws_hash)
        folder.open_output(out, inputs, to_yaml(settings))  # nothing is written before this
        folder.save_draws(out, design.train.store, design.draws)
        records = _train(executor, context, design, hashes)
    if settings.feature_cache is not None:
        trim(
            settings.feature_cache, settings.feature_cache_size, {read.file.stem for read in context.features.values()}
        )

    tables, judged = measure_study(out, records, design, settings, groups)

    write_tables(out, tables | {"flow": flow_rows(design)})
    facts = _facts(settings, design, context, records, judged)
    write_json(out / "study.json", facts)  # last: it says that the tables are whole
    for warning in facts["warnings"]:
        console.warn(warning)
    console.result(summary(tables, judged["primary"]))
    return out


def _context(settings: StudySettings, design: Design) -> TrialContext:
    on_ray = settings.executor == "ray" and settings.device != "cpu"  # tasks look on their own machines
    config = read_config(settings, pick_device("auto" if on_ray else settings.device).type)
    check_folder(settings.feature_cache)
    cache = FeatureCache(Path(settings.out) / "features", settings.feature_cache)
    return TrialContext(Path(settings.out), design.train, design.test, design.sources, {}, cache, config, design.added)


def _named(hashes: dict[str, tuple[str, ...]], design: Design, solver: str) -> dict[str, str]:
    """`arm/run index` -> what a study that goes on is compared by."""
    names = {run: " + ".join(parts) for run, parts in hashes.items()}
    if design.added and solver != "lbfgs":  # given as an arm it would be trained by gradient, under the same name
        names[f"{design.added}/0"] += " solved"
    return names


def _train(
    executor: Local | OnRay, context: TrialContext, design: Design, hashes: dict[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Records of all trials, in the order planned; those of an earlier run are not trained again."""
    trials = design.trials
    # Whole trials only: the record is written last.
    records = folder.finished(context.out, [trial for trial, _ in trials])
    if records:
        console.say(f"{len(records):,} of {len(trials):,} trials are done already and are skipped.")
    todo = [(trial, draw) for trial, draw in trials if trial.id not in records]
    if todo:
        if facts := scaling_facts(context.train.store, len(context.train.scaling_rows)):
            console.say(scaling_words(facts))
        executor.read(feature_jobs(context, todo, hashes))
        with console.progress("study", len(trials), "trials", done=len(records)) as bar:
            for record in executor.do(todo):
                records[record["id"]] = record
                bar.advance()
    return [records[trial.id] for trial, _ in trials]  # executors answer in any order


def _facts(
    settings: StudySettings, design: Design, context: TrialContext, records: Sequence[dict[str, Any]], judged: Row
) -> dict[str, Any]:
    train, test = design.train, design.test
    shared, copied = provenance.compare_images(context.out, test.store, design.arms)
    missing = settings.baseline and design.baseline.reason
    warnings = [
        *([f"No baseline: {missing}."] if missing else []),
        *provenance.patient_warnings(test.store, design.arms),
        *copied,
        *provenance.target_warnings(train.store, design.arms, design.targets),
        *provenance.encoder_warnings(train.store, test.store, design.arms),
        *provenance.note_warnings(records),
    ]
    return {
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "store": provenance.store_facts(train.store),
        "test_store": None if test is train else provenance.store_facts(test.store),
        "targets": {
            name: provenance.target_facts(train.store, train.targets[name], test.store, test.targets[name])
            for name in design.targets
        },
        "arms": {arm.name: provenance.arm_facts(train.store, arm, context.config.device) for arm in design.arms},
        "reference": design.reference,
        "baseline": {"arm": design.baseline.arm, "added": design.added is not None, "reason": design.baseline.reason},
        "replicates": settings.replicates,
        "level": LEVEL,
        "unit": settings.unit,
        "aggregate": settings.aggregate,
        "standardized_on": scaling_facts(train.store, len(train.scaling_rows)),
        "uncertain": settings.uncertain,
        "blank": provenance.blank_words(train.store, design.targets, settings.blank),
        "validation_labels": provenance.largest(records, "validation_images", "mode", design.modes),
        "undefined": undefined_entries(records),
        "calibration_labels": provenance.largest(records, "validation_scored", "target", design.targets),
        "images_in_both": shared,
        "warnings": warnings,
        "settings": to_mapping(settings),
        **judged,
    }


def summary(tables: Mapping[str, Sequence[Row]], primary: Row | None) -> str:
    """A line for each target, mode and fraction, then the primary comparison in words, with the baseline first.

    An asterisk marks an interval that leaves 0 out; there is none where patients are too few.
    """
    lines: dict[tuple[Any, ...], list[str]] = {}
    for row in tables["cells"]:
        value = "undefined" if row.get("auroc") is None else f"{row['auroc']:.3f}"
        lines.setdefault(_condition(row), []).append(f"{row['arm']} {value}")
    for row in tables["differences"]:
        other = row["against"] + (f" ({row['against_mode']})" if row["against_mode"] != row["mode"] else "")
        lines[_condition(row)].append(f"{row['arm']} - {other} {_difference(row)}")
    table = [f"{t}  {m}  {100 * f:g} %  " + "  ".join(parts) for (t, m, f), parts in lines.items()]
    primary = primary or {"arm": None}
    # The same arm against the reference stands behind it, never alone.
    cell = {name: value for name, value in primary.items() if name != "against"}
    words = [
        f"{row['arm']} against {row['against']} ({row['target']}, {row['mode']}, {100 * row['fraction']:g} % of the "
        f"labels): {row['words']}"
        for row in tables["differences"]
        if cell.items() <= row.items()
    ]
    legend = ["*: the interval leaves 0 out."] if any(line.endswith("*") for line in table) else []
    return "\n".join([*table, *legend, *words])


def _condition(row: Row) -> tuple[Any, ...]:
    return row["target"], row["mode"], row["fraction"]


def _difference(row: Row) -> str:
    if row.get("difference") is None:
        return "undefined"
    text = f"{row['difference']:+.3f}"
    low, high = ("low", "high") if row.get("low_total") is None else ("low_total", "high_total")
    if row.get(low) is not None:
        text += f" ({row[low]:+.3f}, {row[high]:+.3f})"
    mark = {"better": "*", "worse": "*", "too few": " (too few)"}
    return text + mark.get(row["verdict"], "")
