"""docs/paper.md is what the settings say today, and no setting of the paper is left out of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from mococxr.reproduction.recipe import STUDY
from mococxr.settings import PRESETS, PretrainSettings, ReproduceSettings, StudySettings, flag

DOCS = Path(__file__).parents[1] / "docs"


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_paper", DOCS / "make_paper.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_paper"] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


maker = _maker()
PRETRAINING, TRAINING, EVALUATION = maker.PRETRAINING, maker.TRAINING, maker.EVALUATION


def test_the_committed_page_is_the_one_that_the_settings_make() -> None:
    committed = (DOCS / "paper.md").read_text(encoding="utf-8")
    assert committed == maker.page(), "docs/paper.md is stale: run `make docs`"


def test_every_setting_of_the_preset_has_its_fact_and_no_fact_is_about_nothing() -> None:
    assert set(PRETRAINING) == {*vars(PRESETS["paper"]), "queue"}
    named = {field.name for kind in (StudySettings, ReproduceSettings) for field in dataclasses.fields(kind)}
    assert {*TRAINING, *EVALUATION, *STUDY} <= named
    assert not set(TRAINING) & set(EVALUATION)
    assert set(STUDY) <= {*TRAINING, *EVALUATION}


def test_every_default_that_names_the_paper_is_explained() -> None:
    for kind in (StudySettings, ReproduceSettings):
        for field in dataclasses.fields(kind):
            if "2010.05352" in field.metadata["source"]:
                known = {*TRAINING, *EVALUATION, *PRETRAINING, "train_epochs"}
                assert field.name in known, f"{kind.__name__}.{field.name}"


def test_what_reproduce_uses_by_default_is_the_preset() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ReproduceSettings)}
    for name in ("size", "epochs", "batch", "init"):
        assert defaults[name] == getattr(PRESETS["paper"], name)
    assert defaults["replicates"] == STUDY["replicates"]
    study = {field.name: field.default for field in dataclasses.fields(StudySettings)}
    for name in ("lr", "optimizer", "weight_decay", "batch", "checkpoints", "crop_mode", "uncertain", "aggregate"):
        assert study[name] == STUDY[name]


def test_every_flag_on_the_page_exists() -> None:
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    kinds = (PretrainSettings, StudySettings, ReproduceSettings)
    known = {flag(f.name) for kind in kinds for f in dataclasses.fields(kind)}
    assert {"--preset"} < set(re.findall(r"--[a-z][a-z-]*", text)) <= known
