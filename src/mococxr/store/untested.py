"""Whether anything can tell how good a classifier of a target will be: the labels of test patients."""

from __future__ import annotations

from mococxr.store.reader import Store


def untested(store: Store, target: str, known: int, kept: str = "") -> str | None:
    """The sentence where no test image has a label of a target, with the way out; None where one has.

    Args:
        target: a finding, or as `--target` writes it.
        known: test images whose label is known.
        kept: which images count, where not all do.
    """
    if known:
        return None
    blind = "nothing can tell how good a classifier is."
    if not len(store.rows_in("test")):
        return (
            f"No patient of {store.path} is a test patient: {blind} Prepare the images with a share for test (--split)."
        )
    words = f"No image of a test patient{kept} has a label of {target}: {blind}"
    if set(target) & set("=~") or kept:
        return words
    return f"{words} First: mococxr next {store.path} --target {target} --split test --by random --count 100 --out test.csv"
