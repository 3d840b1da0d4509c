"""The classifier that a user keeps: `fit` makes it, `predict` scores films; `embed` writes features."""

from __future__ import annotations

from mococxr.predict.fitting import run_embed, run_fit
from mococxr.predict.model import Model, load_model
from mococxr.predict.origin import origin_of
from mococxr.predict.scoring import run_predict

__all__ = ["Model", "load_model", "origin_of", "run_embed", "run_fit", "run_predict"]
