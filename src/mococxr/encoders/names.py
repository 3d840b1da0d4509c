"""How encoders are written where a size or several may be named: `imagenet@288+run@96`, `'my+run'@96`.

`@SIZE` behind an encoder is the side of its frames, px; `+` puts encoders side by side. What stands in quotes is taken
as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from mococxr.encoders.spec import short_name
from mococxr.errors import InputError

SMALLEST, LARGEST = 16, 4096
"""Sides of frames that `@SIZE` takes, px."""
_SIZE = re.compile(r"@(\d+)$")
_QUOTES = "'\""
_BEFORE = "=,+:"
"""A quote opens at the beginning and behind these; elsewhere it is an apostrophe."""


@dataclass(frozen=True)
class EncoderName:
    """One encoder as it was written.

    Args:
        text: its name, without quotes and size.
        size: side of its frames, px; None where none is written.
    """

    text: str
    size: int | None = None

    def __str__(self) -> str:
        """What it is called in tables."""
        return short_name(self.text) + (f"@{self.size}" if self.size else "")


def encoder_names(text: str | PathLike[str]) -> tuple[EncoderName, ...]:
    """The encoders that a text names side by side; a path object is one, whatever stands in it.

    Raises:
        InputError: a part without a name, a size out of range, a quote without its end, or a path with `@` or `+` that
            is not in quotes.
    """
    if not isinstance(text, str):
        return (EncoderName(fspath(text)),)
    parts = split_outside_quotes(text, "+")
    for path in (text, *parts):
        _refuse_unquoted(path)
    return tuple(_one(part, text) for part in parts)


def arm_name(text: str | PathLike[str]) -> str:
    """What the encoders of a text are called in tables: `imagenet@288+run@96`."""
    return "+".join(map(str, encoder_names(text)))


def quoted(path: str | PathLike[str]) -> str:
    """A path as it is written among names of encoders: in quotes where a sign in it means something there."""
    text = fspath(path)
    return f"'{text}'" if any(mark in text for mark in "@+,=") else text


def split_outside_quotes(text: str, mark: str, most: int = -1) -> list[str]:
    """`text.split(mark, most)`, but not at marks in quotes; quotes stay.

    Raises:
        InputError: a quote without its end.
    """
    parts, begin, quote = [], 0, ""
    for i, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in _QUOTES and (i == 0 or text[i - 1] in _BEFORE):
            quote = sign
        elif sign == mark and most != 0:
            parts.append(text[begin:i])
            begin, most = i + 1, most - 1
    if quote:
        raise InputError(f"A quote in {text} has no end.", f"Write {quote} behind the path, too.")
    return [*parts, text[begin:]]


def _one(part: str, text: str) -> EncoderName:
    name, size = part, None
    if written := _SIZE.search(part):
        name, size = part[: written.start()], int(written[1])
        if not SMALLEST <= size <= LARGEST:
            raise InputError(
                f"{text}: @{size} is no size of a frame, which is between {SMALLEST} and {LARGEST} px.",
                "Write for example imagenet@288; a name that ends so is put in quotes.",
            )
    name = re.sub(r"""(^|:)(['"])(.*)\2$""", r"\1\3", name)
    if not name:
        raise InputError(f"{text} names no encoder beside a + or @.", "Write for example imagenet@288+run@96.")
    return EncoderName(name, size)


def _refuse_unquoted(text: str) -> None:
    """Refuse a path that is there and whose name would be taken apart."""
    file = text.partition(":")[2] or text
    if any(mark in text for mark in "@+") and (Path(text).exists() or Path(file).exists()):
        raise InputError(
            f"{text} is a path with @ or +, which stand for a size and for encoders side by side.",
            f"Put it in quotes inside the text: {text.removesuffix(file)}'{file}'.",
        )
