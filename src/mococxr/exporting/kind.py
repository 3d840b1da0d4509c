"""How an export is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(_: Path, facts: Content) -> About:
    return About(
        numbers={
            "what": facts["kind"],
            "for": facts["to"],
            "features": facts["features"],
            "largest difference": facts["difference"],
            "files": list(facts["files_sha256"]),
        },
        made_from={"weights": facts["made_from_sha256"]},
        version=facts["version"],
    )


KIND = Kind("export", "export", "export.json", frozenset({"to", "files_sha256"}), _read)
