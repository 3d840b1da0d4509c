"""DICOM: the facts of a header, what is an image, and its pixels as grey.

`header` and `not_an_image` look at a file without decoding it; the pixels come by `images.decode_image`.
"""

from __future__ import annotations

from mococxr.images.dicom.kind import not_an_image
from mococxr.images.dicom.metadata import Header, header

__all__ = ["Header", "header", "not_an_image"]
