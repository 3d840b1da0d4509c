"""An archive with identifiers planted in every place, through every command: none may come out at the other end."""

from __future__ import annotations

import stat
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from archive_images import grey_image, image
from mococxr.commands import ENTRIES
from mococxr.preparation.decode import Chunk
from mococxr.store import Store
from small_store import BACKBONE
from small_world import status

PATIENTS = 14
CPU = ("--device", "cpu", "--jobs", 1)
PLANTED: set[str] = set()
"""Every string that was planted, as written."""


def plant(text: str) -> str:
    PLANTED.add(text)
    return text


def planted_image(rng: np.random.Generator, i: int) -> Dataset:
    """An image in whose header whatever can name a person does."""
    person = i // 2
    data = image(
        grey_image(rng, 48, 40),
        patient=plant(f"PID{person:04d}QX"),
        study=plant(f"1.2.826.0.77{person:03d}.55{i}"),
        sop=plant(f"1.2.826.0.88{person:03d}.66{i}"),
        PatientName=plant(f"Zacharias{person}^Quimby"),
        OtherPatientIDs=plant(f"OTHER{person}ID"),
        AccessionNumber=plant(f"ACCN{person:04d}"),
        InstitutionName=plant("Sankt Wolfgang Spital"),
        InstitutionAddress=plant("Gasse 17 Unterfels"),
        ReferringPhysicianName=plant("Dr^Hackenbusch"),
        OperatorsName=plant("Operator^Ottilie"),
        StationName=plant("STATIONXRAY9"),
        DeviceSerialNumber=plant("SERIAL0815"),
        StudyDescription=plant("Thorax pa Herr Quimby"),
        SeriesDescription=plant("Serie fuer Oberarzt Grill"),
        PatientComments=plant("wohnt bei der Tante"),
        ImageComments=plant("Kontrolle nach Unfall"),
        RequestedProcedureDescription=plant("Frage Infiltrat Quimby"),
        StudyID=plant(f"STUDYNR{person}"),
        PatientBirthDate=plant(f"1961{1 + person % 9:02d}17"),
        StudyDate=plant(f"2017{1 + i % 9:02d}23"),
        AcquisitionTime=plant("142357.123"),
        ProtocolName=plant("Protokoll Mayrhofer"),
        Manufacturer="Maker", ManufacturerModelName="Model 1", PatientSex="FM"[i % 2], ViewPosition="PA",
    )  # fmt: skip
    data.WindowCenter, data.WindowWidth = "2048", "4096"
    data.WindowCenterWidthExplanation = plant("Fenster Primararzt")
    data.add_new(Tag(0x0009, 0x0010), "LO", plant("PRIVATEMAKERS"))
    data.add_new(Tag(0x0009, 0x1001), "LT", plant("privat: Quimby Tel 0664 555"))
    return data


def write_planted(root: Path) -> Path:
    """The archive and its label table; some files are broken or no images, each named after a person."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(2 * PATIENTS):
        folder = root / plant(f"quimby_{i // 2}_zacharias") / plant(f"besuch{i}huber")
        folder.mkdir(parents=True)
        file = folder / plant(f"Aufnahme{i}Quimby")
        data = planted_image(rng, i)
        data.save_as(file, enforce_file_format=True)
        rows.append((data.AccessionNumber, i // 2 % 2, "Befund: " + plant(f"Schatten rechts Fall{i // 2}")))
        if i == 0:
            (folder / plant("ZweiteKopie")).write_bytes(file.read_bytes())
            (folder / plant("Bericht.txt")).write_text(plant("Befundtext im Klartext"))
            (folder / plant("kaputt_berger")).write_bytes(file.read_bytes()[:-900])
            head = file.read_bytes()
            bad = head.replace(b"PX\x00", b"").replace(b"\x00\x28\x10\x00US", b"\x00\x28\x10\x00UL")
            (folder / plant("kopfschaden_ebner")).write_bytes(
                bad[:700] + plant("Muell Lechner").encode() + bad[720:900]
            )
            (folder / plant("tief_leitner.dcm")).write_bytes(head[:200])
            (folder / plant("strunz.exe")).write_bytes(b"")
            bild = planted_image(rng, 99)
            bild.Modality, bild.SOPInstanceUID = "CT", plant("1.2.3.9999.1")
            bild.save_as(folder / plant("ct_doppler"), enforce_file_format=True)
            bits = planted_image(rng, 98)
            bits.BitsStored, bits.SOPInstanceUID = 77, plant("1.2.3.9999.2")
            bits.PhotometricInterpretation = plant("QUIMBYCHROME")
            bits.save_as(folder / plant("bits_moser"), enforce_file_format=True)
    table = root.parent / plant("Befunde_Quimby.csv")
    frame = pl.DataFrame(rows, schema=["AccessionNumber", "Finding", "remark"], orient="row")
    frame.unique(["AccessionNumber"], maintain_order=True).write_csv(table)
    return table


def needles() -> list[bytes]:
    return [needle.encode() for text in sorted(PLANTED) for needle in {text, text.lower(), text.upper()}]


def inside(file: Path) -> bytes:
    """A file's bytes, and in plain what it holds compressed."""
    data = file.read_bytes()
    if file.suffix == ".parquet":
        table = pyarrow.parquet.read_table(file)
        data += repr([table.to_pydict(), table.schema, table.schema.metadata]).encode()
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        data += _png_texts(data)
    return data


def _png_texts(data: bytes) -> bytes:
    """The text chunks of a PNG, inflated."""
    at, texts = 8, b""
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"iTXt", b"eXIf"):
            texts += body
        elif kind == b"zTXt":
            texts += zlib.decompress(body.split(b"\0", 1)[1][1:])
        at += 12 + length
    return texts


def found_in(data: bytes, words: list[bytes]) -> list[bytes]:
    return [word for word in words if word in data]


@pytest.mark.slow
def test_no_planted_identifier_comes_out_of_any_command(tmp_path, capfd):
    archive, made = tmp_path / "images", tmp_path / "made"
    archive.mkdir(), made.mkdir()
    table = write_planted(archive)
    key = tmp_path / "secret" / "key"
    key.parent.mkdir()
    store, run, model, study = made / "store", made / "run", made / "model", made / "study"
    lines: list[tuple[object, ...]] = [
        ("prepare", archive, "--labels", table, "--out", store, "--size", 40, "--jobs", 1, "--key", key),
        ("views", store, "--out", made / "views.png", "--size", 32, "--images", 2),
        ("pretrain", store, "--out", run, "--backbone", BACKBONE, "--init", "random", "--size", 32,
         "--epochs", 1, "--batch", 4, "--device", "cpu"),
        ("embed", store, "--encoder", run, "--out", made / "features.parquet", *CPU),
        ("fit", store, "--encoder", run, "--target", "Finding", "--out", model, *CPU),
        ("predict", model, store, "--out", made / "stored.csv", *CPU),
        ("predict", model, archive, "--key", key, "--out", made / "scores.csv", *CPU),
        ("study", store, "--target", "Finding", "--arm", "random", "--arm", f"moco={run}", "--fraction", 1,
         "--replicates", 200, "--out", study, *CPU),
        ("report", study),
    ]  # fmt: skip
    if "inspect" in ENTRIES:
        lines.append(("inspect", store, "--out", made / "audit.html"))
    if "export" in ENTRIES:
        lines += [
            ("export", run, "--to", "timm", "--out", made / "timm"),
            ("export", model, "--to", "onnx", "--out", made / "onnx"),
        ]
    said = ""
    for line in lines:
        code = status(*line)
        heard = capfd.readouterr()
        said += heard.out + heard.err
        assert code == 0 or line[0] == "inspect", heard.err
    words = needles()
    assert len(PLANTED) > 100
    for file in sorted(p for p in made.rglob("*") if p.is_file()):
        assert not found_in(inside(file), words), file
        assert not found_in(str(file.relative_to(made)).encode(), words)
    said = said.replace(str(table.name), "")  # as given on the command line
    assert not found_in(said.encode(), words)
    assert not found_in(key.read_bytes(), words)
    assert key.read_text().strip().encode() not in b"".join(inside(p) for p in made.rglob("*") if p.is_file())
    lookup = Path(f"{key}.lookup.csv")
    assert found_in(lookup.read_bytes(), [b"PID0003QX", b"kaputt_berger", b"1.2.826.0.77003.557"])
    for file in (key, lookup):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    check_names_agree(Store.open(store), made, lookup)


def check_names_agree(store: Store, made: Path, lookup: Path) -> None:
    """An image has one name, in the store and in the scores of the archive that it came from."""
    scores = pl.read_csv(made / "scores.csv")
    assert set(scores["path"]) >= set(store.index["path"])
    both = store.index.join(scores, on="path")
    assert both["patient"].equals(both["patient_right"])
    assert set(store.index["patient"]) <= set(pl.read_csv(lookup)["patient"])
    bad = pl.read_csv(store.path / "quarantine.csv")
    assert len(bad) == 6
    assert bad["path"].is_in(pl.read_csv(lookup)["image"].implode()).all()


@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize("others", [("--format", "dicom"), ("--format", "csv", "--pseudonymise")])
def test_an_unexpected_error_says_its_kind_and_its_place_only(tmp_path, capfd, monkeypatch, others, debug):
    rng, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    for i in range(2):
        planted_image(rng, i).save_as(images / f"quimby{i}", enforce_file_format=True)
    pl.DataFrame({"path": ["quimby0", "quimby1"], "patient": ["PIDA", "PIDB"]}).write_csv(images / "t.csv")

    def broken(chunks: list[Chunk], *_: object) -> None:
        raise KeyError(f"{chunks[0].root / chunks[0].paths[0]} of Quimby")

    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", broken)
    out = tmp_path / "made" / "store"
    assert status("prepare", images, "--out", out, "--split", 1, 0, 0, *others, *debug) == 1
    said = capfd.readouterr().err
    assert "KeyError in test_privacy.py" in said
    assert "quimby" not in said.lower()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"path": ["quimby.png"] * 2, "patient": ["A", "B"]}, "row 2"),
        ({"path": ["quimby.png"], "patient": [None]}, "patient is blank"),
        ({"path": ["../quimby.png"], "patient": ["A"]}, "outside"),
        ({"path": ["a", "b"], "patient": ["Quimby"] * 2, "split": ["train", "test"]}, "two splits"),
        ({"path": ["a"], "patient": ["A"], "split": ["Quimby"]}, "is not the name of a split"),
    ],
)
def test_errors_about_a_table_quote_no_value_of_it_under_pseudonyms(tmp_path, capfd, rows, says):
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    assert status("prepare", tmp_path, "--out", tmp_path / "made" / "store", "--pseudonymise") == 2
    said = capfd.readouterr().err
    assert says in said
    assert "quimby" not in said.lower()
