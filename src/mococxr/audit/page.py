"""The page: tables and pictures of what was found, filled into the template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from mococxr.audit.flags import KINDS
from mococxr.pages import format as fmt
from mococxr.pages.pictures import SMALL, picture
from mococxr.pages.render import Column, Table, render, tabulate
from mococxr.store import Store

MOST_LABELS = 24
"""Labels in the table of pairs, those with the most images."""
_MOST_SHORTCUTS = 15
ILLEGIBLE = 84
"""Pixels that the picture of an image with burned-in text is high, whose letters are not to be read on a page that may
travel."""


@dataclass(frozen=True)
class Thumbnail:
    """One flagged image: its picture and, where it is a copy, that of the other; a caption and the reason."""

    pictures: list[str]
    caption: str
    reason: str


@dataclass(frozen=True)
class Shown:
    """The images shown of one finding."""

    finding: dict[str, Any]
    images: list[Thumbnail]
    listed: list[str]
    more: int

    @property
    def wide(self) -> bool:
        """Whether its pictures take twice the room."""
        return any(len(image.pictures) > 1 for image in self.images)


def to_html(facts: dict[str, Any], flags: pl.DataFrame, store: Store, other: Store | None, most: int) -> str:
    """The page as one HTML file.

    Args:
        facts: what `inspect` found.
        flags: a row for each flag of each image.
        store: the store, for pictures.
        other: the other store, or None.
        most: images shown of each finding.
    """
    findings = [finding for finding in facts["findings"] if finding["flag"] != "shortcut"]
    return render(
        "audit/audit.html.j2",
        styles="audit/audit.css",
        title=f"Data audit of {facts['store']['name']}",
        heading=facts["store"]["name"],
        eyebrow="MoCo-CXR · data audit of a store",
        lead=_subtitle(facts["store"]),
        facts=facts,
        headline=_headline(facts),
        gallery=[_shown(finding, flags, store, other, most) for finding in findings],
        counts=[(name, _values(values, facts["store"]["images"])) for name, values in facts["counts"].items()],
        labels=_labels(facts),
        policies=_policies(facts),
        pairs=_pairs(facts["labels_together"]),
        shortcuts=_shortcuts(facts["shortcuts"]),
        warned=[_sentence(shortcut) for shortcut in facts["shortcuts"] if shortcut["warns"]][:_MOST_SHORTCUTS],
        pixels=_pixels(facts["pixels"]),
        kinds=KINDS,
    )


def _subtitle(facts: dict[str, Any]) -> str:
    kind = "synthetic images (drawn by a program)" if facts["synthetic"] else "images"
    patients = "patients unknown" if facts["patients"] is None else f"{facts['patients']:,} patients"
    return f"{facts['source']}: {facts['images']:,} {kind}, {patients}"


def _headline(facts: dict[str, Any]) -> list[tuple[str, str]]:
    splits = facts["counts"].get("split", {})
    store, other = facts["store"], facts["against"]
    lines = [
        ("Images by split", ", ".join(f"{name} {n:,}" for name, n in splits.items())),
        ("In quarantine", f"{store['quarantined']:,}"),
        ("Stored at", f"{store['size']} px"),
        ("Changed since prepare", ", ".join(store["changed_since_prepare"]) or "nothing"),
    ]
    return [*lines, ("Against", f"{other['name']}, {other['images']:,} images")] if other else lines


def _shown(finding: dict[str, Any], flags: pl.DataFrame, store: Store, other: Store | None, most: int) -> Shown:
    """The first images of a finding, copies side by side; a file in quarantine has no picture and is listed."""
    rows = flags.filter(pl.col("flag") == finding["flag"])
    if finding["flag"] in ("corrupt", "no-image"):
        listed = [f"{path}: {why}" for path, why in rows.head(most).select("path", "reason").iter_rows()]
        return Shown(finding, [], listed, len(rows) - len(listed))
    second = other if finding["flag"] == "image-in-both-stores" and other is not None else store
    others = rows["other"].unique().implode()
    partners = dict(second.index.filter(pl.col("path").is_in(others)).select("path", "row").iter_rows())
    written = set(flags.filter(pl.col("flag") == "text")["path"])
    images: list[Thumbnail] = []
    seen: set[str] = set()
    for row in rows.iter_rows(named=True):
        if len(images) == most or row["path"] in seen:
            continue
        tall = ILLEGIBLE if written & {row["path"], row["other"]} else SMALL
        pictures = [picture(store.pixels(row["row"]), tall)]
        seen.add(row["path"])
        if row["other"] in partners:
            pictures.append(picture(second.pixels(partners[row["other"]]), tall))
            seen |= {row["other"]} if second is store else set()  # a pair is shown once
        images.append(Thumbnail(pictures, f"{row['row']} · {row['path'].rsplit('/', 1)[-1]}", row["reason"]))
    return Shown(finding, images, [], len(rows) - int(rows["path"].is_in(list(seen)).sum()))


def _values(values: dict[str, int], images: int) -> Table:
    return Table(["Value", "Images", "Share"], [[name, f"{n:,}", _share(n / images)] for name, n in values.items()])


def _share(share: float | None) -> str:
    return "undefined" if share is None else fmt.percent(round(share, 3))


def _labels(facts: dict[str, Any]) -> Table:
    names = ("positive", "negative", "uncertain", "blank")
    rows = [[label, *(f"{entry[name]:,}" for name in names)] for label, entry in facts["labels"].items()]
    return Table(["Label", *(name.capitalize() for name in names)], rows)


def _policies(facts: dict[str, Any]) -> Table:
    """Share of positives among the known, by policy."""
    labels = facts["labels"]
    names = list(next(iter(labels.values()))["policies"]) if labels else []
    heads = [f"{uncertain}, blank {blank}" for uncertain, blank in (name.split(", ") for name in names)]
    rows = [[label, *(_share(entry["policies"][name]["share"]) for name in names)] for label, entry in labels.items()]
    return Table(["Label", *heads], rows)


def _pairs(together: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The labels with the most images, and for each pair (images, shade 0 to 1: share of the row's images)."""
    names = sorted(together, key=lambda name: -together[name][name])[:MOST_LABELS]
    names = [name for name in together if name in names]
    rows = [
        (a, [(f"{together[a][b]:,}", round(together[a][b] / max(together[a][a], 1), 2)) for b in names]) for a in names
    ]
    return {"names": names, "rows": rows, "left": len(together) - len(names)}


def _sentence(shortcut: dict[str, Any]) -> str:
    """`Pneumonia by view alone: AUROC 0.62 (positive: AP: 40 %, PA: 64 %)`"""
    rates = ", ".join(f"{rate['value']}: {100 * rate['positive']:.0f} %" for rate in shortcut["rates"])
    return f"{shortcut['label']} by {shortcut['column']} alone: AUROC {shortcut['auroc']:.2f} (positive: {rates})"


def _shortcuts(shortcuts: list[dict[str, Any]]) -> Table:
    rows = [shortcut for shortcut in shortcuts[:_MOST_SHORTCUTS] if shortcut["enough"]]
    left = len(shortcuts) - len(rows)
    columns: dict[str, Column] = {
        "Label": "label",
        "Column": "column",
        "AUROC of the column alone": ("auroc", "{:.2f}".format),
        "Warned of": "warns",
    }
    return tabulate(
        rows, columns, 2, f"{left} more, weaker or of too few images, are in the JSON file." if left else ""
    )


def _pixels(pixels: dict[str, dict[str, float]]) -> Table:
    heads = list(next(iter(pixels.values())))
    return Table(
        ["Of an image", *heads],
        [[_NAMES[name], *(fmt.fact(float(f"{v:.3g}")) for v in row.values())] for name, row in pixels.items()],
    )


_NAMES = {
    "mean": "mean grey level",
    "sd": "deviation, grey levels",
    "black": "share of black pixels (0 to 5)",
    "white": "share of white pixels (250 to 255)",
    "entropy": "entropy, bits",
}
