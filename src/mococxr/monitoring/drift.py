"""The command `drift`: a ledger of `pacs` -> the weeks of each model beside its training images, a page and the facts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console
from mococxr.errors import InputError
from mococxr.files import atomic_write, check_place, write_json
from mococxr.gateway.ledger import DECLINED, read_ledger
from mococxr.monitoring.page import to_html
from mococxr.monitoring.weeks import Week, monday, shares_of, unknown_values, weeks_of
from mococxr.settings import DriftSettings

FLAGGED = 3
"""Exit status where something is not as it was in training."""


@dataclass(frozen=True)
class Drift:
    """One model in a ledger.

    Args:
        name, version: of the model.
        states: state -> images in it.
        findings: finding -> its weeks.
        references: finding -> `images` and `quantiles` of the scores that it is compared with; None where nobody kept them.
        shares: `view`, `device`, `warning`, `reason` (of declined images) -> their shares by week.
        unknown: sentences about views and devices that training never saw.
    """

    name: str
    version: str
    states: dict[str, int]
    findings: dict[str, list[Week]]
    references: dict[str, dict[str, Any] | None]
    shares: dict[str, pl.DataFrame]
    unknown: list[str]

    @property
    def flagged(self) -> dict[str, list[Week]]:
        """Finding -> its weeks whose scores are not as in training, where there are such."""
        flagged = {name: [week for week in weeks if week.flagged] for name, weeks in self.findings.items()}
        return {name: weeks for name, weeks in flagged.items() if weeks}


@dataclass(frozen=True)
class Drifts:
    """What `drift` found."""

    out: Path
    models: list[Drift]

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers, as they stand beside the page and as `--json` gives them."""
        return {"models": [_facts(model) for model in self.models]}

    @property
    def exit_status(self) -> int:
        """3 where scores drifted, or where views or devices are new."""
        return FLAGGED if any(model.flagged or model.unknown for model in self.models) else 0


def run_drift(settings: DriftSettings) -> Drifts:
    """Look at a ledger; write the page and, beside it, the facts as JSON.

    Raises:
        InputError: no ledger, or one without a scored image; nothing was written.
    """
    check_place(settings.out)
    ledger = read_ledger(settings.ledger)
    models = [drift_of(version, ledger.images, ledger.scores, ledger.models) for version in ledger.models]
    models = [model for model in models if model.findings]
    if not models:
        raise InputError(f"{settings.ledger} has no scored image.", "Let `mococxr pacs` score some first.")
    drifts = Drifts(settings.out, models)
    atomic_write(settings.out, to_html(models, settings.ledger.name))
    write_json(settings.out.with_suffix(".json"), drifts.facts)
    for model in models:
        _say(model)
    console.say(f"Page: {settings.out}")
    return drifts


def drift_of(version: str, images: pl.DataFrame, scores: pl.DataFrame, models: dict[str, dict[str, Any]]) -> Drift:
    """The numbers of one model.

    Args:
        version: of the model.
        images: rows of the ledger's images.
        scores: rows of its scores, `number` names the image.
        models: version -> `name` and `reference` of each model.
    """
    known = models[version]["reference"] or {}
    rows = images.filter(pl.col("model") == version)
    scored = rows.filter(pl.col("scored_at").is_not_null())
    scored = scored.with_columns(week=monday(scored["scored_at"]))
    joined = scores.join(scored.select("number", "week"), on="number")
    names = joined["target"].unique(maintain_order=True).to_list()
    references = {name: (known.get("scores") or {}).get(name) for name in names}
    tests = joined.select("target", "week").n_unique()
    findings = {name: weeks_of(joined.filter(pl.col("target") == name), references[name], tests) for name in names}
    declined = rows.filter((pl.col("state") == DECLINED) & pl.col("reason").is_not_null())
    declined = declined.with_columns(week=monday(declined["found_at"]))
    shares = {name: shares_of(scored, name, known.get(f"{name}s") or {}) for name in ("view", "device", "warning")}
    shares["reason"] = shares_of(declined, "reason", {})
    unknown = [f"{kind} {value}" for kind in ("view", "device") for value in unknown_values(shares[kind])]
    states = dict(rows.group_by("state").len().sort("state").iter_rows())
    return Drift(models[version]["name"], version, states, findings, references, shares, unknown)


def _say(model: Drift) -> None:
    """What stands out, and the weeks as a table."""
    console.say(f"{model.name}, model {model.version}")
    for name, weeks in model.findings.items():
        console.result(f"{name}\n  week        images  median  present  distance  p")
        for week in weeks:
            cells = [f"{week.start}", f"{week.images:6,}", f"{week.median:6.3f}", _cell(week.present, "{:7.1%}", 7)]
            cells += [_cell(week.distance, "{:8.3f}", 8), _cell(week.p, "{:.2g}", 1) + (" *" if week.flagged else "")]
            console.result("  " + "  ".join(cells))
        if model.references[name] is None:
            console.warn(f"no scores of training images to compare {name} with: fit the model again with this version.")
    for name, weeks in model.flagged.items():
        console.warn(
            f"scores of {name} are not as in training (*), in {len(weeks)} of {len(model.findings[name])} weeks."
        )
    for text in model.unknown:
        console.warn(f"no training image had the {text}.")


def _cell(value: float | None, form: str, width: int) -> str:
    return "-".rjust(width) if value is None else form.format(value)


def _facts(model: Drift) -> dict[str, Any]:
    """The numbers as JSON holds them."""
    return {
        "name": model.name,
        "version": model.version,
        "states": model.states,
        "findings": {
            name: [dataclasses.asdict(week) | {"start": str(week.start)} for week in weeks]
            for name, weeks in model.findings.items()
        },
        "shares": {name: table.to_dicts() for name, table in model.shares.items()},
        "unknown": model.unknown,
    }
