"""MODEL on disk: `model.safetensors` (encoders and heads of each averaged checkpoint), `model.onnx`, `guard.safetensors` and
`model.json`.

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
from mococxr.guard.guard import REFUSED, Glance, Guard, arrays_of, facts_of, glance, guard_of
from mococxr.images import Reading, decode_image, read_bytes, resize_shorter
from mococxr.metrics import Calibrator
from mococxr.version import VERSION

if TYPE_CHECKING:  # PyTorch is imported where it scores, and not before
    from mococxr.heads.classifier import Ensemble

Facts = dict[str, Any]
FORMAT = 3
GUARD = "guard.safetensors"
Source = NDArray[np.uint8] | str | bytes | PathLike[str]
"""An image: its pixels (H, W), its file, or the bytes of that."""
SCORES = {"score": pl.Float64, "calibrated": pl.Float64, "decision": pl.Int8}
"""Columns that a model gives of each target, by their names where it has one target (`columns_of`)."""

LOOKS = {"view": pl.String, "warning": pl.String}
"""Columns of an image, whatever the targets."""
BETWEEN = "; "
"""Between the warnings of an image."""
Verdict = tuple[str | None, tuple[str, ...]]
"""View and warnings of an image, see `Guard.judge`."""


def columns_of(targets: Sequence[str], *names: str) -> list[list[str]]:
    """The columns of each target: `score` of the only one, `score_Edema` where there are several.

    >>> columns_of(["TB"], "score", "decision"), columns_of(["TB", "Edema"], "score")
    ([['score', 'decision']], [['score_TB'], ['score_Edema']])
    """
    several = len(targets) > 1
    return [[f"{name}_{target}" if several else name for name in names] for target in targets]


def save_model(
    folder: Path, ensemble: Ensemble, record: dict[str, Any], guard: Guard | None = None, about: Facts | None = None
) -> None:
    """Write MODEL; `model.json` comes last and names the hashes of the files that it belongs to.

    Args:
        about: what `model.json` says of the guard besides, or why there is none.
    """
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    facts: Facts = {"file": None, "sha256": None, **(about or {})}
    (folder / GUARD).unlink(missing_ok=True)  # of an earlier fit
    if guard is not None:
        with atomic(folder / GUARD) as temporary:
            save_arrays(arrays_of(guard), temporary)
        facts |= {"file": GUARD, "sha256": sha256_file(folder / GUARD), **facts_of(guard)}
    record = {**record, "guard": facts}
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
        """The columns of numbers of `predict`, and their types."""
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

    @cached_property
    def guard(self) -> Guard | None:
        """What warns of images that the classifier cannot judge; None of a model that has none."""
        facts = _guard_of(self.record)
        if not facts.get("file"):
            return None
        from safetensors.numpy import load_file

        return guard_of(load_file(self.folder / GUARD), facts)

    def scores(self, frames: Sequence[Sequence[NDArray[np.uint8]]], device: str = "auto") -> NDArray[np.float64]:
        """Score of each target for each image, (N, T); arguments and errors as `answers`."""
        return self.answers(frames, device)[0]

    def answers(
        self, frames: Sequence[Sequence[NDArray[np.uint8]]], device: str = "auto"
    ) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """Scores (N, T) and features (N, D) of images: by onnxruntime; by PyTorch without a graph, or on a GPU named.

        Args:
            frames: of each image its frame (H, W) for each encoder.

        Raises:
            InputError: the device named is not there.
        """
        if device in ("auto", "cpu") and _graph_of(self.record).get("file"):
            return graph.graph_answers(self._session, frames, [name for (name,) in columns_of(self.targets, "score")])
        from mococxr.features import pick_device, set_threads

        set_threads(self.jobs)
        return self.ensemble.answers(frames, pick_device(device))

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

    def glance(self, image: NDArray[np.uint8], shorter: int | None = None) -> Glance | None:
        """What the guard looks at of an image (H, W) uint8, read from a file or a store; None where there is no guard.

        Args:
            shorter: shorter side of its file, px, where the image is not as it was read.
        """
        if self.guard is None:
            return None
        shorter = min(image.shape) if shorter is None else shorter
        return glance(resize_shorter(image, self.record["preprocessing"]["store_size"]), shorter)

    def judge(self, glances: Sequence[Glance | None], features: NDArray[np.float32] | None) -> list[Verdict]:
        """View and warnings of each image; nothing where there is no guard."""
        seen = [each for each in glances if each is not None]
        if self.guard is None or features is None:
            return [(None, ())] * len(glances)
        return self.guard.judge(seen, features)

    def predict(
        self,
        images: Source | Iterable[Source],
        *,
        prevalence: float | Sequence[float] = (),
        device: str = "auto",
        refuse: bool = False,
    ) -> pl.DataFrame:
        """Score images: a list of arrays (H, W) uint8, as `read_image` or a store gives them, paths, or bytes of files.

        Args:
            prevalence, device, refuse: as the command takes them.

        Returns:
            `score, calibrated, decision`, of several targets `score_TARGET` and so on, then `view` and `warning`; one row an
            image, as the command `predict` writes them.

        Raises:
            ImageError: a file cannot be read; the text has its number and the reason.
            InputError: an array is no image, the device named is not there, or a prevalence cannot be used.
        """
        prevalence = (prevalence,) if isinstance(prevalence, float | int) else tuple(prevalence)
        self.check_prevalence(prevalence)
        several = [images] if isinstance(images, str | bytes | PathLike) else images
        frames, glances = [], []
        for number, image in enumerate(several, 1):
            pixels = self._pixels(image, number)
            frames.append(self.frames_of(pixels))
            glances.append(self.glance(pixels))
        scores, features = self.answers(frames, device)
        return self.table(scores, self.judge(glances, features), prevalence, refuse)

    def table(
        self,
        scores: NDArray[np.float64],
        verdicts: Sequence[Verdict],
        prevalence: Sequence[float] = (),
        refuse: bool = False,
    ) -> pl.DataFrame:
        """What `predict` gives of scores (N, T) and of what the guard says of the N images."""
        words = {
            "view": [view for view, _ in verdicts],
            "warning": [BETWEEN.join(warnings) or None for _, warnings in verdicts],
        }
        made = pl.DataFrame(self.columns(scores, prevalence) | words, schema=self.schema | LOOKS)
        refused = pl.Series([refuse and bool({*warnings} & {*REFUSED}) for _, warnings in verdicts], dtype=pl.Boolean)
        blank = (pl.when(refused).then(None).otherwise(pl.col(name)).alias(name) for name in self.schema)
        return made.with_columns(blank)

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
        (GUARD, _guard_of(record).get("sha256")),
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


def _guard_of(record: Mapping[str, Any]) -> Facts:
    """What `model.json` says of `guard.safetensors`."""
    return record.get("guard") or {}


# --- calibration and threshold


def calibrator_of(target: Mapping[str, Any]) -> Calibrator | None:
    """The calibrator that `model.json` keeps of a target; None where it keeps none."""
    block = target.get("calibration") or {}
    return Calibrator(block["method"], **block["parameters"]) if block.get("method") else None


def threshold_of(target: Mapping[str, Any]) -> float | None:
    """The threshold that `model.json` keeps of a target."""
    return (target.get("threshold") or {}).get("value")
