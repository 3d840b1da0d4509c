"""A finished pretraining run becomes the files of the distribution mococxr-weights; the same run gives the same bytes.

    python weights/make.py RUN [--size 224] [--study STUDY ...] [--judge STORE ...]

RUN was pretrained on the training patients of `nih` and `pediatric` and nothing else, since other images have other
terms; so were the runs that it started from, the first of them from ImageNet weights. --size is the side of the
frames that it is judged at and meant for. Figures of the card come from finished studies with an arm RUN@SIZE;
--judge makes them first, beside RUN, on the test patients of stores. Writes `mococxr_weights/` and `README.md` beside
this script.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

import mococxr
from mococxr.classifier.origin import origin_of
from mococxr.encoders import LICENCE, LITE0, Encoder, load_encoder, quoted, save_encoder
from mococxr.errors import InputError
from mococxr.exporting.artifact import Artifact, noise_frames, read_artifact
from mococxr.exporting.card import measured, starting_licence
from mococxr.files import atomic, atomic_write, read_json, sha256_file, write_json
from mococxr.results import CELL_KEYS, read_results

HERE = Path(__file__).parent
SOURCES = {
    "nih": "adults of NIH ChestX-ray14, provided by the NIH Clinical Center (https://nihcc.app.box.com/v/ChestXray-NIHCC; "
    "Wang et al., CVPR 2017), free to use with this attribution",
    "pediatric": "children of Guangzhou (Kermany et al., Cell 2018; https://doi.org/10.17632/rscbjbr9sj.2), CC BY 4.0",
}
"""Source of a store -> whose images they are, and on which terms; no others are taken."""
STUDIES: dict[str, dict[str, Any]] = {
    "nih": {"target": ["Effusion", "Pneumonia", "Atelectasis", "sex=M"], "fraction": [0.05, 0.2, 1.0]},
    "pediatric": {"target": ["Bacterial"], "where": ["Pneumonia=1"], "fraction": [0.01, 0.2, 1.0]},
}
"""What --judge asks of a store of this source."""
BESIDE = ("imagenet@96",)
"""Arms of these studies beside the run and the baseline."""
START = "imagenet"
"""What the first run started from."""
TOLERANCE = 0.005
"""What half precision may change in the features, as `apart` measures it; ImageNet's own weights change by 0.0025."""
MOST = 10_000_000
"""Bytes of all files together."""
KEPT = (".safetensors", ".json", ".yaml", ".parquet", ".npy")
"""Kinds of files that the package holds beside its `__init__.py`."""
Facts = dict[str, Any]


def runs_of(run: Path) -> list[Path]:
    """A run and those that it started from, the first first.

    Raises:
        InputError: one is not finished, saw images of other terms or patients who do not train, or the first did not start
            from ImageNet weights.
    """
    record = read_json(run / "run.json")
    seen = record["pretrained_on"]
    others = sorted({store["source"] for store in seen["stores"]} - set(SOURCES))
    if others or seen["splits"] != "train":
        raise InputError(
            f"{run} saw images of {' and '.join(map(repr, others)) or 'validation or test patients'}: not to be published.",
            f"Pretrain on the training patients of {' and '.join(SOURCES)} alone.",
        )
    if record["init"] == START:
        return [run]
    if not (Path(record["init"]) / "run.json").is_file():
        raise InputError(f"{run} started from {record['init']}.", f"Start from {START}, or from a run that did.")
    return [*runs_of(Path(record["init"])), run]


def publish(run: Path, out: Path, size: int) -> Facts:
    """Write the package's files.

    Args:
        out: their folder, `mococxr_weights`.
        size: side of the frames that it is meant for, px.

    Returns:
        What the card says of them.

    Raises:
        InputError: a run that may not be published, files that are too large, or features that are not the run's.
    """
    runs = runs_of(run)
    encoder = load_encoder(run)
    encoder.spec = replace(encoder.spec, size=size)
    for weight in encoder.network.parameters():
        if weight.ndim > 1:  # batch norm is small, and its variances leave the range of half precision
            weight.data = weight.data.half()
    first, *_ = records = [read_json(folder / "run.json") for folder in runs]
    origins = [origin_of(folder) for folder in runs]
    record = origins[-1]["run"] | {
        "kind": LITE0,
        **{name: first[name] for name in ("init", "weights", "started_from")},
        "auxiliary": [facts for record in records for facts in record["auxiliary"]],
    }
    recipe = json.loads(json.dumps(origins[-1]["recipe"]))  # YAML knows no tuples
    save_encoder(encoder, out, {"init": START, "pretrained_on": record["pretrained_on"]})
    write_json(out / "run.json", record)
    atomic_write(out / "settings.yaml", yaml.safe_dump(recipe, sort_keys=False))
    atomic_write(out / "images.parquet", (run / "images.parquet").read_bytes())
    difference = proved(run, out)
    files = sorted(file for file in out.iterdir() if file.suffix in KEPT)
    length = sum(file.stat().st_size for file in files)
    if length > MOST:
        raise InputError(f"{out} has {length:,} bytes, more than {MOST:,}.", "Take a smaller network.")
    return {
        "spec": encoder.spec,
        "network": encoder.spec.architecture,
        "parameters": sum(weight.numel() for weight in encoder.parameters()),
        "megabytes": length / 1e6,
        "stores": record["pretrained_on"]["stores"],
        "start": starting_licence(first, encoder.spec.architecture),
        "method": record["method"]["name"],
        "version": record["version"],
        "steps": sum(record["steps"] for record in records),
        "recipes": [_words(origin["recipe"]) for origin in origins],
        "difference": difference,
        "made_from": origins[-1]["sha256"],
        "hashes": {file.name: sha256_file(file) for file in files},
    }


def _words(recipe: Facts) -> str:
    return ", ".join(
        f"{name} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in recipe.items()
    )


def proved(run: Path, out: Path) -> float:
    """Compare the published encoder with the run's, whose features of noise are kept for later (`proof.npy`).

    Returns:
        The difference (`apart`).

    Raises:
        InputError: it is larger than half precision makes it.
    """
    published = load_encoder(out, features="stages")
    expected = answers(load_encoder(run, features="stages"), published.size)
    with atomic(out / "proof.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, expected)
    difference = apart(expected, answers(published, published.size))
    if not difference <= TOLERANCE:  # NaN too
        raise InputError(
            f"The features of {out} differ by {difference:.2g} from those of {run}.", "Publish another run."
        )
    return difference


def answers(encoder: Encoder, size: int) -> NDArray[np.float32]:
    """Features of frames of noise of this size, the same each time: (N, D)."""
    encoder.spec = replace(encoder.spec, size=size)
    frames = noise_frames(Artifact((encoder,), None, "", ({},)))
    with torch.inference_mode():
        return encoder(torch.from_numpy(frames[:, None])).numpy()


def apart(expected: NDArray, features: NDArray) -> float:
    """Root mean square of the difference, of that of the features expected."""
    return float(np.sqrt(np.mean(np.square(features - expected)) / np.mean(np.square(expected))))


# --- figures


def judge(run: Path, size: int, stores: Sequence[Path]) -> Iterator[Path]:
    """Studies of the run on the test patients of stores, made or gone on with beside it."""
    for store in stores:
        source = mococxr.Store.open(store).source
        out = run.with_name(f"{run.name}-study-{source}")
        arms = [f"{LITE0}={quoted(run)}@{size}", *BESIDE]
        mococxr.study(store, arm=arms, draws=10, out=out, **STUDIES[source])
        yield out


def figures(artifact: Artifact, size: int, folder: Path) -> Facts:
    """What a study says of a run beside its other arms.

    Raises:
        InputError: no arm is this run, or it was judged at another size.
    """
    facts, study = measured(folder, None, artifact), read_results(folder)
    ours = study.facts["arms"][facts["arm"]]["parts"][0]["size"]
    if ours != size:
        raise InputError(f"{folder} judged the run at {ours} px, and it is published for {size} px.", "Give --size.")
    others = [arm for arm in study.facts["arms"] if arm != facts["arm"]]
    rows = [
        cell | {"others": [(study.cell(**_keys(cell) | {"arm": arm}) or {}).get("auroc") for arm in others]}
        for cell in facts["cells"]
    ]
    return {"test": facts["test"]["splits"]["test"], "source": facts["test"]["source"], "baseline": facts["baseline"],
            "others": others, "rows": rows}  # fmt: skip


def _keys(cell: Facts) -> Facts:
    return {name: cell[name] for name in CELL_KEYS}


def write_card(path: Path, facts: Facts, studies: Sequence[Facts]) -> None:
    """Fill `card.md.j2`."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    number = lambda value: "-" if value is None else f"{value:.3f}"  # noqa: E731
    text = environment.from_string((HERE / "card.md.j2").read_text("utf-8")).render(
        **facts, studies=studies, sources=SOURCES, licence=LICENCE, tolerance=TOLERANCE, number=number, frames=5
    )
    atomic_write(path, text)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", type=int, help="side of the frames, px (default: the run's own)")
    parser.add_argument("--study", type=Path, nargs="+", default=[], help="finished studies with an arm RUN@SIZE")
    parser.add_argument("--judge", type=Path, nargs="+", default=[], help="stores on whose test patients to judge it")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    try:
        runs_of(asked.run)  # refused before it is judged
        artifact = read_artifact(asked.run)
        size = asked.size or artifact.size
        folders = [*asked.study, *judge(asked.run, size, asked.judge)]
        studies = [figures(artifact, size, folder) for folder in folders]
        facts = publish(asked.run, asked.out / "mococxr_weights", size)
        write_card(asked.out / "README.md", facts, studies)
    except InputError as error:
        print(error)
        return 2
    print(f"{asked.out}: {facts['megabytes']:.1f} MB, {facts['difference']:.2g} from the run; commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
