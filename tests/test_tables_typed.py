"""Workbooks, and data frames of Python: the same cells as from a CSV table."""

from __future__ import annotations

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest

import mococxr
from mococxr import tables
from mococxr.errors import InputError
from mococxr.tables import frames, read_table, sheets, words
from small_images import write_images

ROWS: list[list[Any]] = [["a.png", "P1", 1, 0.5], ["b.png", "P2", 0, 0.25], ["c.png", "P3", None, 1]]
NAMES = ["path", "patient", "TB", "score"]


def save(path: Path, *rows: list[Any], **others: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows or (NAMES, *ROWS):
        book.active.append(row)
    for name, content_ in others.items():
        sheet = book.create_sheet(name)
        for row in content_:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_has_the_cells_of_its_first_sheet(tmp_path: Path) -> None:
    path = save(tmp_path / "t.xlsx", notes=[["a note"]])
    table = read_table(path)
    assert table.frame.columns == NAMES == tables.header(path)
    assert words.labels(table["TB"]).to_list() == [1, 0, None]
    assert tables.numbers(table["score"]).to_list() == [0.5, 0.25, 1]
    assert table.describe_row(1) == "t.xlsx, row 2 (row 3 of the sheet)"
    assert any("the sheet 'Sheet' is read; not read: 'notes'" in note for note in table.notes)


def test_a_page_of_remarks_before_the_table_is_not_the_table(tmp_path: Path) -> None:
    path = save(tmp_path / "t.xlsx", ["Made by me"], ["on Monday"], labels=[NAMES, *ROWS])
    assert read_table(path).frame.columns == NAMES == tables.header(path)
    assert any("the sheet 'labels' is read; not read: 'Sheet'" in note for note in read_table(path).notes)


def test_a_row_of_blanks_is_no_header_of_a_sheet(tmp_path: Path) -> None:
    path = save(tmp_path / "t.xlsx", [" ", " "], ["Made by me", " "], labels=[[" ", " "], NAMES, *ROWS])
    assert read_table(path).frame.columns == NAMES == tables.header(path)


def test_cells_of_a_workbook_are_written_as_they_are_shown(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in ([], [None, None], [None, "path", "accession", "day", "TB", "x", "y"], [],
                [None, "a.png", 12, datetime.datetime(2020, 1, 2), True, 3.0, "#N/A"],
                [None, " b.png", 7, datetime.datetime(2020, 1, 2, 10, 30), False, 0.1, "=1/4"]):  # fmt: skip
        sheet.append(row)
    for row in (5, 6):
        sheet.cell(row, 3).number_format = "00000"
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx")
    assert table.frame.rows() == [
        ("a.png", "00012", "2020-01-02", "true", "3", None), ("b.png", "00007", "2020-01-02 10:30:00", "false", "0.1", None)
    ]  # fmt: skip
    assert table.lines.to_list() == [5, 6]
    assert any("1 formulas have no value" in note for note in table.notes)


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "<x/>")
    return file.getvalue()


DAMAGED = {
    "a ZIP file": (zipped("labels.csv"), "is a ZIP file, not a table"),
    "OpenDocument": (zipped("mimetype", "content.xml"), "an OpenDocument file"),
    "a binary workbook": (zipped("[Content_Types].xml", "xl/workbook.bin"), r"\.xlsb"),
    "a workbook of nothing": (zipped("[Content_Types].xml", "xl/workbook.xml"), "damaged workbook"),
    "half a workbook": (zipped("xl/workbook.xml")[:-20], "damaged ZIP"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_workbook_is_refused_in_words(tmp_path: Path, name: str) -> None:
    data, problem = DAMAGED[name]
    (tmp_path / "t.xlsx").write_bytes(data)
    with pytest.raises(InputError, match=problem) as caught:
        read_table(tmp_path / "t.xlsx")
    assert caught.value.way_out
    assert tables.header(tmp_path / "t.xlsx") == []


def test_a_workbook_is_refused_by_what_it_unpacks_to_and_by_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "t.xlsx", NAMES, *[["a" * 200 + f"{i}.png", "p", 1, 0] for i in range(50)])
    monkeypatch.setattr(sheets, "MOST_CELLS", 100)
    with pytest.raises(InputError, match="too many cells"):
        read_table(path)
    monkeypatch.setattr(sheets, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match="unpacks to"):
        read_table(path)


def test_a_row_far_down_ends(tmp_path: Path) -> None:
    data = save(tmp_path / "t.xlsx").read_bytes()
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            text = old.read(member)
            if member.filename.endswith("sheet1.xml"):
                text = text.replace(b'<row r="4"', b'<row r="99999999999"')
            new.writestr(member.filename, text)
    (tmp_path / "far.xlsx").write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"too many cells|damaged"):
        read_table(tmp_path / "far.xlsx")


def test_a_sheet_is_prepared_and_evaluated_as_a_csv_table_is(tmp_path: Path) -> None:
    names = write_images(tmp_path / "source", 6)["path"].to_list()
    (tmp_path / "source" / "labels.csv").unlink()
    rows = [[name, f"p{i}", i % 2, 0.1 + 0.1 * i] for i, name in enumerate(names)]
    save(tmp_path / "source" / "labels.xlsx", NAMES, *rows)
    store = mococxr.prepare(tmp_path / "source", out=tmp_path / "store", size=32, jobs=1, stratify=True)
    assert store.labels == ["TB"]
    assert store.index["TB"].to_list() == [row[2] for row in rows]
    found = mococxr.evaluate(tmp_path / "source" / "labels.xlsx", label="TB", score="score", patient="patient")
    assert found["n"] == 6


def pandas_frame(frame: pl.DataFrame) -> Any:
    return pytest.importorskip("pandas").DataFrame({name: frame[name].to_list() for name in frame.columns})


@pytest.mark.parametrize("library", ["polars", "pandas", "pyarrow", "lazy"])
def test_a_data_frame_stands_for_a_table(tmp_path: Path, library: str) -> None:
    frame = pl.DataFrame(ROWS * 4, schema=NAMES, orient="row", strict=False)
    frame = frame.with_columns(patient=pl.Series([f"p{i}" for i in range(12)]))
    make = {
        "polars": lambda: frame,
        "pandas": lambda: pandas_frame(frame),
        "pyarrow": frame.to_arrow,
        "lazy": frame.lazy,
    }
    frame.write_csv(tmp_path / "t.csv")
    how = {"label": "TB", "score": "score", "patient": "patient"}
    found, wanted = mococxr.evaluate(make[library](), **how), mococxr.evaluate(tmp_path / "t.csv", **how)
    assert found["interval"] == wanted["interval"]
    assert found["left_out"] == {"blank": 4, "uncertain": 0}


def test_frames_of_prepare_stay_beside_the_store_for_their_owner_alone(tmp_path: Path) -> None:
    names = write_images(tmp_path / "source", 6)["path"].to_list()
    (tmp_path / "source" / "labels.csv").unlink()
    labels = pandas_frame(pl.DataFrame({"path": names, "patient": [1.0, 2, 3, 4, 5, 6], "TB": [1, 0, None] * 2}))
    splits = pl.DataFrame({"patient": range(1, 7), "split": ["train", "val", "test"] * 2})
    store = mococxr.prepare(
        tmp_path / "source", labels=labels, split_file=splits, out=tmp_path / "store", size=32, jobs=1
    )
    assert store.index["patient"].to_list() == ["1", "2", "3", "4", "5", "6"]
    assert store.index["TB"].to_list() == [1, 0, None] * 2
    assert dict(store.splits.iter_rows())["2"] == "val"
    kept = tmp_path / "store.tables" / "labels.parquet"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read_table(kept)["patient"].to_list() == ["1", "2", "3", "4", "5", "6"]


def test_mixed_cells_and_named_indexes_of_pandas_are_read() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"TB": [1, "yes", None], "x": pandas.Categorical(["a", None, "b"])})
    frame.index = pandas.Index(["a.png", "b.png", "c.png"], name="path")
    read = frames.as_polars(frame)
    assert read.columns == ["path", "TB", "x"]
    assert read["TB"].to_list() == ["1", "yes", None]
    twice = pandas.DataFrame([[1, 2]], columns=["TB", "TB"])
    with pytest.raises(InputError, match="data frame given as predictions"):
        mococxr.evaluate(twice, label="TB", score="TB")


def test_lists_of_findings_in_a_column_of_lists_are_read(tmp_path: Path) -> None:
    pl.DataFrame({"path": ["a", "b"], "findings": [["TB", "Edema"], []]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["findings"].to_list() == ["TB|Edema", None]
