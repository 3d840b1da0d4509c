"""Identifiers planted around images (folders, files, cells, headers of columns): none may come out under pseudonyms."""

from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from pydicom.dataset import Dataset

from archive_images import grey_image, image
from mococxr.store import Store
from small_store import BACKBONE, draw_image, run_study
from small_world import closed, status
from test_privacy import found_in, inside

NAMES = ("janedoe", "quimby", "mrnx4711", "hackenbusch", "山田", "19500101")
"""In every planted text is one of these; long enough to be in no hash and in no picture by chance."""
NEEDLES = [n.encode() for name in NAMES for n in {name, name.upper(), name.title()}]
HOW = ("--backbone", BACKBONE, "--size", 32, "--device", "cpu")


def plant(root: Path, patients: int = 24) -> Path:
    """A folder a patient, a table, and around them what a search passes by; returns the table."""
    rng, rows = np.random.default_rng(0), []
    for i in range(patients):
        folder = root / ("JANEDOE", "山田太郎", "quimby")[i % 3] / f"MRNX4711{i:02d}_19500101"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "hackenbusch.png"), draw_image(rng, i % 2 == 0, (72, 60)))
        path = (folder / "hackenbusch.png").relative_to(root).as_posix()
        rows.append(
            {"path": path, "patient": f"MRNX4711-{i}", "study": f"JANEDOE{i}", "view": ("PA", "AP")[i % 2],
             "sex": "FM"[i % 2], "age": str(30 + i), "Finding": str((i + 1) % 2),
             "Befund Dr. Hackenbusch": f"Frau Quimby {i}",
             "Quimby?": "1"}
        )  # fmt: skip
    rows[0] |= {"view": "PA, JANEDOE", "sex": "Frau Quimby", "age": "born 19500101", "Quimby?": "see JANEDOE"}
    rows[1] |= {"view": "Hackenbusch", "sex": "JANEDOE"}
    (root / rows[2]["path"]).write_bytes(b"Quimby")
    rows.append(rows[3] | {"path": "JANEDOE/goneMRNX4711.png"})
    cv2.imwrite(str(root / "quimby" / "not_listed_MRNX4711.png"), draw_image(rng, True, (72, 60)))
    (root / "quimby" / "letter.janedoe").touch()
    (root / "link_to_janedoe").symlink_to(root / "quimby")
    (root / "janedoe\nstrange.png").touch()
    table = root / "Befunde_Quimby.csv"
    pl.DataFrame(rows).write_csv(table)
    return table


def test_nothing_planted_around_images_comes_out_of_any_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images, made, key = tmp_path / "images", tmp_path / "made", tmp_path / "key"
    plant(images)
    made.mkdir()
    store, model, study = made / "store", made / "model", made / "study"
    lines: list[tuple[object, ...]] = [
        ("prepare", images, "--out", store, "--size", 40, "--jobs", 1, "--key", key, "--pseudonymise", "--stratify"),
        ("prepare", images, "--format", "folder", "--patients-unknown", "--pseudonymise", "--key", key,
         "--out", made / "folders", "--size", 40, "--jobs", 1),
        ("views", store, "--out", made / "views.png", "--size", 32, "--images", 2),
        ("inspect", store, "--against", made / "folders", "--out", made / "audit.html", "--jobs", 1),
        ("fit", store, "--encoder", "random", "--target", "Finding", "--out", model, *HOW),
        ("fit", store, "--encoder", "random", "--target", "TB", "--out", made / "none", *HOW),
        ("predict", model, store, "--out", made / "stored.csv", "--device", "cpu"),
        ("predict", model, images, images / "Befunde_Quimby.csv", "--key", key, "--out", made / "scores.csv",
         "--device", "cpu"),
    ]  # fmt: skip
    for line in lines:
        code = status(*line)
        assert code == (2 if "none" in str(line[-7]) else 3 if line[0] == "inspect" else 0), line
    run_study({"store": store, "target": ["Finding"], "arm": ["random"], "fraction": [1.0], "replicates": 200,
               "out": study, "backbone": BACKBONE, "size": 32, "device": "cpu", "jobs": 1})  # fmt: skip
    scores = pl.read_csv(made / "stored.csv").join(Store.open(store).index.select("path", "Finding", "sex"), on="path")
    scores.write_csv(made / "judged.csv")
    assert status("evaluate", made / "judged.csv", "--label", "Finding", "--score", "score", "--patient", "patient",
                  "--subgroup", "sex", "--replicates", 200, "--json", made / "numbers.json") == 0  # fmt: skip
    told = "".join(capfd.readouterr()).replace("Befunde_Quimby.csv", "")  # as given on the command line
    assert not found_in(told.encode(), NEEDLES), told
    for file in sorted(p for p in made.rglob("*") if p.is_file()):
        assert not found_in(inside(file), NEEDLES), file
    index = Store.open(store).index
    assert (index["view"].null_count(), index["sex"].null_count()) == (2, 2)
    assert "2 values of view are free text, which may name a patient" in told
    assert "Columns dropped, as they may identify a patient: 2; keep one with --keep COLUMN" in told


WRONG = {
    "a label that is a word": ("path,patient,TB\n{doe},1,Quimby\n", ("--label", "TB"), "row 1"),
    "a column twice": ("path,patient,Quimby,Quimby\n{doe},1,1,1\n", (), "appears twice"),
    "no path column": ("JANEDOE,Quimby\n1,2\n", (), "no path column"),
    "too many values": (
        "path,patient\n{doe},MRNX4711\n{doe},MRNX4711,Quimby,JANEDOE\n",
        (),
        "cannot be read as a table",
    ),
    "a path twice": ("path,patient\n{doe},MRNX4711\n{doe},MRNX4711\n", (), "row 2"),
    "a path outside": ("path,patient\n../{doe},MRNX4711\n", (), "outside"),
    "a split that is none": ("path,patient,split\n{doe},MRNX4711,Quimby\n", (), "not the name of a split"),
    "no column to keep": (
        "path,patient,Quimby\n{doe},MRNX4711,JANEDOE\n",
        ("--keep", "remark"),
        "there is no such column",
    ),
    "no image": ("path,patient\n{doe},MRNX4711\nquimby,2\nx,3\n", ("--split", 1, 0, 0), "None of the 3 images"),
    "no patient": ("path,patient\n{doe},\n", (), "the patient is blank"),
    "an unknown label": ("path,patient,Quimby\n{doe},MRNX4711,1\n", ("--label", "TB"), "has no column 'TB'"),
    "a label in the folders' way": (
        "",
        ("--label", "TB", "--format", "folder", "--patients-unknown"),
        "no class folders",
    ),
}


@pytest.mark.parametrize(("table", "others", "words"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("packed", [False, True])
def test_an_error_about_a_table_names_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], table: str, others: tuple[object, ...], words: str, packed: bool
) -> None:
    images = tmp_path / "images"
    (images / "JANEDOE").mkdir(parents=True)
    (images / "JANEDOE" / "quimbyMRNX4711.png").write_bytes(b"Hackenbusch")
    text = table.replace("{doe}", "JANEDOE/quimbyMRNX4711.png").encode()
    file = images / ("janedoe.csv.gz" if packed else "janedoe.csv")
    file.write_bytes(gzip.compress(text) if packed else text)
    named = ("--labels", file) if packed and table else ()
    assert status("prepare", images, *named, "--out", tmp_path / "store", "--pseudonymise", "--jobs", 1, *others) == 2
    told = capfd.readouterr().err
    assert words in told
    assert not found_in(told.replace(str(file), "").replace(file.name if packed else "-", "").encode(), NEEDLES), told


def archive(root: Path) -> Path:
    """DICOM files under names of patients, one of them cut short, and a link."""
    (root / "JANEDOE").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        data: Dataset = image(grey_image(rng, 48, 40), patient=f"MRNX4711{i}", sop=f"1.2.{i}", study=f"1.3.{i}")
        data.save_as(root / "JANEDOE" / f"Quimby{i}", enforce_file_format=True)
    (root / "link_to_janedoe").symlink_to(root / "JANEDOE")
    return root


@pytest.fixture(scope="module")
def model(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model"
    assert status("fit", store.path, "--encoder", "random", "--target", "Finding", "--out", out, *HOW) == 0
    return out


@pytest.mark.parametrize("given", ["folder", "files", "list", "closed"])
def test_predict_names_no_file_of_an_archive_in_a_message(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    root = archive(tmp_path / "archive")
    files = sorted((root / "JANEDOE").iterdir())
    if given == "closed":
        (root / "MRNX4711").mkdir()
        closed(root / "MRNX4711", monkeypatch)
    else:
        for file in files:
            file.write_bytes(file.read_bytes()[:-900])
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(map(str, files)) + "\n")
    names = {"files": files, "list": [tmp_path / "list.csv"]}.get(given, [root])
    assert status("predict", model, *names, "--out", tmp_path / "scores.csv", "--device", "cpu") == 2
    told = capfd.readouterr().err
    assert ("Permission denied" if given == "closed" else "None of the 3 images can be read") in told
    assert not found_in(told.encode(), NEEDLES), told
