"""The command `study`, top to bottom: inputs, draws, trials, results, report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import journal
from mococxr.config import StudySettings, to_mapping, to_yaml
from mococxr.encode import cached, features, open_encoder, pick_device, state_hash
from mococxr.errors import InputError
from mococxr.files import write_csv, write_json
from mococxr.learn import read_method
from mococxr.report import write_report
from mococxr.store import Store
from mococxr.study import facts, folder, given, results
from mococxr.study.arms import arm_facts, encoder_warnings, overlap_warnings
from mococxr.study.copies import compare_films
from mococxr.study.plan import Arm, Draw, Trial, check_numbers, make_draws, plan_trials, read_arms
from mococxr.study.trial import Films, Work, run_trials
from mococxr.study.units import check_test_store, check_unit
from mococxr.targets import Target, read_target
from mococxr.version import VERSION

Rows = list[dict[str, Any]]


def run(settings: StudySettings) -> Path:
    """Compare encoders at several label fractions; finished trials of an earlier run are skipped.

    Returns:
        The path of the report.

    Raises:
        InputError: bad settings or inputs, or a folder that holds another study; nothing was written.
    """
    out = Path(settings.out)
    check_numbers(settings.fraction, settings.draws, settings.replicates)
    store = Store.open(settings.store)
    tested = store if settings.test_on is None else Store.open(settings.test_on)
    check_unit(tested, settings.unit)
    arms = read_arms(settings.arm, settings.backbone, settings.size)
    reference = _reference(settings.against, arms)
    train, test = _films(settings, store, tested)
    draws, drawn = _draws(settings, store, list(train.targets.values()))
    work = _work(settings, train, test, arms)
    hashes = _hashes(arms, settings.seed)
    inputs = folder.inputs_of(to_mapping(settings), store, tested, hashes, drawn)
    folder.claim(out, inputs, to_yaml(settings))
    folder.save_draws(out, store, draws)
    trials = plan_trials(arms, settings.mode, draws)
    records = _do_all(work, trials, draws, hashes, settings.jobs or _jobs(work))
    cells, differences, across, lost = _measure(records, arms, reference, settings)
    write_csv(out / "trials.csv", results.table(_named(records), results.TRIAL_SCHEMA))
    write_csv(out / "cells.csv", results.table(cells, results.CELL_SCHEMA))
    write_csv(out / "differences.csv", results.table(differences, results.DIFFERENCE_SCHEMA))
    write_csv(out / "across.csv", results.table(across, results.ACROSS_SCHEMA))
    study = _facts(settings, work, arms, records, reference, lost)
    study["primary"] = facts.primary(cells, [arm.name for arm in arms], reference)
    write_json(out / "study.json", study)
    return _finish(out, cells, differences, study["warnings"])


def _reference(against: str | None, arms: Sequence[Arm]) -> str:
    names = [arm.name for arm in arms]
    if against is not None and against not in names:
        raise InputError(f"--against {against!r} is no arm.", f"The arms are {', '.join(names)}.")
    return against or names[0]


def _films(settings: StudySettings, store: Store, tested: Store) -> tuple[Films, Films]:
    """The films that train and those that are judged; one object where one store holds both."""
    if not settings.target or len(set(settings.target)) < len(settings.target):
        raise InputError("--target is missing or given twice.", "Name each target once.")
    targets = _targets(store, settings)
    if tested is store:
        return (both := Films(store, targets, _rows(targets, "train", "test")), both)
    check_test_store(store, tested)
    judged = _targets(tested, settings)
    return Films(store, targets, _rows(targets, "train")), Films(tested, judged, _rows(judged, "test"))


def _targets(store: Store, settings: StudySettings) -> dict[str, Target]:
    how = {"where": settings.where, "uncertain": settings.uncertain, "blank": settings.blank}
    try:
        return {name: read_target(store, name, **how) for name in settings.target}  # type: ignore[arg-type]
    except InputError as error:
        if settings.test_on is None:
            raise
        raise InputError(f"{store.path}: {error.problem}", error.way_out) from error


def _rows(targets: dict[str, Target], *splits: str) -> NDArray[np.int64]:
    parts = [getattr(target, split) for target in targets.values() for split in splits]
    return np.unique(np.concatenate(parts)).astype(np.int64)


def _draws(settings: StudySettings, store: Store, targets: Sequence[Target]) -> tuple[list[Draw], str | None]:
    """The draws, and the hash of those that were given."""
    if settings.draws_from is None:
        return make_draws(store, targets, settings.fraction, settings.draws, settings.seed), None
    draws = given.read_draws(settings.draws_from, store, targets, settings.fraction)
    return draws, given.fingerprint(draws)


def _work(settings: StudySettings, train: Films, test: Films, arms: Sequence[Arm]) -> Work:
    if settings.executor == "ray":
        raise InputError("--executor ray is not in this version.", "Take --executor local.")
    method = read_method(settings, pick_device(settings.device).type)
    sources = {(arm.name, i): source for arm in arms for i, source in enumerate(arm.sources)}
    return Work(Path(settings.out), train, test, sources, {}, method)


def _jobs(work: Work) -> int:
    """One process a core; one where a GPU does the work."""
    return (os.cpu_count() or 1) if work.method.device == "cpu" else 1


def _hashes(arms: Sequence[Arm], seed: int) -> dict[str, str]:
    """Arm and run -> hash of the weights and of how films are put to them."""
    return {
        f"{arm.name}/{i}": f"{state_hash(open_encoder(source, seed))} {source.spec}"
        for arm in arms
        for i, source in enumerate(arm.sources)
    }


def _do_all(
    work: Work, trials: Sequence[Trial], draws: Sequence[Draw], hashes: dict[str, str], jobs: int
) -> list[dict[str, Any]]:
    """Records of all trials, in the order planned; those of an earlier run are not done again."""
    records = folder.finished(work.out, trials)
    if records:
        journal.say(f"{len(records):,} of {len(trials):,} trials are done already and are skipped.")
    by_key = {(draw.target, draw.fraction, draw.draw): draw for draw in draws}
    todo = [(t, by_key[t.target, t.fraction, t.draw]) for t in trials if t.id not in records]
    for trial, draw in todo:
        if work.method.solves(trial.mode) and not draw.undefined:
            for films in (work.train, work.test):
                key = (trial.arm, trial.run_index, films.store.sha256)
                if key not in work.features:
                    encoder = hashes[f"{trial.arm}/{trial.run_index}"]
                    work.features[key] = _features(work, (trial.arm, trial.run_index), films, encoder)
    if todo:
        with journal.progress("study", len(trials), "trials", done=len(records)) as bar:
            for record in run_trials(work, todo, jobs):
                records[record["id"]] = record
                bar.advance()
    return [records[trial.id] for trial in trials]


def _features(work: Work, key: tuple[str, int], films: Films, encoder_hash: str) -> Path:
    """The file of an encoder's features of some films; read once, then kept in STUDY/features."""
    source, method = work.sources[key], work.method

    def make() -> Any:
        return features(
            open_encoder(source, method.seed), films.store, films.rows,
            size=source.spec.size, frame=method.frame, device=method.device, label=f"features of {key[0]}",
        )  # fmt: skip

    made_from = (encoder_hash, films.store.sha256, method.frame, method.device, films.rows.tobytes())
    return cached(work.out / "features", made_from, make)


def _measure(
    records: Sequence[dict[str, Any]], arms: Sequence[Arm], reference: str, settings: StudySettings
) -> tuple[Rows, Rows, Rows, int]:
    """Rows of cells, of differences, and of those across modes; and the most undefined resamples of a cell."""
    cells, differences, across, lost = [], [], [], 0
    for target in settings.target:
        own = [record for record in records if record["target"] == target]
        measured = results.measure(
            Path(settings.out), own, settings.unit, settings.vote, settings.replicates, settings.seed
        )
        for mode, arm, fraction in product(settings.mode, arms, sorted(settings.fraction)):
            key = (arm.name, mode, target, fraction)
            row, undefined = results.cell_row(key, measured)
            cells.append(row)
            lost = max(lost, undefined)
            if arm.name != reference:
                differences.append(results.difference_row(key, reference, measured))
                if mode == "linear" and "finetune" in settings.mode:
                    across.append(results.difference_row(key, reference, measured, "finetune"))
    return cells, differences, across, lost


def _named(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record | {"trial": record["id"]} for record in records]


def _facts(
    settings: StudySettings, work: Work, arms: Sequence[Arm], records: Sequence[dict[str, Any]], reference: str,
    lost: int,
) -> dict[str, Any]:  # fmt: skip
    store, tested = work.train.store, work.test.store
    shared, copied = compare_films(work.out, tested, arms)
    seen = [*overlap_warnings(tested, arms), *copied, *encoder_warnings(tested, arms)]
    return {
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "store": facts.store_facts(store),
        "test_store": None if tested is store else facts.store_facts(tested),
        "targets": {name: _target_facts(work, name) for name in settings.target},
        "arms": {arm.name: arm_facts(store, arm, work.method.device) for arm in arms},
        "reference": reference,
        "replicates": settings.replicates,
        "level": results.LEVEL,
        "unit": settings.unit,
        "vote": settings.vote,
        "uncertain": settings.uncertain,
        "blank": settings.blank or store.blank,
        "validation_labels": facts.validation_labels(records, settings.mode),
        "undefined": results.undefined_entries(records),
        "undefined_resamples": lost,
        "films_in_both": shared,
        "warnings": [*seen, *facts.note_warnings(records)],
        "settings": to_mapping(settings),
    }


def _target_facts(work: Work, name: str) -> dict[str, Any]:
    """Counts of a target: those of training from the one store, those of the test from the other."""
    trained = facts.target_facts(work.train.store, work.train.targets[name])
    judged = facts.target_facts(work.test.store, work.test.targets[name])
    return trained | {key: value for key, value in judged.items() if key.startswith("test_")}


def _finish(
    out: Path, cells: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]], warnings: Sequence[str]
) -> Path:
    for warning in warnings:
        journal.warn(warning)
    report = write_report(out)
    journal.result(_summary(cells, differences))
    journal.say(f"report: {report}")
    return report


def _summary(cells: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]]) -> str:
    """A compact table: a line for each target, mode and fraction; an asterisk marks an interval without 0."""
    lines: dict[tuple[Any, ...], list[str]] = {}
    for row in cells:
        value = "undefined" if row.get("auroc") is None else f"{row['auroc']:.3f}"
        lines.setdefault((row["target"], row["mode"], row["fraction"]), []).append(f"{row['arm']} {value}")
    for row in differences:
        text = "undefined"
        if row.get("difference") is not None:
            sure = "*" if row["low"] > 0 or row["high"] < 0 else ""
            text = f"{row['difference']:+.3f} ({row['low']:+.3f}, {row['high']:+.3f}){sure}"
        label = f"{row['arm']} - {row['against']} {text}"
        lines[row["target"], row["mode"], row["fraction"]].append(label)
    return "\n".join(f"{t}  {m}  {100 * f:g} %  " + "  ".join(parts) for (t, m, f), parts in lines.items())
