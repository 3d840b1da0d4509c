"""How a study is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind
from mococxr.results import read_table


def _read(path: Path, study: Content) -> About:
    primary = study.get("primary") or {}
    keys = {name: primary[name] for name in ("arm", "target", "mode", "fraction") if name in primary}
    cells = read_table(path / "cells.csv", "cells").to_dicts()
    best = {row["arm"]: row["auroc"] for row in cells if keys and keys.items() - {("arm", keys["arm"])} <= row.items()}
    return About(
        numbers={
            "targets": list(study["targets"]),
            "arms": list(study["arms"]),
            "baseline": study["baseline"]["arm"],
            "primary": f"{keys['arm']}, {keys['target']}, {100 * keys['fraction']:g} % of the labels" if keys else None,
            **{f"AUROC, {arm}": value for arm, value in best.items()},
            "warnings": len(study["warnings"]),
        },
        made_from={"source": study["store"].get("source"), "store": study["store"].get("sha256")},
        settings=study["settings"],
        version=study["version"],
        created=study["created"],
        next="mococxr report {path}",
    )


KIND = Kind("study", "study", "study.json", frozenset({"targets", "arms", "baseline"}), _read, begun="inputs.json")
