"""How the facts of `inspect` are recognised, and what is told of them."""

from __future__ import annotations

from pathlib import Path

from mococxr.files import read_json
from mococxr.kinds import About, Content, Kind


def _read(path: Path, _: Content) -> About:
    facts = read_json(path.with_suffix(".json"))
    store = facts["store"]
    return About(
        numbers={"verdict": facts["verdict"], **{finding["flag"]: finding["count"] for finding in facts["findings"]}},
        made_from={"source": store["source"], "store": store["sha256"]},
        next="mococxr pretrain STORE --out run",
    )


def _fits(path: Path) -> bool:
    if path.suffix not in (".json", ".html") or not path.with_suffix(".json").is_file():
        return False
    facts = read_json(path.with_suffix(".json"))
    return isinstance(facts, dict) and {"verdict", "findings", "not_judged"} <= facts.keys()


KIND = Kind("dossier", "inspect", "", frozenset(), _read, _fits)
