"""Which files are opened at all, and the resize to the shorter side."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mococxr.errors import ImageError
from mococxr.images import read_bytes, read_image, resize_shorter

GREY = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG")
    return stream.getvalue()


def test_only_a_regular_file_inside_the_source_is_read(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe.png")
    cases = {root / "link.png": "leads out", root / "pipe.png": "regular file", root / "none.png": "no such file"}
    cases |= {root: "a folder", root / "loop.png": "cannot be read|no such file", Path("/dev/zero"): "leads out"}
    for path, reason in cases.items():
        with pytest.raises(ImageError, match=reason):
            read_bytes(path, root)
    with pytest.raises(ImageError, match="regular file"):
        read_image(Path("/dev/zero"))
    assert np.array_equal(read_image(root / "link.png"), GREY)


def test_a_file_without_permission_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ImageError, match="Permission denied"):
        read_image(path)


@pytest.mark.parametrize("shape", [(64, 80), (80, 64), (50, 50), (17, 333), (1000, 3)])
@pytest.mark.parametrize("size", [1, 16, 50, 64, 200])
def test_the_shorter_side_is_exact_and_the_aspect_is_kept(shape: tuple[int, int], size: int) -> None:
    image = resize_shorter(np.zeros(shape, np.uint8), size)
    assert min(image.shape) == size
    assert abs(max(image.shape) - max(shape) * size / min(shape)) <= 0.5
    assert (shape[0] > shape[1]) == (image.shape[0] > image.shape[1]) or image.shape[0] == image.shape[1]


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    small = resize_shorter(stripes, 32)
    assert np.abs(small.astype(int) - 128).max() <= 1
    blocks = np.random.default_rng(2).integers(0, 256, (96, 128), dtype=np.uint8)
    means = blocks.reshape(24, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(resize_shorter(blocks, 24) - means).max() <= 0.51
