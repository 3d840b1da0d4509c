"""Which images are one image: a fingerprint that survives copying, a fast search for near ones, a pixel check.

A copy here is the same exposure stored again: rescaled, recompressed, brightened. Two exposures of one person,
however alike, are two images. Measured on 1,000 images of adults (shorter side 320), 5,216 of children (224 x 224)
and 600 synthetic images; for each, 500 to 600 copies of a kind at scale 0.5 to 1.5, JPEG quality 30 to 80, gain 0.85 to
1.15 with an offset up to 20 grey levels, gamma 0.8 to 1.25:

| | adults | children | synthetic |
|---|---|---|---|
| distance of a copy: median, 99 %, largest of the worst kind | 3, 18, 38 | 2, 9, 13 | 2, 9, 14 |
| distance to the nearest image of another patient: smallest, median | 57, 87 | 46, 78 | 22, 46 |
| distance to another image of the same patient: smallest | 53 | 60 | 27 |
| likeness of a copy: smallest of whole, of detail | .992, .962 | .995, .976 | .996, .983 |
| likeness of the closest images that are no copies: largest of whole, of detail | .962, .612 | .957, .522 | .974, .746 |

A copy whose contrast was evened out (CLAHE, tiles 8 x 8) is like its image where both are evened. Of 120 adults, 60
children and 60 synthetic images each:

| | adults | children | synthetic |
|---|---|---|---|
| clip limit 2: largest distance, smallest likeness when evened | 36, .92 | 29, .96 | 27, .96 |
| clip limit 4 | 52, .84 | 41, .91 | 39, .91 |
| likeness when evened of the closest images that are no copies: largest | .73 | .62 | .82 |
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

FINGERPRINT = 32
"""Bytes of a fingerprint: 16 x 16 signs of low frequencies."""
DISTANCE = 48
"""Bits of 256 in which the fingerprints of an image and its copy may differ. Real images that are no copies begin at
46; synthetic images, which are more alike, at 22: the pixel check decides."""
WHOLE, DETAIL, EVENED = 0.95, 0.86, 0.88
"""The least correlation of a copy, of the whole image and of its detail; or of both images evened out."""

_SIDE, _CELLS = 64, 16  # pixels that an image is shrunk to; frequencies each way
_LOCAL = 6.0
"""Pixels over which brightness and contrast are evened out: of 64 before the frequencies are taken, of 128 in `is_copy`."""
_FLAT = 4.0
"""Grey levels under which contrast is taken for grain, and not amplified."""
_COMMON = 128  # pixels of a side, at most, at which two images are correlated
_FINE = 3.0
"""Pixels (of 128) of the blur that is taken away from an image to leave its detail."""
_BLOCK = 4096  # fingerprints: the products of two blocks take 64 MiB

Bytes = npt.NDArray[np.uint8]


def fingerprints(images: Iterable[Bytes]) -> Bytes:
    """Perceptual fingerprints of images, in order.

    An image is shrunk to 64 x 64, its local mean and contrast are taken out, and the signs of 16 x 16 low
    frequencies (of its cosine transform, without the zeroth) are its bits. Images without a picture (all one
    grey) have the fingerprint 0, so all of them are near each other: leave them out.

    Args:
        images: uint8 (H, W) each, any size.

    Returns:
        uint8 (N, 32).
    """
    prints = [_fingerprint(image) for image in images]
    return np.stack(prints) if prints else np.zeros((0, FINGERPRINT), np.uint8)


def _fingerprint(image: Bytes) -> Bytes:
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(_evened(small, _LOCAL))[1 : _CELLS + 1, 1 : _CELLS + 1]
    return np.packbits(waves > 1e-3)  # not 0: rounding would give an even grey a print


def _evened(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    rest = image - _blur(image, sigma)
    return np.asarray(rest / (np.sqrt(_blur(rest * rest, sigma)) + _FLAT), np.float32)


def mirrored(prints_N32: Bytes) -> Bytes:
    """The fingerprints (N, 32) of the mirror images: every second frequency across changes its sign.

    Of an image without a picture, whose fingerprint is 0, it is none: leave those out.
    """
    across = np.tile(np.arange(1, _CELLS + 1) % 2 == 1, _CELLS)
    return prints_N32 ^ np.packbits(across)


def _blur(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def candidate_pairs(a_N32: Bytes, b_M32: Bytes | None = None, distance: int = DISTANCE) -> npt.NDArray[np.int64]:
    """Pairs of fingerprints that differ in at most `distance` bits.

    Every pair is compared, as products of signs in blocks: exact, memory does not grow with N x M (but with
    the pairs found). 100,000 images against themselves take about a minute on one core.

    Args:
        a_N32: uint8 (N, 32).
        b_M32: uint8 (M, 32); None compares the rows of `a_N32` with each other.
        distance: bits, 0 to 256.

    Returns:
        int64 (P, 2), in order: (i, j) of `a_N32` and `b_M32`, or i < j within `a_N32`.
    """
    within = b_M32 is None
    other_M32 = a_N32 if b_M32 is None else b_M32
    bits = 8 * FINGERPRINT
    blocks = [np.zeros((0, 2), np.int64)]
    for top in range(0, len(a_N32), _BLOCK):
        rows = _signs(a_N32[top : top + _BLOCK])
        for left in range(top if within else 0, len(other_M32), _BLOCK):
            agreement = rows @ _signs(other_M32[left : left + _BLOCK]).T  # whole numbers up to 256: exact in float32
            pairs = np.argwhere(agreement >= bits - 2 * distance) + np.array([top, left])
            blocks.append(pairs[pairs[:, 0] < pairs[:, 1]] if within else pairs)
    every = np.concatenate(blocks)
    return every[np.lexsort((every[:, 1], every[:, 0]))]


def _signs(packed_N32: Bytes) -> npt.NDArray[np.float32]:
    """Bits as +1 and -1, float32 (N, 256): the product of two rows is 256 less twice their distance."""
    return np.unpackbits(packed_N32, axis=1).astype(np.float32) * 2 - 1


def is_copy(image_a: Bytes, image_b: Bytes) -> bool:
    """Whether two images are copies of one exposure: the whole correlates, and so does its detail; or both do evened out.

    Both are brought to one small size first, so that scale and grain of compression do not count. An image
    without a picture is nobody's copy.

    Args:
        image_a, image_b: uint8 (H, W), any sizes.
    """
    whole, detail = correlations(image_a, image_b)
    if whole >= WHOLE and detail >= DETAIL:
        return True
    # a copy of evened contrast has all the detail, and a whole of other greys
    a, b = _common(image_a, image_b)
    sigma = _scaled(_LOCAL, a)
    return detail >= 0.5 and _correlation(_evened(a, sigma), _evened(b, sigma)) >= EVENED


def correlations(image_a: Bytes, image_b: Bytes) -> tuple[float, float]:
    """Correlations, -1 to 1, of two images as a whole and of their fine detail; 0 where one has no picture."""
    a, b = _common(image_a, image_b)
    sigma = _scaled(_FINE, a)
    return _correlation(a, b), _correlation(a - _blur(a, sigma), b - _blur(b, sigma))


def _scaled(sigma: float, image: npt.NDArray[np.float32]) -> float:
    """What covers the same part of an image whatever its side: `sigma` is px of a side of `_COMMON`."""
    return sigma * len(image) / _COMMON


def _common(*images: Bytes) -> list[npt.NDArray[np.float32]]:
    """Images at one size, small enough for all."""
    side = min(_COMMON, *(length for image in images for length in image.shape))
    return [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) for image in images]


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / spread if spread > 1e-3 else 0.0
