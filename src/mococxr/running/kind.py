"""How the folder of a run from images to an answer is recognised, and what is told of it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from mococxr.files import read_json
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
            "answer": record.get("answer"),
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


def _of_page(page: Path, _: Content) -> About:
    result = _read(page.parent, read_json(page.with_name("result.json")))
    return replace(result, next=result.next.replace("{path}", shlex.quote(str(page.parent))))


PAGE = Kind(
    "page of a result", "run", "", frozenset(), _of_page,
    lambda path: path.name == "index.html" and path.with_name("result.json").is_file(),
)  # fmt: skip
KIND = Kind("result", "run", "result.json", frozenset({"asked", "facts", "done"}), _read)
