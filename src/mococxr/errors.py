"""The errors that a user is meant to read: each names the culprit and the way out."""

from __future__ import annotations


class InputError(Exception):
    """Bad input or settings (exit status 2): nothing was written.

    Args:
        problem: one sentence that names the file, row, field or setting at fault.
        way_out: one sentence that says what to do about it.
    """

    def __init__(self, problem: str, way_out: str) -> None:
        super().__init__(f"{problem}\n  {way_out}")
        self.problem = problem
        self.way_out = way_out

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        """Travel whole between processes."""
        return InputError, (self.problem, self.way_out)


class ImageError(Exception):
    """One image cannot be read. The text is the reason written to `quarantine.csv`."""


class UndefinedError(Exception):
    """A number that the data do not define (one class only, no test images): the text is the reason."""


class RunError(Exception):
    """A run that had started had to stop (exit status 1); what was saved before is intact."""
