"""Typed, frozen settings of every command, each with its unit, default and source.

One dataclass a command: the command line, the YAML files and the Python functions are all made from it.
"""

from mococxr.settings.checkpoints import ExportSettings, ImportSettings
from mococxr.settings.classifiers import EmbedSettings, FitSettings, PredictSettings
from mococxr.settings.evaluation import EvaluateSettings
from mococxr.settings.fields import flag, from_yaml, make, nearest, setting, to_mapping, to_yaml
from mococxr.settings.inspection import InspectSettings
from mococxr.settings.preparation import PrepareSettings, ViewsSettings
from mococxr.settings.pretraining import PRESETS, PretrainSettings, resolve
from mococxr.settings.reproduction import ReproduceSettings
from mococxr.settings.studies import DemoSettings, ReportSettings, StudySettings

COMMANDS: dict[str, type] = {
    "demo": DemoSettings,
    "prepare": PrepareSettings,
    "inspect": InspectSettings,
    "views": ViewsSettings,
    "pretrain": PretrainSettings,
    "embed": EmbedSettings,
    "fit": FitSettings,
    "predict": PredictSettings,
    "study": StudySettings,
    "reproduce": ReproduceSettings,
    "report": ReportSettings,
    "evaluate": EvaluateSettings,
    "import": ImportSettings,
    "export": ExportSettings,
}
"""The commands, in the order of the work."""

__all__ = [
    "COMMANDS",
    "PRESETS",
    "DemoSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "ExportSettings",
    "FitSettings",
    "ImportSettings",
    "InspectSettings",
    "PredictSettings",
    "PrepareSettings",
    "PretrainSettings",
    "ReportSettings",
    "ReproduceSettings",
    "StudySettings",
    "ViewsSettings",
    "flag",
    "from_yaml",
    "make",
    "nearest",
    "resolve",
    "setting",
    "to_mapping",
    "to_yaml",
]
