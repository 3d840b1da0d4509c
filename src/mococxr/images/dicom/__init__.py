"""DICOM: the facts of a header, what is a chest image, and its pixels as grey.

`header` and `rejection_reason` look at a file without decoding it; the pixels come by `images.decode_image`.
"""

from __future__ import annotations

from mococxr.images.dicom.metadata import OTHER_PART, Metadata, header, rejection_reason

__all__ = ["OTHER_PART", "Metadata", "header", "rejection_reason"]
