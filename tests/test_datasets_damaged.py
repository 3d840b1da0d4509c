"""Tables of datasets that somebody damaged: read, or refused in words, whatever was done to them."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

import small_sets
from mococxr.datasets import read_dataset
from mococxr.errors import InputError
from test_datasets_chexpert import batches, released_test
from test_datasets_public import nih

ROUNDS = int(os.environ.get("MOCOCXR_DAMAGE", "15"))
"""Tables a dataset; more of them, and others, by the environment."""
SEED = os.environ.get("MOCOCXR_DAMAGE_SEED", "")
SETS = [
    "chexpert",
    "test_set",
    "nih",
    "csv",
    "mimic",
    "brax",
    "padchest",
    "vindr",
    "kaggle_vindr",
    "rsna",
    "tbx11k",
    "tbx11k_simplified",
    "openi",
    "kaggle_openi",
]
PIECES = [
    "",
    "-1",
    "nan",
    "x" * 300,
    "../../etc",
    "/",
    "\u00e9",
    '"',
    "'",
    ",",
    "\n",
    "[",
    "]",
    "{}",
    "null",
    "1e999",
    "0",
]


def damaged(text: str, dice: random.Random) -> bytes:
    """The text with one to three faults: a piece put in, a stretch taken out, lines swapped, bytes changed."""
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(text) + 1)
        to = min(len(text), at + dice.choice([0, 1, 3, 20, 200]))
        text = text[:at] + dice.choice(PIECES) + text[to:]
    if dice.random() < 0.3:
        lines = text.split("\n")
        dice.shuffle(lines)
        text = "\n".join(lines)
    data = bytearray(text.encode())
    for _ in range(dice.choice([0, 0, 1, 5])):
        if data:
            data[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(data)


def whole(root: Path, name: str) -> str:
    """A dataset without faults; returns the format that reads it."""
    if name in ("chexpert", "test_set"):
        batches(root) if name == "chexpert" else released_test(root, "study")
        return "chexpert"
    if name == "nih":
        nih(root)
        for part in ("train_val_list", "test_list"):
            small_sets.table(root / f"{part}.txt", "00000001_000.png")
        return name
    if name == "csv":
        small_sets.images(root, "images/a.png")
        small_sets.table(root / "t.csv", "path,patient,view,age,split,TB", "a.png,p1,PA,58Y,train,1", "b.png,p2,,,val,")
        return name
    getattr(small_sets, name)(root)
    if name == "rsna":
        small_sets.rsna_origin(root)
    return name.removeprefix("kaggle_").removesuffix("_simplified")


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_table_is_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    kind = whole(tmp_path / "whole", name)
    found = (tmp_path / "whole").rglob("*")
    texts = sorted(path for path in found if path.suffix in (".csv", ".json", ".txt", ".xml"))
    dice = random.Random(f"{name}{SEED}")
    refused = 0
    for number in range(ROUNDS):
        root = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", root)
        path = root / dice.choice(texts).relative_to(tmp_path / "whole")
        path.write_bytes(damaged(path.read_text(), dice))
        try:
            dataset = read_dataset(
                root / ("images" if name == "csv" else ""),
                labels=root / "t.csv" if name == "csv" else None,
                format=kind,
                patients_unknown=True,
            )
        except InputError as error:
            refused += bool(error.problem and error.way_out)
        else:
            assert not dataset.rows["path"].str.contains(r"(^|/)\.\.(/|$)|^/").any()
        shutil.rmtree(root)
    assert 0 < refused < ROUNDS
