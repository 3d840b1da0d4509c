"""`model.onnx` run by onnxruntime: scores and features of a classifier without PyTorch. `mococxr.exporting` writes it."""

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


def graph_answers(
    session: Any, images: Sequence[Sequence[NDArray[np.uint8]]], outputs: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """The scores, (N, T), and the features, (N, D), of each image; None of a graph without the output `features`.

    Args:
        images: of each image its frame (H, W) for each encoder.
        outputs: of the graph, one a target.
    """
    scores, features = np.empty((len(images), len(outputs))), None
    names = [*outputs, *(part.name for part in session.get_outputs() if part.name == "features")]
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
            answers = session.run(names, feed)
            scores[batch] = np.stack(answers[: len(outputs)], axis=1)
            if len(names) > len(outputs):
                if features is None:  # a graph need not say how many there are
                    features = np.empty((len(images), answers[-1].shape[1]), np.float32)
                features[batch] = answers[-1]
    return scores, features
