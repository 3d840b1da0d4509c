"""One reader for every table: whatever a spreadsheet or a program wrote, the same cells come out, or a line is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from mococxr import tables
from mococxr.errors import InputError
from mococxr.tables import content, read_table, words

ROWS = [("a.png", "Mü", "1", "0.5"), ("b.png", "P2", "0", "0.25"), ("c.png", "P3", "", "1")]
NAMES = ("path", "patient", "TB", "score")


def lines(separator: str = ",", end: str = "\n", names: tuple[str, ...] = NAMES) -> str:
    return "".join(separator.join(row) + end for row in [names, *ROWS])


WRITTEN = {
    "plain": lines().encode(),
    "semicolons": lines(";").encode(),
    "decimal commas": lines(";").replace("0.", "0,").encode(),
    "tabs": lines("\t").encode(),
    "bars": lines("|").encode(),
    "a mark": lines().encode("utf-8-sig"),
    "UTF-16 as Excel writes it": lines("\t", "\r\n").encode("utf-16"),
    "UTF-16, the other way round, without a mark": lines().encode("utf-16-be"),
    "UTF-32": lines().encode("utf-32"),
    "Latin-1": lines().encode("latin-1"),
    "Windows lines": lines(end="\r\n").encode(),
    "old Macintosh": lines(end="\r").encode(),
    "csv module on Windows": lines(end="\r\r\n").encode(),
    "blank lines": lines(end="\n\n").encode(),
    "blank lines above": ("\n  \n;;;\n" + lines(";")).encode(),
    "no end": lines().rstrip("\n").encode(),
    "end of file by DOS": lines().encode() + b"\x1a",
    "stated separator": ("sep=;\n" + lines(";")).encode(),
    "quoted separator": ('"sep=|"\n' + lines("|")).encode(),
    "blank columns": "".join(f",{line},,\n" for line in lines().splitlines()).encode(),
    "blank columns in the rows only": lines().replace("0.5\n", "0.5,,,\n").encode(),
    "all quoted": "".join(
        ",".join(f'"{value}"' for value in line.split(",")) + "\n" for line in lines().splitlines()
    ).encode(),
    "blanks around quotes": "".join(
        " , ".join(f'"{value}"' for value in line.split(",")) + " \n" for line in lines().splitlines()
    ).encode(),
    "blanks around": lines(" , ", names=NAMES).encode(),
    "no-break spaces": lines().replace(",", "\u00a0,").encode(),
    "accents apart": lines().replace("ü", "u\u0308").encode(),
    "letters without width": lines().replace("path,", "\u200bpath,").encode(),
    "unknown": lines().replace("P3,,", "P3,N/A,").encode(),
    "gzip": gzip.compress(lines().encode()),
    "gzip twice": gzip.compress(lines().encode()[:20]) + gzip.compress(lines().encode()[20:]),
}


def save(folder: Path, data: bytes | str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_cells_come_out_however_a_table_is_written(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, WRITTEN[name])
    table = read_table(path)
    assert table.frame.columns == list(NAMES) == tables.header(path)
    assert tables.identifiers(table["patient"]).to_list() == ["Mü", "P2", "P3"]
    assert words.labels(table["TB"]).to_list() == [1, 0, None]
    assert tables.numbers(table["score"]).to_list() == [0.5, 0.25, 1]
    assert table["path"].to_list() == ["a.png", "b.png", "c.png"]


def test_a_row_is_found_by_its_line_in_the_file(tmp_path: Path) -> None:
    text = '\nsep=,\npath,note\na.png,"two\nlines"\n\n,,\nb.png,"he said ""no"""\nc.png,x\n'
    table = read_table(save(tmp_path, text))
    assert table.lines.to_list() == [4, 8, 9]
    assert table["note"].to_list() == ["two\nlines", 'he said "no"', "x"]
    kept = 'a "b" ,c'
    assert read_table(save(tmp_path, 'note\n"a ""b"" ,c"\n'))["note"].item() == kept
    assert table.describe_row(1) == "table.csv, row 2 (line 8)"
    plain = read_table(save(tmp_path, "\n,\npath,note\n\na.png,1\n\n\nb.png,2\n"))
    assert plain.lines.to_list() == [5, 8]


DAMAGED = {
    "more values than names": ("path,TB\na.png,1\n\nb.png,1,2\n", "line 4: it has 3 values, the header 2"),
    "the same in quotes": ('path,TB\n"a\n.png",1\nb.png,1,2\n', "line 4: it has 3 values, the header 2"),
    "a quote that stays open": ('path,TB\na.png,1\n"b.png,1\nc.png,0\n', "line 3: a quote is opened and not closed"),
    "words behind a quote": ('path,TB\n"a.png" x,1\n', "line 2: a quote is not followed by ','"),
    "zero bytes": (b"path,TB\na.png,\x001\n", "not a text table"),
    "half a letter of UTF-16": ("path,TB\na.png,1\n".encode("utf-16") + b"a", "not UTF-16"),
    "a web page": ("<!DOCTYPE html>\n<p>Log in</p>\n", "web page"),
    "JSON": ('[{"path": "a.png", "TB": 1}]', "JSON"),
    "JSON, a row a line": ('{"path": "a.png"}\n{"path": "b.png"}\n', "JSON"),
    "a title above": ("Report\n\npath,TB\na.png,1\n", "line 3: it has 2 values, the header 1 names"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(64), r"old Excel workbook \(.xls\)"),
    "a name twice": ("path,TB, TB\na.png,1,1\n", "'TB' appears twice"),
    "no names": (",,\n", "is empty"),
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
    "blank rows only": ("path,TB\n,\n\n ,\n", "a header and no rows"),
    "half a gzip file": (gzip.compress(b"path,TB\na.png,1\n")[:-9], "damaged gzip"),
    "half a Parquet file": (b"PAR1" + bytes(40), "cannot be read as a table"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_refused_by_file_and_line(tmp_path: Path, name: str) -> None:
    data, problem = DAMAGED[name]
    with pytest.raises(InputError, match=problem) as caught:
        read_table(save(tmp_path, data))
    assert "table.csv" in caught.value.problem
    assert caught.value.way_out


def test_what_unpacks_to_more_than_the_limit_is_refused_before_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, gzip.compress(b"path,TB\n" + b"a.png,1\n" * 400_000))
    assert read_table(path).frame.height == 400_000
    monkeypatch.setattr(content, "LARGEST", 1 << 20)
    with pytest.raises(InputError, match="unpacks to more than 1 MB"):
        read_table(path)


def test_columns_without_a_name_are_left_out_and_said(tmp_path: Path) -> None:
    table = read_table(save(tmp_path, ",path,,TB\n0,a.png,,1\n1,b.png,,0\n"))
    assert table.frame.columns == ["path", "TB"]
    assert any("without a name are left out (number 1)" in note for note in table.notes)


def test_a_parquet_table_has_the_cells_that_its_numbers_are_written_as(tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "patient": [1.0, 22.0, None],
        "score": pl.Series([0.1, 0.2, float("nan")], dtype=pl.Float32),
        "TB": [True, False, None],
        "day": pl.Series(["2020-01-02", None, None]).str.to_date(),
        "kind": pl.Series(["x", "NA", "y"], dtype=pl.Categorical),
        "features": [[1.0], [2.0], [3.0]],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table["patient"].to_list() == ["1", "22", None]
    assert tables.numbers(table["score"]).to_list() == [*frame["score"][:2].cast(pl.Float64), None]
    assert words.labels(table["TB"]).to_list() == [1, 0, None]
    assert table["day"].to_list() == ["2020-01-02", None, None]
    assert table["kind"].to_list() == ["x", None, "y"]
    assert tables.header(tmp_path / "t.parquet") == frame.columns
    with pytest.raises(InputError, match="'features' holds List"):
        table["features"]


def test_letters_of_windows_are_read_and_said(tmp_path: Path) -> None:
    table = read_table(save(tmp_path, "path,note\na.png,5\u20ac \u2013 na\u00efve\n".encode("cp1252")))
    assert table["note"].to_list() == ["5\u20ac \u2013 na\u00efve"]
    assert any("Latin-1" in note for note in table.notes)


def test_a_header_is_read_without_the_rest_though_a_letter_be_cut(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        for blanks in range(4):
            text = " " * blanks + "path,\u00dcbersicht\n" + "\u00fc.png,\U0001f4a9\n" * 30_000
            assert tables.header(save(tmp_path, text.encode(encoding))) == ["path", "\u00dcbersicht"]
    assert tables.header(save(tmp_path, "path,\u00dc\na.png,1")) == ["path", "\u00dc"]


def test_zeros_that_were_kept_by_a_formula_are_kept(tmp_path: Path) -> None:
    for text in ('accession;TB\n="0012";1\n="0x";0\n', 'accession,TB\n"=""0012""",1\n"=""0x""",0\n'):
        assert read_table(save(tmp_path, text))["accession"].to_list() == ["0012", "0x"]


def test_a_column_is_found_whatever_its_case_where_that_is_clear(tmp_path: Path) -> None:
    table = read_table(save(tmp_path, "path,TB,tb,Sex\na.png,1,0,F\n"))
    assert (table["TB"].item(), table["tb"].item(), table["sex"].item()) == ("1", "0", "F")
    with pytest.raises(InputError, match="TB and tb, which differ by case only"):
        table["Tb"]


def test_a_comma_is_a_decimal_one_only_where_it_cannot_be_another() -> None:
    assert tables.numbers(pl.Series(["0,5", "1,25", "3", None])).to_list() == [0.5, 1.25, 3, None]
    assert tables.numbers(pl.Series(["1,234", "0,123"])).to_list() == [1.234, 0.123]
    for unclear in (["1,234", "5"], ["0,5", "0.5"], ["0,5", "x"], ["1,2,3"]):
        assert None in tables.numbers(pl.Series(unclear)).to_list()
    assert tables.numbers(pl.Series(["\u22121", "1"])).to_list() == [-1, 1]
