"""Bad inputs of every kind, given to the commands: a clear message, the way out, and nothing half-written."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mococxr.running.info import facts_of
from mococxr.version import VERSION
from small_images import contents, write_images
from small_store import BACKBONE
from small_world import Refusal, World, assert_clear, but, closed, make_world, status


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_info_tells_what_each_thing_of_the_world_is(world: World) -> None:
    for name in ("store", "run", "model", "study"):
        facts = facts_of(getattr(world, name))
        assert (facts["kind"], facts["finished"], facts["version"]) == (name, True, VERSION)
        assert str(getattr(world, name)) in facts["next"]
        assert facts["settings"]
    assert facts_of(world.store)["numbers"]["images"] == 32
    assert facts_of(world.model)["numbers"]["targets"] == ["Finding"]
    assert {"AUROC, random", "AUROC, moco"} <= facts_of(world.study)["numbers"].keys()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in, with a folder of images in it."""
    write_images(tmp_path / "images", 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here: Path, world: World, capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(here, capsys, world)


def damage(name: str, how: Callable[[bytes], bytes] | None) -> Callable[[Path, World], None]:
    """Copies the folder `name.split('/')[0]` of the world, and changes or removes one file of the copy."""

    def do(here: Path, world: World) -> None:
        folder, _, file = name.partition("/")
        shutil.copytree(getattr(world, folder), here / folder)
        paths = sorted((here / folder).glob(file))
        assert paths, name
        if how is None:
            paths[0].unlink()
        else:
            paths[0].write_bytes(how(paths[0].read_bytes()))

    return do


def write(name: str, content: str | bytes) -> Callable[[Path, World], None]:
    def do(here: Path, world: World) -> None:  # noqa: ARG001
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return do


def folder(name: str) -> Callable[[Path, World], None]:
    return write(f"{name}/thesis.txt", "mine")


def nothing(here: Path, world: World) -> None: ...


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def noise(data: bytes) -> bytes:
    return bytes(reversed(data))


PRETRAIN = (
    f"pretrain {{store}} --out out --init random --size 32 --batch 4 --epochs 1 --device cpu --backbone {BACKBONE}"
)
OWN = PRETRAIN.replace("{store}", "store")
FIT = "fit {store} --encoder {run} --target Finding --out out --device cpu"
STUDY = "study {store} --target Finding --arm random --arm moco={run} --fraction 1 --jobs 1 --device cpu --out out"
EMBED = "embed {store} --encoder {run} --out out.parquet --device cpu"
PREDICT = "predict {model} images --out scores.csv --device cpu"
TABLE = "patient,label,score\na,1,0.9\nb,0,0.2\nc,1,0.7\nd,0,0.4\n"
EVALUATE = "evaluate t.csv --label label --score score --json out.json"
Prepare = Callable[[Path, World], None]
GIVEN: dict[str, tuple[Prepare, str, tuple[str, ...]]] = {
    # a store
    "no store": (nothing, OWN, ("store", "mococxr prepare")),
    "a folder that is no store": (folder("store"), OWN, ("store", "manifest.json")),
    "a damaged manifest": (damage("store/manifest.json", half), OWN, ("manifest.json",)),
    "a manifest of another program": (write("store/manifest.json", "{}"), OWN, ("store",)),
    "no index": (damage("store/index.parquet", None), OWN, ("index.parquet",)),
    "a damaged index": (damage("store/index.parquet", noise), OWN, ("index.parquet",)),
    "a damaged splits table": (damage("store/splits.csv", lambda _: b"\0\1\2"), OWN, ("splits.csv",)),
    "a truncated shard": (damage("store/*.bin", half), OWN, ("store",)),
    "no shard": (damage("store/*.bin", None), OWN, ("store",)),
    # pretrain
    "a queue that is too long": (nothing, but(PRETRAIN, "--queue", "4096"), ("--queue 4,096",)),
    "a batch that is too large": (nothing, but(PRETRAIN, "--batch", "512"), ("512", "--batch")),
    "an unknown flag": (nothing, f"{PRETRAIN} --temprature 0.2", ("--temprature", "--temperature")),
    "crops the wrong way round": (nothing, but(PRETRAIN, "--crop", "1 0.5"), ("--crop",)),
    "a momentum above 1": (nothing, but(PRETRAIN, "--momentum", "1.5"), ("--momentum", "1.5")),
    "no temperature": (nothing, but(PRETRAIN, "--temperature", "0"), ("--temperature",)),
    "an unknown backbone": (nothing, but(PRETRAIN, "--backbone", "resnet81"), ("resnet81",)),
    "no weights file": (nothing, but(PRETRAIN, "--init", "absent.pth"), ("absent.pth",)),
    "text as weights": (write("w.pth", "weights"), but(PRETRAIN, "--init", "w.pth"), ("w.pth",)),
    "weights of another network": (
        nothing, but(but(PRETRAIN, "--backbone", "test_resnet"), "--init", "{run}"), ("test_resnet",),
    ),
    "something else at out": (folder("out"), PRETRAIN, ("out", "--resume")),
    "resuming with other settings": (
        damage("run/run.json", None), but(PRETRAIN, "--out", "run") + " --resume --lr 3", ("--lr",),
    ),
    "no list of patients": (nothing, f"{PRETRAIN} --exclude-patients absent.txt", ("absent.txt",)),
    "a list without patients": (write("l.txt", ""), f"{PRETRAIN} --exclude-patients l.txt", ("l.txt",)),
    "everybody left out": (
        write("l.txt", "\n".join(f"p{i}" for i in range(99))), f"{PRETRAIN} --exclude-patients l.txt",
        ("No image is left",),
    ),
    "bad YAML": (write("s.yaml", "batch: [1, 2"), f"{PRETRAIN} --config s.yaml", ("s.yaml", "YAML")),
    "an unknown setting in YAML": (write("s.yaml", "bach: 4"), f"{PRETRAIN} --config s.yaml", ("bach", "batch")),
    "no YAML file": (nothing, f"{PRETRAIN} --config absent.yaml", ("absent.yaml",)),
    # views, embed
    "no images to show": (nothing, "views {store} --out sheet.png --images 0", ("--images",)),
    "a folder where the sheet would be": (folder("out"), "views {store} --out out", ("out is a folder",)),
    "no encoder": (nothing, EMBED.replace("{run}", "absent"), ("absent",)),
    "a run that has not ended": (
        damage("run/encoder.json", None), EMBED.replace("{run}", "run"), ("run", "encoder.json"),
    ),
    "a damaged encoder": (damage("run/encoder.safetensors", half), EMBED.replace("{run}", "run"), ("run",)),
    "an encoder nobody describes": (nothing, EMBED.replace("{run}", "random"), ("--backbone", "--size")),
    "a folder where the features would be": (folder("out"), EMBED.replace("out.parquet", "out"), ("out",)),
    # fit
    "an unknown target": (nothing, FIT.replace("Finding", "Fnding"), ("Fnding", "Finding")),
    "an unknown value": (nothing, FIT.replace("Finding", "sex=X"), ("sex=X", "F")),
    "a target that is no label": (nothing, FIT.replace("Finding", "site"), ("site=VALUE",)),
    "one class only": (nothing, f"{FIT} --where Finding=1", ("Finding",)),
    "a fraction of 0": (nothing, but(FIT, "--fraction", "0"), ("--fraction",)),
    "a fraction of words": (nothing, but(FIT, "--fraction", "half"), ("--fraction", "half")),
    "a strength of words": (nothing, but(FIT, "--C", "strong"), ("--C",)),
    "an unknown column in where": (nothing, f"{FIT} --where view=PA", ("view",)),
    "something else where the model would be": (folder("out"), FIT, ("out",)),
    # predict
    "no model": (nothing, PREDICT.replace("{model}", "absent"), ("absent", "mococxr fit")),
    "a damaged model": (damage("model/model.json", half), PREDICT.replace("{model}", "model"), ("model.json",)),
    "weights of another model": (
        damage("model/model.safetensors", half), PREDICT.replace("{model}", "model"), ("model.safetensors",),
    ),
    "no image": (write("empty/readme.txt", ""), PREDICT.replace("images", "empty"), ("no image",)),
    "images that are not there": (nothing, PREDICT.replace("images", "absent"), ("absent",)),
    # study, report
    "an arm without encoder": (nothing, f"{STUDY} --arm a=", ("a=",)),
    "an arm twice": (nothing, f"{STUDY} --arm random", ("random",)),
    "no such reference": (nothing, f"{STUDY} --against mocco", ("mocco", "moco")),
    "an unknown study target": (nothing, STUDY.replace("Finding", "Fnding"), ("Fnding", "Finding")),
    "a fraction above 1": (nothing, but(STUDY, "--fraction", 2), ("--fraction", "2")),
    "no draws": (nothing, but(STUDY, "--draws", "0"), ("--draws",)),
    "another study at out": (
        damage("study/inputs.json", lambda b: b), STUDY.replace("--out out", "--out study --draws 3"),
        ("study", "--draws"),
    ),
    "something else where the study would be": (folder("out"), STUDY, ("out",)),
    "no study": (nothing, "report absent", ("absent",)),
    "a study without cells": (damage("study/cells.csv", None), "report study", ("cells.csv",)),
    "a damaged study.json": (damage("study/study.json", half), "report study", ("study.json",)),
    "words among cells": (
        damage("study/cells.csv", lambda b: b.replace(b"0.", b"x.")), "report study", ("cells.csv", "x."),
    ),
    # evaluate
    "no predictions": (nothing, EVALUATE, ("t.csv",)),
    "a table without the column": (write("t.csv", TABLE.replace("score", "p")), EVALUATE, ("score", "p")),
    "NaN among scores": (write("t.csv", TABLE.replace("0.7", "nan")), EVALUATE, ("row 3", "score")),
    "words among scores": (write("t.csv", TABLE.replace("0.7", "high")), EVALUATE, ("row 3", "high")),
    "a label of 2": (write("t.csv", TABLE.replace("c,1", "c,2")), EVALUATE, ("row 3", "label")),
    "predictions of one class": (write("t.csv", TABLE.replace(",1,", ",0,")), EVALUATE, ("label", "0")),
    "a header only": (write("t.csv", "label,score\n"), EVALUATE, ("t.csv", "no rows")),
    "an image as table": (write("t.csv", bytes(range(256))), EVALUATE, ("t.csv",)),
    "tables of other lengths": (
        lambda h, w: (write("t.csv", TABLE)(h, w), write("u.csv", TABLE + "e,1,0.5\n")(h, w))[0],
        f"{EVALUATE} --against u.csv", ("u.csv", "5"),
    ),
    "a folder where the numbers would be": (
        lambda h, w: (write("t.csv", TABLE)(h, w), folder("out.json")(h, w))[0], EVALUATE, ("out.json",),
    ),
    # demo
    "something else where the demo would be": (folder("demo"), "demo", ("demo",)),
    "too few synthetic images": (nothing, "demo --images 3 --out out", ("200", "3")),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_a_command_refuses(name: str, here: Path, world: World, refused: Refusal) -> None:
    prepare, line, says = GIVEN[name]
    prepare(here, world)
    refused(line, *says)


def test_a_folder_that_cannot_be_read_is_named(here: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(here / "images" / "images", monkeypatch)
    refused(PREDICT, "images/images", "Permission denied")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(refused: Refusal) -> None:
    refused(but(PRETRAIN, "--device", "cuda"), "cuda")


def test_without_network_and_weights_the_way_out_is_named(refused: Refusal, no_network: None) -> None:  # noqa: ARG001
    refused(but(PRETRAIN, "--init", "imagenet"), "imagenet-offline", "tf_efficientnet_lite0")


FULL = {
    "views": "views {store} --out sheet.png",
    "embed": EMBED,
    "fit": FIT,
    "predict": PREDICT,
    "pretrain": PRETRAIN,
    "study": STUDY,
    "evaluate": EVALUATE,
}


@pytest.mark.parametrize("command", FULL)
def test_a_full_disk_is_said_and_leaves_no_half_file(
    command: str, here: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "t.csv").write_text(TABLE)
    before = contents(here)
    words = FULL[command].format(**vars(world)).split()
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, kept[1]))  # no file may grow above so many bytes
    try:
        code = status(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    told = capsys.readouterr().err
    assert code == 1
    assert_clear(told)
    assert "No room left on the disk" in told
    written = contents(here)
    assert {name: written[name] for name in before} == before
    assert not [name for name in written if name.endswith(".part")]
    final = {"run.json", "encoder.json", "model.json", "cells.csv", "report.html"}
    assert not [name for name in written if Path(name).name in final]
