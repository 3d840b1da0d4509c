"""PNG, JPEG, TIFF and BMP -> one uint8 grey image, the right way up.

Decoding is OpenCV's. What it leaves open is settled here, in this order: size limits from the header, the
decode itself with its native messages caught, colour to luma, transparency, white-is-zero, 16 to 8 bits,
orientation.
"""

from __future__ import annotations

import cv2
import numpy as np

from mococxr.errors import ImageError
from mococxr.images.grey_levels import to_eight_bits
from mococxr.images.header import read_header
from mococxr.images.native import decode_image

MIN_SIDE = 16
"""Pixels of the shorter side under which a file is no image."""


def decode_raster(data: bytes, window: tuple[float, float] | None, max_pixels: int) -> np.ndarray:
    """Decode a picture from the bytes of its file; result and errors as in `images.decode_image`.

    Args:
        window: percentiles of an image of more than 8 bits that become 0 and 255; None is its whole declared range.

    Transparency: an image whose alpha differs from pixel to pixel is laid over black; one that is opaque
    everywhere, or transparent everywhere (an alpha nobody filled in), is read as if it had no alpha. The
    decoder lays 8-bit TIFFs over black itself, whatever their alpha.
    A TIFF of several pages is refused; reduced copies and masks of the first do not count as pages.
    """
    header = read_header(data)
    check_size(header.width, header.height, max_pixels)
    grey = _to_grey(decode_image(data), header.associated_alpha)
    eight = to_eight_bits(grey, header.shift, header.top, header.white_is_zero, window)
    return np.ascontiguousarray(_upright(eight, header.orientation))


def resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the shorter side is exactly `size` pixels, aspect kept to the nearest pixel.

    Args:
        image: uint8 (H, W).
        size: pixels, at least 1.

    Returns:
        uint8 (H', W') with min(H', W') == size: area averages when shrinking (nothing aliases), bilinear when
        enlarging; the image itself where it has that size already.
    """
    height, width = image.shape
    short = min(height, width)
    if short == size:
        return image
    wanted = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    return cv2.resize(image, wanted, interpolation=cv2.INTER_AREA if size < short else cv2.INTER_LINEAR)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse by the header alone: too large to be safe, too small to be an image."""
    if width * height > max_pixels:
        raise ImageError(f"{width:,} x {height:,} pixels: over the limit of {max_pixels:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small for an image (at least {MIN_SIDE} a side)")


def _to_grey(pixels: np.ndarray, associated_alpha: bool) -> np.ndarray:
    """Luma (ITU-R BT.601) of what is seen over black; three equal channels give exactly that channel."""
    if pixels.ndim == 2:
        return pixels
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2GRAY)
    if pixels.shape[2] < 4 or associated_alpha:
        return grey
    alpha, full = pixels[..., 3], np.iinfo(pixels.dtype).max
    if alpha.min() == full or alpha.max() == 0:
        return grey
    return ((grey.astype(np.uint64) * alpha + full // 2) // full).astype(pixels.dtype)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation: 5..8 lie on their side, 2, 4, 5 and 7 are mirrored as well."""
    if orientation >= 5:
        image = image.T
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
