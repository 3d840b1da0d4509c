"""Write docs/paper.md from the settings themselves: `make docs`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mococxr.settings import PRESETS, PretrainSettings, StudySettings, flag
from mococxr.settings.paper import ARXIV, EVALUATION, PRETRAINING, STUDY, TRAINING, Fact
from mococxr.settings.reproduction import ReproduceSettings

PAGE = Path(__file__).parent / "paper.md"
HEAD = f"""# The paper, setting by setting

Made from the settings by `make docs`; do not edit. The paper is {ARXIV} (MoCo-CXR, MIDL 2021). Where it and its
released code differ, or the paper is silent, we take the code: it made the printed numbers. *We take* is what the
preset `paper` and `reproduce` use unless a flag says otherwise; every departure is listed on the page that
`reproduce` writes. *not stated* means that we do not know it; a dash, that no difference from the paper is known.
On a GPU `reproduce` pretrains in float32, as it trains on labels; `pretrain` alone takes bfloat16 there unless told
`--precision no`. Which of the two the authors used is not known.
"""


def page() -> str:
    """The whole text of docs/paper.md."""
    parts = [HEAD]
    preset = {name: _value(PretrainSettings, name, value) for name, value in PRESETS["paper"].items()}
    parts.append(_table("Pretraining (`pretrain --preset paper`)", PRETRAINING, preset))
    taken = {name: _taken(name) for name in (*TRAINING, *EVALUATION)}
    parts.append(_table("Training on labels", TRAINING, taken))
    parts.append(_table("Labels drawn, and the test", EVALUATION, taken))
    return "\n".join(parts)


def _taken(name: str) -> str:
    """What `reproduce` uses: of `STUDY`, or how the default reads."""
    if name in STUDY:
        return _value(StudySettings, name, STUDY[name])
    kind = ReproduceSettings if name in {"fraction", "draws", "split"} else StudySettings
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    return field.metadata["shown"] or _value(kind, name, field.default)


def _value(kind: type, name: str, value: Any) -> str:
    unit = next(f.metadata["unit"] for f in dataclasses.fields(kind) if f.name == name)
    items = value if isinstance(value, tuple) else (value,)
    return f"{', '.join(_plain(item) for item in items)} {unit}".strip()


def _plain(value: Any) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
    )


def _table(title: str, facts: dict[str, Fact], taken: dict[str, str]) -> str:
    lines = [f"## {title}", "", "| setting | the paper prints | its code does | we take | why | otherwise |"]
    lines.append("|---|---|---|---|---|---|")
    for name, fact in facts.items():
        cells = [f"`{flag(name)}`", fact.printed or "not stated", fact.released or "not stated", taken[name]]
        lines.append("| " + " | ".join([*cells, fact.why, fact.instead]) + " |")
    return "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
