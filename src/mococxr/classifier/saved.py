"""MODEL on disk: `model.safetensors` (encoders and head of each averaged checkpoint), `model.onnx` and `model.json`.

`model.json` names the hashes of the files that it belongs to, and says how the encoder came to be as its run recorded
it. Paths on this machine stay out: names of stores, runs and files are the last part of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import metrics, workers
from mococxr.classifier import graph
from mococxr.errors import ImageError, InputError
from mococxr.files import atomic, read_json, sha256_file, write_json
from mococxr.frames import image_level, to_frame
from mococxr.images import Reading, decode_image, read_bytes
from mococxr.metrics import Calibrator
from mococxr.settings import PretrainSettings, from_yaml, typed
from mococxr.version import VERSION

if TYPE_CHECKING:  # PyTorch is imported where it scores, and not before
    from mococxr.heads.classifier import Ensemble

Facts = dict[str, Any]
FORMAT = 2
Source = NDArray[np.uint8] | str | bytes | PathLike[str]
"""An image: its pixels (H, W), its file, or the bytes of that."""
SCORES = {"score": pl.Float64, "calibrated": pl.Float64, "decision": pl.Int8}


def save_model(folder: Path, ensemble: Ensemble, record: dict[str, Any]) -> None:
    """Write MODEL; `model.json` comes last and names the hash of the weights that it belongs to."""
    from safetensors.torch import save_file

    with atomic(folder / "model.safetensors") as temporary:
        save_file(ensemble.state(), temporary)
    sha256 = sha256_file(folder / "model.safetensors")
    write_json(folder / "model.json", {**record, "members": len(ensemble.members), "weights_sha256": sha256})


@dataclass(frozen=True)
class Model:
    """A fitted classifier.

    Args:
        record: what `model.json` says.
        folder: where it lies.
        jobs: threads that score; None for one a core.
    """

    record: dict[str, Any]
    folder: Path
    jobs: int | None = None

    @cached_property
    def ensemble(self) -> Ensemble:
        """The checkpoints that are averaged, in PyTorch."""
        from safetensors.torch import load_file

        from mococxr.encoders import build, spec_of
        from mococxr.heads.classifier import Ensemble

        encoders = [build(spec_of(encoder, str(self.folder / "model.json"))) for encoder in self.record["encoders"]]
        return Ensemble.from_state(encoders, load_file(self.folder / "model.safetensors"), self.record["members"])

    @cached_property
    def _session(self) -> Any:
        return graph.open_graph(self.folder / graph.FILE, self.jobs or workers.cores())

    def scores(self, frames: Sequence[Sequence[NDArray[np.uint8]]], device: str = "auto") -> NDArray[np.float64]:
        """Score of each image, (N,): by onnxruntime, or by PyTorch where there is no graph or a GPU is named.

        Args:
            frames: of each image its frame (H, W) for each encoder.

        Raises:
            InputError: the device named is not there.
        """
        if device in ("auto", "cpu") and _graph_of(self.record).get("file"):
            return graph.graph_scores(self._session, frames)
        from mococxr.features import pick_device, set_threads

        set_threads(self.jobs)
        return self.ensemble.scores(frames, pick_device(device))

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
        self, images: Source | Iterable[Source], *, prevalence: float | None = None, device: str = "auto"
    ) -> pl.DataFrame:
        """Score images: a list of arrays (H, W) uint8, as `read_image` or a store gives them, paths, or bytes of files.

        Returns:
            `score, calibrated, decision`, one row per image, as the command `predict` writes them.

        Raises:
            ImageError: a file cannot be read; the text has its number and the reason.
            InputError: an array is no image, or the device named is not there.
        """
        several = [images] if isinstance(images, str | bytes | PathLike) else images
        frames = [self.frames_of(self._pixels(image, number)) for number, image in enumerate(several, 1)]
        return pl.DataFrame(self.columns(self.scores(frames, device), prevalence), schema=SCORES)

    def _pixels(self, image: Source, number: int) -> NDArray[np.uint8]:
        if isinstance(image, str | bytes | PathLike):
            try:
                return decode_image(image if isinstance(image, bytes) else read_bytes(Path(image)), self.reading)
            except ImageError as error:
                raise ImageError(f"image {number}: {error}") from error
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 2:
            raise InputError(
                f"Image {number} is {pixels.dtype} of shape {pixels.shape}, not uint8 (H, W).",
                "Give a list of images: arrays of mococxr.read_image, paths, or the bytes of files.",
            )
        return pixels

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


def load_model(folder: Path, jobs: int | None = None) -> Model:
    """Read MODEL.

    Args:
        jobs: threads that score; None for one a core.

    Raises:
        InputError: no model, one of another format, or weights or a graph that are not those it names.
    """
    if not (folder / "model.json").is_file():
        raise InputError(f"{folder} holds no model.json.", "Name a folder that `mococxr fit` has made.")
    record = read_json(folder / "model.json")
    if record.get("format") != FORMAT:
        raise InputError(
            f"{folder} has model format {record.get('format')} (mococxr {record.get('version')}).",
            f"This version ({VERSION}) reads format {FORMAT}: fit the model again.",
        )
    for name, sha256 in (
        ("model.safetensors", record["weights_sha256"]),
        (graph.FILE, _graph_of(record).get("sha256")),
    ):
        # a fit killed between its files leaves such
        if sha256 and not ((folder / name).is_file() and sha256_file(folder / name) == sha256):
            raise InputError(
                f"{folder / name} is missing or not the one that model.json names.", "Fit the model again."
            )
    return Model(record, folder, jobs)


def _graph_of(record: Mapping[str, Any]) -> Facts:
    """What `model.json` says of `model.onnx`."""
    return record.get("onnx") or {}


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
