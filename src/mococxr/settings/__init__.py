"""Typed, frozen settings of every command, each with its unit, range, default and source.

One dataclass a command: the command line, the YAML files and the Python functions are all made from it.
"""

from mococxr.settings.classifiers import (
    EmbedSettings,
    ExportSettings,
    FitSettings,
    ForecastSettings,
    ImportSettings,
    Mode,
    PredictSettings,
    RecalibrateSettings,
    TrainingSettings,
)
from mococxr.settings.fields import describe, flag, from_yaml, make, nearest, setting, to_mapping, to_yaml, typed
from mococxr.settings.gateway import DriftSettings, PacsSettings
from mococxr.settings.labelling import AgreementSettings, AnnotateSettings, LabelSettings, NextSettings, RetractSettings
from mococxr.settings.preparation import Format, InspectSettings, PrepareSettings, ViewsSettings
from mococxr.settings.pretraining import AUTO, PRESETS, QUEUES, Phase, PretrainSettings
from mococxr.settings.running import DoctorSettings, InfoSettings, RunSettings
from mococxr.settings.service import ServeSettings
from mococxr.settings.studies import DemoSettings, EvaluateSettings, ReportSettings, ReproduceSettings, StudySettings

COMMANDS: dict[str, type] = {
    "run": RunSettings,
    "demo": DemoSettings,
    "prepare": PrepareSettings,
    "inspect": InspectSettings,
    "views": ViewsSettings,
    "pretrain": PretrainSettings,
    "next": NextSettings,
    "label": LabelSettings,
    "retract": RetractSettings,
    "annotate": AnnotateSettings,
    "agreement": AgreementSettings,
    "embed": EmbedSettings,
    "fit": FitSettings,
    "forecast": ForecastSettings,
    "recalibrate": RecalibrateSettings,
    "predict": PredictSettings,
    "pacs": PacsSettings,
    "drift": DriftSettings,
    "serve": ServeSettings,
    "study": StudySettings,
    "reproduce": ReproduceSettings,
    "report": ReportSettings,
    "evaluate": EvaluateSettings,
    "import": ImportSettings,
    "export": ExportSettings,
    "info": InfoSettings,
    "doctor": DoctorSettings,
}
"""The commands, in the order of the work."""

__all__ = [
    "AUTO",
    "COMMANDS",
    "PRESETS",
    "QUEUES",
    "AgreementSettings",
    "AnnotateSettings",
    "DemoSettings",
    "DoctorSettings",
    "DriftSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "ExportSettings",
    "FitSettings",
    "ForecastSettings",
    "Format",
    "ImportSettings",
    "InfoSettings",
    "InspectSettings",
    "LabelSettings",
    "Mode",
    "NextSettings",
    "PacsSettings",
    "Phase",
    "PredictSettings",
    "PrepareSettings",
    "PretrainSettings",
    "RecalibrateSettings",
    "ReportSettings",
    "ReproduceSettings",
    "RetractSettings",
    "RunSettings",
    "ServeSettings",
    "StudySettings",
    "TrainingSettings",
    "ViewsSettings",
    "describe",
    "flag",
    "from_yaml",
    "make",
    "nearest",
    "setting",
    "to_mapping",
    "to_yaml",
    "typed",
]
