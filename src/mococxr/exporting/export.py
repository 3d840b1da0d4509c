"""The command `export`: an encoder or a classifier for timm, torchvision or ONNX, with a model card."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.classifier.graph import FILE
from mococxr.errors import InputError, RunError
from mococxr.exporting.artifact import preprocessing, read_artifact
from mococxr.exporting.card import card, measured
from mococxr.exporting.onnx_graph import write_onnx
from mococxr.exporting.state_dicts import write_timm, write_torchvision
from mococxr.files import atomic, claim, read_json, sha256_file, write_json
from mococxr.settings import ExportSettings
from mococxr.version import VERSION

EQUAL = 1e-5
"""Largest difference of a probability at which `predict` takes the graph for the classifier."""
WRITERS = {"timm": write_timm, "torchvision": write_torchvision, "onnx": write_onnx}


def run(settings: ExportSettings) -> Path:
    """The command `export`: writes the files, loads them back, compares, and writes the model card.

    Returns:
        The folder: the library's files, `README.md` (the card), `export.json`.

    Raises:
        InputError: nothing that can be exported so; nothing was written.
        RunError: what was written does not say the same; nothing was kept.
    """
    out = Path(settings.out)
    claim(out)
    artifact = read_artifact(Path(settings.path), settings.features)
    study = measured(settings.study, settings.arm, artifact) if settings.study else None
    fit = artifact.model.record if artifact.model else {}
    with whole_folder(out) as folder:  # it gets the name asked for once it was compared
        made = WRITERS[settings.to](artifact, folder)
        files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        facts: dict[str, Any] = {
            "version": VERSION,
            "kind": "classifier" if artifact.model else "encoder",
            "to": settings.to,
            **made,
            "features": artifact.spec.features,
            "preprocessing": preprocessing(artifact),
            "targets": [
                {name: block.get(name) for name in ("target", "calibration", "threshold")}
                for block in fit.get("targets", [])
            ],
            "made_from_sha256": artifact.sha256,
            "files_sha256": files,
        }
        (folder / "README.md").write_text(card(artifact, facts, study), encoding="utf-8")
        write_json(folder / "export.json", facts)
    console.say(f"loaded back and compared: largest difference {made['difference']:.2g}")
    console.say(f"{facts['kind']} for {settings.to}, with a model card: {out}")
    return out


def leave_onnx(folder: Path) -> Path:
    """What `fit` and `recalibrate` do last: `model.onnx` in MODEL, its hash in `model.json`, or there the reason why not.

    MODEL is whole before, and `predict` runs it by PyTorch then.
    """
    record = read_json(folder / "model.json")
    if record.pop("onnx", None):  # of the model that this one was made of
        write_json(folder / "model.json", record)
    (folder / FILE).unlink(missing_ok=True)  # of an earlier fit
    facts: dict[str, Any] = {"file": None, "sha256": None, "reason": "--no-onnx"}
    if record["settings"].get("onnx", True):
        console.say(f"{FILE} is written and compared (--no-onnx leaves it out).")
        try:
            facts = _leave(folder)
        except Exception as error:  # whatever the exporter does not know of a network: the model is good without
            problem = error.problem if isinstance(error, InputError) else f"{error}" or type(error).__name__
            facts["reason"] = problem.partition("\n")[0]
            console.warn(f"There is no {FILE}, and `predict` goes on by PyTorch: {facts['reason']}")
    write_json(folder / "model.json", {**record, "onnx": facts})
    return folder


def _leave(folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        made = write_onnx(read_artifact(folder), Path(scratch))
        if made["difference"] > EQUAL:
            raise RunError(f"the graph differs from the classifier by {made['difference']:.2g}.")
        with atomic(folder / FILE) as temporary:
            shutil.copyfile(Path(scratch) / FILE, temporary)
    return {**made, "sha256": sha256_file(folder / FILE), "reason": None}


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all is in it, and is gone when something fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it for its owner alone
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
