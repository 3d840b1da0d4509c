"""The tables of a study are those that docs/contract.md lists, and a damaged one is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from fake_study import fake_study
from mococxr.errors import InputError
from mococxr.results import TABLES, read_results

DOCS = Path(__file__).parents[1] / "docs"


def test_the_contract_lists_the_tables_as_they_are_declared() -> None:
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    committed = (DOCS / "contract.md").read_text(encoding="utf-8")
    assert committed == maker.with_tables(committed), "docs/contract.md is stale: run `make docs`"


def test_what_was_written_is_read_back_with_its_types(tmp_path: Path) -> None:
    results = read_results(fake_study(tmp_path / "s"))
    for name, columns in TABLES.items():
        assert results.frames[name].schema == {column: kind.dtype for column, kind in columns.items()}
    assert results.rows("cells", arm="moco", target="Effusion", mode="linear")[0]["n_units"] == 514


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_one_of_its_columns_is_named_with_it(tmp_path: Path, name: str) -> None:
    study = fake_study(tmp_path / "s")
    column = list(TABLES[name])[-1]
    pl.read_csv(study / f"{name}.csv").drop(column).write_csv(study / f"{name}.csv")
    with pytest.raises(InputError, match=rf"{name}\.csv has no column {column}"):
        read_results(study)


def test_results_say_in_a_line_and_in_a_notebook_what_they_hold(tmp_path: Path) -> None:
    results = read_results(fake_study(tmp_path / "study<b>", arms=("moco", "imagenet"), targets=("Effusion",)))
    assert repr(results).startswith("Study study<b> (arms: moco, imagenet; targets: Effusion;")
    page = results._repr_html_()
    assert "study&lt;b&gt;" in page
    assert "<table" in page
    assert len(repr(results)) < 300
