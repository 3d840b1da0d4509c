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
from mococxr.exporting.artifact import preprocessing, read_artifact
from mococxr.exporting.card import card, measured
from mococxr.exporting.onnx_graph import write_onnx
from mococxr.exporting.state_dicts import write_timm, write_torchvision
from mococxr.files import claim, sha256_file, write_json
from mococxr.settings import ExportSettings
from mococxr.version import VERSION

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
            **{name: fit.get(name) for name in ("calibration", "threshold")},
            "made_from_sha256": artifact.sha256,
            "files_sha256": files,
        }
        (folder / "README.md").write_text(card(artifact, facts, study), encoding="utf-8")
        write_json(folder / "export.json", facts)
    console.say(f"loaded back and compared: largest difference {made['difference']:.2g}")
    console.say(f"{facts['kind']} for {settings.to}, with a model card: {out}")
    return out


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
