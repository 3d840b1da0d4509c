"""One search of a folder: which files may be images, and what was passed by, in numbers. Every search is this one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mococxr.errors import InputError, Shown, message
from mococxr.images import SUFFIXES

UNFIT = "a file name that no table can hold"
CLOSED = "a folder that cannot be read"
_SYSTEM = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "@__thumb", "@tmp", "#recycle", "#snapshot", "~snapshot", "__macosx",
    "__pycache__", "$recycle.bin", "recycler", "recycled", "lost+found", "system volume information",
    "network trash folder", "temporary items",
})  # fmt: skip
"""Folders that NAS, desktops and file systems make, in lower case: what lies there are thumbnails and deleted files."""
_FOREIGN = re.compile(
    r"\.(png|jpe?g|jfif|jpe|tiff?|bmp|dib|gif|webp|avif|hei[cf]|jp[2cxf]|j2[kc]|svg|psd|p[gnp]m|csv|tsv|txt|md|log|json|ya?ml|xml"
    r"|html?|css|js|pdf|docx?|xlsx?|pptx?|zip|gz|tgz|bz2|xz|7z|rar|tar|exe|dll|so|jar|class|ini|inf|bat|sh|py|ipynb|db"
    r"|sqlite|parquet|npy|npz|mp4|avi|nii|nrrd|mhd|raw|bak|tmp|part)$",
    re.IGNORECASE,
)
"""Suffixes of files of other kinds."""


def by_suffix(name: str) -> str | None:
    """None for the name of an image, else what the file is by its name."""
    return None if os.path.splitext(name)[1].lower() in SUFFIXES else _kind(name)


def any_name(name: str) -> str | None:
    """None for a name that a DICOM file may have, which is nearly any, else what the file is by its name."""
    return _kind(name) if _FOREIGN.search(name) or name.upper() == "DICOMDIR" else None


def any_image(name: str) -> str | None:
    """None for a name that an image may have where DICOM files and others lie together."""
    return by_suffix(name) and any_name(name)  # an image by either of the two


def _kind(name: str) -> str:
    """What a file that is not opened is called in a count."""
    if name.upper() == "DICOMDIR":
        return "DICOMDIR"
    suffix = re.search(r"\.[a-z][a-z0-9]{0,9}$", name.lower())  # a letter first: .1 to .9 end UIDs, not kinds of files
    return suffix[0] if suffix else "no suffix"


@dataclass
class Walk:
    """A search, and what it passed by; links to folders are not followed, so it ends.

    Args:
        root: the folder that paths are relative to.
        kind: name of a file -> None where it may be an image, else what it is.
        skipped: kind of file or folder -> how many were passed by.
        links: links to folders, and unfit: files whose name no table can hold, relative to the root (`printable`).
        closed: folders that cannot be read, and why.
    """

    root: Path
    kind: Callable[[str], str | None] = by_suffix
    skipped: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)

    def files(self, folder: str = "") -> Iterator[str]:
        """Files of a folder of the root and below it that may be images: posix paths relative to the root."""
        for path, kind in self.entries(folder):
            if kind is None:
                yield path
            else:
                self.skipped[kind] += 1

    def entries(self, folder: str = "") -> Iterator[tuple[str, str | None]]:
        """Every file that is not hidden, folder by folder, with its kind."""
        top = os.fspath(self.root)
        # Without onerror a closed folder is passed in silence.
        for where, folders, names in os.walk(os.path.join(top, folder), onerror=self._shut):
            prefix = os.path.relpath(where, top).replace(os.sep, "/")
            prefix = "" if prefix == "." else f"{prefix}/"
            # In place: os.walk goes on with this list.
            folders[:] = sorted(name for name in folders if not self._passed_by(where, prefix, name))
            for name in sorted(names):
                if name.startswith("."):
                    self.skipped["hidden files"] += 1
                elif not fits(prefix + name):
                    self.unfit.append(printable(prefix + name))
                else:
                    yield prefix + name, self.kind(name)

    def _passed_by(self, where: str, prefix: str, name: str) -> bool:
        """Whether a folder is not searched; it is then counted."""
        if name.startswith("."):
            kind = "hidden folders"
        elif name.lower() in _SYSTEM or re.fullmatch(r"found\.\d{3}", name.lower()):
            kind = "system folders"
        elif os.path.islink(os.path.join(where, name)):
            kind = "links to folders"
            self.links.append(printable(prefix + name))
        else:
            return False
        self.skipped[kind] += 1
        return True

    def _shut(self, error: OSError) -> None:
        """A folder that is not there holds no images; one that is there and cannot be read may."""
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            top = os.fspath(self.root)
            self.closed[printable(os.path.relpath(error.filename or top, top))] = str(error.strerror)

    def refuse_closed(self) -> None:
        """Refuse a folder that cannot be read.

        Raises:
            InputError: there is one.
        """
        for folder, reason in self.closed.items():
            raise InputError(
                "Cannot read the folder {folder}: {reason}.",
                "Check its permissions.",
                folder=self.root / folder,
                reason=Shown(reason),
            )

    def rejected(self) -> pl.DataFrame:
        """`path, reason` of what was met and cannot be an image of a dataset."""
        reasons = [UNFIT] * len(self.unfit) + [CLOSED] * len(self.closed)
        text = {"path": pl.String, "reason": pl.String}
        return pl.DataFrame({"path": [*self.unfit, *self.closed], "reason": reasons}, schema=text)

    def notes(self) -> tuple[Shown, ...]:
        """What was passed by, in numbers."""
        notes = []
        if self.skipped:
            known = Counter[str]()  # of a suffix that is not known who knows what it names
            for kind, count in self.skipped.items():
                known[kind if kind[0] != "." or _FOREIGN.search(kind) else "other suffixes"] += count
            notes.append(Shown(f"Not opened: {_counts(self.skipped)}.", f"Not opened: {_counts(known)}."))
        if self.links:
            names = ", ".join(map(repr, self.links[:5])) + (" ..." if len(self.links) > 5 else "")
            notes.append(
                message(
                    "Links to folders are not followed: {names}. Give the folder that one leads to as SOURCE, or copy it.",
                    names=names,
                )
            )
        return tuple(notes)


def _counts(kinds: Counter[str]) -> str:
    """`.webp 8, hidden files 2`, the most frequent first; those of many kinds are added up."""
    parts = [f"{kind} {count:,}" for kind, count in kinds.most_common(12)]
    rest = kinds.total() - sum(count for _, count in kinds.most_common(12))
    return ", ".join(parts) + (f", others {rest:,}" if rest else "")


def fits(path: str) -> bool:
    """Whether a path is text, and one path on every system."""
    strange = not path.isprintable() and any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in path
    )
    return not strange and "\\" not in path and path[1:2] != ":"  # a backslash or C: is another path on Windows


def printable(path: str) -> str:
    """A path as it can be written: `?` for what is no text."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in path)
