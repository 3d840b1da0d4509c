"""MoCo-CXR: from a folder of chest X-rays, most of them unlabelled, to a classifier that needs few labels.

Every command of the command line is a function here with the same name and settings:

    import mococxr

    mococxr.prepare("images", out="store")
    mococxr.pretrain("store", out="run")
    mococxr.study("store", target="TB", arm=["moco=run", "imagenet"], out="study")

`import` is a word of the language, so that command is `import_checkpoint("moco-cxr", file, out="run")`. Beside the
commands stand the parts that one's own code builds on: `read_image`, `Store`, `Images`, `load_encoder`, `Features`,
`load_classifier`, `read_results`, and the errors; numbers with intervals are in `mococxr.metrics`.

Importing the package loads nothing heavy: a function imports what it needs when it is called. Signatures for editors
and type checkers are in `__init__.pyi`, written by `docs/make_stubs.py`.
"""

import os as _os

from mococxr.commands import function as _function
from mococxr.errors import ImageError, InputError, RunError, UndefinedError
from mococxr.version import VERSION as __version__

# Nothing above imports a library that reports its use; each of these reads its switch when it is imported.
for _switch in (
    "ORT_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_TELEMETRY=1", "RAY_USAGE_STATS_ENABLED=0", "DO_NOT_TRACK=1",
    "MLFLOW_DISABLE_TELEMETRY=true", "WANDB_ERROR_REPORTING=false",
    # Threads that wait for each other fall asleep soon: awake, they use up the share of cores that this program has on a
    # busy machine; asleep at once, they would be late on a free one (docs/benchmarks.md, A busy machine).
    "GOMP_SPINCOUNT=1000",
):  # fmt: skip
    _os.environ.setdefault(*_switch.split("="))

run = _function("run")
demo = _function("demo")
prepare = _function("prepare")
inspect = _function("inspect")
views = _function("views")
pretrain = _function("pretrain")
next_images = _function("next")
label = _function("label")
retract = _function("retract")
annotate = _function("annotate")
agreement = _function("agreement")
embed = _function("embed")
fit = _function("fit")
predict = _function("predict")
pacs = _function("pacs")
drift = _function("drift")
serve = _function("serve")
forecast = _function("forecast")
recalibrate = _function("recalibrate")
study = _function("study")
reproduce = _function("reproduce")
report = _function("report")
evaluate = _function("evaluate")
import_checkpoint = _function("import")
export = _function("export")
info = _function("info")
doctor = _function("doctor")


class Store:
    """The images that `prepare` decoded; `Store.open(path)` gives a `mococxr.store.Store`.

    >>> store = mococxr.Store.open("store")
    >>> len(store), store.labels
    (12, ['Effusion', 'Cardiomegaly'])
    >>> store.pixels(0).dtype  # (H, W), memory-mapped
    dtype('uint8')
    >>> store.index.columns[:4]  # a polars table, one row per image
    ['row', 'path', 'patient', 'study']
    >>> store.rows_in("train", "val").dtype
    dtype('int64')
    """

    @staticmethod
    def open(path, labels_as_of=None):
        """Open a store, with its labels as they were at a date or label event; an `InputError` says what is wrong."""
        from mococxr.store import Store

        return Store.open(path, labels_as_of)


def Images(store, split="train", *, size=None, crop_mode="center", transform=None):
    """The images of a store as a `torch.utils.data.Dataset` of (frame, row).

    A frame is a uint8 tensor (1, size, size), cropped as an encoder would see it; `store.index` has the labels of a row.

    >>> images = mococxr.Images("store", split="train", size=32)
    >>> frame, row = images[0]
    >>> frame.shape, frame.dtype
    (torch.Size([1, 32, 32]), torch.uint8)

    Args:
        store: a folder made by `prepare`, or an open store.
        split: train, val or test, several of them, or None for all images.
        size: side of a frame, px; None takes the store's own.
        crop_mode: `center`, or `full` for frames of differing width.
        transform: called on each frame, e.g. a transform of torchvision.
    """
    from mococxr.features import Images

    return Images(store, split, size=size, crop_mode=crop_mode, transform=transform)


def Features(encoder, *, size=None, features="stages", crop_mode="center", device="auto", batch=64):
    """An encoder as a scikit-learn transformer: images in, features out.

    It takes arrays (N, H, W) uint8, a list of (H, W) arrays of any sizes, or `Images`.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> store = mococxr.Store.open("store")
    >>> images = [store.pixels(row) for row in range(len(store))]
    >>> model = make_pipeline(mococxr.Features("run"), LogisticRegression())
    >>> model.fit(images, store.index["Effusion"]).predict_proba(images).shape
    (12, 2)

    Args:
        encoder: a run folder or any other encoder that `--encoder` takes, with a size (`imagenet@288`), several side by
            side (`imagenet@288+run@96`), or a torch module from `load_encoder`.
        size: side of the encoder's input, px; None takes the encoder's own.
        features: `stages`, the pooled maps of the last four stages beside the last layer, or `last`, the last layer
            alone; a module from `load_encoder` gives what it was loaded for.
        crop_mode: `center` or `full`, the input crop.
        device: auto, cpu, cuda or mps.
        batch: images per forward pass.
    """
    from mococxr.features import Features

    return Features(encoder, size=size, features=features, crop_mode=crop_mode, device=device, batch=batch)


def read_image(source, *, depth="full", voi=None, frames="refuse", any_body_part=False):
    """Read one image as `prepare` would.

    >>> mococxr.read_image("images/images/synthetic-000001-2.png").shape
    (72, 60)

    Args:
        source: a path, or the bytes of a file: PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM.
        depth: mapping of 16-bit images: `full` (the declared range) or two percentiles as LOW:HIGH.
        voi: DICOM window or VOI table: first (None), widest, none, a number from 1, or name:TEXT.
        frames: `first` takes the first frame of a multi-frame DICOM file, `refuse` refuses the file.
        any_body_part: read DICOM images whose header names another part of the body than the chest, too.

    Returns:
        uint8 (H, W), upright, larger = whiter as displayed.

    Raises:
        ImageError: it cannot be read; the text is the reason.
    """
    from mococxr.images import read_image

    return read_image(source, depth=depth, voi=voi, frames=frames, any_body_part=any_body_part)


def load_encoder(source, *, backbone=None, size=None, features="last"):
    """Load an encoder as a torch module in eval mode, its normalisation inside.

    It maps images (N, 1, H, W), uint8 or 0 to 1, to features (N, D).

    >>> import torch
    >>> encoder = mococxr.load_encoder("run")
    >>> encoder(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 256])

    Args:
        source: as `--encoder`: a run folder, imagenet, random, a timm name, hf:OWNER/NAME, xrv:NAME, NETWORK:FILE.
        backbone: timm architecture, where the source does not tell it.
        size: side of the input, px, where the source does not tell it.
        features: `last`, the network's own feature, on which pretraining goes on; or `stages`, as `study`, `fit` and
            `embed` read it: the pooled maps of its last four stages, then its own feature.

    Raises:
        InputError: no such encoder, or it is not available here, or it has no stages.
    """
    from mococxr.encoders import load_encoder

    return load_encoder(source, backbone=backbone, size=size, features=features)


def load_classifier(folder):
    """Load a classifier made by `fit`.

    >>> classifier = mococxr.load_classifier("model")
    >>> table = classifier.predict([mococxr.read_image("images/images/synthetic-000001-2.png")])
    >>> table.columns  # as `predict` writes them; polars
    ['score', 'calibrated', 'decision', 'view', 'warning']

    Raises:
        InputError: no model, or weights that are not its own.
    """
    from mococxr.classifier.saved import load_model

    return load_model(_path(folder))


def read_results(folder):
    """Read a study folder: its tables as polars tables (`frames`), `study.json` as `facts`.

    >>> results = mococxr.read_results("study")
    >>> results.frames["cells"].select("arm", "fraction").rows()
    [('random', 1.0)]

    Raises:
        InputError: no study, or a table that lacks a column.
    """
    from mococxr.results import read_results

    return read_results(folder)


def _path(path):
    from pathlib import Path

    return Path(path)


__all__ = [
    "Features",
    "ImageError",
    "Images",
    "InputError",
    "RunError",
    "Store",
    "UndefinedError",
    "__version__",
    "agreement",
    "annotate",
    "demo",
    "doctor",
    "drift",
    "embed",
    "evaluate",
    "export",
    "fit",
    "forecast",
    "import_checkpoint",
    "info",
    "inspect",
    "label",
    "load_classifier",
    "load_encoder",
    "next_images",
    "pacs",
    "predict",
    "prepare",
    "pretrain",
    "read_image",
    "read_results",
    "recalibrate",
    "report",
    "reproduce",
    "retract",
    "run",
    "serve",
    "study",
    "views",
]
