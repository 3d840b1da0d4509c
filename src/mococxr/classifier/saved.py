"""MODEL on disk: `model.safetensors` (encoders and heads of each averaged checkpoint), `model.onnx` and `model.json`.

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
FORMAT = 3
Source = NDArray[np.uint8] | str | bytes | PathLike[str]
"""An image: its pixels (H, W), its file, or the bytes of that."""
SCORES = {"score": pl.Float64, "calibrated": pl.Float64, "decision": pl.Int8}
"""Columns that a model gives of each target, by their names where it has one target (`columns_of`)."""


def columns_of(targets: Sequence[str], *names: str) -> list[list[str]]:
    """The columns of each target: `score` of the only one, `score_Edema` where there are several.

    >>> columns_of(["TB"], "score", "decision"), columns_of(["TB", "Edema"], "score")
    ([['score', 'decision']], [['score_TB'], ['score_Edema']])
    """
    several = len(targets) > 1
    return [[f"{name}_{target}" if several else name for name in names] for target in targets]


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

    @property
    def targets(self) -> list[str]:
        """What it was fitted to tell, in the order of its outputs."""
        return [block["target"] for block in self.record["targets"]]

    @property
    def schema(self) -> dict[str, Any]:
        """The columns of `predict`, and their types."""
        return {
            column: SCORES[name]
            for columns in columns_of(self.targets, *SCORES)
            for name, column in zip(SCORES, columns, strict=True)
        }

    @cached_property
    def ensemble(self) -> Ensemble:
        """The checkpoints that are averaged, in PyTorch."""
        from safetensors.torch import load_file

        from mococxr.encoders import build, spec_of
        from mococxr.heads.classifier import Ensemble

        encoders = [build(spec_of(encoder, str(self.folder / "model.json"))) for encoder in self.record["encoders"]]
        state = load_file(self.folder / "model.safetensors")
        return Ensemble.from_state(encoders, state, self.record["members"], len(self.targets))

    @cached_property
    def _session(self) -> Any:
        return graph.open_graph(self.folder / graph.FILE, self.jobs or workers.cores())

    def scores(self, frames: Sequence[Sequence[NDArray[np.uint8]]], device: str = "auto") -> NDArray[np.float64]:
        """Score of each target for each image, (N, T): by onnxruntime; by PyTorch where there is no graph or a GPU is named.

        Args:
            frames: of each image its frame (H, W) for each encoder.

        Raises:
            InputError: the device named is not there.
        """
        if device in ("auto", "cpu") and _graph_of(self.record).get("file"):
            return graph.graph_scores(self._session, frames, [name for (name,) in columns_of(self.targets, "score")])
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
        self, images: Source | Iterable[Source], *, prevalence: float | Sequence[float] = (), device: str = "auto"
    ) -> pl.DataFrame:
        """Score images: a list of arrays (H, W) uint8, as `read_image` or a store gives them, paths, or bytes of files.

        Args:
            prevalence: as the command takes it.

        Returns:
            `score, calibrated, decision`, of several targets `score_TARGET` and so on; one row per image, as the command
            `predict` writes them.

        Raises:
            ImageError: a file cannot be read; the text has its number and the reason.
            InputError: an array is no image, the device named is not there, or a prevalence cannot be used.
        """
        prevalence = (prevalence,) if isinstance(prevalence, float | int) else tuple(prevalence)
        self.check_prevalence(prevalence)
        several = [images] if isinstance(images, str | bytes | PathLike) else images
        frames = [self.frames_of(self._pixels(image, number)) for number, image in enumerate(several, 1)]
        return pl.DataFrame(self.columns(self.scores(frames, device), prevalence), schema=self.schema)

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

    def check_prevalence(self, prevalence: Sequence[float]) -> None:
        """Refuse what is not one share for each target, or meets a target without calibrated probabilities.

        Raises:
            InputError: as said.
        """
        if not prevalence:
            return
        written = " ".join(f"{share:g}" for share in prevalence)
        if len(prevalence) != len(self.targets):
            raise InputError(
                f"--prevalence {written}: this model has {len(self.targets)} targets.",
                f"Give one number for each, in this order: {', '.join(self.targets)}.",
            )
        for block in self.record["targets"]:
            if calibrator_of(block) is None:
                name = f" of {block['target']}" if len(self.targets) > 1 else ""
                raise InputError(
                    f"--prevalence {written}: this model has no calibrated probability{name} to move.",
                    "Fit it again on a store with labelled validation images, or leave --prevalence out.",
                )

    def columns(self, scores: NDArray[np.float64], prevalence: Sequence[float] = ()) -> dict[str, Any]:
        """Scores (N, T) with what each target's calibration and threshold make of them; without one a column is blank.

        Args:
            prevalence: of each finding where the images come from; empty is that of the validation images.
        """
        values: dict[str, Any] = {}
        shares: Sequence[float | None] = prevalence or [None] * len(self.targets)
        blocks = zip(columns_of(self.targets, *SCORES), self.record["targets"], scores.T, shares, strict=True)
        for names, block, score, share in blocks:
            values |= dict(zip(names, _of_target(block, np.ascontiguousarray(score), share), strict=True))
        return values


def _of_target(block: Facts, scores: NDArray[np.float64], prevalence: float | None) -> tuple[Any, Any, Any]:
    """Score, calibrated probability and decision of one target, (N,) each."""
    calibrated: Any = [None] * len(scores)
    decision: Any = [None] * len(scores)
    if (calibrator := calibrator_of(block)) is not None:
        calibrated = calibrator.apply(metrics.as_logits(scores))
        if prevalence is not None:
            calibrated = metrics.at_prevalence(calibrated, block["calibration"]["prevalence"], prevalence)
    if (threshold := threshold_of(block)) is not None:
        decision = (scores >= threshold).astype(np.int8)
    return scores, calibrated, decision


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


def calibrator_of(target: Mapping[str, Any]) -> Calibrator | None:
    """The calibrator that `model.json` keeps of a target; None where it keeps none."""
    block = target.get("calibration") or {}
    return Calibrator(block["method"], **block["parameters"]) if block.get("method") else None


def threshold_of(target: Mapping[str, Any]) -> float | None:
    """The threshold that `model.json` keeps of a target."""
    return (target.get("threshold") or {}).get("value")


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
