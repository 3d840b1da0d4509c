"""What is flagged, how much it matters, and what to do about it: the rules, and one row for each flagged image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import console
from mococxr.audit import measure as look
from mococxr.audit.measure import STATISTICS, Measured
from mococxr.guard import pose, text
from mococxr.near_duplicates import candidate_pairs, is_copy, mirrored
from mococxr.store import Store

ERROR, INFO = "error", "info"
COLUMNS = ("row", "path", "patient", "flag", "reason", "other")


@dataclass(frozen=True)
class Kind:
    """A kind of finding. `severity`: an error makes the exit status 3; `what` in a few words; `do` in a sentence."""

    flag: str
    severity: str
    what: str
    do: str


_TABLE = "the label table of the source"
KINDS = (
    Kind("patient-in-two-splits", ERROR, "patients in more than one split",
         "Leave one row for each patient in the store's splits.csv, or prepare again with --split-file."),
    Kind("copy-across-splits", ERROR, "copies of one image in different splits",
         f"Give both images one patient in {_TABLE}, or delete one row, and prepare again."),
    Kind("patient-in-both-stores", ERROR, "patients in both stores",
         "Name them to pretrain by --exclude-patients FILE, or take their rows out of one table and prepare again."),
    Kind("image-in-both-stores", ERROR, "copies of one image in both stores",
         "Name their patients to pretrain by --exclude-patients FILE, or take their rows out of one table."),
    Kind("copy-across-patients", ERROR, "copies of one image under different patients",
         f"Find out whose image it is, give both one patient in {_TABLE}, and prepare again."),
    Kind("copy-with-other-labels", ERROR, "copies of one image with labels that contradict each other",
         f"Look at the image, correct its labels in {_TABLE}, and prepare again."),
    Kind("corrupt", ERROR, "files in quarantine: not read, not in the store",
         "Read the reasons in the store's quarantine.csv; fix or fetch the files and prepare again, or leave them "
         "out of the source."),
    Kind("blank", ERROR, "images without a picture",
         f"Delete their rows in {_TABLE} and prepare again."),
    Kind("narrow", ERROR, "images that use few of the greys",
         "Where their files have more than 8 bits, prepare again with --depth 0.5:99.5 (values of 12 bits in words of 16 "
         "are nearly black); else look at them, and delete the rows of those that show nothing."),
    Kind("inverted", ERROR, "images that look inverted (white lungs)",
         "Look at them; invert the files, or delete their rows in the table, and prepare again."),
    Kind("rotated", ERROR, "images that look rotated by 90 or 180 degrees",
         "Look at them; rotate the files upright, or delete their rows in the table, and prepare again."),
    Kind("not-chest", ERROR, "images that look unlike the others of the store",
         f"Look at them; delete the rows of those that show no chest in {_TABLE} and prepare again."),
    Kind("text", ERROR, "images with burned-in text, more than a marker and a word",
         "Read it on the original images; where it names a person, black it out in the files and prepare again."),
    Kind("identical", INFO, "images whose files are the same bytes, of one patient",
         f"Nothing leaks; delete the rows of the copies in {_TABLE} where images are to count once."),
    Kind("copy", INFO, "copies of one image, of one patient",
         f"Nothing leaks; delete the rows of the copies in {_TABLE} where images are to count once."),
    Kind("no-split", INFO, "images whose patient is in no split",
         "They are not used; add the patient to the store's splits.csv if they should be."),
    Kind("no-image", INFO, "files in quarantine that are no images: localizers, other modalities or body parts, copies",
         "Nothing to do; the store's quarantine.csv lists them."),
    Kind("text-short", INFO, "images with a burned-in word, e.g. PORTABLE",
         "Look at some; a word that goes with a disease is a shortcut, see below."),
    Kind("outlier", INFO, "images far from the others in brightness, contrast, black, white or entropy",
         "Look at some; a device or an export of its own often shows here."),
)  # fmt: skip
"""Every kind of finding, what leaks first."""

Row = tuple[int | None, str, str | None, str, str, str]
OUTLYING = 6.0
"""Deviations (from quartiles) from the median at which an image is an outlier."""


def to_frame(rows: Iterable[Row]) -> pl.DataFrame:
    """The flags as a table, in order of kind and row."""
    order = {kind.flag: number for number, kind in enumerate(KINDS)}
    schema = {"row": pl.Int64, **dict.fromkeys(COLUMNS[1:], pl.String)}
    ordered = sorted(rows, key=lambda row: (order[row[3]], row[0] is None, row[0] or 0, row[1], row[5]))
    return pl.DataFrame(ordered, schema=schema, orient="row")


class Flagger:
    """Makes flags of one store's rows; knows their paths, patients and splits."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.paths: list[str] = store.index["path"].to_list()
        self.patients: list[str] = store.index["patient"].to_list()
        together = store.splits.group_by("patient").agg(pl.col("split").unique().sort())
        self.splits: dict[str, list[str]] = dict(together.iter_rows())

    def row(self, row: int, flag: str, reason: str, other: str = "") -> Row:
        """One flag of one image."""
        return row, self.paths[row], self.patients[row], flag, reason, other

    def split(self, row: int) -> str:
        """The split, or the splits, of an image: `train`, `train+test`, `none`."""
        return "+".join(self.splits.get(self.patients[row], [])) or "none"

    def quarantined(self) -> list[Row]:
        """The files that `prepare` left out."""
        return [
            (None, path, None, "corrupt" if unreadable else "no-image", reason, "")
            for path, reason, unreadable in self.store.quarantine.iter_rows()
        ]

    def splitting(self) -> Iterator[Row]:
        """Patients in two splits or in none."""
        for row, patient in enumerate(self.patients):
            splits = self.splits.get(patient, [])
            if len(splits) > 1:
                yield self.row(row, "patient-in-two-splits", f"its patient is in {' and '.join(splits)}")
            elif not splits:
                yield self.row(row, "no-split", "its patient is in no row of splits.csv")

    def looks(self, measured: Measured) -> Iterator[Row]:
        """Blank, narrow, inverted, rotated, no chest, text, outliers."""
        for row, image in enumerate(measured.table.iter_rows(named=True)):
            spread = f"mean {image['mean']:.0f}, deviation {image['sd']:.1f}"
            if image["narrow"]:
                yield self.row(row, "narrow", f"98 % of it lies within {look.FEW_GREYS} of 256 greys: {spread}")
            elif image["blank"]:
                yield self.row(row, "blank", f"all grey: {spread}")
            if image["blank"]:
                continue
            if image["explained"] is not None and image["explained"] < pose.EXPLAINED:
                share, usual = (f"{100 * part:.0f} %" for part in (image["explained"], pose.EXPLAINED))
                yield self.row(row, "not-chest", f"{share} of it is like the store's images; {usual} at least is usual")
            if image["inverted"]:
                yield self.row(row, "inverted", "lungs look white, bones black")
            if image["turned"]:
                yield self.row(row, "rotated", f"looks rotated by {_DEGREES[image['turned']]}")
            if (image["strokes"] or 0) >= text.WORD:
                much = image["longest"] >= text.LONG_LINE or image["strokes"] >= text.MUCH_TEXT
                reason = f"lines of letters: {image['longest']} strokes in the longest, {image['strokes']} in all"
                yield self.row(row, "text" if much else "text-short", reason)
        yield from self._outliers(measured)

    def _outliers(self, measured: Measured) -> Iterator[Row]:
        reasons: dict[int, list[str]] = {}
        seeing = measured.table.filter(~pl.col("blank"))
        for name in STATISTICS if len(seeing) >= pose.ENOUGH else ():
            low, middle, high = (seeing[name].quantile(q) or 0.0 for q in (0.25, 0.5, 0.75))
            # quartiles of a normal lie 1.349 apart
            away = np.abs(measured.table[name].to_numpy() - middle) / max((high - low) / 1.349, _LEAST[name])
            for row in np.flatnonzero((away > OUTLYING) & ~measured.table["blank"].to_numpy()):
                value = measured.table[name][int(row)]
                reasons.setdefault(int(row), []).append(f"{name} {value:.3g} (median {middle:.3g})")
        for number, why in sorted(reasons.items()):
            yield self.row(number, "outlier", ", ".join(why))

    def copied(self, pairs: Sequence[Pair]) -> Iterator[Row]:
        """Copies within the store: across splits, patients, labels, or harmless."""
        same_bytes = {row for pair in pairs if pair.bytes for row in (pair.a, pair.b)}
        turned_round = {row for pair in pairs if pair.mirrored for row in (pair.a, pair.b)} - same_bytes
        for group in groups(pairs):
            flags = self._flags_of(group)
            many = f", {len(group)} times in all" if len(group) > 2 else ""
            for row in group:
                other = self.paths[next(other for other in group if other != row)]
                for flag, why in flags or [("identical" if row in same_bytes else "copy", "")]:
                    same = MIRRORED if row in turned_round else _SAME[row in same_bytes]
                    yield self.row(row, flag, f"{same}{many}{why}", other)

    def _flags_of(self, group: list[int]) -> list[tuple[str, str]]:
        flags = []
        splits = sorted({self.split(row) for row in group})
        if len(splits) > 1:
            flags.append(("copy-across-splits", f", in {' and '.join(splits)}"))
        patients = sorted({self.patients[row] for row in group})
        if len(patients) > 1 and self.store.patients_known:  # unknown, each image is a patient of its own
            flags.append(("copy-across-patients", f", of patients {_some(patients)}"))
        labels = self.store.index[group].select(self.store.labels)
        torn = [name for name in labels.columns if {0, 1} <= set(labels[name].to_list())]
        if torn:
            flags.append(("copy-with-other-labels", f", other labels: {_some(torn)}"))
        return flags

    def shared(self, other: Store, pairs: Sequence[Pair]) -> Iterator[Row]:
        """Patients and images that another store has too."""
        theirs = set(other.index["patient"].to_list())
        if other.source == self.store.source and self.store.patients_known and other.patients_known:
            reason = f"its patient is in {other.path.name} too, of the same source"
            for row, patient in enumerate(self.patients):
                if patient in theirs:
                    yield self.row(row, "patient-in-both-stores", reason)
        paths, patients = (other.index[name].to_list() for name in ("path", "patient"))
        for pair in pairs:
            same_patient = patients[pair.b] == self.patients[pair.a]
            patient = "of this patient there too" if same_patient else "under another patient's name there"
            same = MIRRORED if pair.mirrored else _SAME[pair.bytes]
            yield self.row(pair.a, "image-in-both-stores", f"{same}, {patient}", paths[pair.b])


_SAME = {True: "the same bytes", False: "the same image, stored otherwise"}
MIRRORED = "the same image, mirrored"
_DEGREES = {1: "90 degrees to the left", 2: "180 degrees", 3: "90 degrees to the right"}
_LEAST = {"mean": 3.0, "sd": 2.0, "black": 0.02, "white": 0.02, "entropy": 0.1}
"""Deviations are taken to be this at least, so that stores of images all alike flag no trifles."""


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Pair:
    """Two images that are one: rows `a` and `b` (of the other store, where there are two).

    Args:
        bytes: equal files.
        mirrored: one is the mirror image of the other.
    """

    a: int
    b: int
    bytes: bool
    mirrored: bool = False


def copies_within(store: Store, prints: npt.NDArray[np.uint8], blank: npt.NDArray[np.bool_]) -> list[Pair]:
    """Pairs of images of one store that are one image, in order.

    Of n images with the same bytes each is paired with the first of them; images without a picture are compared
    by their bytes only.
    """
    rows = np.arange(len(blank))
    # The first row of the same bytes, for each row.
    numbers = store.index["sha256"].rank("dense").to_numpy()
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    first = first[inverse]
    pairs = [Pair(int(first[row]), int(row), True) for row in np.flatnonzero(first != rows)]
    seeing = np.flatnonzero(~blank & (first == rows))  # all that have no picture have one fingerprint
    candidates = seeing[candidate_pairs(prints[seeing])]
    round_pairs = candidate_pairs(prints[seeing], mirrored(prints[seeing]))
    round_pairs = seeing[round_pairs[round_pairs[:, 0] < round_pairs[:, 1]]]
    return _confirmed("compare", store, store, candidates, round_pairs, pairs)


def copies_across(
    store: Store, prints: npt.NDArray[np.uint8], other: Store, others: npt.NDArray[np.uint8]
) -> list[Pair]:
    """Pairs of an image of `store` and one of `other` that are one image, in order.

    Images without a picture have an empty fingerprint and are compared by their bytes only.
    """
    # reversed: of equal files the first row is kept
    hashes = {sha256: row for row, sha256 in reversed(list(enumerate(other.index["sha256"].to_list())))}
    bytes_of = [hashes.get(sha256) for sha256 in store.index["sha256"].to_list()]
    pairs = [Pair(a, b, True) for a, b in enumerate(bytes_of) if b is not None]
    rows = np.flatnonzero(np.array([b is None for b in bytes_of], bool) & prints.any(axis=1))
    other_rows = np.flatnonzero(others.any(axis=1))
    candidates, round_pairs = (
        np.stack([rows[near[:, 0]], other_rows[near[:, 1]]], axis=1)
        for near in (candidate_pairs(prints[rows], each) for each in (others[other_rows], mirrored(others[other_rows])))
    )
    return _confirmed("compare stores", store, other, candidates, round_pairs, pairs)


def _confirmed(
    what: str,
    store: Store,
    other: Store,
    candidates: npt.NDArray[np.int64],
    round_pairs: npt.NDArray[np.int64],
    pairs: list[Pair],
) -> list[Pair]:
    """`pairs` and the candidates (P, 2) whose pixels agree, in order; of `round_pairs` those of mirror images."""
    with console.progress(what, len(candidates) + len(round_pairs), unit="pairs") as bar:
        for a, b in candidates.tolist():
            if is_copy(store.pixels(a), other.pixels(b)):
                pairs.append(Pair(a, b, False))
            bar.advance()
        known = {(pair.a, pair.b) for pair in pairs}
        for a, b in round_pairs.tolist():
            if (a, b) not in known and is_copy(store.pixels(a), other.pixels(b)[:, ::-1]):
                pairs.append(Pair(a, b, False, mirrored=True))
            bar.advance()
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


def groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """Rows that are one image through some chain of pairs: each group sorted, groups by their first row."""
    leader: dict[int, int] = {}

    def find(row: int) -> int:
        while leader.setdefault(row, row) != row:
            row = leader[row]
        return row

    for pair in pairs:
        a, b = find(pair.a), find(pair.b)
        leader[max(a, b)] = min(a, b)  # the first row leads, whatever the order of the pairs
    members: dict[int, list[int]] = {}
    for row in sorted(leader):
        members.setdefault(find(row), []).append(row)
    return sorted(members.values())
