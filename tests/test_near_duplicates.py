"""Fingerprints of images: copies are near, other images are far, and the search finds every pair."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from mococxr.near_duplicates import DISTANCE, FINGERPRINT, candidate_pairs, fingerprints, is_copy, mirrored
from mococxr.synthetic import draw_synthetic


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """60 synthetic images of 20 people."""
    return [draw_synthetic(3, i, patient=i // 3) for i in range(60)]


def rescaled(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def recompressed(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


COPIES = {
    "half as large": lambda image: rescaled(image, 0.5),
    "larger by half": lambda image: rescaled(image, 1.5),
    "at JPEG quality 40": lambda image: recompressed(image, 40),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=12),
    "with evened contrast": lambda image: cv2.createCLAHE(2, (8, 8)).apply(image),
    "small, dark and compressed": lambda image: recompressed(cv2.convertScaleAbs(rescaled(image, 0.6), alpha=0.9), 60),
}  # fmt: skip


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits that differ, counted one pair at a time: the slow way."""
    return np.array([[np.unpackbits(x ^ y).sum() for y in b] for x in a])


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_near_and_is_the_same_image(images: list[np.ndarray], copy: object) -> None:
    copies = [copy(image) for image in images]  # type: ignore[operator]
    prints = fingerprints(images)
    assert prints.dtype == np.uint8
    assert prints.shape == (len(images), FINGERPRINT)
    assert np.diag(distances(prints, fingerprints(copies))).max() <= DISTANCE
    assert all(is_copy(a, b) for a, b in zip(images, copies, strict=True))


def test_other_images_even_of_the_same_person_are_other_images(images: list[np.ndarray]) -> None:
    pairs = candidate_pairs(fingerprints(images), distance=75)
    assert len(pairs) > 50, "the closest images are what is to be told apart"
    assert not [pair for pair in pairs if is_copy(images[pair[0]], images[pair[1]])]


def test_small_images_are_no_more_alike_than_large_ones() -> None:
    small, others = ([draw_synthetic(seed, i, patient=i, size=64) for i in range(100)] for seed in (0, 7))
    near = candidate_pairs(fingerprints(small), fingerprints(others))
    assert len(near)
    assert not [(a, b) for a, b in near.tolist() if is_copy(small[a], others[b])]
    for image in small[:20]:
        assert is_copy(image, cv2.createCLAHE(2, (8, 8)).apply(image))


def test_the_fingerprint_of_a_mirror_image_is_known_without_it(images: list[np.ndarray]) -> None:
    prints = fingerprints([np.ascontiguousarray(image[:, ::-1]) for image in images])
    assert np.diag(distances(mirrored(fingerprints(images)), prints)).max() <= 4
    assert np.array_equal(mirrored(mirrored(prints)), prints)


@pytest.mark.parametrize("distance", [0, 40, 100])
def test_the_search_finds_what_the_slow_way_finds(monkeypatch: pytest.MonkeyPatch, distance: int) -> None:
    rng = np.random.default_rng(5)
    a = rng.integers(0, 256, (130, FINGERPRINT), np.uint8)
    b = np.concatenate([rng.integers(0, 256, (70, FINGERPRINT), np.uint8), a[::7] ^ (rng.random((19, 32)) < 0.5)])
    a[100] = a[3]
    monkeypatch.setattr("mococxr.near_duplicates._BLOCK", 33)
    assert candidate_pairs(a, b, distance).tolist() == np.argwhere(distances(a, b) <= distance).tolist()
    inside = np.argwhere(np.triu(distances(a, a) <= distance, 1))
    assert candidate_pairs(a, distance=distance).tolist() == inside.tolist()
    assert [3, 100] in inside.tolist()


def test_nothing_is_near_nothing() -> None:
    none = fingerprints([])
    assert none.shape == (0, FINGERPRINT)
    assert candidate_pairs(none).shape == (0, 2)
    assert candidate_pairs(none, none).dtype == np.int64


def test_images_without_a_picture_are_nobodys_copies(images: list[np.ndarray]) -> None:
    grey = np.full((64, 80), 7, np.uint8)
    assert not fingerprints([grey, grey + 90]).any()
    assert not is_copy(grey, grey)
    assert not is_copy(grey, images[0])


def test_the_identical_images_of_the_children_are_found_and_no_others(real_data: Path) -> None:
    folder = real_data / "pediatric"
    paths = pl.read_csv(folder / "labels.csv", infer_schema=False)["path"].to_list()[1000:1500]
    files = [(folder / path).read_bytes() for path in paths]
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) for data in files]
    identical = {(i, j) for i in range(500) for j in range(i + 1, 500) if files[i] == files[j]}
    found = {
        (i, j) for i, j in candidate_pairs(fingerprints(images), distance=70).tolist() if is_copy(images[i], images[j])
    }
    assert identical <= found
    assert found == identical
