"""One file -> one grey image.

`read_image` for a path or bytes; `read_bytes` then `decode_image` where the caller also wants the bytes (a hash, say)
from one read of the file. Every reason an image cannot be read is an `ImageError`.
"""

from __future__ import annotations

from mococxr.images.grey_levels import MAX_PIXELS, Reading
from mococxr.images.raster import resize_shorter
from mococxr.images.read import LEADS_OUT, decode_image, read_bytes, read_image, shape_of

__all__ = [
    "LEADS_OUT",
    "MAX_PIXELS",
    "SUFFIXES",
    "Reading",
    "decode_image",
    "read_bytes",
    "read_image",
    "resize_shorter",
    "shape_of",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".dcm", ".dicom")
"""What is taken for an image in a folder that is searched; a file named by a table or by the user may be called
anything, as its first bytes decide."""
