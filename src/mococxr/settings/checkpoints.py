"""Settings of what enters and leaves: `import` of the authors' checkpoints, `export` to other libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import setting

_CODE = "released code of arXiv 2010.05352"


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Make a run folder of a checkpoint that MoCo or MoCo-CXR has written."""

    kind: Literal["moco-cxr"] = setting(
        "Whose checkpoint it is: moco-cxr (MoCo's is alike).", positional=True
    )
    file: Path = setting("The checkpoint, e.g. checkpoint_0019.pth.tar.", positional=True)
    out: Path = setting("The run folder to make.")
    size: int = setting(
        "Side of the frames it was trained on.", 320, unit="px", source=_CODE, group="Encoder"
    )
    mean: tuple[float, ...] = setting(
        "Grey mean that its images were normalised with, one value or one a channel.",
        (0.5020,),
        unit="0 to 1",
        source=_CODE,
        group="Encoder",
    )
    std: tuple[float, ...] = setting(
        "Standard deviation likewise; the code's is the square of the images' own.",
        (0.085585,),
        unit="0 to 1",
        source=_CODE,
        group="Encoder",
    )
    source: str | None = setting(
        "The source whose images it was pretrained on, as stores name it (e.g. chexpert).",
        None,
        shown="unknown",
        group="Images",
    )


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write an encoder or a fitted classifier for timm, torchvision or ONNX, with a model card."""

    path: Path = setting("A run folder, or a model folder made by `fit`.", positional=True)
    to: Literal["timm", "torchvision", "onnx"] = setting("Who is to read it.")
    out: Path = setting("The folder to make.")
    study: Path | None = setting(
        "A study of this encoder: its intervals stand in the model card.", None, group="Comparison"
    )
    arm: str | None = setting(
        "Its arm in that study.", None, shown="the one whose encoder has this name", group="Comparison"
    )
