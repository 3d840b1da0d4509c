"""Weights that are published beside this package, in a distribution of their own: `mococxr-weights`, the folder `weights/`.

Its package holds an encoder as a run leaves it (encoder.json, encoder.safetensors with kernels in half precision, run.json,
images.parquet): size, greys, recipe and the images that it saw are read as those of a run. Nothing is fetched.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mococxr.encoders.encoder import read_spec
from mococxr.encoders.spec import Defaults, EncoderSource
from mococxr.errors import InputError

LITE0 = "mococxr-lite0"
PACKAGE = "mococxr_weights"
INSTALL = "pip install ./weights in a clone of MoCo-CXR"
SETS = ("nih", "kermany")
"""What they were trained on, by the keys of `training_data.SETS`; `weights/make.py` takes no other images."""
LICENCE = (
    f"Weights of {LITE0} (Apache-2.0), pretrained without labels on images of NIH ChestX-ray14 (free with attribution to "
    "the NIH Clinical Center: https://nihcc.app.box.com/v/ChestXray-NIHCC) and of the paediatric set of Kermany et al., "
    "Cell 2018 (CC BY 4.0: https://doi.org/10.17632/rscbjbr9sj.2), from ImageNet weights, whose own terms may apply."
)


def published_folder() -> Path | None:
    """The folder of the published encoder; None where the distribution is not installed, or holds no weights."""
    package = importlib.util.find_spec(PACKAGE)
    folders = map(Path, (package and package.submodule_search_locations) or ())
    return next((folder for folder in folders if (folder / "encoder.safetensors").is_file()), None)


def resolve_published(name: str, _: Defaults) -> EncoderSource | None:
    """The source of the published weights; None for any other name.

    Raises:
        InputError: they are not installed.
    """
    if name != LITE0:
        return None
    folder = published_folder()
    if folder is None:
        raise InputError(f"The weights {LITE0} are not installed.", f"Run {INSTALL} (it needs no network).")
    return EncoderSource(name, "published", read_spec(folder), folder, (folder / "encoder.safetensors",))


def encoder_folder(name: str) -> Path:
    """Where an encoder that a run may start from keeps its record; of most names a path where nothing lies."""
    return (published_folder() if name == LITE0 else None) or Path(name)
