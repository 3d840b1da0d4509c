"""Write docs/paper.md from the settings themselves: `make docs`.

The values are those of the preset `paper` and of `STUDY`; the facts beside them, what the paper prints, what its
released code does and why we take what we take, stand here. A blank fact means that the paper, or the code, does not
say.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mococxr.reproduction.recipe import STUDY
from mococxr.settings import PRESETS, QUEUES, PretrainSettings, ReproduceSettings, StudySettings, flag
from mococxr.settings.fields import PAPER

PAGE = Path(__file__).parent / "paper.md"
HEAD = f"""# The paper, setting by setting

Made from the settings by `make docs`; do not edit. The paper is {PAPER} (MoCo-CXR, MIDL 2021). Where it and its
released code differ, or the paper is silent, we take the code: it made the printed numbers. *We take* is what the
preset `paper` and `reproduce` use unless a flag says otherwise; every departure is listed on the page that
`reproduce` writes. *not stated* means that we do not know it; a dash, that no difference from the paper is known.
On a GPU `reproduce` pretrains in float32, as it trains on labels; `pretrain` alone takes bfloat16 there unless told
`--precision no`. Which of the two the authors used is not known. On compute capability 8.0 and later torch's convolutions
are TF32 in float32, too; the paper's GPU had none. The authors reshuffle each epoch plainly; their centred crop
rounds halves to even and ours down, a pixel at half of the odd remainders.
"""


@dataclass(frozen=True)
class Fact:
    """One setting in the paper and in its code.

    Args:
        printed: what the paper prints.
        released: what the authors' released code does.
        why: why we take what we take; blank where paper and code agree.
        instead: the flag that takes the way we think sounder, or that others use.
    """

    printed: str = ""
    released: str = ""
    why: str = ""
    instead: str = ""


SAME = "–"
"""No difference between paper and code is known."""

PRETRAINING: dict[str, Fact] = {
    "backbone": Fact("ResNet-18 and DenseNet-121", SAME, "`reproduce` runs both."),
    "init": Fact(
        "ImageNet weights",
        "torchvision's (timm's tag `tv_in1k`), at the start of both arms",
        "timm's own for that name, which come from other recipes (`a1_in1k` for resnet18, `ra_in1k` for densenet121): a "
        "departure of `reproduce` in both arms, of a size that was not measured.",
        "`pretrain --init FILE`, `reproduce --init FILE`: weights of torchvision",
    ),
    "channels": Fact("grey replicated to 3 channels", SAME),
    "size": Fact("224", "shorter side to 320, crop of 320", "The code made the numbers."),
    "epochs": Fact("20", SAME),
    "sizes": Fact("one size", SAME),
    "batch": Fact("16, on one GPU", SAME),
    "queue": Fact(
        "24,576",
        "every epoch is a plain reshuffle, so that an image that closes one epoch and opens the next meets its own key "
        "(about (K/N)^2 / 2 of the images, 0.6 % on CheXpert)",
        "No image comes again while its key is in the queue: the other images of an order are drawn at random. Where the "
        "images do not make twice as many keys, K is what leaves their order free (half an epoch); a longer one must be "
        "asked for, and one that holds an image's own key is refused.",
    ),
    "lr": Fact("1e-4, the best of 1e-2, 1e-3, 1e-4 and 1e-5", SAME, "The comparison is a table of its own."),
    "momentum": Fact("0.999", SAME),
    "temperature": Fact("0.2", SAME),
    "head": Fact("MLP with ReLU, as MoCo v2", SAME),
    "dim": Fact("128", SAME),
    "key_groups": Fact(
        "",
        "shuffles keys between devices, which does nothing on one; the key encoder's batch-norm buffers come from "
        "its own passes",
        "As the paper's run on one GPU.",
        "`pretrain --key-groups 2` shuffles on one device",
    ),
    "optimizer": Fact("Adam, betas 0.9 and 0.999", SAME),
    "weight_decay": Fact("1e-4, L2", SAME),
    "schedule": Fact("a tenth at epochs 12 and 18 (and 24, after the end)", SAME),
    "milestones": Fact("epochs 12 and 18 of 20", SAME, "As shares of the run, so that `--epochs` moves them."),
    "warmup": Fact("none", SAME),
    "ema": Fact("none", "keeps the query encoder"),
    "flip": Fact("horizontally, probability 0.5", SAME),
    "rotation": Fact(
        "uniform within 10 degrees either way, corners black",
        "turns the image, then crops",
        "A view turns about its own centre, not the image's: one step instead of two. On images of 390 by 320 the two "
        "squares lie at most 6 pixels apart, and their corners are black where the image ends, in both. The code turns by "
        "the nearest pixel, here bilinearly: on 40 chest images the Laplacian keeps 0.75 of its spread, 1.09 with theirs.",
    ),
    "crop": Fact(
        "no crop by scale",
        "a random crop of 320 along the longer side",
        "Where on the longer side the square lies is drawn; its area is not.",
        "`pretrain --crop 0.95 1` (MedAug, 2021) or `--crop 0.3 0.9` (SiAug, 2023)",
    ),
    "brightness": Fact("none", SAME),
    "contrast": Fact("none", SAME, "", "`pretrain --brightness --contrast`: SiAug's best pair of views has both"),
    "resampling": Fact("not stated", "PIL's resize, which averages areas where it shrinks"),
    "mean": Fact("", "0.5020"),
    "std": Fact(
        "",
        "0.085585, which is 0.29255 squared: it looks like a variance in the place of a standard deviation",
        "Kept: it made the numbers.",
        "`pretrain --std 0.29255`, `reproduce --variant std`",
    ),
    "features": Fact(
        "the last layer",
        SAME,
        "",
        "`pretrain --features stages`: `--knn` judges by the last four stages, too; training does not change",
    ),
    "positives": Fact(
        "two views of one image",
        SAME,
        "",
        "`pretrain --positives study`: two images of one study, after MedAug (2021). Its code draws the positive from all "
        "images of the study, the query's own too (half of the pairs where there are two); here it is another wherever "
        "there is one",
    ),
    "negatives_from": Fact(
        "",
        "every key of the queue is a negative",
        "Keys of the query's own image are left out. With the order above there are none.",
        "`pretrain --negatives-from study` or `patient`: theirs are left out too; with `--positives study` those of the "
        "study always",
    ),
}
"""Setting of `pretrain` -> fact; the value is that of the preset `paper`."""

TRAINING: dict[str, Fact] = {
    "mode": Fact("linear and end to end, one task at a time", SAME),
    "standardize": Fact("none", SAME, "Of a solved head alone (`--variant lbfgs`): by the labelled images."),
    "linear_solver": Fact(
        "backbone frozen, one linear layer",
        "batch norm stays in train mode: batch statistics are used and the buffers drift",
        "The code made the numbers.",
        "`study --linear-solver lbfgs`, `reproduce --variant lbfgs`: a head solved on features of an encoder that is "
        "proved not to change; at lr 3e-5 a head is under-trained",
    ),
    "optimizer": Fact("Adam, no schedule, binary cross-entropy", SAME),
    "lr": Fact("3e-5", SAME),
    "weight_decay": Fact("0", SAME),
    "batch": Fact(
        "16",
        "a pass is ceil(n/16) updates; a last batch of one image is trained on",
        "As many updates a pass. A rest of one image takes another from the batch before it (15 and 2 of 17): one "
        "update of a pass differs where n is one more than a multiple of 16.",
    ),
    "epochs": Fact(
        "CheXpert 220, 95, 41, 18 for 0.1, 1, 10, 100 % of the labels; Shenzhen not printed",
        "5 x 4^log8(1/f), rounded down, for a share f: 500, 107, 23 and 5 on CheXpert, which are not the printed ones; on "
        "Shenzhen's shares it would be 31, 12 and 5",
        "220 (n/223)^-0.365 for n images gives the paper's four and is used where it prints none: 475, 288 and 173 on "
        "Shenzhen's 27, 107 and 430. What the authors trained there is not known.",
    ),
    "checkpoints": Fact(
        "the probabilities of up to 10 checkpoints kept by validation AUROC, averaged",
        "saves where the images seen, 16 an update, are a multiple of min(int(2^17 f), 8192) for a share f; validation "
        "AUROC by study, with the largest logit of its images; the best 10 are kept",
        "Chosen on the validation images, image by image, never on test images, at 20 evenly spaced looks: half of them are "
        "kept, so earlier states enter the mean than theirs.",
        "`study --checkpoints 0` keeps the last weights and uses no validation label",
    ),
    "crop_mode": Fact(
        "",
        "shorter side to 320; a random crop of 320 in training, a centred one in evaluation; no flip, no rotation; "
        "mean and std of the pretraining",
        "",
        "`study --crop-mode full` shows all of an image",
    ),
    "features": Fact(
        "the last layer", SAME, "", "`study --features stages`, our default: the last four stages beside it"
    ),
    "uncertain": Fact(
        "-1 is left out of the loss and of the evaluation (U-Ignore)",
        SAME,
        "Left out before batches are made, so that a batch holds 16 labels and passes count images with a label: "
        "each is seen as often, in fewer updates (pleural effusion 5 %, atelectasis 15 %; 0 to 20 % at 0.1 % of the "
        "labels).",
        "`study --uncertain zeros`, `ones` or `multiclass`",
    ),
    "blank": Fact("counts as 0", SAME, "", "`study --blank unknown`"),
}
"""Setting of `study` that concerns training -> fact; the value is that of `STUDY` or, without one, the default."""

EVALUATION: dict[str, Fact] = {
    "baseline": Fact("none besides ImageNet weights at the run's size", SAME),
    "fraction": Fact(
        "CheXpert 0.1, 1, 10, 100 %; Shenzhen 6.25, 25, 100 %",
        "each image of train.csv, in the order of the table, by one random number of Python's generator seeded with 0; "
        "by image, not by patient, not stratified, not nested",
        "CheXpert: the same draws row for row. Shenzhen's code takes each image by chance and draws again until there are "
        "0.9 to 1.2 negatives a positive; here an exact number by patient, nested between shares, with any mix (0.42 "
        "to 4.40 at 6.25 %).",
    ),
    "draws": Fact("CheXpert 5, 5, 5, 1; Shenzhen 8, 4, 1", SAME),
    "unit": Fact("500 studies of 500 patients, one vote a study", SAME),
    "aggregate": Fact(
        "the maximum over the views of a study",
        "in each checkpoint; then the mean over checkpoints",
        "The mean over checkpoints first: AUROC differs by 0.001 (0.002 at most in 40 simulated sets of 500 studies).",
        "`study --aggregate mean`",
    ),
    "replicates": Fact(
        "500 paired resamples of the test studies; in each the mean over the draws; 2.5 and 97.5 percentiles. The "
        "draws are not resampled",
        "point values are the means of the replicates; limits are the 12th and 487th of 500",
        "Point values are those of the data, limits interpolated quantiles: printed differences are up to 0.004 off the "
        "difference of printed AUROCs.",
        "the interval that holds the draws too stands beside it in every table (`low_total`, `high_total`)",
    ),
    "split": Fact(
        "Shenzhen 65, 15, 20 %",
        "drawn without a seed, so it cannot be made again; labels from words of the reading, so that an abnormal one "
        "without such a word counts as no finding",
        "A seeded split of the same shares; the label is the last digit of the file name.",
        "`reproduce shenzhen --split-file`: the published split or its folds",
    ),
}
"""Setting of `study` or `reproduce` that concerns draws and test -> fact."""


def page() -> str:
    """The whole text of docs/paper.md."""
    parts = [HEAD]
    preset = vars(PRESETS["paper"]) | {"queue": QUEUES["paper"]}
    preset = {name: _value(PretrainSettings, name, value) for name, value in preset.items()}
    parts.append(_table("Pretraining (`pretrain --preset paper`)", PRETRAINING, preset))
    taken = {name: _taken(name) for name in (*TRAINING, *EVALUATION)}
    parts.append(_table("Training on labels", TRAINING, taken))
    parts.append(_table("Labels drawn, and the test", EVALUATION, taken))
    return "\n".join(parts)


def _taken(name: str) -> str:
    """What `reproduce` uses: of `STUDY`, or how the default reads."""
    if name in STUDY:
        return _value(StudySettings, name, STUDY[name])
    kind = ReproduceSettings if name in {"fraction", "draws", "split"} else StudySettings
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    return field.metadata["shown"] or _value(kind, name, field.default)


def _value(kind: type, name: str, value: Any) -> str:
    unit = next(f.metadata["unit"] for f in dataclasses.fields(kind) if f.name == name)
    items = value if isinstance(value, tuple) else (value,)
    return f"{', '.join(_plain(item) for item in items)} {unit}".strip()


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(title: str, facts: dict[str, Fact], taken: dict[str, str]) -> str:
    lines = [f"## {title}", "", "| setting | the paper prints | its code does | we take | why | otherwise |"]
    lines.append("|---|---|---|---|---|---|")
    for name, fact in facts.items():
        cells = [f"`{flag(name)}`", fact.printed or "not stated", fact.released or "not stated", taken[name]]
        lines.append("| " + " | ".join([*cells, fact.why, fact.instead]) + " |")
    return "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
