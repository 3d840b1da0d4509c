"""One file -> one grey image.

`read_image` for a path; `read_bytes` then `decode_image` where the caller also wants the bytes (a hash, say)
from one read of the file. Every reason an image cannot be read is an `ImageError`.
"""

from __future__ import annotations

from mococxr.images.raster import resize_shorter
from mococxr.images.read import MAX_PIXELS, decode_image, read_bytes, read_image, shape_of

__all__ = ["MAX_PIXELS", "SUFFIXES", "decode_image", "read_bytes", "read_image", "resize_shorter", "shape_of"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
"""What is taken for an image in a folder that is searched; a file named by a table or by the user may be called
anything, as its first bytes decide."""
