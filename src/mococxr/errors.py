"""The errors that a user is meant to read: each names the culprit and the way out."""

from __future__ import annotations

WITHHELD = "(withheld)"


class Shown(str):
    """Text that names nobody, or that knows what of it does: `redacted` is shown where values are withheld."""

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


def message(template: str, **values: object) -> Shown:
    """A sentence with its values, as by `str.format`; without any, the template is taken as it is.

    Its redacted form keeps numbers and what is `Shown`, and withholds every other value: it may name a patient.
    """
    if not values:
        return template if isinstance(template, Shown) else Shown(template)
    safe = {name: _safe(value) for name, value in values.items()}
    return Shown(template.format(**values), redacted=template.format(**safe))


def _safe(value: object) -> object:
    if isinstance(value, Shown):
        return value.redacted
    return value if isinstance(value, int | float) else _Withheld()


class InputError(Exception):
    """Bad input or settings (exit status 2): nothing was written.

    Args:
        problem: one sentence that names the file, row, field or setting at fault; `{name}` stands for a value.
        way_out: one sentence that says what to do about it.
        values: put into both sentences, see `message`.
    """

    def __init__(self, problem: str, way_out: str, **values: object) -> None:
        self.problem, self.way_out = message(problem, **values), message(way_out, **values)
        super().__init__(f"{self.problem}\n  {self.way_out}")

    def redacted(self) -> InputError:
        """The same error without values that may name a patient: numbers stay, and text that is `Shown`."""
        return InputError(self.problem.redacted, self.way_out.redacted)

    def __reduce__(self) -> tuple[type[InputError], tuple[Shown, Shown]]:
        """Travel whole between processes."""
        return InputError, (self.problem, self.way_out)


class ImageError(Exception):
    """One image cannot be read. The text is the reason written to `quarantine.csv`."""


class UndefinedError(Exception):
    """A number that the data do not define (one class only, no test images): the text is the reason."""


class RunError(Exception):
    """A run that had started had to stop (exit status 1); what was saved before is intact."""
