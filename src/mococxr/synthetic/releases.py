"""Folders of synthetic images laid out as two public releases are: CheXpert's and Shenzhen's.

What a program must cope with in the real tables is in these: blanks and -1 in most columns, lateral images,
studies of several images, patients of several studies out of order, a sex Unknown, an age of 0, `LL` and `RL`
where AP or PA is meant. The shares of 1, 0 and -1 are those of CheXpert's `train.csv`. A file `SYNTHETIC.txt`
in each folder, and a comment in each image, say that nobody was X-rayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mococxr.errors import InputError
from mococxr.files import atomic_write, write_csv
from mococxr.synthetic.anatomy import Anatomy, draw_anatomy, generator
from mococxr.synthetic.image import NOTE, write_images

MARK = "SYNTHETIC.txt"
DRAWN = {
    "Cardiomegaly": "cardiomegaly",
    "Edema": "edema",
    "Consolidation": "opacity",
    "Atelectasis": "atelectasis",
    "Pleural Effusion": "effusion",
}
"""Label -> the finding that is drawn for it."""
SHARES = {
    "No Finding": (0.1002, 0.0, 0.0),
    "Enlarged Cardiomediastinum": (0.0483, 0.0969, 0.0555),
    "Cardiomegaly": (0.1209, 0.0498, 0.0362),
    "Lung Opacity": (0.4726, 0.0295, 0.0251),
    "Lung Lesion": (0.0411, 0.0057, 0.0067),
    "Edema": (0.2339, 0.0928, 0.0581),
    "Consolidation": (0.0662, 0.1258, 0.1242),
    "Pneumonia": (0.0270, 0.0125, 0.0840),
    "Atelectasis": (0.1494, 0.0059, 0.1510),
    "Pneumothorax": (0.0870, 0.2522, 0.0141),
    "Pleural Effusion": (0.3858, 0.1584, 0.0520),
    "Pleural Other": (0.0158, 0.0014, 0.0119),
    "Fracture": (0.0405, 0.0112, 0.0029),
    "Support Devices": (0.5192, 0.0275, 0.0048),
}
"""Shares of 1, 0 and -1 among the rows of the real `train.csv`, in its order of columns; the rest is blank."""
FIRST_PATIENT = {"train": 1, "valid": 64541, "test": 64741}  # as in the release: no patient is in two sets
RELEASE = "CheXpert-v1.0-small"
CHANGE = 0.15
"""Chance that a finding is anew a matter of chance in a study, whatever the patient's others show."""
Row = dict[str, Any]


def write_chexpert(
    folder: Path,
    images: int = 2000,
    *,
    valid: int = 80,
    test: int = 160,
    seed: int = 0,
    size: int = 192,
    jobs: int | None = None,
) -> Path:
    """Write synthetic images in CheXpert's layout; equal arguments give equal files.

    `folder/CheXpert-v1.0-small` is the release (`train.csv`, `valid.csv`, `train/`, `valid/`) and
    `folder/CheXpert` the test set (`groundtruth.csv` with a row a study, `test/`).

    The labels of the five competition tasks, and what follows from them, are those of the drawn findings, as a
    labeller reports them: 1, 0, -1 or nothing. Pneumothorax, Lung Lesion, Pleural Other and Fracture are not
    drawn, so they are never 1. Validation and test labels are complete.

    Args:
        folder: made if absent.
        images: rows of `train.csv`, at least 20.
        valid: studies of the validation set, one a patient.
        test: studies of the test set, one a patient.
        seed: names the collection.
        size: height of an image in pixels; its width, the shorter side, is size / 1.2.
        jobs: threads; by default one a core.

    Returns:
        The folder of the release.

    Raises:
        InputError: too few images or studies, or a folder that cannot be written to.
    """
    for name, count, least in (("images", images, 20), ("valid", valid, 1), ("test", test, 1)):
        if count < least:
            raise InputError(f"{name} is {count}.", f"Give a whole number of {least} or more.")
    root = Path(folder)
    train = _rows("train", seed, images=images)[:images]  # whole patients are drawn: the last may reach beyond
    _plant_oddities(train)
    others = {"valid": _rows("valid", seed, studies=valid), "test": _rows("test", seed, studies=test)}
    every = [*train, *others["valid"], *others["test"]]
    _draw(root, every, seed, size, jobs)
    for split, rows in (("train", train), ("valid", others["valid"])):
        write_csv(root / RELEASE / f"{split}.csv", _table(rows))
    write_csv(root / "CheXpert" / "groundtruth.csv", _studies(others["test"]))
    return root / RELEASE


def write_shenzhen(folder: Path, images: int = 160, *, seed: int = 0, size: int = 192, jobs: int | None = None) -> Path:
    """Write synthetic images in the Shenzhen set's layout: `CXR_png/CHNCXR_0001_0.png` and `ClinicalReadings/`.

    The first half are clear, the second half hold a drawn opacity that stands for tuberculosis.

    Args:
        folder: made if absent.
        images: number of images, at least 8; seed, size, jobs: see `write_chexpert`.

    Returns:
        The folder.

    Raises:
        InputError: too few images, or a folder that cannot be written to.
    """
    if images < 8:
        raise InputError(f"images is {images}.", "Give a whole number of 8 or more.")
    root = Path(folder)
    rows = []
    for number in range(images):
        ill = int(number >= images / 2)
        rng, person = generator(seed, 5, number), draw_anatomy(seed, number)
        stem = f"CHNCXR_{number + 1:04d}_{ill}"
        findings = {"opacity": ill * float(0.15 + 0.85 * rng.random())}
        drawn = {"index": number, "patient": number, "view": "PA", "gadgets": 0.0, "findings": findings}
        rows.append({"path": f"CXR_png/{stem}.png", "drawn": drawn})
        sex = "male" if person.sex == "M" else "female"
        reading = "opacity drawn by a program" if ill else "normal"
        atomic_write(root / f"ClinicalReadings/{stem}.txt", f"{sex} {person.age}yrs\n{reading}\n")
    _draw(root, rows, seed, size, jobs)
    return root


def _rows(split: str, seed: int, images: int = 0, studies: int = 0) -> list[Row]:
    """The images of whole patients: at least `images`, or of exactly `studies` patients of one study each."""
    rows: list[Row] = []
    patient = 0
    while len(rows) < images or patient < studies:
        number = FIRST_PATIENT[split] + patient
        rng = generator(seed, 4, number)
        many = 1 if studies else min(int(rng.geometric(0.45)), 9)  # `index` below has one digit for the study
        order = rng.permutation(many) + 1  # the real table lists a patient's studies out of order
        ill = {name: bool(rng.random() < _prevalence(name)) for name in DRAWN}
        for study in order.tolist():
            rows += _study(rng, draw_anatomy(seed, number), split, number, study, ill)
        patient += 1
    return rows


def _study(
    rng: np.random.Generator, person: Anatomy, split: str, number: int, study: int, ill: dict[str, bool]
) -> list[Row]:
    """The images of one study; they share findings and labels."""
    kind = rng.random()
    sides = ["frontal"] if kind < 0.72 else ["frontal", "lateral"]
    if kind > 0.97:
        sides = ["frontal", "frontal", "lateral"]
    truth = {
        name: bool(rng.random() < _prevalence(name)) if rng.random() < CHANGE else present
        for name, present in ill.items()
    }
    severity = {DRAWN[name]: float(present * (0.2 + 0.8 * rng.random())) for name, present in truth.items()}
    devices = bool(rng.random() < 0.53)
    known = _whole_truth(truth, devices)
    labels = known if split != "train" else _reported(rng, known)  # radiologists labelled the other two sets
    pa = rng.random() < (0.45 if "lateral" in sides else 0.07)
    study_path = f"patient{number:05d}/study{study}"
    release = "CheXpert" if split == "test" else RELEASE
    rows = []
    for view, side in enumerate(sides, 1):
        position = None if side == "lateral" else "PA" if pa else "AP"
        rows.append({
            "path": f"{release}/{split}/{study_path}/view{view}_{side}.jpg", "study": f"{split}/{study_path}",
            "drawn": {
                "index": number * 100 + study * 10 + view, "patient": number, "view": position or "lateral",
                "findings": severity, "gadgets": 4.0 if devices else 0.0,
            },
            "Sex": "Male" if person.sex == "M" else "Female", "Age": min(person.age, 90),  # the release ends at 90
            "Frontal/Lateral": side.capitalize(), "AP/PA": position, **labels,
        })  # fmt: skip
    return rows


def _prevalence(name: str) -> float:
    """Share of patients with a finding, so that what is reported has the real table's shares."""
    positive, _, uncertain = SHARES[name]
    return 1.04 * positive + uncertain / 2


def _whole_truth(truth: dict[str, bool], devices: bool) -> dict[str, str]:
    """All 14 labels as they are; what follows from the drawn findings, follows."""
    opaque = truth["Edema"] or truth["Consolidation"] or truth["Atelectasis"]
    present = {
        **truth,
        "Lung Opacity": opaque,
        "Pneumonia": truth["Consolidation"],
        "Enlarged Cardiomediastinum": truth["Cardiomegaly"],
        "No Finding": not any(truth.values()),
        "Support Devices": devices,
    }
    return {name: "1.0" if present.get(name, False) else "0.0" for name in SHARES}


def _reported(rng: np.random.Generator, truth: dict[str, str]) -> dict[str, str | None]:
    """What a labeller of reports makes of the truth: a good part is not mentioned, some is uncertain."""
    labels: dict[str, str | None] = {}
    for name, value in truth.items():
        positive, negative, uncertain = SHARES[name]
        share = _prevalence(name)
        chance = rng.random()
        if value == "1.0":
            certain, unsure = positive / share, uncertain / 2 / share
        else:
            certain, unsure = negative / (1 - share), uncertain / 2 / (1 - share)
        labels[name] = value if chance < certain else "-1.0" if chance < certain + unsure else None
    return labels


def _plant_oddities(rows: Sequence[Row]) -> None:
    """What the real table holds a few times among 223,414 rows, here once each."""
    frontal = [row for row in rows if row["AP/PA"]]
    frontal[len(frontal) // 5]["AP/PA"] = "LL"
    frontal[2 * len(frontal) // 5]["AP/PA"] = "RL"
    rows[3 * len(rows) // 5]["Sex"] = "Unknown"
    rows[4 * len(rows) // 5]["Age"] = 0


def _table(rows: Sequence[Row]) -> pl.DataFrame:
    """The columns of `train.csv`."""
    columns = ("Sex", "Age", "Frontal/Lateral", "AP/PA", *SHARES)
    schema = dict.fromkeys(("Path", *columns), pl.String) | {"Age": pl.Int64}
    return pl.DataFrame([{"Path": row["path"]} | {name: row[name] for name in columns} for row in rows], schema=schema)


def _studies(rows: Sequence[Row]) -> pl.DataFrame:
    """The test set's table: a row a study."""
    studies = {row["study"]: row for row in rows}
    return pl.DataFrame(
        [{"Study": f"CheXpert-v1.0/{name}"} | {n: row[n] for n in SHARES} for name, row in studies.items()]
    )


def _draw(root: Path, rows: Sequence[Row], seed: int, size: int, jobs: int | None) -> None:
    """Write the images of the rows, and a note in each folder that the release has."""
    for folder in {root, *(root / Path(row["path"]).parts[0] for row in rows)}:
        atomic_write(folder / MARK, NOTE + "\n")
    write_images(root, seed, {row["path"]: row["drawn"] | {"size": size} for row in rows}, jobs)
