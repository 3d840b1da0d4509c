"""What is known of the images that published encoders were trained on: facts of their papers and model cards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mococxr.encoders import published

SETS = {
    "nih": "NIH ChestX-ray14",
    "chexpert": "CheXpert",
    "mimic": "MIMIC-CXR",
    "padchest": "PadChest",
    "openi": "Open-i (Indiana)",
    "rsna": "RSNA Pneumonia",
    "siim": "SIIM-ACR Pneumothorax",
    "vindr": "VinDr-CXR",
    "brax": "BRAX",
    "kermany": "children of Guangzhou (Kermany 2018)",
}
"""Chest X-ray sets: how a set is called here, and its full name."""

_FROM_NIH = ("nih", "rsna", "siim")
"""These contain images of NIH ChestX-ray14: an encoder that saw one may have seen the others."""

_OTHER_NAMES = {
    "nih": ("chestxray14", "chestxray8", "cxr14"),
    "openi": ("indiana",),
    "vindr": ("vinbig",),
    "kermany": ("guangzhou", "zhanglab", "chestxraypneumonia"),
}
"""How the source of a store tells which set it is, in small letters and digits, besides by the key of `SETS`."""

_XRV = {
    # "google" in the library's list is Google's labels of NIH images.
    "densenet121-res224-all": ("nih", "padchest", "chexpert", "mimic", "openi", "rsna"),
    "densenet121-res224-nih": ("nih",),
    "densenet121-res224-pc": ("padchest",),
    "densenet121-res224-chex": ("chexpert",),
    "densenet121-res224-rsna": ("rsna",),
    "densenet121-res224-mimic_nb": ("mimic",),
    "densenet121-res224-mimic_ch": ("mimic",),
    "resnet50-res512-all": ("padchest", "nih", "rsna", "siim", "vindr"),
}
_HUB = {"rad-dino": ("mimic", "chexpert", "nih", "padchest", "brax")}
"""By the last part of a repository's name, so that a copy on disk is known too."""
_HUB_IMAGENET = (
    "vit-base-patch16-224", "vit-base-patch16-224-in21k", "vit-large-patch16-224", "deit-base-patch16-224",
    "dino-vits8", "dino-vits16", "dino-vitb8", "dino-vitb16", "resnet-18", "resnet-50",
)  # fmt: skip
_IMAGENET_TAG = re.compile(r"^in(1k|12k|21k|22k)$")
# gathered from the web, where chest images may be among them
_OTHER_PICTURES = re.compile(r"ig\dm|ig\db|yfcc|laion|openai|webli|jft|lvd|datacomp|dfn|merged|swag|ns$|goog|sbb|clip")


@dataclass(frozen=True)
class TrainedOn:
    """What an encoder's weights were trained on.

    Args:
        known: whether anything is known; False says that any image may be among them.
        sets: keys of `SETS`, empty where there was no chest X-ray.
        labels: whether it was trained with their labels.
    """

    known: bool
    sets: tuple[str, ...] = ()
    labels: bool = False

    def sentence(self) -> str:
        """For a table."""
        if not self.known:
            return "not known"
        if not self.sets:
            return "no chest images"
        how = "with" if self.labels else "without"
        return f"{', '.join(SETS[name] for name in self.sets)} ({how} labels)"


NO_CHEST_IMAGES = TrainedOn(True)


def trained_on(encoder: str) -> TrainedOn:
    """What an encoder was trained on, by the name that a user gives it; not counting the images of a run of mococxr."""
    kind, _, rest = encoder.partition(":")
    if encoder in ("imagenet", "random"):
        return NO_CHEST_IMAGES
    if encoder == published.LITE0:
        return TrainedOn(True, published.SETS)
    if kind == "xrv" and rest in _XRV:
        return TrainedOn(True, _XRV[rest], labels=True)
    last = Path(rest.partition("@")[0]).name
    if kind == "hf" and last.lower() in _HUB:
        return TrainedOn(True, _HUB[last.lower()])
    if kind == "hf" and (last in _HUB_IMAGENET or (rest.startswith("timm/") and _only_imagenet(last))):
        return NO_CHEST_IMAGES
    if kind == "timm" or (not rest and not Path(encoder).exists()):
        return NO_CHEST_IMAGES if _only_imagenet(rest or encoder) else TrainedOn(False)
    return TrainedOn(False)


def _only_imagenet(network: str) -> bool:
    """Whether the tag of timm's weights names ImageNet and no other pictures."""
    import timm

    if "." not in network:
        published = timm.get_pretrained_cfg(network) if timm.is_model(network) else None
        network = f"{network}.{published.tag if published else ''}"
    tag = network.partition(".")[2]
    return any(_IMAGENET_TAG.match(part) for part in tag.split("_")) and not _OTHER_PICTURES.search(tag)


def shared_sets(source: str, sets: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these sets may hold images of a store.

    Args:
        source: the store's source, such as `nih` or the name of a folder.
        sets: keys of `SETS`.
    """
    plain = re.sub(r"[^a-z0-9]", "", source.lower())
    matching = {name for name in SETS if any(word in plain for word in (name, *_OTHER_NAMES.get(name, ())))}
    if matching & set(_FROM_NIH):
        matching |= set(_FROM_NIH)
    return tuple(name for name in sets if name in matching)
