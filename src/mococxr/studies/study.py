"""The command `study`, top to bottom: inputs, draws, trials, results, report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.encoders import open_encoder
from mococxr.errors import InputError
from mococxr.features import pick_device, state_hash
from mococxr.files import write_json
from mococxr.heads.classifier import read_config
from mococxr.heads.targets import Target, read_target
from mococxr.reporting.report import write_report
from mococxr.results import write_tables
from mococxr.settings import StudySettings, to_mapping, to_yaml
from mococxr.store import Store
from mococxr.studies import facts, folder, given
from mococxr.studies.arms import arm_facts, encoder_warnings, overlap_warnings
from mococxr.studies.copies import compare_images
from mococxr.studies.executors import Local, OnRay, executor_of
from mococxr.studies.groups import attributes
from mococxr.studies.measuring import Asked, Numbers, measure_study
from mococxr.studies.passes import passes_of
from mococxr.studies.plan import (
    Arm,
    Draw,
    Trial,
    check_fractions,
    make_draws,
    plan_trials,
    read_arms,
)
from mococxr.studies.results import LEVEL, Judging, undefined_entries
from mococxr.studies.summary import summary
from mococxr.studies.trial import Images, Work
from mococxr.studies.units import check_test_store, check_unit
from mococxr.version import VERSION


def run(settings: StudySettings) -> Path:
    """Compare encoders at several label fractions; finished trials of an earlier run are skipped.

    Returns:
        The path of the report.

    Raises:
        InputError: bad settings or inputs, or a folder that holds another study; nothing was written.
    """
    out = Path(settings.out)
    check_fractions(settings.fraction)
    store = Store.open(settings.store)
    tested = store if settings.test_on is None else Store.open(settings.test_on)
    check_unit(tested, settings.unit)
    arms = read_arms(settings.arm, settings.backbone, settings.size)
    reference = _reference(settings.against, arms)
    train, test = _images(settings, store, tested)
    groups = attributes(tested, settings.subgroup)
    draws, drawn = _draws(settings, store, list(train.targets.values()))
    work = _work(settings, train, test, arms)
    where = (settings.jobs, settings.device, settings.gpus)
    with executor_of(settings.executor, work, *where) as executor:
        hashes = _hashes(arms, settings.seed)
        inputs = folder.inputs_of(to_mapping(settings), store, tested, hashes, drawn)
        folder.claim(out, inputs, to_yaml(settings))
        folder.save_draws(out, store, draws)
        trials = plan_trials(arms, settings.mode, draws)
        records = _do_all(executor, work, trials, draws, hashes)
    asked = Asked([arm.name for arm in arms], reference, settings.mode, settings.target, settings.fraction)
    numbers = measure_study(out, records, asked, _judging(settings), tested, groups)
    write_tables(out, numbers.tables)
    study = _facts(settings, work, arms, records, reference, numbers)
    write_json(out / "study.json", study)
    return _finish(out, numbers, study["warnings"])


def _reference(against: str | None, arms: Sequence[Arm]) -> str:
    names = [arm.name for arm in arms]
    if against is not None and against not in names:
        raise InputError(f"--against {against!r} is no arm.", f"The arms are {', '.join(names)}.")
    return against or names[0]


def _images(settings: StudySettings, store: Store, tested: Store) -> tuple[Images, Images]:
    """The images that train and those that are judged; one object where one store holds both."""
    if not settings.target or len(set(settings.target)) < len(settings.target):
        raise InputError("--target is missing or given twice.", "Name each target once.")
    targets = _targets(store, settings)
    if tested is store:
        return (both := Images(store, targets, _rows(targets, "train", "val", "test")), both)
    check_test_store(store, tested)
    judged = _targets(tested, settings)
    return Images(store, targets, _rows(targets, "train", "val")), Images(
        tested, judged, _rows(judged, "test")
    )


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


def _work(settings: StudySettings, train: Images, test: Images, arms: Sequence[Arm]) -> Work:
    elsewhere = settings.executor == "ray" and settings.device != "cpu"  # tasks look on their own machines
    config = read_config(settings, pick_device("auto" if elsewhere else settings.device).type)
    sources = {(arm.name, i): source for arm in arms for i, source in enumerate(arm.sources)}
    return Work(Path(settings.out), train, test, sources, {}, config)


def _hashes(arms: Sequence[Arm], seed: int) -> dict[str, str]:
    """Arm and run -> hash of the weights and of how images are put to them."""
    return {
        f"{arm.name}/{i}": f"{state_hash(open_encoder(source, seed))} {source.spec}"
        for arm in arms
        for i, source in enumerate(arm.sources)
    }


def _do_all(
    executor: Local | OnRay,
    work: Work,
    trials: Sequence[Trial],
    draws: Sequence[Draw],
    hashes: dict[str, str],
) -> list[dict[str, Any]]:
    """Records of all trials, in the order planned; those of an earlier run are not done again."""
    records = folder.finished(work.out, trials)
    if records:
        console.say(f"{len(records):,} of {len(trials):,} trials are done already and are skipped.")
    by_key = {(draw.target, draw.fraction, draw.draw): draw for draw in draws}
    todo = [(t, by_key[t.target, t.fraction, t.draw]) for t in trials if t.id not in records]
    if todo:
        executor.read(passes_of(work, todo, hashes))
        with console.progress("study", len(trials), "trials", done=len(records)) as bar:
            for record in executor.do(todo):
                records[record["id"]] = record
                bar.advance()
    return [records[trial.id] for trial in trials]


def _judging(settings: StudySettings) -> Judging:
    return Judging(**{one.name: getattr(settings, one.name) for one in dataclasses.fields(Judging)})


def _facts(
    settings: StudySettings, work: Work, arms: Sequence[Arm], records: Sequence[dict[str, Any]], reference: str,
    numbers: Numbers,
) -> dict[str, Any]:  # fmt: skip
    store, tested = work.train.store, work.test.store
    shared, copied = compare_images(work.out, tested, arms)
    seen = [*overlap_warnings(tested, arms), *copied, *encoder_warnings(tested, arms)]
    return {
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "store": facts.store_facts(store),
        "test_store": None if tested is store else facts.store_facts(tested),
        "targets": {name: _target_facts(work, name) for name in settings.target},
        "arms": {arm.name: arm_facts(store, arm, work.config.device) for arm in arms},
        "reference": reference,
        "replicates": settings.replicates,
        "level": LEVEL,
        "unit": settings.unit,
        "vote": settings.vote,
        "uncertain": settings.uncertain,
        "blank": settings.blank or store.blank,
        "validation_labels": facts.validation_labels(records, settings.mode),
        "undefined": undefined_entries(records),
        "undefined_resamples": numbers.undefined_resamples,
        "calibration_labels": facts.calibration_labels(records, settings.target),
        "images_in_both": shared,
        "warnings": [*seen, *facts.note_warnings(records)],
        "settings": to_mapping(settings),
        **numbers.facts,
    }


def _target_facts(work: Work, name: str) -> dict[str, Any]:
    """Counts of a target: those of training from the one store, those of the test from the other."""
    trained = facts.target_facts(work.train.store, work.train.targets[name])
    judged = facts.target_facts(work.test.store, work.test.targets[name])
    return trained | {key: value for key, value in judged.items() if key.startswith("test_")}


def _finish(out: Path, numbers: Numbers, warnings: Sequence[str]) -> Path:
    for warning in warnings:
        console.warn(warning)
    report = write_report(out)
    console.result(summary(numbers))
    console.say(f"report: {report}")
    return report
