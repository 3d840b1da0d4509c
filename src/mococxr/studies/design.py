"""The settings of a study -> one `Design`: arms, label subsets, trials, and what is scored; nothing is trained here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import console
from mococxr.encoders import (
    BUILT_IN,
    LITE0,
    EncoderName,
    EncoderSource,
    EncoderSpec,
    Parts,
    arm_name,
    encoder_names,
    resolve_encoder,
    split_outside_quotes,
)
from mococxr.errors import InputError
from mococxr.heads import MODES, check_one
from mococxr.heads.classifier import read_config
from mococxr.heads.scaling import scaling_rows
from mococxr.heads.targets import Target, read_target
from mococxr.settings import StudySettings, nearest
from mococxr.store import Store
from mococxr.studies.baseline import MODE, NO_BASELINE, Baseline, find_baseline
from mococxr.studies.feature_table import KIND, table_source
from mococxr.studies.label_subsets import Draw, hash_of, make_draws, read_draws


@dataclass(frozen=True)
class TargetData:
    """Images of one store that a study reads.

    Args:
        targets: what each target makes of the store's labels.
        rows: the rows whose features the study needs, sorted.
        scaling_rows: those of them that features are standardised by, labelled or not; none where the labelled ones do it.
    """

    store: Store
    targets: dict[str, Target]
    rows: NDArray[np.int64]
    scaling_rows: NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """One arm of the comparison: a name, and an encoder for each of its pretraining runs.

    `runs[i]` names `sources[i]` in tables: one encoder, or several whose features stand side by side.
    """

    name: str
    sources: tuple[Parts, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One classifier to train and score. `run_index` counts the runs of the arm from 0."""

    id: str
    arm: str
    run: str
    run_index: int
    mode: str
    target: str
    fraction: float
    draw: int


@dataclass(frozen=True)
class Design:
    """What a study compares with what, on which images.

    Args:
        train: the images that train and validate.
        test: those that are scored; the same object where one store holds both.
        arms, modes, targets, fractions: in the order given; an arm that the study adds is the last one.
        reference: the arm that the others are compared with, behind the baseline where there is one.
        draws: the label subsets, the same for every arm and mode.
        draws_hash: of subsets that were given.
        baseline: the arm that is compared with first.
        primary: `target, mode, fraction, arm, against` of the comparison that was named in advance, if one was.
    """

    train: TargetData
    test: TargetData
    arms: tuple[Arm, ...]
    reference: str
    modes: tuple[str, ...]
    targets: tuple[str, ...]
    fractions: tuple[float, ...]
    draws: tuple[Draw, ...]
    draws_hash: str | None
    baseline: Baseline = NO_BASELINE
    primary: dict[str, Any] | None = None

    @property
    def trials(self) -> list[tuple[Trial, Draw]]:
        """Every trial with its label subset, in the order target, fraction, subset, mode, arm, run."""
        return [
            (Trial(_trial_id(draw, mode, arm.name, index), arm.name, run, index, mode, draw.target, draw.fraction,
                   draw.draw), draw)
            for draw in self.draws
            for mode, arm in self.conditions
            for index, run in enumerate(arm.runs)
        ]  # fmt: skip

    @property
    def added(self) -> str | None:
        """The arm that the study adds to those given."""
        return self.baseline.arm if self.baseline.source else None

    @property
    def conditions(self) -> list[tuple[str, Arm]]:
        """Mode and arm of all classifiers; an added baseline has one mode, whatever the others have."""
        modes = dict.fromkeys((*self.modes, MODE) if self.added else self.modes)
        return [(mode, arm) for mode in modes for arm in self.arms if mode in self._modes_of(arm.name)]

    def _modes_of(self, arm: str) -> tuple[str, ...]:
        return (MODE,) if arm == self.added else self.modes

    def compared(self, arm: str, mode: str) -> list[tuple[str, str]]:
        """Arm and mode of what an arm in a mode is compared with: the baseline, then the reference."""
        if arm == self.baseline.arm:  # one row a pair: the other arm's has it
            return []
        others = [(self.baseline.arm, MODE if self.added else mode)] if self.baseline.arm else []
        behind = self.reference not in (arm, self.baseline.arm)
        return [*others, *([(self.reference, mode)] if behind else [])]

    @property
    def candidates(self) -> list[str]:
        """The arms that a primary comparison may be of, the arm of the one by rule first."""
        names = [arm.name for arm in self.arms if arm.name not in (self.reference, self.against)]
        return names if self.reference == self.against else [*names, self.reference]

    @property
    def against(self) -> str:
        """The arm that a primary comparison is with."""
        return self.baseline.arm or self.reference

    @property
    def sources(self) -> dict[tuple[str, int], Parts]:
        """The encoders of each arm and run index."""
        return {(arm.name, i): parts for arm in self.arms for i, parts in enumerate(arm.sources)}


def read_design(settings: StudySettings) -> Design:
    """Open the stores and check all that the settings ask for.

    Raises:
        InputError: bad settings or inputs, each named.
    """
    check_fractions(settings.fraction)
    store = Store.open(settings.store, settings.labels_as_of)
    if settings.test_on is not None and (settings.labels_as_of or "0").strip("0").isdecimal():
        raise InputError("--labels-as-of as a number of events is of one store.", "With --test-on give a date.")
    test_store = store if settings.test_on is None else Store.open(settings.test_on, settings.labels_as_of)
    check_unit(test_store, settings.unit)
    arms = read_arms(settings.arm, settings.encoder_options)
    baseline = _baseline(settings, arms, min(opened.manifest["size"] for opened in (store, test_store)))
    if baseline.arm and baseline.source:
        arms.append(Arm(baseline.arm, ((baseline.source,),), (baseline.arm,)))
    names = [arm.name for arm in arms]
    if settings.against is not None and settings.against not in names:
        raise InputError(f"--against {settings.against!r} is not an arm.", f"The arms are {', '.join(names)}.")
    train, test = _target_data(settings, store, test_store, baseline.source is not None)
    targets = list(train.targets.values())
    given_hash = None
    if settings.draws_from is None:
        draws = make_draws(store, targets, settings.fraction, settings.draws, settings.seed)
    else:
        draws = read_draws(settings.draws_from, store, targets, settings.fraction)
        given_hash = hash_of(draws)  # given tables may change under the same path
    design = Design(
        train, test, tuple(arms), settings.against or names[0], settings.mode, settings.target, settings.fraction,
        tuple(draws), given_hash, baseline,
    )  # fmt: skip
    if settings.primary is not None:
        design = replace(design, primary=read_primary(settings.primary, design))
    ids = [trial.id for trial, _ in design.trials]
    if len(set(ids)) < len(ids):  # one would overwrite the other's predictions
        raise InputError("Two targets or arms have names too alike for file names.", "Rename one of them.")
    return design


def _baseline(settings: StudySettings, arms: Sequence[Arm], largest: int) -> Baseline:
    """The baseline, or why there is none; weights that are missing are said before anything is trained."""
    if not settings.baseline:
        return NO_BASELINE
    baseline = find_baseline({arm.name: arm.sources for arm in arms}, settings.backbone, largest)
    if baseline.reason:
        console.warn(f"No baseline: {baseline.reason}.")
    return baseline


def read_primary(text: str, design: Design) -> dict[str, Any]:
    """`--primary TARGET[:MODE][:FRACTION][:ARM]`; what is not named is the first mode and arm, and the smallest fraction.

    Raises:
        InputError: no such target, or a part that is no mode, fraction or arm of the study, or is named twice.
    """
    targets = [name for name in design.targets if f"{text}:".startswith(f"{name}:")]
    if not targets:
        raise InputError(f"--primary {text}: no such target.", nearest(text.partition(":")[0], design.targets))
    target = max(targets, key=len)  # a target's own name may hold a colon: the longest that fits
    arms = design.candidates
    if not arms:
        raise InputError(f"--primary {text}: there is one arm, and nothing is compared.", "Add --arm, or leave it out.")
    choices: dict[str, dict[str, Any]] = {
        "mode": {mode: mode for mode in design.modes},
        "fraction": {f"{fraction:g}": fraction for fraction in sorted(design.fractions)},
        "arm": {arm: arm for arm in arms},
    }
    primary: dict[str, Any] = {"target": target, "against": design.against}
    rest = text[len(target) + 1 :]
    for part in rest.split(":") if rest else []:
        names = (part, _plain(part))  # an arm may be called 007
        free = {kind: values for kind, values in choices.items() if kind not in primary}
        matches = [(kind, values[name]) for kind, values in free.items() for name in names if name in values]
        if not matches:
            named = "; ".join(f"{kind}: {', '.join(values)}" for kind, values in choices.items())
            raise InputError(f"--primary {text}: {part!r} is no further part of a comparison.", f"Give {named}.")
        primary |= dict(matches[:1])
    return primary | {kind: next(iter(values.values())) for kind, values in choices.items() if kind not in primary}


def _plain(part: str) -> str:
    """A fraction as it is shown, `0.10` as `0.1`; other text as it is."""
    try:
        return f"{float(part):g}"
    except ValueError:
        return part


def _target_data(
    settings: StudySettings, store: Store, test_store: Store, added: bool
) -> tuple[TargetData, TargetData]:
    """The images that train and those that are scored; one object where one store holds both.

    Args:
        added: whether the study adds a baseline, whose head is solved whatever the settings say of the others.
    """
    if not settings.target:
        raise InputError("--target is missing.", "Name a label column, COLUMN=VALUE or COLUMN~FINDING.")
    for name in settings.target:
        if settings.target.count(name) > 1:
            raise InputError(f"--target {name} is given twice.", "Name each target once.")
    targets = _targets(store, settings)
    config = read_config(settings, "cpu")
    solved = added or any(MODES[mode].reads_features(config) for mode in settings.mode)
    scaling = scaling_rows(store) if solved and settings.standardize == "unlabelled" else np.empty(0, dtype=np.int64)
    if test_store is store:
        rows = np.union1d(_rows(targets, "train", "val", "test"), scaling)
        return (both := TargetData(store, targets, rows, scaling)), both
    check_test_store(store, test_store)
    tested = _targets(test_store, settings)
    train = TargetData(store, targets, np.union1d(_rows(targets, "train", "val"), scaling), scaling)
    return train, TargetData(test_store, tested, _rows(tested, "test"), scaling[:0])


def _targets(store: Store, settings: StudySettings) -> dict[str, Target]:
    try:
        return {
            name: read_target(store, name, where=settings.where, uncertain=settings.uncertain, blank=settings.blank)
            for name in settings.target
        }
    except InputError as error:
        if settings.test_on is None:
            raise
        raise InputError(f"{store.path}: {error.problem}", error.way_out) from error


def _rows(targets: dict[str, Target], *splits: str) -> NDArray[np.int64]:
    parts = [getattr(target, split) for target in targets.values() for split in splits]
    return np.unique(np.concatenate(parts)).astype(np.int64)  # sorted, as `searchsorted` in trial.py needs them


def read_arms(texts: Sequence[str], options: Mapping[str, Any]) -> list[Arm]:
    """Arms in the order given.

    Args:
        texts: `NAME`, `NAME=ENCODER` or `NAME=RUN1,RUN2`; a bare one is an encoder, named after
            the last part of its name. An encoder that ends in `.parquet` is a table of features.
        options: as `EncoderSettings.encoder_options`. `imagenet` and `random` take what is not given from the first
            run among the arms. A size given holds for every arm; otherwise each has its own.

    Raises:
        InputError: a name twice, an encoder that is not there, or one that nobody says how to build.
    """
    named = [_parts(text) for text in texts]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two arms are named {name!r}.", "Name each arm once: --arm NAME=ENCODER.")
    encoders = [encoder.text for _, several in named for text in several for encoder in encoder_names(text)]
    # `imagenet` and `random` get the architecture of the first run.
    runs = [name for name in encoders if name == LITE0 or Path(name, "encoder.json").is_file()]
    like = resolve_encoder(runs[0]).spec if runs else None
    return [_arm(name, several, like, options) for name, several in named]


def _arm(name: str, encoders: list[str], like: EncoderSpec | None, options: Mapping[str, Any]) -> Arm:
    sources = tuple(tuple(_source(name, like, options) for name in encoder_names(encoder)) for encoder in encoders)
    last = [arm_name(encoder) for encoder in encoders]
    return Arm(name, sources, tuple(last if len(set(last)) == len(last) else encoders))  # tables must tell runs apart


def _source(name: EncoderName, like: EncoderSpec | None, options: Mapping[str, Any]) -> EncoderSource:
    if name.text.endswith(".parquet"):
        return table_source(name.text, name.size)
    return resolve_encoder(name.text, like=like, **{**options, "size": name.size or options["size"]})


def _parts(text: str) -> tuple[str, list[str]]:
    *before, rest = split_outside_quotes(text, "=", 1)
    encoders = [part for part in split_outside_quotes(rest, ",") if part]
    name = before[0].strip() if before else arm_name(encoders[-1]) if encoders else ""
    if not name or not encoders:
        raise InputError(
            f"--arm {text!r} names no encoder.",
            "Write --arm NAME=RUN, --arm imagenet, --arm random or --arm NAME=hf:OWNER/NAME.",
        )
    # Several encoders of an arm are its pretraining runs: a built-in one has none.
    built_in = {name.text for encoder in encoders for name in encoder_names(encoder)} & set(BUILT_IN)
    if len(set(encoders)) < len(encoders) or (len(encoders) > 1 and built_in):
        raise InputError(f"--arm {text!r} mixes or repeats encoders.", "Several encoders of an arm are different runs.")
    return name, encoders


def check_modes(arms: Sequence[Arm], trained: Sequence[str]) -> None:
    """Refuse a table of features, and encoders side by side, in a mode that trains on images (`trained`)."""
    for arm in arms:
        for parts in arm.sources:
            check_one(parts, trained, f"arm {arm.name}")
        if trained and any(source.kind == KIND for parts in arm.sources for source in parts):
            raise InputError(
                f"Arm {arm.name} is a table of features: there is no encoder for --mode {' '.join(trained)}.",
                "Take --mode linear with --linear-solver lbfgs, or name an encoder.",
            )


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse no fraction, or two that files and trials could not tell apart: that are one in 6 digits."""
    if not fractions or len({f"{fraction:g}" for fraction in fractions}) < len(fractions):
        raise InputError("--fraction is empty or has a value twice.", "Give each fraction once, in 6 digits.")


def slug(text: str) -> str:
    """Text as a part of a file name: plain letters, digits, `.`, `_` and `-`; 24 bits of a hash where it is changed."""
    # Three such parts and a suffix stay under 255 bytes of a file name.
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:60]
    same = plain == text and not text.startswith(".")  # a name with a dot in front is a hidden file
    # Changed names may meet: "a b" and "a_b".
    return plain if same else f"{plain.lstrip('.')}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _trial_id(draw: Draw, mode: str, arm: str, run_index: int) -> str:
    names = "-".join(map(slug, (draw.target, mode, arm)))
    return f"{names}-{run_index}-{draw.fraction:g}-{draw.draw}"


def check_unit(store: Store, unit: str) -> None:
    """Refuse studies as units where images have none."""
    if unit == "study" and store.index["study"].null_count():
        missing = store.index["study"].null_count()
        raise InputError(
            f"--unit study: {missing:,} images have no study.", "Take --unit image or patient, or name the studies."
        )


def check_test_store(store: Store, tested: Store) -> None:
    """Refuse another store without a test image, or with test patients who train or validate in `store`."""
    patients = tested.splits.filter(pl.col("split") == "test")["patient"]
    if not len(patients):
        raise InputError(
            f"--test-on {tested.path}: none of its images is a test image.",
            "Prepare it with --split 0 0 1 to judge all of its images, or with a split that has test patients.",
        )
    others = store.splits.filter(pl.col("split") != "test")["patient"]
    # Identifiers of other sources name other people.
    shared = patients.is_in(others.implode()).sum() if store.source == tested.source else 0
    if shared:
        raise InputError(
            f"--test-on {tested.path}: {shared:,} of its {len(patients):,} test patients train or validate in "
            f"{store.path}.",
            "Prepare one of the two without them (--split-file).",
        )
