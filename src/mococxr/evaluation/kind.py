"""How an evaluation of models is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(_: Path, content: Content) -> About:
    models = content["models"]
    return About(
        numbers={
            "split": content["split"],
            "images": models[0]["n"],
            "patients": models[0]["patients"],
            **{f"AUROC, {block['model']}: {block['label']}": _interval(block["interval"]) for block in models},
            "notes": len(content["notes"]),
        },
        made_from={"store": content["store"], "models": list(dict.fromkeys(block["model"] for block in models))},
        next="",
    )


def _interval(row: Content) -> object:
    if row.get("value") is None or row.get("low") is None:
        return row.get("value")
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


KIND = Kind("evaluation", "evaluate", "evaluation.json", frozenset({"models", "store", "split"}), _read)
