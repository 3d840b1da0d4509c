"""The page of a reproduction: every place of the paper's tables, measured or with its reason, and no number more."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from fake_reproduction import fake_reproduction
from mococxr.errors import InputError
from mococxr.reproduction.compare import TABLES, published, read_comparison
from mococxr.reproduction.page import write_page
from mococxr.reproduction.recipe import cells_of

SMALL = ("pleural-effusion/resnet18/linear/0.1/*",)
GONE = "pleural-effusion/resnet18/linear/0.001/moco"


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time; tests that do not look at them leave them out."""
    monkeypatch.setattr("mococxr.reproduction.page.draw_curves", lambda _: [])


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def text(out: Path) -> str:
    """What the page says, without marks and pictures."""
    page = (out / "index.html").read_text(encoding="utf-8")
    page = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page).replace("\u00a0", " "))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chexpert")
    reason = "draws 0 to 4 hold <no> positive image"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mococxr.reproduction.page.draw_curves", lambda _: [])
        write_page(fake_reproduction(out, variants=("lbfgs", "std"), undefined={GONE: reason}))
    return out


@pytest.fixture(scope="module")
def shenzhen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The half of the paper with few figures, which are drawn."""
    out = tmp_path_factory.mktemp("shenzhen")
    write_page(fake_reproduction(out, "shenzhen", ("*",), synthetic=False, departures=[]))
    return out


@pytest.mark.parametrize("dataset", ["chexpert", "shenzhen"])
def test_every_published_number_has_its_place_in_the_tables(dataset: str, made: Path, shenzhen: Path) -> None:
    out = made if dataset == "chexpert" else shenzhen
    held = {
        (r["task"], r["backbone"], r["mode"], float(r["fraction"]), r["arm"], r["measure"]): r["published"]
        for spec in TABLES
        for r in rows(out, spec.name)
    }
    for cell in cells_of(dataset):
        place = (cell.task, cell.backbone, cell.mode, cell.fraction)
        for arm in (cell.arm, "difference", "difference-from-imagenet-finetune"):
            for measure in ("auroc", "average_precision"):
                if printed := published().get((*place, arm, measure)):
                    assert float(held[(*place, arm, measure)]) == printed["value"]


def test_a_measured_place_holds_the_studys_numbers_beside_the_printed_ones(made: Path) -> None:
    found = [r for r in rows(made, "table2") if r["status"] == "done"]
    assert len(found) == 4 * 3
    for row in found:
        folder = made / f"studies/pleural-effusion-resnet18-{float(row['fraction']):g}"
        name = "differences" if row["arm"] == "difference" else "cells"
        with (folder / f"{name}.csv").open() as file:
            source = [r for r in csv.DictReader(file) if r["mode"] == "finetune"]
        if name == "cells":
            source = [r for r in source if r["arm"] == row["arm"]]
        assert float(row["measured"]) == float(source[0]["auroc" if name == "cells" else "difference"])
        assert float(row["low"]) == float(source[0]["low_bootstrap"])
        assert float(row["difference"]) == pytest.approx(float(row["measured"]) - float(row["published"]))
        overlap = float(row["low"]) <= float(row["published_high"]) and float(row["published_low"]) <= float(
            row["high"]
        )
        assert row["intervals_overlap"] == str(overlap).lower()


def test_what_was_not_run_or_is_undefined_has_a_reason_and_no_number(made: Path) -> None:
    table = rows(made, "table1")
    lost = [r for r in table if r["status"] == "undefined"]
    assert {(r["fraction"], r["arm"]) for r in lost} == {("0.001", "moco"), ("0.001", "difference")}
    off = [r for r in table if r["status"] != "done"]
    assert len(off) == 2 + 12
    for row in off:
        assert row["reason"]
        assert row["published"]
        assert row["measured"] == row["low"] == row["difference"] == row["intervals_overlap"] == ""
    elsewhere = rows(made, "table4")
    assert {r["status"] for r in elsewhere} == {"not run"}
    assert {r["reason"] for r in elsewhere} == {"not part of this run: reproduce shenzhen"}
    assert "draws 0 to 4 hold &lt;no&gt; positive image" in (made / "index.html").read_text()


@pytest.mark.usefixtures("no_pictures")
def test_linear_against_end_to_end_takes_both_modes_to_be_run(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, patterns=SMALL)
    write_page(out)
    row = next(r for r in rows(out, "table3") if r["fraction"] == "0.1" and r["backbone"] == "resnet18")
    assert (row["status"], row["reason"]) == ("not run", "not among --cells")


@pytest.mark.usefixtures("no_pictures")
def test_a_number_that_the_study_left_blank_is_undefined_whatever_the_record_says(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, patterns=SMALL)
    table = out / "studies/pleural-effusion-resnet18-0.1/cells.csv"
    lines = table.read_text().splitlines()
    head, cells = lines[0].split(","), lines[1].split(",")
    cells[head.index("auroc")], cells[head.index("reason")] = "", "one class only"
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    write_page(out)
    row = next(r for r in rows(out, "table1") if r["fraction"] == "0.1" and r["arm"] == cells[0])
    assert (row["status"], row["reason"], row["measured"]) == ("undefined", "one class only", "")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("low", "high", "said", "chip"),
    [
        ("0.01", "0.2", "MoCo is above ImageNet", "reproduced"),
        ("-0.01", "0.2", "no difference", "not reproduced"),
        ("-0.3", "-0.01", "MoCo is below", "reversed"),
    ],
)
def test_a_claim_needs_an_interval_that_leaves_out_0(tmp_path: Path, low: str, high: str, said: str, chip: str) -> None:
    ends = {"low_bootstrap": float(low), "high_bootstrap": float(high)}
    write_page(fake_reproduction(tmp_path, patterns=SMALL, changed=ends))
    assert f"{chip} With 10 % of the labels, {said}" in text(tmp_path)


def test_where_the_paper_shows_no_difference_none_is_what_was_printed(shenzhen: Path) -> None:
    said = text(shenzhen)
    assert "end to end no difference, as printed With 6.25 % of the labels, no difference" in said
    assert "above, not so in the paper With 6.25 % of the labels, MoCo is above ImageNet" in said


@pytest.mark.usefixtures("no_pictures")
def test_the_verdict_counts_by_rule(made: Path, tmp_path: Path) -> None:
    assert "Of 96 cells 15 were run, 1 is undefined. 15 of 15 measured intervals overlap" in text(made)
    far = fake_reproduction(tmp_path / "far", patterns=("edema/*/0.1/*",), shift=-0.3, synthetic=False)
    write_page(far)
    assert "Of 96 cells 4 were run. 0 of 4 measured intervals overlap the printed ones. 2 settings differ" in text(far)
    none = fake_reproduction(tmp_path / "none", patterns=("edema/*/0.1/moco",))
    for folder in (none / "studies").iterdir():
        folder.rename(none / folder.name)
    record = json.loads((none / "reproduce.json").read_text())
    for cell in record["cells"]:
        cell.update(status="not run", reason="planned only")
    (none / "reproduce.json").write_text(json.dumps(record))
    write_page(none)
    assert "Of 96 cells 0 were run. No measured interval has a printed one to be compared with." in text(none)


def test_the_claim_is_judged_at_the_smallest_share_that_has_a_difference(made: Path) -> None:
    assert "With 1 % of the labels, MoCo is above ImageNet: +0.0" in text(made)
    assert "the paper prints +0.070 (+0.029 to +0.112)" in text(made)
    assert "With 0.1 % of the labels, MoCo is above ImageNet" in text(made)


def test_departures_and_synthetic_images_are_said_before_any_number(made: Path, shenzhen: Path) -> None:
    said = text(made)
    assert said.index("Synthetic images") < said.index("Of 96 cells")
    assert said.index("size 320 px 32 px") < said.index("AUROC against labels")
    assert "Label table train.csv as released another table" in said
    assert "Test positives, Pleural Effusion 104 61" in said
    assert "Synthetic images" not in text(shenzhen)
    assert "No setting differs from the paper's." in text(shenzhen)


@pytest.mark.usefixtures("no_pictures")
def test_a_plan_without_any_number_is_a_page_with_its_hours(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, patterns=("edema/*/0.1/moco",))
    record = json.loads((out / "reproduce.json").read_text())
    for cell in record["cells"]:
        cell.update(status="not run", reason="planned only")
    (out / "reproduce.json").write_text(json.dumps(record))
    (out / "plan.csv").write_text("cell,trial,hours,evaluation_hours\na,b,1.5,0.25\na,c,2,0.25\n")
    write_page(out)
    assert "Last plan 3.50 hours of training, 0.50 of evaluation (plan.csv)" in text(out)


@pytest.mark.usefixtures("no_pictures")
def test_another_start_than_imagenet_is_not_called_imagenet_in_a_finding(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, settings={"init": "random"}, notes=["Images <came> late."])
    write_page(out)
    said = text(out)
    assert "MoCo is above the start without MoCo (random): +0." in said
    assert "MoCo is above ImageNet" not in said
    assert "Images &lt;came&gt; late." in said


def test_the_sounder_ways_stand_beside_the_papers_with_their_effect(made: Path, shenzhen: Path) -> None:
    said = text(made)
    assert re.search(r"Closed-form linear head .*: over 7 cells AUROC moves by \+0\.\d+ to \+0\.\d+; MoCo less", said)
    assert re.search(r"standard deviation .*: over 15 cells AUROC moves", said)
    assert "of 5 differences whose interval excludes 0" in said
    assert "not run (--variant lbfgs)" in text(shenzhen)


def test_the_linear_against_end_to_end_table_and_the_ablation_are_filled(shenzhen: Path) -> None:
    table = [r for r in rows(shenzhen, "table3") if r["task"] == "Tuberculosis"]
    assert len(table) == 6
    assert {r["status"] for r in table} == {"done"}
    ablation = rows(shenzhen, "learning_rate")
    assert [r["arm"] for r in ablation] == ["moco-lr0.01", "moco-lr0.001", "moco", "moco-lr1e-05"]
    assert {r["status"] for r in ablation} == {"done"}


@pytest.mark.parametrize("dataset", ["chexpert", "shenzhen"])
def test_the_page_stands_alone_and_is_well_formed(dataset: str, made: Path, shenzhen: Path) -> None:
    out = made if dataset == "chexpert" else shenzhen
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta", "br", "link", "line", "rect", "path", "use") and not dict(attrs).get("/"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag in open_tags:
                assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list) -> None:
            pass

    Reader().feed(page)
    assert open_tags == []
    for name in re.findall(r'href="([^"#]+)"', page):
        assert (out / name).exists() or name.endswith("report.html")


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    for out in (first, again):
        write_page(fake_reproduction(out, "shenzhen", ("*/resnet18/linear/*",), synthetic=False, departures=[]))
    files = [p.relative_to(first) for d in ("tables", "figures") for p in sorted((first / d).iterdir())]
    assert sum(file.parts[0] == "figures" for file in files) >= 1
    for file in (*files, Path("index.html")):
        assert (first / file).read_bytes() == (again / file).read_bytes(), file


@pytest.mark.usefixtures("no_pictures")
def test_a_share_that_the_paper_has_not_gets_its_column(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, patterns=SMALL)
    for name in ("cells.csv", "differences.csv", "trials.csv"):
        path = out / "studies/pleural-effusion-resnet18-0.1" / name
        path.write_text(path.read_text().replace(",0.1,", ",0.5,"))
    (out / "studies/pleural-effusion-resnet18-0.1").rename(out / "studies/pleural-effusion-resnet18-0.5")
    record = json.loads((out / "reproduce.json").read_text())
    extra = [c for c in record["cells"] if c["status"] == "done"]
    for cell in extra:
        cell.update(id=cell["id"].replace("/0.1/", "/0.5/"), study="pleural-effusion-resnet18-0.5")
    (out / "reproduce.json").write_text(json.dumps(record))
    write_page(out)
    new = [r for r in rows(out, "table1") if r["fraction"] == "0.5"]
    assert [r["status"] for r in new] == ["done"] * 3
    assert all(r["measured"] and not r["published"] for r in new)


def test_a_cell_called_done_without_its_study_stops_before_anything_is_written(tmp_path: Path) -> None:
    out = fake_reproduction(tmp_path, patterns=SMALL)
    (out / "studies/pleural-effusion-resnet18-0.1/study.json").unlink()
    with pytest.raises(InputError, match="not a finished study"):
        write_page(out)
    assert not (out / "index.html").exists()
    assert not (out / "tables").exists()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("low", "high", "overlap"), [(0.7, 0.75, True), (0.6, 0.735, True), (0.6, 0.734, False), (0.812, 0.9, False)]
)
def test_intervals_that_share_a_point_overlap(tmp_path: Path, low: float, high: float, overlap: bool) -> None:
    """The printed one is 0.735 to 0.811."""
    out = fake_reproduction(tmp_path, patterns=("pleural-effusion/resnet18/linear/0.001/moco",))
    path = out / "studies/pleural-effusion-resnet18-0.001/cells.csv"
    ends = {"low_bootstrap": low, "high_bootstrap": high}
    pl.read_csv(path).with_columns(**{name: pl.lit(value) for name, value in ends.items()}).write_csv(path)
    place = (("Pleural Effusion", "resnet18", "linear"), 0.001, "moco")
    assert read_comparison(out).row(*place)["intervals_overlap"] is overlap


def test_all_cells_of_a_full_run_are_on_its_page(shenzhen: Path) -> None:
    assert "Of 27 cells 27 were run." in text(shenzhen)
    assert "Cells without a number" not in text(shenzhen)
