"""The stages of a reproduction, each an ordinary command that a user could type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import commands, console
from mococxr.encoders import EncoderSpec, initial_encoder, save_encoder
from mococxr.errors import InputError
from mococxr.files import atomic_write, write_csv, write_json, write_parquet
from mococxr.heads.targets import read_target
from mococxr.pretraining.seen import started_from
from mococxr.reproduction.cells import HONEST_STD, SHENZHEN_TASK, STUDY
from mococxr.reproduction.timing import PRECISION
from mococxr.reproduction.work import Run, Study
from mococxr.settings import PRESETS, ReproduceSettings, StudySettings, from_yaml, make, to_mapping
from mococxr.store import Store
from mococxr.studies.folder import is_finished
from mococxr.studies.plan import draw_table, make_draws


def encoders_of(texts: Sequence[str]) -> dict[str, str]:
    """Pretraining run -> encoder, from `--pretrained`: an OUT of `reproduce chexpert`, or RUN=ENCODER.

    Raises:
        InputError: a folder without finished runs.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, encoder = text.partition("=")
        if equals:
            found[name] = encoder
            continue
        runs = sorted(path.parent for path in Path(text).glob("runs/*/run.json"))
        if not runs:
            raise InputError(
                f"--pretrained {text}: there is no finished run in {Path(text) / 'runs'}.",
                "Name the --out of `reproduce chexpert`, or RUN=ENCODER, e.g. resnet18=DIR.",
            )
        found |= {run.name: str(run) for run in runs}
    return found


class Stages:
    """What `reproduce` does one after another in its folder; whatever is whole is not done again."""

    def __init__(self, settings: ReproduceSettings) -> None:
        self.settings, self.out = settings, Path(settings.out)
        self.store_path = self.out / "stores" / settings.dataset
        self.test_path: Path | None = None

    def prepare(self) -> dict[str, Store]:
        """The store, and under `tested` the one that holds the test images, where there are any."""
        s = self.settings
        given: dict[str, Any] = {"source": s.root, "out": self.store_path, "format": s.dataset}
        if s.dataset == "shenzhen":
            given |= {"split": s.split, "split_seed": s.seed, "split_file": s.split_file}
        stores = {"store": self._prepared(given)}
        if s.dataset == "shenzhen" or (s.test_root and s.test_root.resolve() == s.root.resolve()):
            stores["tested"] = stores["store"]
        elif s.test_root is not None:
            self.test_path = self.out / "stores" / "test"
            stores["tested"] = self._prepared(
                {"source": s.test_root, "out": self.test_path, "format": "chexpert"}
            )
        if "tested" in stores and not len(stores["tested"].rows_in("test")):
            raise InputError(
                f"{s.test_root} holds no test image.", "Give the official test set by --test-root."
            )
        return stores

    def _prepared(self, given: dict[str, Any]) -> Store:
        s = self.settings
        store: Store = commands.say_and_run("prepare", **given, size=s.size, jobs=s.jobs, executor=s.executor)
        return store

    def write_patient_draws(self, counts: Mapping[float, int]) -> None:
        """Draws by patient of the images that could be read, as `study` would make them."""
        store = Store.open(self.store_path)
        target = read_target(store, SHENZHEN_TASK)
        for fraction, draws in counts.items():
            for draw in make_draws(store, [target], [fraction], draws, self.settings.seed):
                if draw.undefined:
                    raise InputError(f"{self.store_path}: {draw.undefined}.", "Give the set as released.")
                write_csv(self.out / "draws" / f"{fraction:g}-{draw.draw}.csv", draw_table(store, draw))

    def check_start(self, runs: Sequence[Run], studies: Sequence[Study]) -> None:
        """Make what the arms start from, before anything that takes long: the weights may not be here."""
        wanted = {(one.backbone, one.std is not None) for one in runs}
        wanted |= {(one.first.backbone, one.variant == "std") for one in studies}
        for backbone, honest in sorted(wanted):
            self.start(backbone, HONEST_STD if honest else None)

    def start(self, backbone: str, std: float | None) -> Path:
        """The start as pretraining has it, as an encoder of its own: the arm `imagenet`.

        Raises:
            InputError: weights that are not there, of another network, or with a grey scale of their own.
        """
        s, preset = self.settings, PRESETS["paper"]
        folder = self.out / "starts" / (backbone if std is None else f"{backbone}-std")
        if not (folder / "encoder.json").is_file():
            spec = EncoderSpec(backbone, s.size, mean=preset.mean, std=std or preset.std)
            encoder, origin = initial_encoder(s.init, spec, s.seed)
            _check_network(s.init, backbone, spec, encoder.spec, std)
            _keep_seen(folder, s.init)
            write_json(
                folder / "run.json", {"init": s.init, "weights": origin, "started_from": started_from(s.init)}
            )
            save_encoder(encoder, folder, {"init": s.init, "weights": origin})
        return folder

    def pretrain(self, run: Run) -> None:
        """One pretraining run with the preset `paper`."""
        s, folder = self.settings, self.out / "runs" / run.name
        if (folder / "run.json").is_file():
            console.say(f"{folder}: pretrained already.")
            return
        commands.say_and_run(
            "pretrain", stores=[self.store_path], out=folder, preset="paper", backbone=run.backbone, init=s.init,
            size=s.size, epochs=s.epochs, batch=s.batch, queue=s.queue, lr=run.lr, std=run.std, seed=s.seed,
            device=s.device, precision=PRECISION, resume=(folder / "settings.yaml").is_file() or None,
        )  # fmt: skip

    def study(self, study: Study) -> None:
        """One study; with the arms and modes that its folder has from an earlier call."""
        s, cell, folder = self.settings, study.first, self.out / "studies" / study.name
        std = HONEST_STD if study.variant == "std" else None
        known = {run.name: str(run) for run in (self.out / "runs").glob("*")} | encoders_of(s.pretrained)
        arms = {
            arm: known.get(run) if run else str(self.start(cell.backbone, std))
            for arm, run in study.runs.items()
        }
        modes = set(study.modes)
        if (folder / "settings.yaml").is_file():
            before = from_yaml(folder / "settings.yaml")
            arms |= dict(arm.split("=", 1) for arm in before["arm"])
            modes |= set(before["mode"])
        named = [f"{arm}={encoder}" for arm, encoder in sorted(arms.items()) if encoder is not None]
        for arm in sorted(set(arms) - {text.split("=", 1)[0] for text in named}):
            console.warn(f"{study.name}: no encoder {study.runs[arm]} was pretrained or given: no arm {arm}.")
        if not named:
            return
        given = STUDY | {
            "store": self.store_path, "out": folder, "target": [cell.task], "arm": named,
            "mode": [mode for mode in STUDY["mode"] if mode in modes], "fraction": [cell.fraction],
            "draws_from": self.out / "draws", "test_on": self.test_path, "size": s.size, "batch": s.batch,
            "epochs": s.train_epochs or cell.epochs, "replicates": s.replicates,
            "seed": s.seed, "device": s.device, "jobs": s.jobs,
            "executor": s.executor, "gpus": s.gpus,
        }  # fmt: skip
        given |= {"linear": "solved"} if study.variant == "solved" else {}
        given |= {"unit": "image"} if s.dataset == "shenzhen" else {}  # a patient has one image there
        wanted = make(StudySettings, given)
        if is_finished(folder, to_mapping(wanted)):
            console.say(f"{folder}: done already.")
            return
        commands.say_and_run("study", **given)


def _check_network(
    init: str, backbone: str, wanted: EncoderSpec, found: EncoderSpec, std: float | None
) -> None:
    if found.architecture.partition(".")[0] != backbone:
        raise InputError(
            f"--init {init} is a {found.architecture}, and cells of {backbone} were asked for.",
            f"Choose others by --cells, e.g. '*/{found.architecture}/*', or another start.",
        )
    if std is not None and found.std != wanted.std:
        raise InputError(
            f"--init {init} brings its own grey scale, so that --variant std changes nothing.",
            "Leave --variant std out.",
        )


def _keep_seen(folder: Path, init: str) -> None:
    """Whose images the start has seen, as a run keeps it: nobody's where weights are random or ImageNet's."""
    if init in ("imagenet", "random"):
        write_csv(folder / "patients.csv", pl.DataFrame(schema={"source": pl.String, "patient": pl.String}))
        images = pl.DataFrame(schema={"sha256": pl.String, "fingerprint": pl.Binary})
        write_parquet(folder / "images.parquet", images)
        return
    for name in ("patients.csv", "images.parquet"):
        if (Path(init) / name).is_file():
            atomic_write(folder / name, (Path(init) / name).read_bytes())
