"""Written by docs/make_stubs.py from the settings; do not edit."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mococxr.audit.inspect import Audit
from mococxr.classifier.saved import Model
from mococxr.encoders import Encoder
from mococxr.errors import ImageError as ImageError
from mococxr.errors import InputError as InputError
from mococxr.errors import RunError as RunError
from mococxr.errors import UndefinedError as UndefinedError
from mococxr.features import Features as Features
from mococxr.features import Images as Images
from mococxr.gateway.pacs import Outcome
from mococxr.monitoring.drift import Drifts
from mococxr.results import StudyResults
from mococxr.store import Store as Store

__version__: str

class Frame(Protocol):
    """A data frame of polars or pandas."""

    @property
    def columns(self) -> Any: ...

def read_image(
    source: str | PathLike[str] | bytes,
    *,
    depth: str = "full",
    voi: str | None = None,
    frames: str = "refuse",
    any_body_part: bool = False,
) -> NDArray[np.uint8]: ...
def load_encoder(
    source: str | PathLike[str], *, backbone: str | None = None, size: int | None = None, features: str = "last"
) -> Encoder: ...
def load_classifier(folder: str | PathLike[str]) -> Model: ...
def read_results(folder: str | PathLike[str]) -> StudyResults: ...
def run(
    source: str | PathLike[str],
    *,
    out: str | PathLike[str],
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    target: str | None = None,
    budget: str = "20m",
    plan: bool = False,
    format: Literal[
        "auto",
        "csv",
        "dicom",
        "folder",
        "chexpert",
        "nih",
        "shenzhen",
        "montgomery",
        "mimic",
        "vindr",
        "padchest",
        "rsna",
        "tbx11k",
        "openi",
        "brax",
        "xrv",
    ] = "auto",
    labels: str | PathLike[str] | Frame | None = None,
    label_key: str | None = None,
    patients_unknown: bool = False,
    key: str | PathLike[str] | None = None,
) -> Path:
    """Go from a folder of chest X-rays to a classifier and its numbers: plan, prepare, pretrain, study, fit,
        evaluate.

    The plan is written first, to OUT/plan.yaml, and may be edited; the same command goes on from it, also
        after a stop.

    Args:
        source: A folder of images, or a table that lists them, as `prepare` takes it.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        out: Folder to create, or to go on in.
        target: Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists. [default:
            the only label that there is]
        budget: Time that the plan is fitted to: 90m, 2h, 1h30m. It keeps to it by fewer epochs and smaller
            images. [default: 20m]
        plan: Stop when the plan is written and shown. [default: off]
        format: Layout of the source; auto detects it. [default: auto]
        labels: Label table, if it is not inside the source. [default: none]
        label_key: Column of the label table that finds the images of a DICOM archive. [default: as in
            `prepare`]
        patients_unknown: Accept images without patient identifiers; each then counts as a patient, and the
            answer says so. [default: off]
        key: Key file of the pseudonyms of a DICOM archive. [default: OUT/store.key]
    """

def demo(
    *,
    seed: int = 0,
    out: str | PathLike[str] = "demo",
    loop: bool = False,
    images: int | None = None,
    epochs: int | None = None,
) -> Path:
    """Run the whole workflow on synthetic images: a demonstration, not evidence.

    Args:
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        out: Output folder. [default: demo]
        loop: Start without labels: rounds of choosing, labelling, fitting, forecasting and judging. [default:
            off]
        images: Number of synthetic images. [at least 200; default: 2400; 1000 with --loop]
        epochs: Pretraining: passes over the images. [epochs; at least 1; default: 10; 6 with --loop]
    """

def prepare(
    source: Any,
    *,
    out: str | PathLike[str],
    jobs: int | None = None,
    executor: Literal["local", "ray"] = "local",
    add: bool = False,
    format: Literal[
        "auto",
        "csv",
        "dicom",
        "folder",
        "chexpert",
        "nih",
        "shenzhen",
        "montgomery",
        "mimic",
        "vindr",
        "padchest",
        "rsna",
        "tbx11k",
        "openi",
        "brax",
        "xrv",
    ] = "auto",
    labels: str | PathLike[str] | Frame | None = None,
    label: str | Sequence[str] = (),
    label_key: str | None = None,
    size: int = 320,
    depth: str = "full",
    voi: str = "first",
    frames: Literal["first", "refuse"] = "first",
    any_body_part: bool = False,
    max_pixels: int = 120000000,
    split: Sequence[float] = (0.5, 0.1, 0.4),
    split_file: str | PathLike[str] | Frame | None = None,
    split_seed: int = 0,
    stratify: bool = False,
    patients_unknown: bool = False,
    pseudonymise: bool = False,
    key: str | PathLike[str] | None = None,
    keep: str | Sequence[str] = (),
) -> Store:
    """Read a folder of chest X-rays once: decode, downscale, split by patient, and write a store.

    Args:
        source: A folder of images, or a table that lists them; in Python also a torchxrayvision dataset.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        executor: Run parallel work on this machine, or on a Ray cluster with a shared file system. [default:
            local]
        out: Store folder to create, or to add to (--add).
        add: Add the new images of the source to the store at --out, with its settings; old images keep their
            rows, and patients their splits. [default: off]
        format: Layout of the source; auto detects it. [default: auto]
        labels: Label table, if it is not inside the source. [default: none]
        label: Label column (repeatable), of 1, 0, -1 and blank, or of yes and no, positive and negative.
            [default: every column of 1, 0, -1 and blank]
        label_key: Column of the label table that finds the images of a DICOM archive. [default: the first of
            path, SOPInstanceUID, AccessionNumber, StudyInstanceUID, PatientID that does]
        size: Shorter side of a stored image. [px; between 16 and 4096; default: 320; arXiv 2010.05352]
        depth: Mapping of 16 to 8 bit: full (the declared range), or percentiles of the image as LOW:HIGH.
            [default: full]
        voi: DICOM window or VOI table: first, widest, none (the whole stored range), a number from 1, or
            name:TEXT. [default: first]
        frames: Multi-frame DICOM: use the first frame, or exclude. [default: first]
        any_body_part: DICOM: read images of other body parts than the chest, too. [default: off]
        max_pixels: Images with more pixels are excluded. [pixels; at least 1; default: 120000000]
        split: Fractions of patients for training, validation and test: each patient's split by a hash of its
            identifier and --split-seed, so that it stays whatever images and labels are added. [between 0 and
            1; default: 0.5 0.1 0.4]
        split_file: Split to use instead of --split: a table `patient,split` (train, val, test), such as an
            earlier store's splits.csv (patients whom it does not name are split by --split), a JSON file with
            a list of images per split, or mednet:NAME (e.g. mednet:default) from the installed mednet
            package. [default: none]
        split_seed: Random seed of the split by --split. [between 0 and 2^63 - 1; default: 0]
        stratify: Stratify the split by label, in exact fractions; patients may then move when images or
            labels change. [default: off]
        patients_unknown: Accept images without patient identifiers; each then counts as a patient, and
            reports say so. [default: off]
        pseudonymise: Replace patient, study and image names by keyed hashes and drop other metadata; always
            for DICOM. [default: off]
        key: Key file of the pseudonyms, created if absent; stores under one key share pseudonyms. [default:
            OUT.key]
        keep: A further column of the table to keep in a pseudonymised store (repeatable). [default: none]
    """

def inspect(
    store: str | PathLike[str],
    *,
    out: str | PathLike[str],
    jobs: int | None = None,
    against: str | PathLike[str] | None = None,
    thumbnails: int = 12,
) -> Audit:
    """Check a store before training: unreadable, unusual, duplicate and leaking images, labels, shortcuts.

    Exit status 3 if a finding needs attention, 0 if none does.

    Args:
        store: A store made by `prepare`.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        out: HTML page to write; NAME.json and flags.csv are written beside it.
        against: A second store that should share no patient and no image, e.g. an external test set.
            [default: none]
        thumbnails: Images shown per finding; flags.csv lists all. [images; at least 0; default: 12]
    """

def views(
    store: str | PathLike[str],
    *,
    out: str | PathLike[str],
    seed: int = 0,
    preset: Literal["paper", "tuned"] = "tuned",
    size: int | None = None,
    images: int = 6,
) -> Path:
    """Draw a sheet of augmented views as pretraining would see them.

    Args:
        store: A store made by `prepare`.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        out: PNG file to write.
        preset: Preset whose augmentation is shown. [default: tuned]
        size: Side of a view. [px; between 16 and 4096; default: the preset's]
        images: Number of images to show, one per row. [at least 1; default: 6]
    """

def pretrain(
    stores: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str],
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = "none",
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    init: str | None = None,
    channels: int | None = None,
    size: int | None = None,
    epochs: int | None = None,
    sizes: str | Sequence[str] | None = None,
    batch: int | Literal["auto"] | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    temperature: float | None = None,
    head: Literal["mlp", "linear"] | None = None,
    dim: int | None = None,
    key_groups: int | None = None,
    optimizer: Literal["adam", "adamw", "sgd"] | None = None,
    weight_decay: float | None = None,
    schedule: Literal["step", "cosine", "constant"] | None = None,
    milestones: float | Sequence[float] | None = None,
    warmup: float | None = None,
    ema: float | None = None,
    flip: float | None = None,
    rotation: float | None = None,
    crop: Sequence[float] | None = None,
    brightness: float | None = None,
    contrast: float | None = None,
    resampling: Literal["area", "bilinear"] | None = None,
    mean: float | None = None,
    std: float | None = None,
    features: Literal["last", "stages"] | None = None,
    positives: Literal["view", "study"] | None = None,
    negatives_from: Literal["image", "study", "patient"] | None = None,
    method: Literal["moco", "simclr", "simsiam"] = "moco",
    preset: Literal["paper", "tuned"] = "tuned",
    auxiliary: str | Sequence[str] = (),
    auxiliary_weight: float = 0.1,
    accumulate: int = 1,
    queue: int | None = None,
    views_on: Literal["cpu", "device"] = "cpu",
    pretrain_on: Literal["train", "train+val", "all"] = "train",
    exclude_patients: str | PathLike[str] | Frame | None = None,
    knn: str | None = None,
    select: Literal["last", "knn", "rank"] = "last",
    save_every: int = 200,
    log_every: int = 10,
    resume: bool = False,
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
    compile: bool = False,
    workers: int | Literal["auto"] = 0,
) -> Path:
    """Pretrain an encoder on unlabelled images by a self-supervised method.

    Args:
        stores: One store, or several to pretrain on together.
        tracker: Experiment tracker, besides the command's own files; its package must be installed. wandb
            sends to its server. [default: none]
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: Encoder architecture: any timm name. [paper: resnet18; tuned: tf_efficientnet_lite0]
        init: Initial weights: imagenet, random, mococxr-lite0 (mococxr-weights), a run folder, hf:OWNER/NAME
            or hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm network
            (resnet50.a1_in1k). imagenet, random, a run and a weights file are loaded into --backbone; any
            other brings its own architecture and normalisation. [default: imagenet]
        channels: Input channels, each the grey image. [between 1 and 64; default: 3]
        size: Side of a view. [px; between 16 and 4096; paper: 320; tuned: 96]
        epochs: Passes over the images. [epochs; between 1 and 100000; paper: 20; tuned: 12]
        sizes: Phases of growing views in place of --size and --epochs, each SIZE:EPOCHS, as in 96:12 224:3;
            with SIZE:EPOCHS:LR a phase has a learning rate schedule of its own. [default: none]
        batch: Batch size over all processes; auto: the largest power of two that fits the GPU; on a CPU the
            preset's. [images; between 2 and 1048576; paper: 16; tuned: 32]
        lr: Learning rate. [above 0; paper: 0.0001; tuned: 0.0005]
        momentum: Momentum m of the key encoder. [between 0 and 1; paper: 0.999; tuned: 0.99]
        temperature: Temperature T of the contrastive loss. [between 0.0001 and 100; default: 0.2]
        head: Projection head: mlp as in MoCo v2, linear as in v1. [default: mlp]
        dim: Embedding dimension C. [between 1 and 65536; default: 128]
        key_groups: Shuffled key groups per device, against information leakage by batch norm; 1 turns it off.
            [at least 1; paper: 1; tuned: 2]
        optimizer: Optimiser. [paper: adam; tuned: adamw]
        weight_decay: Weight decay (L2 for adam and sgd, decoupled for adamw). [at least 0; default: 0.0001]
        schedule: Learning rate schedule. [paper: step; tuned: cosine]
        milestones: Step schedule: fractions of the run after which the learning rate drops tenfold. [between
            0 and 1; paper: 0.6 0.9; tuned: none]
        warmup: Fraction of the run with linear learning rate warm-up. [between 0 and 1; paper: 0; tuned:
            0.02]
        ema: Decay per step of an average of the encoder's weights, which is then the encoder that is kept; 0
            turns it off. [at least 0 and below 1; default: 0]
        flip: Probability of a horizontal flip. [between 0 and 1; default: 0.5]
        rotation: Largest rotation in either direction. [degrees; between 0 and 180; default: 10]
        crop: Smallest and largest area of a random crop, as fractions of the largest square. [above 0 and at
            most 1; paper: 1 1; tuned: 0.9 1]
        brightness: Brightness jitter, relative. [between 0 and 1; default: 0]
        contrast: Contrast jitter, relative. [between 0 and 1; default: 0]
        resampling: How views that shrink the image are cut: by means over areas, or by bilinear samples, in a
            third of the time. [default: area]
        mean: Mean of the grey values (0 to 1), for normalisation. [between 0 and 1; paper: 0.502; tuned:
            0.449]
        std: Standard deviation of the grey values, for normalisation. [above 0; paper: 0.085585; tuned:
            0.226]
        features: What --knn judges: the pooled maps of the encoder's last four stages beside its last layer,
            or that alone. Training itself is always on the last layer. [paper: last; tuned: stages]
        positives: Positive pairs: views of one image, or of two images of one study. [default: view]
        negatives_from: Negatives never come from the same image, study or patient; with --positives study
            never from the same study. [default: image]
        out: Run folder to create.
        method: Self-supervised method. [default: moco]
        preset: Preset that supplies every setting not given. [default: tuned]
        auxiliary: Metadata columns that the encoder learns to predict besides, such as view or age; never
            labels. [default: none]
        auxiliary_weight: Weight of that loss beside the method's. [at least 0; default: 0.1]
        accumulate: Parts in which the queries of a step are computed, to fit a larger batch; batch norm sees
            one part. [at least 1; default: 1]
        queue: Queue length K. [keys; at least 1; default: paper 24576, tuned 1024, or as many as half an
            epoch allows]
        views_on: Compute views on CPU threads, or on the device, which then holds the images; same up to
            rounding. [default: cpu]
        pretrain_on: Splits whose images are used. [default: train]
        exclude_patients: Table of patients to exclude, or one per line. [default: none]
        knn: Label (or COLUMN=VALUE or COLUMN~FINDING) of online kNN evaluation by validation AUROC; training
            does not see it. [default: none]
        select: Encoder to keep: the last, or of ten checkpoints the best by --knn AUROC or by effective rank.
            [default: last]
        save_every: Interval between checkpoints. [steps; at least 1; default: 200]
        log_every: Interval between log lines. [steps; at least 1; default: 10]
        resume: Resume from the last checkpoint in --out. [default: off]
        precision: Mixed precision; auto: bf16 where faster. [default: auto]
        compile: Compile the encoders (torch.compile). [default: off]
        workers: Threads that compute views; auto: one per core with a GPU, else as many as keep up with
            training. [threads; between 0 and 1024; default: auto]
    """

def next_images(
    store: str | PathLike[str],
    *,
    target: str | Sequence[str],
    out: str | PathLike[str],
    seed: int = 0,
    feature_cache: str | PathLike[str] | None = None,
    feature_cache_size: float = 20.0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    size: int | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: Literal["last", "stages"] = "stages",
    crop_mode: Literal["center", "full"] = "center",
    count: int = 50,
    by: Literal["coverage", "uncertainty", "balanced", "random"] = "random",
    encoder: str | None = None,
    model: str | PathLike[str] | None = None,
    split: Literal["train+val", "test"] = "train+val",
    random_share: float = 0.2,
    overlap: float = 0.0,
) -> Path:
    """List the unlabelled images to label next: `label` reads the list when it is filled in.

    Args:
        store: A store made by `prepare`.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        feature_cache: Folder of features that runs share: an encoder reads an image once. [default: none; a
            study keeps its own]
        feature_cache_size: Size of that folder above which the features unused for longest are removed. [GB;
            above 0; default: 20]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: timm architecture, for imagenet, random and weights files. [default: that of a run, if there
            is one]
        size: Side of the encoder's input. [px; between 1 and 4096; default: each encoder's own]
        mean: Grey mean, one value or one per channel, of an encoder that states none. [between 0 and 1;
            default: ImageNet's]
        std: Grey standard deviation, as --mean. [between 1e-6 and 1; default: ImageNet's]
        features: Features: the pooled maps of the encoder's last four stages beside its last layer, or the
            last layer alone. [default: stages]
        crop_mode: Input crop: the central square, or the full image with its aspect ratio. [default: center;
            arXiv 2010.05352]
        target: Finding that is to be labelled (repeatable); the store need not have it yet.
        count: Length of the list, one image a patient until patients run out. [images; at least 1; default:
            50]
        by: How images are chosen: for their neighbours (coverage), at the least margin (uncertainty), over
            all scores (balanced), or at random: on real images none of the others was better
            (docs/benchmarks.md). [default: random]
        encoder: Encoder: imagenet, random, mococxr-lite0 (mococxr-weights), a run folder, hf:OWNER/NAME or
            hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm network
            (resnet50.a1_in1k). ENCODER@SIZE sets the side of its input, A@288+B@96 puts the features of
            several side by side; a path with @ or + stands in quotes: 'my+run'@96. --by random needs none.
            [default: none]
        model: Model folder made by `fit`, whose scores tell margins. [default: a linear head on the labels so
            far]
        split: Patients to choose from; test takes --by random. [default: train+val]
        random_share: Share of the list that is drawn at random, from which prevalence and calibration can be
            told. [between 0 and 1; default: 0.2]
        overlap: Share of the list that two readers are to see. [between 0 and 1; default: 0]
        out: CSV list to write; an existing file is left alone.
    """

def label(
    store: str | PathLike[str],
    table: str | PathLike[str] | Frame | None = None,
    *,
    label: str | Sequence[str] = (),
    reader: str | None = None,
    chosen_by: str | None = None,
    as_of: str | None = None,
    out: str | PathLike[str] | None = None,
) -> Store:
    """Add labels to a store or change them, each with its date and reader; without a table, show how they stand.

    Args:
        store: A store made by `prepare`.
        table: Table of labels: path, and a column per finding (1, 0, -1 or words; blanks say nothing) or
            target and value; also reader, date, chosen_by, probability, note. [default: none: the labels are
            shown]
        label: Finding to read (repeatable); a name that the store does not have yet adds that finding.
            [default: the store's findings]
        reader: Who labelled, where the table does not say. [default: not stated]
        chosen_by: How the images were chosen, e.g. random, where the table does not say. [default: not
            stated]
        as_of: Show the labels as they were: a date (UTC, that day included), or a number of label events.
            [default: as they are now]
        out: CSV file for the whole history of labels, one event per row. [default: none]
    """

def retract(
    store: str | PathLike[str],
    table: str | PathLike[str] | Frame,
    *,
    label: str | Sequence[str] = (),
    reader: str | None = None,
) -> Store:
    """Take labels of a store back: fit and study then know nothing of them; the history keeps that they were
        there.

    Args:
        store: A store made by `prepare`.
        table: Table as `label` takes it: each label in it is taken back, whatever its value; a list of images
            with --label.
        label: Finding to take back (repeatable). [default: the findings of the table]
        reader: Take back what this reader said, and no more. [default: what every reader and `prepare` said]
    """

def annotate(
    store: str | PathLike[str],
    *,
    target: str | Sequence[str],
    seed: int = 0,
    next: str | PathLike[str] | Frame | None = None,
    reader: str | None = None,
    source: str | PathLike[str] | None = None,
    key: str | PathLike[str] | None = None,
    port: int = 0,
    tasks: str | PathLike[str] | None = None,
    browser: bool = True,
) -> Store:
    """Label images on a page in the browser, served to this machine alone; each answer goes into the store's
        history.

    Args:
        store: A store made by `prepare`.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        target: Finding to ask for (repeatable); a name that the store does not have adds it.
        next: List of images in the order in which they are shown: path; also chosen_by, probability, readers
            (2: shown to two). [default: all images without these labels, in random order]
        reader: Name that the page proposes to whoever opens it. [default: none]
        source: Folder of the images' files, whose 12 or 16 bits are windowed; elsewhere the store's 8 bits
            are. [default: where `prepare` read them]
        key: Key of the store's pseudonyms, beside whose table the files are looked up. [default: STORE.key]
        port: Port of 127.0.0.1; 0 takes a free one. [between 0 and 65535; default: 0]
        tasks: JSON file to write the list into as tasks for Label Studio, images inside; no page is served.
            [default: none]
        browser: Open the page in this machine's browser. [default: on]
    """

def agreement(
    store: str | PathLike[str],
    *,
    target: str | Sequence[str],
    seed: int = 0,
    resolve: str = "uncertain",
    out: str | PathLike[str] | None = None,
) -> Store:
    """How far readers agree who labelled the same images (kappa), where they do not, and which label stands
        then.

    Args:
        store: A store made by `prepare`.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        target: Finding to compare (repeatable).
        resolve: Label of an image on which readers disagree: uncertain, majority (else uncertain), or a
            reader's name; none changes nothing. [default: uncertain]
        out: CSV file for all disagreements, one image per row. [default: none]
    """

def embed(
    store: str | PathLike[str],
    *,
    encoder: str,
    out: str | PathLike[str],
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    size: int | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: Literal["last", "stages"] = "stages",
    crop_mode: Literal["center", "full"] = "center",
) -> Path:
    """Write the features of every image of a store.

    Args:
        store: A store made by `prepare`.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: timm architecture, for imagenet, random and weights files. [default: that of a run, if there
            is one]
        size: Side of the encoder's input. [px; between 1 and 4096; default: each encoder's own]
        mean: Grey mean, one value or one per channel, of an encoder that states none. [between 0 and 1;
            default: ImageNet's]
        std: Grey standard deviation, as --mean. [between 1e-6 and 1; default: ImageNet's]
        features: Features: the pooled maps of the encoder's last four stages beside its last layer, or the
            last layer alone. [default: stages]
        crop_mode: Input crop: the central square, or the full image with its aspect ratio. [default: center;
            arXiv 2010.05352]
        encoder: Encoder: imagenet, random, mococxr-lite0 (mococxr-weights), a run folder, hf:OWNER/NAME or
            hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm network
            (resnet50.a1_in1k). ENCODER@SIZE sets the side of its input, A@288+B@96 puts the features of
            several side by side; a path with @ or + stands in quotes: 'my+run'@96.
        out: Parquet table to write.
    """

def fit(
    store: str | PathLike[str],
    *,
    encoder: str,
    target: str | Sequence[str],
    out: str | PathLike[str],
    feature_cache: str | PathLike[str] | None = None,
    feature_cache_size: float = 20.0,
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    size: int | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: Literal["last", "stages"] = "stages",
    crop_mode: Literal["center", "full"] = "center",
    where: str | Sequence[str] = (),
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = "ignore",
    blank: Literal["negative", "unknown"] | None = None,
    labels_as_of: str | None = None,
    C: str = "0.01",
    standardize: Literal["unlabelled", "labelled"] = "unlabelled",
    linear_solver: Literal["lbfgs", "gradient"] = "lbfgs",
    lr: float = 3e-05,
    optimizer: Literal["adam", "adamw"] = "adam",
    weight_decay: float = 0.0,
    batch: int = 16,
    epochs: float | None = None,
    checkpoints: int = 10,
    calibrate: Literal["platt", "isotonic", "temperature", "none"] = "platt",
    threshold_by: Literal["sensitivity", "youden", "none"] = "sensitivity",
    sensitivity: float | None = None,
    mode: Literal["linear", "finetune", "lpft"] = "linear",
    fraction: float = 1.0,
    draw: int = 0,
    onnx: bool = True,
) -> Path:
    """Train a classifier for use, with calibrated probabilities and an operating point.

    Args:
        store: A store made by `prepare`.
        feature_cache: Folder of features that runs share: an encoder reads an image once. [default: none; a
            study keeps its own]
        feature_cache_size: Size of that folder above which the features unused for longest are removed. [GB;
            above 0; default: 20]
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: timm architecture, for imagenet, random and weights files. [default: that of a run, if there
            is one]
        size: Side of the encoder's input. [px; between 1 and 4096; default: each encoder's own]
        mean: Grey mean, one value or one per channel, of an encoder that states none. [between 0 and 1;
            default: ImageNet's]
        std: Grey standard deviation, as --mean. [between 1e-6 and 1; default: ImageNet's]
        features: Features: the pooled maps of the encoder's last four stages beside its last layer, or the
            last layer alone. [default: stages]
        crop_mode: Input crop: the central square, or the full image with its aspect ratio. [default: center;
            arXiv 2010.05352]
        where: Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable). [default: all images]
        uncertain: How uncertain labels (-1) are treated. [default: ignore; arXiv 2010.05352]
        blank: How missing labels are treated. [default: unknown; negative for CheXpert-like datasets]
        labels_as_of: Labels as they were: a date (UTC, that day included), or a number of label events (0: as
            `prepare` wrote them). [default: as they are now]
        C: Inverse L2 regularisation strength, on standardised features; cv: chosen by cross-validation.
            [default: 0.01]
        standardize: Standardise features by all training images, which needs no label, or by the labelled
            ones alone. [default: unlabelled]
        linear_solver: Logistic regression on frozen features, or the paper's epochs with batch norm in train
            mode. [default: lbfgs]
        lr: Learning rate. [above 0; default: 3e-5; arXiv 2010.05352]
        optimizer: Optimiser. [default: adam; arXiv 2010.05352]
        weight_decay: Weight decay. [at least 0; default: 0; arXiv 2010.05352]
        batch: Batch size. [images; at least 1; default: 16; arXiv 2010.05352]
        epochs: Passes over the labelled images. [epochs; above 0; default: 220 (n/223)^-0.365 for n images]
        checkpoints: Checkpoints to average, best by validation AUROC; 0: final weights, no validation labels.
            [at least 0; default: 10; arXiv 2010.05352]
        calibrate: Calibration on validation images. [default: platt]
        threshold_by: Threshold on validation images: at --sensitivity, or at Youden's J. [default:
            sensitivity]
        sensitivity: Sensitivity at the threshold. [above 0 and at most 1; default: 0.9]
        encoder: Encoder: imagenet, random, mococxr-lite0 (mococxr-weights), a run folder, hf:OWNER/NAME or
            hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm network
            (resnet50.a1_in1k). ENCODER@SIZE sets the side of its input, A@288+B@96 puts the features of
            several side by side; a path with @ or + stands in quotes: 'my+run'@96.
        target: Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists; several
            share one model (repeatable).
        mode: Linear probe, fine-tuning of all layers, or from the probe's head (lpft). [default: linear]
        fraction: Fraction of the labelled training patients to use. [above 0 and at most 1; default: 1]
        draw: Index of the label subset of that fraction. [at least 0; default: 0]
        onnx: Leave model.onnx, by which `predict` scores without PyTorch; writing it takes some seconds to a
            minute. [default: on]
        out: Model folder to create.
    """

def forecast(
    store: str | PathLike[str],
    *,
    feature_cache: str | PathLike[str] | None = None,
    feature_cache_size: float = 20.0,
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    size: int | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: Literal["last", "stages"] = "stages",
    crop_mode: Literal["center", "full"] = "center",
    where: str | Sequence[str] = (),
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = "ignore",
    blank: Literal["negative", "unknown"] | None = None,
    labels_as_of: str | None = None,
    C: str = "0.01",
    standardize: Literal["unlabelled", "labelled"] = "unlabelled",
    linear_solver: Literal["lbfgs", "gradient"] = "lbfgs",
    lr: float = 3e-05,
    optimizer: Literal["adam", "adamw"] = "adam",
    weight_decay: float = 0.0,
    batch: int = 16,
    epochs: float | None = None,
    checkpoints: int = 10,
    encoder: str | None = None,
    target: str | None = None,
    auroc: float | None = None,
    width: float | None = None,
) -> dict[str, Any]:
    """Say what more labels would give: the learning curve of a linear head so far, continued, with intervals.

    On real images of adults its 90 % intervals held 87 % of the time: take them as rough.

    Args:
        store: A store, or a study folder, whose own cells are continued.
        feature_cache: Folder of features that runs share: an encoder reads an image once. [default: none; a
            study keeps its own]
        feature_cache_size: Size of that folder above which the features unused for longest are removed. [GB;
            above 0; default: 20]
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: timm architecture, for imagenet, random and weights files. [default: that of a run, if there
            is one]
        size: Side of the encoder's input. [px; between 1 and 4096; default: each encoder's own]
        mean: Grey mean, one value or one per channel, of an encoder that states none. [between 0 and 1;
            default: ImageNet's]
        std: Grey standard deviation, as --mean. [between 1e-6 and 1; default: ImageNet's]
        features: Features: the pooled maps of the encoder's last four stages beside its last layer, or the
            last layer alone. [default: stages]
        crop_mode: Input crop: the central square, or the full image with its aspect ratio. [default: center;
            arXiv 2010.05352]
        where: Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable). [default: all images]
        uncertain: How uncertain labels (-1) are treated. [default: ignore; arXiv 2010.05352]
        blank: How missing labels are treated. [default: unknown; negative for CheXpert-like datasets]
        labels_as_of: Labels as they were: a date (UTC, that day included), or a number of label events (0: as
            `prepare` wrote them). [default: as they are now]
        C: Inverse L2 regularisation strength, on standardised features; cv: chosen by cross-validation.
            [default: 0.01]
        standardize: Standardise features by all training images, which needs no label, or by the labelled
            ones alone. [default: unlabelled]
        linear_solver: Logistic regression on frozen features, or the paper's epochs with batch norm in train
            mode. [default: lbfgs]
        lr: Learning rate. [above 0; default: 3e-5; arXiv 2010.05352]
        optimizer: Optimiser. [default: adam; arXiv 2010.05352]
        weight_decay: Weight decay. [at least 0; default: 0; arXiv 2010.05352]
        batch: Batch size. [images; at least 1; default: 16; arXiv 2010.05352]
        epochs: Passes over the labelled images. [epochs; above 0; default: 220 (n/223)^-0.365 for n images]
        checkpoints: Checkpoints to average, best by validation AUROC; 0: final weights, no validation labels.
            [at least 0; default: 10; arXiv 2010.05352]
        encoder: Encoder, for a store: imagenet, random, mococxr-lite0 (mococxr-weights), a run folder,
            hf:OWNER/NAME or hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a timm
            network (resnet50.a1_in1k). ENCODER@SIZE sets the side of its input, A@288+B@96 puts the features
            of several side by side; a path with @ or + stands in quotes: 'my+run'@96. [default: none; a study
            has its arms]
        target: Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists; needed for a
            store. [default: all of a study]
        auroc: AUROC for which labels are counted. [above 0.5 and below 1; default: none]
        width: Width of the interval of the AUROC (95 %) for which test images are counted. [above 0 and below
            1; default: none]
    """

def recalibrate(
    model: str | PathLike[str],
    store: str | PathLike[str],
    *,
    out: str | PathLike[str],
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    calibrate: Literal["platt", "isotonic", "temperature", "none"] = "platt",
    threshold_by: Literal["sensitivity", "youden", "none"] = "sensitivity",
    sensitivity: float | None = None,
    target: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    blank: Literal["negative", "unknown"] | None = None,
    labels_as_of: str | None = None,
) -> Path:
    """Give a fitted classifier the calibration and threshold of another site; encoder and head stay as they are.

    Args:
        model: A model folder made by `fit`.
        store: Store of that site, with labels.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        calibrate: Calibration on validation images. [default: platt]
        threshold_by: Threshold on validation images: at --sensitivity, or at Youden's J. [default:
            sensitivity]
        sensitivity: Sensitivity at the threshold. [above 0 and at most 1; default: 0.9]
        target: Label of that store, as `fit` takes it: one for each target of the model, in its order.
            [default: the model's]
        where: Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable). [default: all images]
        blank: How missing labels are treated. [default: unknown; negative for CheXpert-like datasets]
        labels_as_of: Labels as they were: a date (UTC, that day included), or a number of label events.
            [default: as they are now]
        out: Model folder to create.
    """

def predict(
    model: str | PathLike[str],
    images: str | PathLike[str] | Frame | Sequence[str | PathLike[str] | Frame],
    *,
    out: str | PathLike[str],
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    split: Literal["train", "val", "test", "all"] | None = None,
    refuse: bool = False,
    prevalence: float | Sequence[float] = (),
    maps: str | PathLike[str] | None = None,
    key: str | PathLike[str] | None = None,
) -> Path:
    """Score images with a fitted classifier.

    Args:
        model: A model folder made by `fit`.
        images: Image files, folders of images, lists of images (a table or TXT), or a store.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto, cpu: the CPU by model.onnx where the model has it, without PyTorch (else
            auto: a GPU if available); cuda, mps: PyTorch. [default: auto]
        out: CSV table to write.
        split: Of a store the images of this split (all: of every split), with columns label and split.
            [default: every image, without these columns]
        refuse: Leave the numbers of an image blank where a warning says that they mean nothing. [default:
            off]
        prevalence: Prevalence to adjust calibrated probabilities to: one number for each target of the model,
            in its order. [above 0 and below 1; default: that of the validation images]
        maps: Folder for a picture of each image with what speaks for the finding (orange) and against it
            (blue), by PyTorch. [default: no maps]
        key: Key of `prepare`, to write image, patient and study as pseudonyms. [default: names as they are]
    """

def pacs(
    model: str | PathLike[str],
    *,
    ledger: str | PathLike[str],
    jobs: int | None = None,
    dicomweb: str | None = None,
    since: str = "2d",
    study: str | None = None,
    credentials: str | PathLike[str] | None = None,
    ca: str | PathLike[str] | None = None,
    send_to: str | None = None,
    listen: str | None = None,
    allow: str | Sequence[str] = (),
    cert: str | PathLike[str] | None = None,
    cert_key: str | PathLike[str] | None = None,
    peer_ca: str | PathLike[str] | None = None,
    capture: bool = False,
    once: bool = False,
    every: float = 30.0,
    tries: int = 8,
    dead: Literal["list", "retry", "drop"] | None = None,
) -> Outcome:
    """Score new chest X-rays of an archive (PACS) and store each result there as a DICOM structured report.

    Research use only: reports are preliminary and unverified. docs/pacs.md walks through an installation.

    Args:
        model: Model folder made by `fit`.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        dicomweb: Address of the archive's DICOMweb service, e.g. https://pacs.example/dicom-web; without a
            password in it. [default: none]
        since: Look at studies of so many days (2d) or weeks (1w) back, by study date; all: whatever the date.
            [default: 2d]
        study: Look at the study with this UID alone, whatever its date. [default: none]
        credentials: File with USER:PASSWORD, or with a token, on its first line. [default: MOCOCXR_PACS_USER
            and MOCOCXR_PACS_PASSWORD, or MOCOCXR_PACS_TOKEN, of the environment]
        ca: Certificates (PEM) of those who signed the archive's own. [default: the system's]
        send_to: Send reports by C-STORE instead, to AE@HOST:PORT; where the archive has no DICOMweb.
            [default: none]
        listen: Take images that are sent here by C-STORE, as AE:PORT or AE@HOST:PORT, and look for none.
            [default: none]
        allow: AE title that may send (repeatable); all others are turned away. [default: none]
        cert: Certificate (PEM) of this side: C-STORE then goes by TLS alone. [default: none]
        cert_key: Its private key (PEM). [default: in the file of --cert]
        peer_ca: Certificates (PEM) of those who signed the other side's, which then has to show one.
            [default: not asked for]
        ledger: SQLite file that knows what was done; made where there is none, and kept.
        capture: Store a picture with the result, too (secondary capture): all viewers show it. [default: off]
        once: Look once, do all that is to be done, and end. [default: off]
        every: Time between two looks. [s; at least 1; default: 30]
        tries: How often an image is tried before it goes to the dead letters. [at least 1; default: 8]
        dead: Dead letters, also of a `pacs` that runs: list them as CSV, let them be tried again, or drop
            them; and end. [default: none]
    """

def drift(ledger: str | PathLike[str], *, out: str | PathLike[str]) -> Drifts:
    """Compare what `pacs` scored, week by week, with the images that the model learned from: scores, views,
        devices.

    Args:
        ledger: Ledger of `pacs`; it may be at work meanwhile.
        out: HTML file to write; the facts stand beside it as JSON.
    """

def serve(
    model: str | PathLike[str],
    *,
    jobs: int | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | PathLike[str] | None = None,
    max_body: float = 100.0,
    max_pixels: float = 50.0,
    queue: int = 64,
    timeout: float = 30.0,
) -> None:
    """Serve a fitted classifier over HTTP, to this machine alone: send images, get scores; a page to drop an
        image on.

    Research use. All but /health needs a token: of --token-file, else of the variable MOCOCXR_TOKEN, else
        made and shown.

    Args:
        model: A model folder made by `fit`, with its model.onnx.
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        host: Address to serve at; another than 127.0.0.1 can be reached from other machines. [default:
            127.0.0.1]
        port: Port; 0 takes a free one. [between 0 and 65535; default: 8000]
        token_file: File that holds the token, at least 16 characters, for its owner alone. [default:
            MOCOCXR_TOKEN, else made]
        max_body: Largest body of a request. [MB; above 0 and at most 1024; default: 100]
        max_pixels: Largest image; the largest detectors give about 20. [million pixels; above 0 and at most
            120; default: 50]
        queue: Images that are read or wait; beyond that a request is answered 429. [images; between 1 and
            10000; default: 64]
        timeout: Time that a request, and the decoding of an image, may take. [s; between 1 and 600; default:
            30]
    """

def study(
    store: str | PathLike[str],
    *,
    target: str | Sequence[str],
    arm: Any,
    out: str | PathLike[str],
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = "none",
    executor: Literal["local", "ray"] = "local",
    gpus: float | None = None,
    feature_cache: str | PathLike[str] | None = None,
    feature_cache_size: float = 20.0,
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    backbone: str | None = None,
    size: int | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: Literal["last", "stages"] = "stages",
    crop_mode: Literal["center", "full"] = "center",
    where: str | Sequence[str] = (),
    uncertain: Literal["ignore", "zeros", "ones", "multiclass"] = "ignore",
    blank: Literal["negative", "unknown"] | None = None,
    labels_as_of: str | None = None,
    C: str = "0.01",
    standardize: Literal["unlabelled", "labelled"] = "unlabelled",
    linear_solver: Literal["lbfgs", "gradient"] = "lbfgs",
    lr: float = 3e-05,
    optimizer: Literal["adam", "adamw"] = "adam",
    weight_decay: float = 0.0,
    batch: int = 16,
    epochs: float | None = None,
    checkpoints: int = 10,
    mode: Literal["linear", "finetune", "lpft"] | Sequence[Literal["linear", "finetune", "lpft"]] = ("linear",),
    fraction: float | Sequence[float] = (0.01, 0.1, 1.0),
    draws: int = 5,
    draws_from: str | PathLike[str] | None = None,
    test_on: str | PathLike[str] | None = None,
    unit: Literal["image", "study", "patient"] = "image",
    aggregate: Literal["max", "mean"] = "max",
    against: str | None = None,
    baseline: bool = True,
    replicates: int = 2000,
    primary: str | None = None,
    margin: float | None = None,
    sensitivity: float = 0.9,
    subgroup: str | Sequence[str] = (),
    group_minimum: int = 10,
) -> Path:
    """Compare encoders at each label fraction: arms x modes x targets x fractions x label subsets, paired
        intervals.

    Args:
        store: A store made by `prepare`.
        tracker: Experiment tracker, besides the command's own files; its package must be installed. wandb
            sends to its server. [default: none]
        executor: Run parallel work on this machine, or on a Ray cluster with a shared file system. [default:
            local]
        gpus: With --executor ray: GPUs per task; 0: CPU. [GPUs; between 0 and 1; default: 0.25 if the cluster
            has GPUs]
        feature_cache: Folder of features that runs share: an encoder reads an image once. [default: none; a
            study keeps its own]
        feature_cache_size: Size of that folder above which the features unused for longest are removed. [GB;
            above 0; default: 20]
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        backbone: timm architecture, for imagenet, random and weights files. [default: that of a run, if there
            is one]
        size: Side of the encoder's input. [px; between 1 and 4096; default: each encoder's own]
        mean: Grey mean, one value or one per channel, of an encoder that states none. [between 0 and 1;
            default: ImageNet's]
        std: Grey standard deviation, as --mean. [between 1e-6 and 1; default: ImageNet's]
        features: Features: the pooled maps of the encoder's last four stages beside its last layer, or the
            last layer alone. [default: stages]
        crop_mode: Input crop: the central square, or the full image with its aspect ratio. [default: center;
            arXiv 2010.05352]
        where: Use only images with COLUMN=VALUE or COLUMN~FINDING (repeatable). [default: all images]
        uncertain: How uncertain labels (-1) are treated. [default: ignore; arXiv 2010.05352]
        blank: How missing labels are treated. [default: unknown; negative for CheXpert-like datasets]
        labels_as_of: Labels as they were: a date (UTC, that day included), or a number of label events (0: as
            `prepare` wrote them). [default: as they are now]
        C: Inverse L2 regularisation strength, on standardised features; cv: chosen by cross-validation.
            [default: 0.01]
        standardize: Standardise features by all training images, which needs no label, or by the labelled
            ones alone. [default: unlabelled]
        linear_solver: Logistic regression on frozen features, or the paper's epochs with batch norm in train
            mode. [default: lbfgs]
        lr: Learning rate. [above 0; default: 3e-5; arXiv 2010.05352]
        optimizer: Optimiser. [default: adam; arXiv 2010.05352]
        weight_decay: Weight decay. [at least 0; default: 0; arXiv 2010.05352]
        batch: Batch size. [images; at least 1; default: 16; arXiv 2010.05352]
        epochs: Passes over the labelled images. [epochs; above 0; default: 220 (n/223)^-0.365 for n images]
        checkpoints: Checkpoints to average, best by validation AUROC; 0: final weights, no validation labels.
            [at least 0; default: 10; arXiv 2010.05352]
        target: Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists (repeatable).
        arm: Encoder to compare: NAME=ENCODER, an encoder alone, or NAME=RUN1,RUN2 for several pretraining
            seeds (repeatable). An encoder is one of: imagenet, random, mococxr-lite0 (mococxr-weights), a run
            folder, hf:OWNER/NAME or hf:FOLDER, xrv:NAME (torchxrayvision), a weights file or NETWORK:FILE, a
            timm network (resnet50.a1_in1k); or FEATURES.parquet, a table that `embed` wrote. ENCODER@SIZE
            sets the side of its input, A@288+B@96 puts the features of several side by side; a path with @ or
            + stands in quotes: 'my+run'@96.
        out: Study folder (created, or resumed).
        mode: Linear probe, fine-tuning of all layers, fine-tuning from the probe's head (lpft), or several.
            [default: linear]
        fraction: Fractions of labelled training patients. [above 0 and at most 1; default: 0.01 0.1 1; arXiv
            2010.05352]
        draws: Label subsets per fraction; fraction 1 has one. [at least 1; default: 5; arXiv 2010.05352]
        draws_from: Folder of label subsets FRACTION-I.csv (path, patient), instead of --draws. [default:
            none]
        test_on: External validation: another store whose test images are scored. [default: the store's own
            test images]
        unit: Level at which test scores are compared. [default: image]
        aggregate: How image scores of one study or patient are aggregated. [default: max; arXiv 2010.05352]
        against: Reference arm. [default: the first arm]
        baseline: Add the arm imagenet@288 (or the images' size), linear, and compare every arm with it first.
            [default: on]
        replicates: Bootstrap resamples of the test patients. [at least 200; default: 2000]
        primary: The primary comparison, TARGET[:MODE][:FRACTION][:ARM], fixed in advance: tested first, the
            others behind it. [default: first target, mode and arm, smallest fraction; all adjusted together]
        margin: Pre-specified AUROC margin of equivalence and non-inferiority. [above 0 and below 1; default:
            no such tests]
        sensitivity: Sensitivity at the threshold, set on validation images. [above 0 and at most 1; default:
            0.9]
        subgroup: Column of subgroups (repeatable). [default: sex, age bands, view, device, source, hospital,
            where they vary]
        group_minimum: Fewest positive and negative patients in a subgroup. [patients; at least 2; default:
            10]
    """

def reproduce(
    dataset: Literal["chexpert", "shenzhen"],
    *,
    root: str | PathLike[str],
    out: str | PathLike[str],
    executor: Literal["local", "ray"] = "local",
    gpus: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    test_root: str | PathLike[str] | None = None,
    split: Sequence[float] = (0.65, 0.15, 0.2),
    split_file: str | PathLike[str] | None = None,
    cells: str | Sequence[str] = (),
    variant: Literal["lbfgs", "std"] | Sequence[Literal["lbfgs", "std"]] = (),
    fraction: float | Sequence[float] = (),
    draws: int | None = None,
    replicates: int = 500,
    size: int = 320,
    init: str = "imagenet",
    pretrained: str | Sequence[str] = (),
    queue: int | None = None,
    epochs: int = 20,
    batch: int = 16,
    train_epochs: float | None = None,
    dry_run: bool = False,
) -> Path:
    """Repeat the paper's experiments on CheXpert or Shenzhen and compare with the published numbers.

    Args:
        dataset: Dataset: chexpert or shenzhen.
        executor: Run parallel work on this machine, or on a Ray cluster with a shared file system. [default:
            local]
        gpus: With --executor ray: GPUs per task; 0: CPU. [GPUs; between 0 and 1; default: 0.25 if the cluster
            has GPUs]
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        root: Dataset folder, as released.
        out: Output folder (created, or resumed).
        test_root: CheXpert: folder of the official test set, which some cells need. [default: none]
        split: Shenzhen: fractions for training, validation and test. [between 0 and 1; default: 0.65 0.15
            0.2; arXiv 2010.05352]
        split_file: Shenzhen: a published split or fold, as in `prepare --split-file`. [default: none]
        cells: Cells to run: TASK/BACKBONE/MODE/FRACTION/ARM or pretraining/RUN, with * and ? (repeatable).
            [default: all]
        variant: Also run (repeatable): lbfgs, logistic regression on frozen features; std, pretraining with
            std 0.29255. [default: none]
        fraction: Label fractions. [above 0 and at most 1; default: 0.001 0.01 0.1 1 on CheXpert, 0.0625 0.25
            1 on Shenzhen; arXiv 2010.05352]
        draws: Label subsets per fraction. [at least 1; default: 5 on CheXpert; 8 and 4 on Shenzhen; 1 of all;
            arXiv 2010.05352]
        replicates: Bootstrap resamples of the test patients. [at least 200; default: 500; arXiv 2010.05352]
        size: Side of images and views. [px; between 16 and 4096; default: 320; arXiv 2010.05352]
        init: Initial weights of both arms, as in `pretrain`. [default: imagenet; arXiv 2010.05352]
        pretrained: Shenzhen: output of `reproduce chexpert`, or RUN=ENCODER (repeatable), e.g. resnet18=DIR.
            [default: none]
        queue: Queue length K. [keys; at least 1; default: 24576, or as many as half an epoch allows; arXiv
            2010.05352]
        epochs: Pretraining: passes over the images. [epochs; at least 1; default: 20; arXiv 2010.05352]
        batch: Batch size, in pretraining and on labels. [images; at least 2; default: 16; arXiv 2010.05352]
        train_epochs: Passes over the labelled images. [epochs; above 0; default: 220, 95, 41 and 18 on
            CheXpert, else 220 (n/223)^-0.365 for n images; arXiv 2010.05352]
        dry_run: Plan only: write label subsets and plan.csv, time a few steps. [default: off]
    """

def report(study: str | PathLike[str]) -> None:
    """Rewrite the report of a study.

    Args:
        study: A study folder.
    """

def evaluate(
    predictions: str | PathLike[str] | Frame | Sequence[str | PathLike[str] | Frame],
    *,
    seed: int = 0,
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    label: str | Sequence[str] = (),
    score: str | Sequence[str] = (),
    split: Literal["train", "val", "test"] = "test",
    patient: str | None = None,
    study: str | None = None,
    key: str | None = None,
    subgroup: str | Sequence[str] = (),
    unit: Literal["image", "study", "patient"] = "image",
    aggregate: Literal["max", "mean"] = "max",
    against: str | PathLike[str] | Frame | None = None,
    unpaired: bool = False,
    margin: float | None = None,
    target_difference: float = 0.03,
    validation: str | PathLike[str] | Frame | None = None,
    threshold: str | None = None,
    reader: str | Sequence[str] = (),
    prevalence: float | None = None,
    calibration: bool = False,
    calibrate: Literal["none", "platt", "isotonic", "temperature"] = "none",
    replicates: int = 2000,
    bootstrap: Literal["percentile", "bca"] = "percentile",
    stratify: bool = False,
    level: float = 0.95,
    json: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    gallery: bool = True,
    maps: bool = False,
) -> dict[str, Any]:
    """Evaluate models on a store, or a table of predictions: AUROC, comparison, threshold, calibration,
        subgroups.

    Args:
        predictions: Table (CSV, Excel or Parquet) of labels and scores; or one or more models made by `fit`,
            and a store.
        seed: Random seed. [between 0 and 2^63 - 1; default: 0]
        jobs: Number of parallel processes and threads. [at least 1; default: one per core]
        device: Compute device; auto: a GPU if available. [default: auto]
        label: Column of labels, 1 or 0 (repeatable). [default: none]
        score: Column of scores, one per label (repeatable). [default: none]
        split: Split of the store that models are judged on. [default: test]
        patient: Column of patient identifiers. [default: each row is its own patient]
        study: Column of study identifiers, for --unit study. [default: none]
        key: Column by which the rows of two tables are paired. [default: by position]
        subgroup: Column of subgroups, each compared with the largest (repeatable); age is divided into bands.
            [default: none]
        unit: What is judged: images, or the studies or patients that they are joined to. [default: image]
        aggregate: How image scores of one study or patient are aggregated. [default: max]
        against: A second table to compare with, on the same images. [default: none]
        unpaired: The second table has other patients. [default: off]
        margin: Pre-specified AUROC margin of equivalence and non-inferiority. [above 0 and below 1; default:
            no such tests]
        target_difference: AUROC difference for the sample size of a future study. [above 0 and below 1;
            default: 0.03]
        validation: Table of other patients, to fit --threshold and --calibrate. [default: none]
        threshold: Decision threshold: a score, or youden or sensitivity=VALUE on --validation. [default:
            none]
        reader: Column of a reader's calls, 1 or 0, beside the model at its threshold (repeatable). [default:
            none]
        prevalence: Prevalence at which to give PPV and NPV, too. [above 0 and below 1; default: none]
        calibration: Brier score, calibration error, slope, intercept and reliability curve. [default: off]
        calibrate: Calibrate on --validation first; implies --calibration. [default: none]
        replicates: Bootstrap resamples of the patients. [at least 200; default: 2000]
        bootstrap: Type of bootstrap interval. [default: percentile]
        stratify: Resample patients with and without the finding separately. [default: off]
        level: Confidence level of the intervals. [above 0 and below 1; default: 0.95]
        json: JSON file for all numbers in full precision. [default: none]
        out: Of models: folder of page, numbers and scores. [default: MODEL.evaluation]
        gallery: Show wrong and borderline images on the page of models. [default: on]
        maps: Show beside each image of the gallery where the model looks, and check these maps. [default:
            off]
    """

def import_checkpoint(
    kind: Literal["moco-cxr"],
    file: str | PathLike[str],
    *,
    out: str | PathLike[str],
    size: int = 320,
    mean: float | Sequence[float] = (0.502,),
    std: float | Sequence[float] = (0.085585,),
    source: str | None = None,
) -> Path:
    """Turn a checkpoint of MoCo or MoCo-CXR into a run folder.

    Args:
        kind: Kind of checkpoint; moco-cxr also reads MoCo's.
        file: Checkpoint file, e.g. checkpoint_0019.pth.tar.
        out: Run folder to create.
        size: Input size it was trained with. [px; between 32 and 4096; default: 320; released code of arXiv
            2010.05352]
        mean: Grey mean of its normalisation, one value or one per channel. [between 0 and 1; default: 0.502;
            released code of arXiv 2010.05352]
        std: Divisor of its normalisation; the released code uses the variance. [between 1e-6 and 1; default:
            0.085585; released code of arXiv 2010.05352]
        source: Dataset it was pretrained on, e.g. chexpert. [default: unknown]
    """

def export(
    path: str | PathLike[str],
    *,
    to: Literal["timm", "torchvision", "onnx"],
    out: str | PathLike[str],
    features: Literal["last", "stages"] | None = None,
    study: str | PathLike[str] | None = None,
    arm: str | None = None,
) -> Path:
    """Export an encoder or a fitted classifier to timm, torchvision or ONNX, with a model card.

    Args:
        path: A run folder, or a model folder made by `fit`.
        to: Target library.
        out: Folder to create.
        features: Features of a run's encoder: its last layer, or the pooled maps of its last four stages
            beside it. [default: last; a model has its own]
        study: Study of this encoder whose results go into the model card. [default: none]
        arm: Its arm in that study. [default: the arm with the same weights]
    """

def info(path: str | PathLike[str]) -> dict[str, Any]:
    """Say what a folder or file is that a command made: from what, with which settings, key numbers, next
        command.

    Args:
        path: A store, run, model, study, result, export, page, list or table.
    """

def doctor(folder: str | PathLike[str] = ".") -> dict[str, Any]:
    """Say what this machine has for the work, what is missing, and what to change.

    Exit status 3 if something should be changed, 0 if not.

    Args:
        folder: Folder on the disk that is to be worked on. [default: .]
    """
