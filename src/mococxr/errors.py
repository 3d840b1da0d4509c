"""The errors that a user is meant to read: each names the culprit and the way out."""

from __future__ import annotations


class Shown(str):
    """Text that names nobody: it is shown also where values are withheld."""

    redacted: str

    def __new__(cls, text: object, redacted: str | None = None) -> Shown:
        """Args: redacted: what is shown instead, where only a part names nobody."""
        made = super().__new__(cls, text)
        made.redacted = str(text) if redacted is None else redacted
        return made


class _Withheld:
    """Stands for a value of the data in a message that may leave the building."""

    def __format__(self, spec: str) -> str:
        return WITHHELD

    __repr__ = __str__ = lambda _: WITHHELD


WITHHELD = "(withheld)"


class InputError(Exception):
    """Bad input or settings (exit status 2): nothing was written.

    Args:
        problem: one sentence that names the file, row, field or setting at fault; `{name}` stands for a value.
        way_out: one sentence that says what to do about it.
        values: put into both sentences as by `str.format`. Without any, the sentences are taken as they are.
    """

    def __init__(self, problem: str, way_out: str, **values: object) -> None:
        self.templates, self.values = (problem, way_out), values
        self.problem, self.way_out = _filled(self.templates, values)
        super().__init__(f"{self.problem}\n  {self.way_out}")

    def redacted(self) -> InputError:
        """The same error without values that may name a patient: numbers stay, and text that is `Shown`."""
        return InputError(*_filled(self.templates, {name: _safe(value) for name, value in self.values.items()}))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        """Travel whole between processes."""
        return InputError, (self.problem, self.way_out)


def _filled(templates: tuple[str, str], values: dict[str, object]) -> tuple[str, str]:
    problem, way_out = templates
    return (problem.format(**values), way_out.format(**values)) if values else templates


def _safe(value: object) -> object:
    if isinstance(value, Shown):
        return value.redacted
    return value if isinstance(value, int | float) else _Withheld()


class ImageError(Exception):
    """One image cannot be read. The text is the reason written to `quarantine.csv`."""


class UndefinedError(Exception):
    """A number that the data do not define (one class only, no test images): the text is the reason."""


class RunError(Exception):
    """A run that had started had to stop (exit status 1); what was saved before is intact."""
