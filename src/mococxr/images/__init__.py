"""One file -> one grey image.

`read_image` for a path or bytes; `read_bytes` then `decode` where the caller also wants the bytes (a hash, say) from one
read of the file, or the remarks. Every reason an image cannot be read is an `ImageError`.
"""

from __future__ import annotations

from mococxr.images.grey_levels import MAX_PIXELS, Decoded, Reading, remarked
from mococxr.images.raster import resize_shorter
from mococxr.images.read import LEADS_OUT, decode, decode_image, read_bytes, read_image, shape_of

__all__ = [
    "LEADS_OUT",
    "MAX_PIXELS",
    "SUFFIXES",
    "Decoded",
    "Reading",
    "decode",
    "decode_image",
    "read_bytes",
    "read_image",
    "remarked",
    "resize_shorter",
    "shape_of",
]

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".jp2", ".j2k", ".j2c",
    ".jpc", ".jpx", ".jpf", ".dcm", ".dicom",
)  # fmt: skip
"""What is taken for an image in a folder that is searched; a file named by a table or by the user may be called
anything, as its first bytes decide."""
