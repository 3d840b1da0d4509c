"""MODEL on disk: `model.safetensors` (encoders and head of each averaged checkpoint) and `model.json`.

`model.json` names the hash of the weights that it belongs to, and says how the encoder came to be as its run recorded
it. Paths on this machine stay out: names of stores, runs and files are the last part of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mococxr import metrics
from mococxr.encoders import build, spec_of
from mococxr.errors import InputError
from mococxr.features import image_level, pick_device, to_frame
from mococxr.files import atomic, read_json, sha256_file, write_json
from mococxr.heads.classifier import Ensemble
from mococxr.images import Reading
from mococxr.metrics import Calibrator
from mococxr.settings import PretrainSettings, from_yaml, typed
from mococxr.version import VERSION

Facts = dict[str, Any]
FORMAT = 2
SCORES = {"score": pl.Float64, "calibrated": pl.Float64, "decision": pl.Int8}


def save_model(folder: Path, ensemble: Ensemble, record: dict[str, Any]) -> None:
    """Write MODEL; `model.json` comes last and names the hash of the weights that it belongs to."""
    with atomic(folder / "model.safetensors") as temporary:
        save_file(ensemble.state(), temporary)
    sha256 = sha256_file(folder / "model.safetensors")
    write_json(folder / "model.json", {**record, "members": len(ensemble.members), "weights_sha256": sha256})


@dataclass(frozen=True)
class Model:
    """A fitted classifier: what `model.json` says, and the checkpoints that are averaged."""

    record: dict[str, Any]
    ensemble: Ensemble

    @property
    def reading(self) -> Reading:
        """How files become images, as the store was made."""
        how = self.record["preprocessing"]
        return Reading(how["depth"], how["voi"], how["frames"], any_body_part=how["any_body_part"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shorter side of the frames of each encoder, px."""
        return tuple(encoder["frame"] for encoder in self.record["encoders"])

    def frames_of(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        """What each encoder is shown of an image (H, W) uint8, as read from a file or from any store."""
        how = self.record["preprocessing"]
        return tuple(
            to_frame(image_level(image, how["store_size"], size), size, how["crop_mode"]) for size in self.sizes
        )

    def predict(
        self, images: Iterable[NDArray[np.uint8]], *, prevalence: float | None = None, device: str = "auto"
    ) -> pl.DataFrame:
        """Score images (H, W) uint8, as `read_image` or a store gives them.

        Returns:
            `score, calibrated, decision`, one row per image, as the command `predict` writes them.
        """
        frames = [self.frames_of(image) for image in images]
        return pl.DataFrame(self.columns(self.ensemble.scores(frames, pick_device(device)), prevalence), schema=SCORES)

    def columns(self, scores: NDArray[np.float64], prevalence: float | None = None) -> dict[str, Any]:
        """Scores (N,) with what the model's calibration and threshold make of them; without one a column is blank.

        Args:
            prevalence: of the finding where the images come from; None is that of the validation images.
        """
        blank = [None] * len(scores)
        columns: dict[str, Any] = {"score": scores, "calibrated": blank, "decision": blank}
        if (calibrator := calibrator_of(self.record)) is not None:
            columns["calibrated"] = calibrator.apply(metrics.as_logits(scores))
            if prevalence is not None:
                was = self.record["calibration"]["prevalence"]
                columns["calibrated"] = metrics.at_prevalence(columns["calibrated"], was, prevalence)
        if (threshold := threshold_of(self.record)) is not None:
            columns["decision"] = (scores >= threshold).astype(np.int8)
        return columns


def load_model(folder: Path) -> Model:
    """Read MODEL.

    Raises:
        InputError: no model, one of another format, or weights that are not those it names.
    """
    if not (folder / "model.json").is_file():
        raise InputError(f"{folder} holds no model.json.", "Name a folder that `mococxr fit` has made.")
    record, path = read_json(folder / "model.json"), folder / "model.safetensors"
    if record.get("format") != FORMAT:
        raise InputError(
            f"{folder} has model format {record.get('format')} (mococxr {record.get('version')}).",
            f"This version ({VERSION}) reads format {FORMAT}: fit the model again.",
        )
    # a fit killed between its two files leaves such
    if not path.is_file() or sha256_file(path) != record["weights_sha256"]:
        raise InputError(f"{path} is missing or not the one that model.json names.", "Fit the model again.")
    encoders = [build(spec_of(encoder, str(folder / "model.json"))) for encoder in record["encoders"]]
    return Model(record, Ensemble.from_state(encoders, load_file(path), record["members"]))


# --- calibration and threshold


def calibrator_of(record: Mapping[str, Any]) -> Calibrator | None:
    """The calibrator that `model.json` keeps; None where it keeps none."""
    block = record.get("calibration") or {}
    return Calibrator(block["method"], **block["parameters"]) if block.get("method") else None


def threshold_of(record: Mapping[str, Any]) -> float | None:
    """The threshold that `model.json` keeps."""
    return (record.get("threshold") or {}).get("value")


# --- how the encoder came to be

RUN = (
    "kind", "method", "version", "backbone", "init", "weights", "started_from", "pretrained_on", "synthetic", "verdict",
    "steps",
)  # fmt: skip
CHECKPOINT = ("kind", "sha256", "architecture", "epoch", "head")
RECIPE = (
    "preset", "size", "epochs", "sizes", "batch", "queue", "momentum", "temperature", "lr", "optimizer", "schedule", "head",
    "positives", "crop", "rotation", "flip", "auxiliary", "seed",
)  # fmt: skip


def origin_of(folder: Path | None, init: str | None = None) -> Facts:
    """What is known of the encoder in a folder.

    Args:
        folder: a run, or any folder with encoder.json; None where the encoder was named otherwise.
        init: that name, for example `imagenet`.

    Returns:
        `sha256` of its weights (None without a folder), `run` (facts of run.json) and `recipe` (settings of the
        pretraining); what nobody recorded is absent.
    """
    if folder is None:
        return {"sha256": None, "run": {"init": init}, "recipe": {}}
    record = _read(folder / "run.json", read_json)
    run = {name: record[name] for name in RUN if name in record}
    if isinstance(record.get("checkpoint"), dict):
        run["checkpoint"] = {name: record["checkpoint"].get(name) for name in CHECKPOINT}
    if isinstance(run.get("init"), str):
        run["init"] = Path(run["init"]).name  # no path of this machine
    stated = _read(folder / "settings.yaml", from_yaml) if run.get("kind") != "imported" else {}
    settings = typed(PretrainSettings, stated)
    unused = (run.get("method") or {}).get("unused", [])  # a preset sets them all the same
    recipe = {name: settings[name] for name in RECIPE if settings.get(name) not in (None, ()) and name not in unused}
    return {"sha256": sha256_file(folder / "encoder.safetensors"), "run": run, "recipe": recipe}


def _read(path: Path, reader: Any) -> Facts:
    content = reader(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
