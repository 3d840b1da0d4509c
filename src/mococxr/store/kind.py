"""How a store is recognised, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from mococxr.kinds import About, Content, Kind


def _read(path: Path, manifest: Content) -> About:
    counts = manifest["counts"]
    return About(
        numbers={
            "images": counts["images"],
            "patients": counts["patients"] if manifest["patients_known"] else "not known",
            "left out": counts["quarantined"],
            "shorter side": f"{manifest['size']} px",
            "split": manifest["split_rule"],
            "labels": list(manifest["labels"]),
            "labels added later": (path / "labels.parquet").is_file(),
            "pseudonyms": manifest["pseudonyms"],
        },
        made_from={"source": manifest["source"], "read as": manifest["reader"]},
        settings=manifest["settings"],
        version=manifest["mococxr"],
        next="mococxr inspect {path} --out audit.html",
    )


KIND = Kind("store", "prepare", "manifest.json", frozenset({"shards", "counts", "split_rule", "mococxr"}), _read)
