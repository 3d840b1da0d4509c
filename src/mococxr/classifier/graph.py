"""`model.onnx` run by onnxruntime: the scores of a classifier without PyTorch. `mococxr.exporting` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "model.onnx"
BATCH = 64
"""Images of one shape that are scored together."""


def open_graph(path: Path, threads: int = 1) -> Any:
    """A session of onnxruntime on the CPU, which reports to nobody."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def graph_scores(
    session: Any, images: Sequence[Sequence[NDArray[np.uint8]]], outputs: Sequence[str]
) -> NDArray[np.float64]:
    """The scores of each image, (N, T).

    Args:
        images: of each image its frame (H, W) for each encoder.
        outputs: of the graph, one a target.
    """
    scores = np.empty((len(images), len(outputs)))
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, frames in enumerate(images):
        alike.setdefault(tuple(frame.shape for frame in frames), []).append(row)
    for rows in alike.values():
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            feed = {
                part.name: np.stack([images[row][i] for row in batch])[:, None]
                for i, part in enumerate(session.get_inputs())
            }
            scores[batch] = np.stack(session.run(list(outputs), feed), axis=1)
    return scores
