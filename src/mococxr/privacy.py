"""Names that mean nothing without a key: patients, studies and images as keyed hashes.

A pseudonym is the front of an HMAC-SHA256 (RFC 2104) of an identity under a secret of 32 random bytes. The same
key gives the same pseudonym in every store; without the key nobody can find the identity or try one out. The
key and the table that resolves pseudonyms stay with their owner, outside every store: `docs/privacy.md`.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr import console, files
from mococxr.errors import ImageError, InputError, RunError, Shown, UndefinedError

SECRET_BYTES = 32
DIGITS = 24
"""Hexadecimal digits of a pseudonym: 96 bits, so that two of 10^9 identities agree with chance 10^-11."""
LOOKUP = ("image", "patient", "study", "real_path", "real_patient", "real_study", "root")
"""Columns of the look-up table: three pseudonyms, and what they stand for."""


@dataclass(frozen=True)
class Key:
    """A secret, and where it is kept.

    Args:
        secret: 32 bytes or more.
        path: the key's file.
        kept: whether the file is there already.
    """

    secret: bytes
    path: Path
    kept: bool

    @classmethod
    def open(cls, path: Path, make: bool = True) -> Key:
        """Read a key, or draw a new one where there is none; `keep` writes it.

        Raises:
            InputError: the file is no key, cannot be read, or is absent and may not be made: where its look-up
                table is left, a new key would give the same people other pseudonyms.
        """
        path = Path(os.path.abspath(path))
        if path.exists() or not make:
            return cls(_read_secret(path), path, True)
        files.check_place(path)  # before hours of work, not when it is written
        new = cls(secrets.token_bytes(SECRET_BYTES), path, False)
        if new.lookup.exists():
            raise InputError(
                "There is no key at {path}, but {lookup} resolves pseudonyms of one.",
                "Put that key back, or name another file by --key.",
                path=Shown(path),
                lookup=Shown(new.lookup),
            )
        return new

    @property
    def lookup(self) -> Path:
        """The table beside the key that resolves pseudonyms."""
        return self.path.with_name(f"{self.path.name}.lookup.csv")

    @property
    def fingerprint(self) -> str:
        """Names the key without giving it away: stores with equal fingerprints share pseudonyms."""
        return self.name("key", "")  # an HMAC, which cannot be turned round

    def name(self, kind: str, identity: str) -> str:
        """The pseudonym of an identity: `patient-` and 24 digits for the kind `patient`."""
        # The kind in it: patient 7 and study 7 are not alike.
        digest = hmac.digest(self.secret, f"{kind}\0{identity}".encode(), "sha256").hex()
        return f"{kind}-{digest[:DIGITS]}"

    def names(self, kind: str, identities: pl.Series) -> pl.Series:
        """One pseudonym a value, null where the value is null."""
        known = identities.drop_nulls().unique()  # one HMAC a person, not one a row
        new = pl.Series([self.name(kind, identity) for identity in known], dtype=pl.String)
        return identities.replace_strict(known, new, default=None, return_dtype=pl.String)

    def keep(self) -> None:
        """Write the key where it is not kept yet, readable by its owner only (mode 0600).

        Raises:
            InputError: another run has made a key there meanwhile, or the place cannot be written to.
        """
        if self.kept:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_EXCL: of two runs one makes it, and the mode is there from the start.
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InputError(
                "Another run has made the key {path} meanwhile.", "Run the same command again.", path=Shown(self.path)
            ) from error
        except OSError as error:
            raise InputError(
                "Cannot write the key {path}: {reason}.",
                "Name another.",
                path=Shown(self.path),
                reason=Shown(error.strerror),
            ) from error
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(self.secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())  # the key must outlive a crash that the store outlives: it cannot be made again

    def forget(self, rows: pl.DataFrame) -> None:
        """Delete the key and its table, if this run made the key and nobody else has used it since.

        Args:
            rows: what this run recorded.
        """
        if self.kept or not self.path.is_file() or _read_secret(self.path) != self.secret:
            return
        with files.lock(self.path):
            # Rows that other runs recorded need the key.
            if self.lookup.is_file() and pl.read_csv(self.lookup, infer_schema=False).height > rows.height:
                return
            self.lookup.unlink(missing_ok=True)  # the table first: a table without a key is refused by `open`
            self.path.unlink(missing_ok=True)

    def record(self, rows: pl.DataFrame) -> None:
        """Add rows with the columns of `LOOKUP` to the look-up table (mode 0600), one run at a time.

        Raises:
            InputError: the table that is there is not one of these.
        """
        rows = rows.select(pl.col(name).cast(pl.String) for name in LOOKUP)
        with files.lock(self.path):
            if self.lookup.is_file():
                before = pl.read_csv(self.lookup, infer_schema=False)  # text: 007 stays 007
                if before.columns != list(LOOKUP):
                    raise InputError(
                        "{lookup} is not a re-identification table.", "Move it away.", lookup=Shown(self.lookup)
                    )
                rows = pl.concat([before, rows])
                # A store made again adds no row twice.
                rows = rows.unique(["image", "root", "real_path"], keep="last", maintain_order=True)
            with files.atomic(self.lookup, mode=0o600) as temporary:
                rows.write_csv(temporary)


def are_pseudonyms(kind: str, names: pl.Series) -> pl.Series:
    """True where a name has the form of a pseudonym of that kind."""
    return names.str.contains(rf"^{kind}-[0-9a-f]{{{DIGITS}}}$")


def _read_secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise InputError(
            "Cannot read the key {path}: {reason}.", "Check the path.", path=Shown(path), reason=Shown(error.strerror)
        ) from error
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES:
        raise InputError(
            "{path} is not a key: a key is at least {digits} hexadecimal digits.",
            "Name a key that `prepare` has made, or a file that does not exist yet.",
            path=Shown(path),
            digits=2 * SECRET_BYTES,
        )
    if path.stat().st_mode & 0o077:
        console.warn(f"Others than its owner may read or write the key {path}: chmod 600 {path}")
    return secret


@contextmanager
def redacted_errors() -> Iterator[None]:
    """Let no value out by an error: those of the package lose their values, the others all but kind and place.

    Raises:
        InputError: in the place of one, redacted.
        RunError: in the place of any error that is not the package's own.
    """
    try:
        yield
    except InputError as error:
        raise error.redacted() from None  # `from None`: the cause would be printed with its values
    except (RunError, ImageError, UndefinedError):  # their texts hold no values of the data
        raise
    except Exception as error:  # whatever it is, its text is not for a log
        raise RunError(redacted_traceback(error)) from None


def redacted_traceback(error: Exception) -> str:
    """An error's kind and place, without its text and without folders."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:  # to the innermost frame, where it was raised
        trace = trace.tb_next
    line = "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"unexpected: {type(error).__name__} in {line}; its text is withheld, it may name a patient."
