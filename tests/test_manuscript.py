"""What a manuscript takes from a study: figures at column width, tables in LaTeX, a methods paragraph with its counts."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import matplotlib
import matplotlib.figure
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fake_numbers import RECIPE
from fake_study import fake_study
from mococxr.encoders import EncoderSource, EncoderSpec
from mococxr.encoders.recipe import SETTINGS
from mococxr.files import write_json
from mococxr.pages import figures
from mococxr.pages import format as fmt
from mococxr.pages.manuscript import escape_latex, to_latex
from mococxr.pages.render import Table
from mococxr.reporting import manuscript
from mococxr.reporting.recipe import recipes
from mococxr.reporting.report import write_report
from mococxr.results import read_results
from mococxr.settings import PretrainSettings, to_mapping
from mococxr.studies.recipe import recipe_of

MM = 72 / 25.4
"""Points of a millimetre."""
STUDY = {
    "arms": ("moco", "imagenet"),
    "targets": ("Pneumonia_%", "Effusion"),
    "modes": ("linear",),
    "fractions": (0.01, 1.0),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study(tmp_path_factory.mktemp("manuscript") / "study", **STUDY)
    write_report(folder)
    return folder


def inside(pdf: bytes) -> bytes:
    """A PDF with its compressed streams opened."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    opened = []
    for stream in streams:
        try:
            opened.append(zlib.decompress(stream))
        except zlib.error:
            opened.append(stream)
    return pdf + b"\n".join(opened)


def test_every_figure_is_there_in_three_forms_as_wide_as_a_column_or_a_page_with_its_fonts_inside(study: Path) -> None:
    names = {path.stem for path in (study / "figures").iterdir()}
    assert {path.name for path in (study / "figures").iterdir()} == {
        f"{name}.{form}" for name in names for form in ("svg", "pdf", "png")
    }
    assert "auroc-panels-linear" in names
    for name in names:
        width = (180 if "panels" in name else 85) * MM
        pdf = (study / "figures" / f"{name}.pdf").read_bytes()
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
        assert box is not None
        assert float(box[1]) == pytest.approx(width, abs=0.01)
        assert float(box[2]) <= 225 * MM
        contents = inside(pdf)
        assert b"/FontFile2" in contents, "TrueType, embedded"
        assert b"/Type3" not in contents
        assert len(re.findall(rb"/FontFile2", contents)) == len(re.findall(rb"/Type /FontDescriptor", contents))
        svg = (study / "figures" / f"{name}.svg").read_text()
        assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) == pytest.approx(width, abs=0.01)
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]
        assert sizes
        assert min(sizes) >= 6.5, "points at that width: smaller cannot be read in print"


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["ImageNet (reference)", "MoCo", "ImageNet 112 px (baseline)"], 1),
        (["ImageNet (reference)", "ImageNet 112 px (baseline)", "MoCo"], 2),  # columns are filled from the top
        (["A"], 1),
    ],
)
def test_a_legend_is_as_wide_as_its_column_allows_and_no_wider(labels: list[str], columns: int) -> None:
    with matplotlib.rc_context(figures.STYLE):
        drawing = matplotlib.figure.Figure(figsize=(figures.COLUMN / 25.4, 2), layout="constrained")
        handles = [drawing.add_subplot().plot([0, 1])[0] for _ in labels]
        figures.legend(drawing, handles, labels)
        (drawn,) = drawing.legends
        assert drawn._ncols == columns
        assert drawn.get_window_extent().width <= drawing.bbox.width


def test_tables_are_latex_that_no_name_breaks_and_csv_with_the_same_cells(study: Path) -> None:
    files = sorted((study / "tables").glob("*.tex"))
    assert {"performance", "differences", "labelled", "flow", "subgroups"} <= {path.stem for path in files}
    for path in files:
        text = path.read_text()
        with open(path.with_suffix(".csv"), newline="") as file:
            head, *rows = csv.reader(file)
        lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
        cells = [re.split(r"(?<!\\) & ", line) for line in lines]
        headings = 2 if "longtable" in text else 1
        assert cells[headings:] == [[escape_latex(cell) for cell in row] for row in rows]
        assert cells[0] == [escape_latex(name) for name in head]
        body = re.sub(r"^%.*\n", "", text)
        assert re.findall(r"(?<!\\)[%#_~^<>](?![^$]*\$)", body.replace("~", "")) == [], "special, and not escaped"
        assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")
        assert re.findall(r"\\begin\{(\w+)\}", body) == re.findall(r"\\end\{(\w+)\}", body)[::-1]
        assert body.isascii() or set(re.findall(r"[^\x00-\x7f]", body)) <= set("κ"), path
    assert r"Pneumonia\_\%" in (study / "tables" / "performance.tex").read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX")
def test_latex_sets_every_table(study: Path, tmp_path: Path) -> None:
    tables = sorted((study / "tables").glob("*.tex"))
    long = Table(["[a]", "*b"], [["[x", "*y"], *(["\\{}&%$#_~^<>|", str(i)] for i in range(60))], 1, "1 × 10⁻⁷ ≤ “a”")
    (tmp_path / "long.tex").write_text(to_latex(long, "Long & 5 %", "long"))
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in [*tables, tmp_path / "long.tex"])
    text = rf"\documentclass{{article}}\usepackage{{booktabs,longtable}}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=240)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").is_file()


def test_the_methods_paragraph_has_the_counts_of_study_json_and_flow(study: Path) -> None:
    results = read_results(study)
    text = manuscript.methods(results)
    facts = results.facts["targets"]["Effusion"]
    for split, word in (("train", "training"), ("val", "validation"), ("test", "test")):
        images, patients, positive = (facts[f"{split}_{name}"] for name in ("images", "patients", "positives"))
        assert f"{word}, {images:,} images of {patients:,} patients ({positive:,} positive)" in text
    assert "All labelled test images were scored." in text
    assert (
        "Left out of Effusion: training, 10 images (3: an uncertain label, 7: no label) and with them 5 patients"
        in text
    )
    assert "test, 10 images (3: an uncertain label, 7: no label) and with them 1 patient." in text


def test_the_recipe_of_each_encoder_is_a_sentence_and_one_that_is_not_recorded_is_said(study: Path) -> None:
    results = read_results(study)
    assert recipes(results) == [
        "Pretraining of MoCo: momentum contrast (MoCo v2); 12 epochs of views of 96 pixels, then 1 epoch of "
        "views of 224 pixels (learning rate 1 × 10⁻⁵), 1,275 steps of 32 images; AdamW (learning rate 0.0005,"
        " cosine schedule, linear warm-up over 2 % of the steps, weight decay 0.0001); queue of 1,024 keys, "
        "momentum 0.99, temperature 0.2, mlp projection to 128 dimensions; random crops of 90 to 100 % of the"
        " area, rotation by up to 10 degrees, horizontal flips with probability 0.5; kept: the last weights."
    ]
    for run in results.facts["arms"]["moco"]["runs"]:
        run["recipe"] = None
    assert recipes(results) == ["How MoCo was pretrained is not recorded."]


def test_a_recipe_is_read_from_the_folder_of_a_run_without_what_its_method_does_not_read(tmp_path: Path) -> None:
    settings = to_mapping(PretrainSettings(stores=(Path("s"),), out=Path("r"), queue=1024))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    method = {"id": "simclr", "name": "SimCLR", "source": "", "unused": ["queue", "momentum"]}
    write_json(tmp_path / "run.json", {"method": method, "steps": 9, "phases": RECIPE["phases"], "auxiliary": []})
    source = EncoderSource("r", "run", EncoderSpec("resnet18", 96), tmp_path, ())
    recipe = recipe_of(source)
    assert recipe is not None
    assert recipe.keys() == {"method", "steps", "phases", "auxiliary", *SETTINGS} - {"queue", "momentum"}
    assert {name: recipe[name] for name in recipe.keys() & settings.keys() - {"method", "auxiliary"}} == {
        name: settings[name] for name in recipe.keys() & settings.keys() - {"method", "auxiliary"}
    }
    write_json(tmp_path / "run.json", {"kind": "imported"})
    assert recipe_of(source) is None


@given(st.floats(1e-12, 1e12), st.integers(2, 6))
def test_a_number_in_print_has_its_digits_and_no_letter_e(value: float, digits: int) -> None:
    text = fmt.plain(value, digits)
    assert "e" not in text
    factor, _, power = text.partition(" × 10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert float(f"{factor.replace(',', '')}e{exponent}") == pytest.approx(float(f"{value:.{digits}g}"), rel=1e-9)


def test_milliseconds_are_written_out() -> None:
    assert [fmt.plain(value, 2) for value in (412.3, 0.97, 12.0, 3.21e-7)] == ["410", "0.97", "12", "3.2 × 10⁻⁷"]
