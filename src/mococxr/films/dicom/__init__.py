"""DICOM: the facts of a header, what is a film, and its pixels as grey.

`header` and `not_a_film` look at a file without decoding it; the pixels come by `films.decode_film`.
"""

from __future__ import annotations

from mococxr.films.dicom.facts import Header, header
from mococxr.films.dicom.kind import not_a_film

__all__ = ["Header", "header", "not_a_film"]
