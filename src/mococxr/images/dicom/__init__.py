"""DICOM: the facts of a header, what is a film, and its pixels as grey.

`header` and `not_a_film` look at a file without decoding it; the pixels come by `films.decode_film`.
"""

from __future__ import annotations

from mococxr.images.dicom.kind import not_a_film
from mococxr.images.dicom.metadata import Header, header

__all__ = ["Header", "header", "not_a_film"]
