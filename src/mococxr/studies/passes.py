"""One pass over the images for each frozen encoder, whatever the number of fractions and draws.

Features are kept in STUDY/features under the hash of all that they follow from, so that a study that goes on, or
grows by a mode or an arm, reads no image twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy import float32
from numpy.typing import NDArray

from mococxr.encoders import open_encoder
from mococxr.features import cached, features
from mococxr.heads import MODES
from mococxr.studies.plan import Draw, Trial
from mococxr.studies.trial import Work


@dataclass(frozen=True)
class Pass:
    """The images of one store, read by one frozen encoder.

    Args:
        arm, run_index: the encoder.
        store: sha256 of the store.
        encoder: hash of the weights and of how images are put to them.
    """

    arm: str
    run_index: int
    store: str
    encoder: str

    @property
    def key(self) -> tuple[str, int, str]:
        """As `Work.features` has it."""
        return self.arm, self.run_index, self.store


def passes_of(work: Work, todo: Sequence[tuple[Trial, Draw]], hashes: Mapping[str, str]) -> list[Pass]:
    """The passes that these trials need, each once.

    Args:
        hashes: `arm/run index` -> hash of the encoder.
    """
    needed = [
        Pass(trial.arm, trial.run_index, images.store.sha256, hashes[f"{trial.arm}/{trial.run_index}"])
        for trial, draw in todo
        if MODES[trial.mode].reads_features(work.config) and not draw.undefined
        for images in (work.train, work.test)
    ]
    return list(dict.fromkeys(needed))


def read_images(work: Work, one: Pass, label: str | None = None) -> Path:
    """The file of a pass's features, (N, D) float32 in the order of `Images.rows`; made where it is not there yet.

    Args:
        label: what the progress line is called; None shows none.
    """
    config, source = work.config, work.sources[one.arm, one.run_index]
    images = work.train if work.train.store.sha256 == one.store else work.test

    def make() -> NDArray[float32]:
        return features(
            open_encoder(source, config.seed), images.store, images.rows,
            size=source.spec.size, frame=config.frame, device=config.device, label=label,
        )  # fmt: skip

    made_from = (one.encoder, one.store, config.frame, config.device, images.rows.tobytes())
    return cached(work.out / "features", made_from, make)
