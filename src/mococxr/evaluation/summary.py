"""The small table that `evaluate` prints."""

from __future__ import annotations

from mococxr.measure.comparison import margin_words
from mococxr.measure.measures import MEASURES, Block
from mococxr.measure.operating import SHOWN_THRESHOLDS
from mococxr.metrics.subgroups import RATES

WIDE = 46
UNITS = {"image": "rows", "study": "studies", "patient": "patients"}
METHODS = {"delong": "DeLong, plain", "bootstrap": "bootstrap over patients"}
LIKELIHOOD = {"lr_positive": "positive likelihood ratio", "lr_negative": "negative likelihood ratio"}
OTHERS = [name for name in MEASURES if name != "auroc"]
"""The metrics that have no interval but that of the bootstrap."""


def summary(result: Block) -> str:
    """Of one label, or of several with their averages."""
    if "models" in result:
        blocks = (_titled(f"{block['model']}: {block['label']}", block) for block in result["models"])
        return "\n".join(line for lines in blocks for line in lines).rstrip()
    if "labels" not in result:
        return "\n".join(_label_lines(result))
    lines = []
    for block in result["labels"]:
        lines += _titled(block["label"], block)
    lines.append(f"{len(result['labels'])} labels together")
    for average in ("macro", "micro"):
        for metric, block in result[average].items():
            lines.append("  " + _line(f"{average} {MEASURES[metric].name}", block))
    return "\n".join(lines)


def _titled(title: str, block: Block) -> list[str]:
    return [title, *(f"  {line}" for line in _label_lines(block)), ""]


def _label_lines(result: Block) -> list[str]:
    quoted = result["interval"]
    lines = [
        f"{result['n']} {UNITS[result['unit']]} of {result['patients']} patients, {result['positives']} of them positive"
        + (f"; {result['aggregate']} over the images of one" if result["aggregate"] else ""),
        f"{'':{WIDE}}{'value':>8}  {100 * result['level']:g} % interval",
        _line("AUROC", {**quoted, "method": None}) + ("  (report this one)" if quoted["low"] is not None else ""),
        # Shown beside it, to compare with other programs.
        _line(f"  {METHODS[result['auroc']['method']]}", {**result["auroc"], "method": None}),
        *(_line(MEASURES[name].name, result[name]) for name in OTHERS),
    ]
    if result["against"]:
        lines += _compared_lines(result)
    if result["operating_point"]:
        lines += _operating_lines(result["operating_point"])
    if result["calibration"]:
        lines += _calibration_lines(result["calibration"])
    for block in result["subgroups"]:
        lines += _group_lines(block)
    return lines


def _line(name: str, block: Block) -> str:
    if block["value"] is None:
        return f"{name:{WIDE}}{'':8}  not defined: {block['reason']}"
    if block["low"] is None:  # a number may be defined and its interval not
        return f"{name:{WIDE}}{block['value']:8.3f}  not defined: {block['reason']}"
    by = f" by {block['method']}" if block.get("method") else ""
    return f"{name:{WIDE}}{block['value']:8.3f}  {block['low']:.3f} to {block['high']:.3f}{by}"


def _compared_lines(result: Block) -> list[str]:
    quoted = result["comparison"]
    difference = _line("AUROC difference", quoted)
    if quoted["p"] is not None:
        difference += f", p {quoted['p']:.2g}"
        if quoted.get("p_holm") is not None:
            difference += f" (Holm over the labels {quoted['p_holm']:.2g})"
    lines = [
        _line("AUROC, against", {**result["against"]["interval"], "method": None}),
        *(_line(f"{MEASURES[name].name}, against", result["against"][name]) for name in OTHERS),
        difference,
        quoted["words"],
    ]
    if margin := result["margin"]:
        lines += [f"Margin {margin['margin']:g}: {_margin_words(margin)}."]
    if planning := result["planning"]:
        lines.append(planning["words"] or f"No plan for a next study: {planning['reason']}")
    return lines


def _margin_words(margin: Block) -> str:
    if margin.get("reason"):
        return f"not judged. {margin['reason']}".rstrip(".")
    return margin_words(margin)


def _operating_lines(point: Block) -> list[str]:
    if point["threshold"] is None:
        return [f"Threshold: none. {point['reason']}"]
    rule = {"given": "as given", "youden": "by Youden's index"}.get(
        point["by"], f"for sensitivity {point['wanted_sensitivity']}"
    )
    chosen = f", chosen on {point['validation']}" if point["validation"] else ""
    lines = [f"Threshold {point['threshold']:.6g} {rule}{chosen}"]
    shown = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV", "f1": "F1"}
    lines += [_line(f"  {words}", point[name]) for name, words in shown.items()]
    lines.append(_line("  Youden's index", point["youden"]))
    lines += [_line(f"  {name}", {**point[key], "method": None}) for key, name in LIKELIHOOD.items()]
    difference = point["difference"] or {}
    for name in ("sensitivity", "specificity"):
        if paired := difference.get(name):
            p = "" if paired["p"] is None else f", p {paired['p']:.2g}"
            lines.append(_line(f"  {name}, less that of --against", {**paired, "method": None}) + p)
    if elsewhere := point["elsewhere"]:
        share = f"at {100 * elsewhere['prevalence']:g} % positive"
        lines += [_line(f"  {name.upper()} {share}", {**elsewhere[name], "method": None}) for name in ("ppv", "npv")]
    for reader in point["readers"]:
        lines += _reader_lines(reader)
    return lines


def _reader_lines(block: Block) -> list[str]:
    left = f", {block['left_out']} not read" if block["left_out"] else ""
    head = f"Reader {block['reader']}: {block['n']} read{left}"
    if block["model"] is None:
        return [f"{head}. Not compared: {block['reason']}"]
    lines = [head]
    for share in ("sensitivity", "specificity"):
        less = block["difference"][share]
        p = "" if less["p"] is None else f", p {less['p']:.2g}"
        lines.append(_line(f"  {share}, reader", {**block[share], "method": None}))
        lines.append(_line(f"  {share}, model", {**block["model"][share], "method": None}))
        lines.append(_line(f"  {share}, model less reader", {**less, "method": None}) + p)
    at = block["at_reader_specificity"]
    lines.append(_line("  model's sensitivity at reader's specificity", {**at["sensitivity"], "method": None}))
    return [*lines, _line("  less the reader's", {**at["difference"], "method": None})]


def _calibration_lines(block: Block) -> list[str]:
    name = "Calibration of the scores as they are" if block["method"] == "none" else f"Calibrated ({block['method']})"
    if block.get("reason"):
        return [f"{name}: not judged. {block['reason']}"]
    lines = [name, _line("  Brier score", block["brier"]), _line("  calibration error", block["ece"])]
    lines[-1] += f" (expected if perfect {block['ece_if_perfect']:.3f})"
    lines += [_line("  slope", block["slope"]), _line("  intercept", block["intercept"])]
    lines.append(_line("  observed / expected positives", {**block["observed_expected"], "method": None}))
    if why := block["smooth"].get("reason"):
        lines.append(f"  smooth reliability curve: none. {why}")
    shown = [point for point in block["net_benefit"] if point["threshold"] in SHOWN_THRESHOLDS]
    for point in shown:
        name = f"  net benefit at {100 * point['threshold']:g} %"
        everyone = f", all positive {point['all_positive']['value']:.3f}"
        lines.append(_line(name, {**point["model"], "method": None}) + everyone)
    return lines


def _group_lines(block: Block) -> list[str]:
    numbers = {"auroc": "AUROC"} | {rate: RATES[rate] for rate in block["rate_gaps"]}
    gaps = {"auroc": block["gaps"]} | block["rate_gaps"]
    lines = []
    for number, words in numbers.items():
        lines.append(f"{words[:1].upper()}{words[1:]} by {block['column']}")
        for group in block["groups"]:
            size = f"{group['patients']} patients, {group['positives']} positive"
            lines.append(f"{_line('  ' + group['name'], {**group[number], 'method': None})}  ({size})")
        lines += [_gap_line(gap) for gap in gaps[number] if gap["difference"] is not None]
    return lines


def _gap_line(gap: Block) -> str:
    numbers = {"value": gap["difference"], "low": gap["low"], "high": gap["high"]}
    flag = ", flagged" if gap["flagged"] else ""
    name = f"  {gap['group']} minus {gap['against']}"
    return f"{_line(name, numbers)}, Holm p {gap['p_holm']:.2g}{flag}"
