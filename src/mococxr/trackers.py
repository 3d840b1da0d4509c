"""Experiment trackers: curves, settings, tables and figures of a run or a study, besides its own files.

Four libraries behind one face, `Tracker`; which one is a line of `TRACKERS`. None is imported unless it is asked for.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mococxr.errors import InputError

if TYPE_CHECKING:
    import polars as pl

PROJECT = "mococxr"
"""What projects and experiments are called."""
Plain = Mapping[str, int | float | str | bool]


class Tracker:
    """A log that is kept besides; this one keeps nothing.

    Args:
        folder: of the run or the study.
        settings: of the command, as plain values.
    """

    def __init__(self, folder: Path, settings: Plain) -> None:
        self.folder, self.plain_settings = folder, settings

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """A whole table."""

    def image(self, name: str, png: Path) -> None:
        """A figure."""

    def close(self) -> str:
        """Write what is left; returns where the log is and how it is opened."""
        return ""


class TensorBoard(Tracker):
    """Event files in `FOLDER/tensorboard`."""

    def __init__(self, folder: Path, settings: Plain) -> None:
        super().__init__(folder, settings)
        from torch.utils.tensorboard import SummaryWriter

        self.log_folder = folder / "tensorboard"
        self.writer = SummaryWriter(str(self.log_folder))
        self.writer.add_text("settings", _markdown(["setting", "value"], list(settings.items())))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """A whole table."""
        self.writer.add_text(f"tables/{name}", _markdown(frame.columns, frame.rows()))

    def image(self, name: str, png: Path) -> None:
        """A figure."""
        import cv2

        pixels = cv2.imread(str(png))
        assert pixels is not None, png  # the report has just written it
        self.writer.add_image(f"figures/{name}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dataformats="HWC")

    def close(self) -> str:
        """Write what is left; returns where the log is and how it is opened."""
        self.writer.close()
        return f"TensorBoard log: {self.log_folder}; to look at it: tensorboard --logdir {self.folder}"


class Wandb(Tracker):
    """A run of Weights & Biases: on its server, or in `FOLDER/wandb` with WANDB_MODE=offline."""

    def __init__(self, folder: Path, settings: Plain) -> None:
        super().__init__(folder, settings)
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.wandb = wandb
        self.run = wandb.init(project=PROJECT, name=folder.resolve().name, dir=str(folder), config=dict(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        self.run.log(dict(values), step=step)

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """A whole table."""
        data = [list(row) for row in frame.rows()]
        self.run.log({f"tables/{name}": self.wandb.Table(columns=frame.columns, data=data, allow_mixed_types=True)})

    def image(self, name: str, png: Path) -> None:
        """A figure."""
        self.run.log({f"figures/{name}": self.wandb.Image(str(png))})

    def close(self) -> str:
        """Write what is left; returns where the log is and how it is opened."""
        address, log = self.run.url, Path(self.run.dir).parent
        self.run.finish()
        return f"W&B run: {address}" if address else f"W&B log: {log}; to look at it: wandb sync {log}"


class MLflow(Tracker):
    """A run of MLflow: at MLFLOW_TRACKING_URI, else in the database `FOLDER/mlflow.db` beside `FOLDER/mlartifacts`."""

    def __init__(self, folder: Path, settings: Plain) -> None:
        super().__init__(folder, settings)
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        whole = folder.resolve()
        self.store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{whole / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=self.store)
        known = self.client.get_experiment_by_name(PROJECT)
        artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (whole / "mlartifacts").as_uri()
        experiment = known.experiment_id if known else self.client.create_experiment(PROJECT, artifacts)
        self.run_id = self.client.create_run(experiment, run_name=whole.name).info.run_id
        for name, value in settings.items():
            self.client.log_param(self.run_id, name, str(value)[:6000])  # longer ones are refused there

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        for name, value in values.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """A whole table."""
        self.client.log_text(self.run_id, frame.write_csv(), f"tables/{name}.csv")

    def image(self, name: str, png: Path) -> None:
        """A figure."""
        self.client.log_artifact(self.run_id, str(png), f"figures/{name}")

    def close(self) -> str:
        """Write what is left; returns where the log is and how it is opened."""
        self.client.set_terminated(self.run_id)
        return f"MLflow log: {self.store}; to look at it: mlflow ui --backend-store-uri {self.store}"


class Trackio(Tracker):
    """A run of trackio, in its own folder on this machine (TRACKIO_DIR)."""

    def __init__(self, folder: Path, settings: Plain) -> None:
        super().__init__(folder, settings)
        import trackio

        self.trackio = trackio
        trackio.init(project=PROJECT, name=folder.resolve().name, config=dict(settings), embed=False)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        self.trackio.log(dict(values), step=step)

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """A whole table."""
        self.trackio.log({f"tables/{name}": self.trackio.Table(dataframe=frame.to_pandas())})

    def image(self, name: str, png: Path) -> None:
        """A figure."""
        self.trackio.log({f"figures/{name}": self.trackio.Image(str(png), caption=name)})

    def close(self) -> str:
        """Write what is left; returns where the log is and how it is opened."""
        self.trackio.finish()
        return f"trackio log: project {PROJECT}; to look at it: trackio show --project {PROJECT}"


TRACKERS: dict[str, type[Tracker]] = {
    "none": Tracker,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""`--tracker` -> its class; but for `none` the name of the package, too."""


def check_tracker(name: str) -> None:
    """Refuse a tracker whose package is missing, before anything runs.

    Raises:
        InputError: it is not installed.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise InputError(f"--tracker {name} needs the package {name}.", f"pip install {name}, or leave it out.")


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """The log of a run or a study, with its settings in it.

    Args:
        name: one of `TRACKERS`.
        folder: of the run or the study.
        settings: as they would stand in YAML.
    """
    plain = {
        key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in settings.items()
    }
    return TRACKERS[name](folder, plain)


def _markdown(head: list[str], rows: list[Any]) -> str:
    """A table that TensorBoard shows as one."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", r"\|").replace("\n", " ")
