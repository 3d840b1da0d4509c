"""How to read the page: what its words mean, and what its numbers do not say."""

from __future__ import annotations

from mococxr.reporting.findings import primary_words
from mococxr.reporting.section import MADE, Section
from mococxr.reporting.words import interval_name, shown
from mococxr.results import StudyResults as Study

GLOSSARY = (
    ("AUROC", "The chance that an image with the finding scores higher than one without it: 0.5 is guessing, 1 is "
     "perfect order."),
    ("Arm", "One of the encoders that are compared. All arms get the same labels and the same test images."),
    ("Reference", "The arm that the others are compared with."),
    ("Encoder, features", "A network that turns an image into a list of numbers, its features."),
    ("Linear classifier", "The encoder stays as it is; only a weighted sum of its features is learned from labels."),
    ("Fine-tuning", "The whole network goes on learning from the labels."),
    ("Pretraining", "What the encoder learned before, without these labels."),
    ("Share of the labels", "How many of the labelled training patients the classifier may learn from."),
    ("Draw", "Which patients those are, by lot. Several draws show what the choice of labelled images does."),
    ("Interval", "A range that holds the true value in 95 of 100 studies like this, where 95 % stands beside it."),
    ("Over other test patients", "What was found would hold for other patients like these; other labels to learn from, "
     "or another pretraining, are not in it."),
    ("p", "How often chance alone would show a difference this large, were there none."),
    ("Average precision", "The mean share of true positives among the images scored highest; it falls where the finding "
     "is rare."),
    ("Calibration", "Whether a said 30 % comes true in 30 of 100 images."),
    ("Undefined", "The data do not define the number; none was put in its place."),
)  # fmt: skip


def glossary_section() -> Section:
    """The words of the page."""
    return Section(
        "glossary", "What the words mean", facts=list(GLOSSARY), group=MADE, gist="AUROC, arm, draw, …"
    )


def methods_section(study: Study, cases: str) -> Section:
    """How the numbers are made, and what they do not contain."""
    replicates = shown(study.fact("replicates"))
    methods = list(dict.fromkeys(row["method"] for row in study.cells if row.get("method")))
    how = f"by {'; '.join(methods)}" if methods else f"by bootstrap over test {cases}, {replicates} resamples"
    lines = [
        "AUROC is the chance that a random positive case scores higher than a random negative one: 0.5 is guessing, "
        "1 is perfect order. It is measured on test patients only.",
        f"Intervals: {interval_name(study)} {how}. The AUROC of every draw is computed and averaged over the draws.",
        "Differences are paired: both arms are measured on the same test patients, with the same draws of labels. An "
        "interval that includes 0 means that no difference was shown, not that there is none.",
        "What the intervals over test patients do not contain: what another draw of labels would change (the draws' "
        "standard deviation is given apart), what another pretraining of the same arm would change, and any change "
        "of hospital, scanner or labeller.",
        "A number that the data do not define (one class only, no test image) is called undefined and left out; it is "
        "never replaced.",
    ]
    if len(study.differences) > 1:
        lines.append(f"The primary comparison, chosen by rule and not by result, is {primary_words(study)}.")
    return Section(
        "methods", "How to read this page", lines, gist="How the numbers are made, and what they leave out."
    )
