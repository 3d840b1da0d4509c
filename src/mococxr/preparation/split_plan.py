"""Which split `prepare` uses: a stated one before the table's own, that before shares."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from mococxr import console, files
from mococxr.datasets import Dataset
from mococxr.errors import InputError, Shown
from mococxr.preparation.pseudonymised import Pseudonymisation
from mococxr.privacy import are_pseudonyms
from mococxr.splits import SPLIT_WORDS, SPLITS, explicit_split, filling_seed, hashed_split, refuse_few, stratified_split
from mococxr.tables import identifiers, keys, read_table, split_names

SHOWN = 12
"""Labels named in one warning."""


@dataclass(frozen=True)
class SplitPlan:
    """A decision on the split, made and checked before any image is decoded.

    Args:
        rule: the decision in words.
        explicit: `patient, split` of every patient, or None where labels of the images that can be read decide.
        shares: of train, val and test; None where somebody stated the split.
        seed: of the split by shares.
        seed_that_fills: a seed by which no split with a share is empty, where one is by this seed.
    """

    rule: str
    explicit: pl.DataFrame | None
    shares: tuple[float, float, float] | None = None
    seed: int = 0
    seed_that_fills: int | None = None

    def assign(self, rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
        """`patient, split` for the patients of these rows."""
        if self.explicit is not None:
            return self.explicit.filter(pl.col("patient").is_in(rows["patient"].unique().implode()))
        assert self.shares is not None
        return stratified_split(rows, labels, self.shares, self.seed)

    def warnings(self, rows: pl.DataFrame, splits: pl.DataFrame, labels: Sequence[str]) -> list[str]:
        """What a split lacks: patients, or positive images of a label that has some elsewhere.

        Args:
            rows: the images that were read.
            splits: `patient, split` of their patients.
        """
        images = rows.select("patient", *labels).join(splits, on="patient")
        filled = set(splits["split"])
        even = "" if self.shares is None or self.explicit is None else " --stratify deals labels out evenly."
        texts = []
        if empty := [
            f"{name} ({100 * share:g} %)"
            for name, share in zip(SPLITS, self.shares or (0, 0, 0), strict=True)
            if share > 0 and name not in filled
        ]:
            texts.append(f"none of the {len(splits):,} patients is in {' or '.join(empty)}. {self._way_out()}")
        for name in (name for name in SPLITS if name in filled):
            part = images.filter(pl.col("split") == name)
            positives = {label: int((images[label] == 1).sum()) for label in labels if not (part[label] == 1).any()}
            lacking = [f"{label} ({count:,} elsewhere)" for label, count in positives.items() if count]
            if lacking:
                more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
                shown = ", ".join(lacking[:SHOWN]) + more
                texts.append(f"no image in {name} ({len(part):,}) is positive for {shown}.{even}")
        return texts

    def _way_out(self) -> str:
        seed = "" if self.seed_that_fills is None else f"--split-seed {self.seed_that_fills} fills every split; "
        return f"{seed}--stratify deals patients out in exact fractions; --split-file states a split."


def decide(
    dataset: Dataset,
    split_file: Path | None,
    shares: tuple[float, float, float],
    seed: int,
    *,
    stratify: bool = False,
    pseudonyms: Pseudonymisation | None = None,
) -> SplitPlan:
    """Decide, and say what of a stated split is not used, and who gets a split that it does not state.

    Args:
        dataset: whose patients are divided.
        split_file: a stated split.
        shares: of train, val and test.
        seed: of the split by shares.
        stratify: by label and in exact shares, in place of patient by patient.
        pseudonyms: what the patients of the dataset are called in truth: their splits hang on that.

    Raises:
        InputError: a stated split does not fit the patients, or shares are impossible.
    """
    if stratify and split_file is not None:
        raise InputError("--stratify goes with --split, and --split-file states a split.", "Leave out one of them.")
    if split_file is None and dataset.has_official_split:
        table = dataset.rows.select("patient", "split")
        explicit, _, _ = explicit_split(table, dataset.rows["patient"], "the table's own split")
        return SplitPlan("as stated by the dataset or its table", explicit)
    words = "/".join(f"{100 * share:g}" for share in shares) + " %"
    if stratify:
        plan = SplitPlan(f"random by patient {words}, stratified by label, seed {seed}", None, shares, seed)
        plan.assign(dataset.rows, dataset.labels)  # what cannot be divided is refused now, not after hours of decoding
        return plan
    by_hash, fills = _by_hash(dataset, shares, seed, pseudonyms)
    if split_file is not None:
        return _stated(dataset, split_file, by_hash, f"by hash {words}, seed {seed}", pseudonyms)
    refuse_few(len(by_hash), shares)
    return SplitPlan(f"by hash of patient {words}, seed {seed}", by_hash, shares, seed, fills)


def decide_added(
    dataset: Dataset,
    split_file: Path | None,
    shares: tuple[float, float, float],
    seed: int,
    pseudonyms: Pseudonymisation | None,
) -> SplitPlan:
    """The split of images that are added to a store: as `decide`, but few patients fill no split, and none is dealt out."""
    by_hash, _ = _by_hash(dataset, shares, seed, pseudonyms)
    words = f"by hash {'/'.join(f'{100 * share:g}' for share in shares)} %, seed {seed}"
    if split_file is not None:
        return _stated(dataset, split_file, by_hash, words, pseudonyms)
    if dataset.has_official_split:
        table = dataset.rows.select("patient", "split")
        explicit, _, _ = explicit_split(table, dataset.rows["patient"], "the table's own split", by_hash)
        return SplitPlan("as stated by their table", explicit)
    return SplitPlan(words, by_hash)


def _by_hash(
    dataset: Dataset, shares: tuple[float, float, float], seed: int, pseudonyms: Pseudonymisation | None
) -> tuple[pl.DataFrame, int | None]:
    """Every patient's split by who it is in truth, and a seed that fills all splits where this one does not."""
    patients = dataset.rows["patient"].unique().sort()
    real = patients if pseudonyms is None else pseudonyms.identities(patients)
    split = hashed_split(real, shares, seed)
    by_hash = pl.DataFrame({"patient": patients, "real": real})
    by_hash = by_hash.join(split, left_on="real", right_on="patient").select("patient", "split").sort("patient")
    empty = split["split"].n_unique() < sum(share > 0 for share in shares)
    return by_hash, filling_seed(real, shares) if empty else None


def _stated(
    dataset: Dataset, split_file: Path, by_hash: pl.DataFrame, hash_words: str, pseudonyms: Pseudonymisation | None
) -> SplitPlan:
    """The split that a file states. A table may leave patients out, as that of an earlier store does those who came
    later; published lists must name all, or they would not be what was published.
    """
    name, rule, lists = split_file.name, f"as stated in {split_file.name}", _is_lists(split_file)
    if lists:
        table = _read_lists(split_file, dataset)
    else:
        read = read_table(split_file)
        known = dataset.rows["patient"]
        patients, changed = keys.as_known(
            identifiers(read["patient"]), known if pseudonyms is None else pseudonyms.identities(known)
        )
        for note in (*read.notes, *keys.notes(patients, "patient", changed)):
            console.say(note if pseudonyms is None else note.redacted)
        table = pl.DataFrame({"patient": patients, "split": split_names(read["split"], read.describe_row)})
        _refuse_strangers(patients.drop_nulls(), dataset, split_file, pseudonyms)
    if pseudonyms is not None:
        table = table.with_columns(patient=pseudonyms.patients(table["patient"]))
        name, rule = "the split file", "as stated in a file"
    explicit, new, unused = explicit_split(table, dataset.rows["patient"], name, None if lists else by_hash)
    if unused:
        console.say(f"{name}: {unused:,} patients have no image here and were skipped.")
    if new:
        console.say(
            f"Not in {name}: {new:,} of {len(explicit):,} patients; their split is {hash_words} (--split, --split-seed)."
        )
        rule += f", the other {new:,} {hash_words}"
    return SplitPlan(rule, explicit)


def _refuse_strangers(
    patients: pl.Series, dataset: Dataset, split_file: Path, pseudonyms: Pseudonymisation | None
) -> None:
    """Refuse a table none of whose patients is here.

    Raises:
        InputError: so; of pseudonyms it says which key they need.
    """
    names = patients if pseudonyms is None else pseudonyms.patients(patients)
    if names.is_in(dataset.rows["patient"].implode()).any() or not len(patients):
        return
    way_out = "Check that it is of this data set, and that leading zeros were not lost."
    if are_pseudonyms("patient", patients).all():
        way_out = "Its patients are pseudonyms: give the --key of the store that it is of, with --pseudonymise."
    raise InputError(
        "None of the {count:,} patients in {path} has an image here.",
        way_out,
        count=patients.n_unique(),
        path=Shown(split_file),
    )


# --- a split published as lists of images: `{"train": [[path, label], ...], "validation": [...], "test": [...]}`.
#
# That is the form of the `mednet` package, whose split of Shenzhen (and Montgomery) is the field's reference. A file of
# the user's is read, or by `mednet:default`, `mednet:fold-3` the one in an installed mednet; its code is not run.

_INSTALLED = "mednet:"
_FORM = 'The form is {{"train": [["image.png", 0], ...], "validation": [...], "test": [...]}}.'


def _is_lists(split_file: Path) -> bool:
    """Whether `--split-file` names lists of images rather than a table of patients."""
    return str(split_file).startswith(_INSTALLED) or split_file.suffix.lower() == ".json"


def _read_lists(split_file: Path, dataset: Dataset) -> pl.DataFrame:
    """The lists as `patient, split`, for `explicit_split`.

    A listed image is one of the dataset's by its path, else by its file name without suffix, where only one image of
    the dataset has that name. An image that the dataset lacks stands for a patient of its own, who is then counted as
    left out.

    Raises:
        InputError: no such file, not of that form, or none of its images is in the dataset.
    """
    path = _find_lists(split_file, dataset)
    listed = _listed(path)
    rows = pl.DataFrame({"path": dataset.files, "patient": dataset.rows["patient"]})
    rows = rows.with_columns(stem=_stem("path"))
    # A stem of two images would stand for either patient.
    named = rows.filter(pl.col("stem").is_unique()).select("stem", by_name="patient")
    listed = listed.with_columns(stem=_stem("path")).join(rows.select("path", "patient"), on="path", how="left")
    listed = listed.join(named, on="stem", how="left")
    if not listed.select(pl.any_horizontal(pl.col("patient", "by_name").is_not_null()).any()).item():
        raise InputError(
            "None of the {count:,} images in {path} is in {source}, e.g. {value!r}.",
            "Give the split of this dataset ({name}).",
            count=len(listed),
            path=path,
            source=Shown(dataset.root),
            value=listed["path"][0],
            name=Shown(dataset.name),
        )
    return listed.select(patient=pl.coalesce("patient", "by_name", "path"), split="split")


def _stem(column: str) -> pl.Expr:
    """The file name of a path, without its suffix."""
    return pl.col(column).str.extract(r"([^/]+?)(?:\.[^./]*)?$", 1)


def _find_lists(split_file: Path, dataset: Dataset) -> Path:
    """The file itself, or mednet's of that name for the dataset."""
    text = str(split_file)
    if not text.startswith(_INSTALLED):
        return split_file
    spec = importlib.util.find_spec("mednet")  # finds its folder, and imports nothing
    folders = (spec.submodule_search_locations or ()) if spec else ()
    for folder in folders:
        lists = Path(folder) / "config" / "classify" / "data" / dataset.name
        names = sorted(path.stem for path in lists.glob("*.json"))
        if text.removeprefix(_INSTALLED) in names:
            return lists / f"{text.removeprefix(_INSTALLED)}.json"
        raise InputError(
            "The installed mednet has no split {text!r} of {name}.",
            "It has {names}.",
            text=text,
            name=Shown(dataset.name),
            names=Shown(", ".join(names) or "none"),
        )
    raise InputError(
        "--split-file {text} needs the package mednet, which is not installed.",
        "Install it beside this one (pip install --no-deps mednet), or give one of its JSON files.",
        text=text,
    )


def _listed(path: Path) -> pl.DataFrame:
    """`path, split` of every image in the file, in its order."""
    content = files.read_json(path)
    images: list[tuple[str, str]] = []
    for split, entries in content.items() if isinstance(content, dict) else ():
        if split.strip().lower() not in SPLIT_WORDS:
            raise InputError("{path}: {split!r} is not the name of a split.", _FORM, path=path, split=split)
        for number, entry in enumerate(entries if isinstance(entries, list) else (None,), start=1):
            image = entry[0] if isinstance(entry, list) and entry else entry
            if not isinstance(image, str) or not image:
                raise InputError(
                    "{path}, {split!r}, entry {number}: {value!r} is not an image.",
                    _FORM, path=path, split=split, number=number, value=str(entry)[:80],
                )  # fmt: skip
            name = PurePosixPath(image.replace("\\", "/")).as_posix()  # lists may come from Windows
            images.append((name, SPLIT_WORDS[split.strip().lower()]))
    if not images:
        raise InputError("{path} lists no images.", _FORM, path=path)
    return pl.DataFrame(images, schema={"path": pl.String, "split": pl.String}, orient="row")
