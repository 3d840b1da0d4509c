"""One file -> one grey image.

`read_film` for a path; `read_bytes` then `decode_film` where the caller also wants the bytes (a hash, say)
from one read of the file. Every reason a film cannot be read is a `FilmError`.
"""

from __future__ import annotations

from mococxr.images.raster import resize_shorter
from mococxr.images.read import MAX_PIXELS, decode_film, read_bytes, read_film, shape_of

__all__ = ["MAX_PIXELS", "SUFFIXES", "decode_film", "read_bytes", "read_film", "resize_shorter", "shape_of"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
"""What is taken for a film in a folder that is searched; a file named by a table or by the user may be called
anything, as its first bytes decide."""
