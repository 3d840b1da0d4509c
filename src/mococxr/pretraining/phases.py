"""Steps and phases of a run: which views and which learning rate a step has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mococxr.settings import Phase


def phase_of(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase that an epoch belongs to; the last goes on for ever."""
    for phase in phases[:-1]:
        if epoch < phase.epochs:
            return phase
        epoch -= phase.epochs
    return phases[-1]


@dataclass(frozen=True)
class Phases:
    """The phases of a run in steps.

    Args:
        phases: in order.
        steps_per_epoch: the same in all: the batch does not change.
        lr: learning rate of the schedule that phases without a rate of their own share.
    """

    phases: tuple[Phase, ...]
    steps_per_epoch: int
    lr: float

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self._steps(self.phases)

    def begins(self, step: int) -> bool:
        """Whether a step is the first of a phase."""
        return step == self._steps(self.phases[: self._number(step)])

    def schedule(self, step: int) -> tuple[int, int, float]:
        """A step's place in its learning rate schedule, the steps of that, and its rate.

        A phase with a rate of its own has a schedule of its own; all others share one, as if they followed each other.
        """
        number = self._number(step)
        before, phase = self.phases[:number], self.phases[number]
        position = step - self._steps(before)
        if phase.lr is not None:
            return position, self._steps([phase]), phase.lr
        position += self._steps([other for other in before if other.lr is None])
        return position, self._steps([other for other in self.phases if other.lr is None]), self.lr

    def surplus(self, step: int) -> float:
        """What the steps of later phases cost beyond as many of this step's phase, in steps of the latter: by pixels."""
        number = self._number(step)
        size = self.phases[number].size
        return sum(self._steps([later]) * ((later.size / size) ** 2 - 1) for later in self.phases[number + 1 :])

    def _number(self, step: int) -> int:
        return sum(step >= self._steps(self.phases[:i]) for i in range(1, len(self.phases)))

    def _steps(self, phases: Sequence[Phase]) -> int:
        return sum(phase.epochs for phase in phases) * self.steps_per_epoch
