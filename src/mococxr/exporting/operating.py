"""The model card on calibration and threshold, which validation images gave a classifier and no network holds."""

from __future__ import annotations

from typing import Any

from mococxr.exporting.artifact import Subject

Facts = dict[str, Any]
USES = {
    "checkpoints": "chose the checkpoints",
    "calibration": "fitted the calibration",
    "threshold": "chose the threshold",
}


def kept(subject: Subject) -> Facts:
    """The blocks `calibration` and `threshold` of `model.json`; None where there are none, as for encoders."""
    about = subject.model.about if subject.model else {}
    return {name: about.get(name) for name in ("calibration", "threshold")}


def uses(subject: Subject) -> str:
    """What validation labels were used for, in half a sentence."""
    about = subject.model.about if subject.model else {}
    images = about["training"]["validation_images"]
    names = about.get("validation_used_for", ["checkpoints"] if images else [])
    count = images or next((about[name]["validation_images"] for name in names if name != "checkpoints"), 0)
    if not names:
        return "No validation label was used"
    return f"{count:,} labelled validation images {' and '.join(USES[name] for name in names)}"


def operating(subject: Subject) -> str:
    """The section; empty for an encoder."""
    if subject.model is None:
        return ""
    blocks = kept(subject)
    return "\n".join(
        [
            "What comes out (for ONNX `probability`, else the sigmoid of the logit) is the raw score. Calibration and "
            "threshold are not in the network: they stand below and in `export.json`; `mococxr predict` applies them.",
            "",
            f"* Calibration: {_calibration(blocks['calibration'] or {})}",
            f"* Threshold: {_threshold(blocks['threshold'] or {})}",
        ]
    )


def _calibration(block: Facts) -> str:
    if not block.get("method"):
        return f"none. {block.get('reason') or 'The model was fitted by an earlier version.'}"
    given = block["parameters"]
    x = "logit(s), with the score s kept 1e-7 from 0 and 1"
    how = (
        f"sigmoid({given['slope']:.6g} x {given['intercept']:+.6g}), x = {x}"
        if "slope" in given
        else f"straight lines between {len(given['inputs'])} points (`inputs`, `outputs`) over x = {x}"
    )
    return (
        f"{block['method']}, fitted on {block['validation_images']:,} validation images, "
        f"{block['validation_positives']:,} positive: {how}. It holds where {100 * block['prevalence']:.3g} % of the "
        "images have the finding; elsewhere multiply the odds by the ratio of the odds of the two shares "
        "(`--prevalence`)."
    )


def _threshold(block: Facts) -> str:
    if block.get("value") is None:
        return f"none. {block.get('reason') or 'The model was fitted by an earlier version.'}"
    rule = (
        "the greatest sensitivity + specificity"
        if block["by"] == "youden"
        else f"a sensitivity of {block['wanted_sensitivity']:g}"
    )
    found = ", ".join(
        f"{name} {block[name]['value']:.3f} ({block[name]['low']:.3f} to {block[name]['high']:.3f})"
        for name in ("sensitivity", "specificity")
    )
    return (
        f"a score of {block['value']:.6g} or more is a finding. Chosen for {rule} on {block['validation_images']:,} "
        f"validation images; on these very images: {found}. On other images it is to be measured: "
        "`mococxr evaluate --threshold`."
    )
