"""The bytes of a file, however it is packed and encoded -> text, or what kind of file it is instead."""

from __future__ import annotations

import codecs
import re
import zlib
from pathlib import Path

from mococxr.errors import InputError, Shown, message

LARGEST = 1 << 29
"""Bytes that a packed table may unpack to; a few kilobytes can hold gigabytes."""
PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
_GZIP = b"\x1f\x8b"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Marks at the beginning of a file, the longer of two that begin alike first."""
_OTHERS = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or one with a password"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"BZh", "packed by bzip2"),
    (b"\xfd7zXZ", "packed by xz"),
    (b"7z\xbc\xaf", "packed by 7-Zip"),
    (b"\x28\xb5\x2f\xfd", "packed by Zstandard"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file that it stands for"),
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|table|head)", re.IGNORECASE)
_JSON = re.compile(rb"\s*(\[\s*)?\{\s*\"")


def read_bytes(path: Path, most: int = -1) -> bytes:
    """A file's bytes, or the first of them.

    Raises:
        InputError: unreadable.
    """
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(
            "Cannot read {path}: {reason}.", "Check the path and its permissions.",
            path=path, reason=Shown(error.strerror),
        ) from error  # fmt: skip
    except MemoryError as error:
        raise InputError(
            "{path} does not fit into memory.", "Give a table of fewer rows or columns.", path=path
        ) from error


def unpacked(data: bytes, path: Path, most: int | None = None) -> bytes:
    """Gzip taken off.

    Args:
        most: bytes that are enough; the rest is not looked at. None for all, up to `LARGEST`.

    Raises:
        InputError: damaged, or larger than `LARGEST`.
    """
    if not data.startswith(_GZIP):
        return data
    limit, parts, size = LARGEST if most is None else most, [], 0
    while data.startswith(_GZIP):  # several packed files one after another are one file
        packed = zlib.decompressobj(31)  # 31: 15 bits of window, with the header of gzip
        try:
            while not packed.eof and size <= limit:
                # 1 MiB at a time: the limit is met before memory is full.
                parts.append(packed.decompress(data, 1 << 20))
                data = packed.unconsumed_tail or packed.unused_data  # the rest of this file, or the next
                size += len(parts[-1])
                if not parts[-1] and not data and not packed.eof:  # zlib itself is silent about a file that is cut off
                    raise zlib.error("cut off")
        except zlib.error as error:
            if most is None:  # with `most` the data are cut off on purpose
                problem = "{path} is a damaged gzip file."
                raise InputError(problem, "Restore it, or give it unpacked.", path=path) from error
            break
        if size > limit:
            break
    if most is None and size > LARGEST:
        raise InputError(
            "{path} unpacks to more than {most:,} MB.", "Unpack it, if that is right, and give the table itself.",
            path=path, most=LARGEST >> 20,
        )  # fmt: skip
    return b"".join(parts)


def refuse_other_kinds(data: bytes, path: Path) -> None:
    """Refuse what is known to be no table.

    Raises:
        InputError: it is; the text says what it is.
    """
    kind = next((kind for start, kind in _OTHERS if data.startswith(start)), None)
    start = data[:256].removeprefix(codecs.BOM_UTF8)  # Windows puts the mark before markup too
    if kind is None and (_MARKUP.match(start) or _JSON.match(start)):
        kind = "JSON" if _JSON.match(start) else "a web page or XML"
    if kind:
        raise InputError(
            "{path} is not a text table: it is {kind}.", "Save the table as CSV (UTF-8), .xlsx or Parquet.",
            path=path, kind=Shown(kind),
        )  # fmt: skip


def as_text(data: bytes, path: Path, whole: bool = True) -> tuple[str, tuple[Shown, ...]]:
    r"""Text with `\n` at the end of lines, and what had to be guessed.

    UTF-8, or by its mark UTF-16 or UTF-32, or UTF-16 by its zero bytes; else cp1252, which is Latin-1 with the letters
    that Windows adds, and reads nearly any bytes, so it is said.

    Args:
        whole: the data are a whole file, and no letter may be cut at its end.

    Raises:
        InputError: no text.
    """
    refuse_other_kinds(data, path)
    encoding = _encoding(data)
    notes: tuple[Shown, ...] = ()
    try:
        # Not whole: a letter cut at the end is left out.
        text = codecs.getincrementaldecoder(encoding)().decode(data, whole).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InputError(
                "{path} is damaged: it is not {encoding} throughout.", "Save the table as CSV (UTF-8).",
                path=path, encoding=Shown(encoding.upper()),
            ) from error  # fmt: skip
        text = _western(data)
        notes = (message("{table} is not UTF-8: it was read as Latin-1 (cp1252).", table=path.name),)
    if "\0" in text:  # no encoding of text has one
        raise InputError("{path} is not a text table.", "Give CSV, .xlsx or Parquet.", path=path)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for letter in ("\ufeff", "\u200b", "\u2060"):  # no width: a name with one of them only looks like the name
        text = text.replace(letter, "") if letter in text else text
    return text.rstrip("\x1a"), notes  # DOS programs end a file with it


def _encoding(data: bytes) -> str:
    """By the mark, else by zero bytes in every second place of the beginning."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    start = data[:512]
    even, odd = start[::2].count(0), start[1::2].count(0)
    # Western letters in UTF-16 have a zero byte each.
    if len(data) % 2 == 0 and max(even, odd) > 0.4 * len(start) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def _western(data: bytes) -> str:
    """cp1252; the five bytes that it leaves out as Latin-1 has them."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")
