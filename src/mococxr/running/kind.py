"""How the folder of a run from images to an answer is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(path: Path, record: Content) -> About:
    facts, asked = record["facts"], record["asked"]
    left = [
        name for name in record["expected_seconds"] if record["expected_seconds"][name] and name not in record["done"]
    ]
    go_on = "mococxr run " + str(asked["source"]) + (f" --target {asked['target']}" if asked["target"] else "")
    return About(
        numbers={
            "images": facts["images"],
            "patients": facts["patients"] if facts["patients_known"] else "not known",
            "target": facts["target"],
            "done": list(record["done"]),
            "to do": left,
            "page": "index.html" if (path / "index.html").is_file() else None,
        },
        made_from={"source": asked["source"], "read as": facts["reader"]},
        settings=asked,
        version=record["version"],
        created=record["created"],
        next=go_on + " --out {path}" if left else "mococxr predict {path}/model NEW-IMAGES --out scores.csv",
    )


KIND = Kind("result", "run", "result.json", frozenset({"asked", "facts", "done"}), _read)
