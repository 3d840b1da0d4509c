"""The examples in the docstrings of `mococxr.metrics` say what the functions return."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mococxr.metrics as metrics

FILES = [module.name for module in pkgutil.iter_modules(metrics.__path__)]


@pytest.mark.parametrize("name", FILES)
def test_the_examples_of_a_file_run(name):
    module = importlib.import_module(f"mococxr.metrics.{name}")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


INSIDE = {
    "resampled",
    "jackknife",
    "cell",
    "paired_replicates",
    "percentile_estimate",
    "value_of",
    "values_of",
    "split_difference",
    "variance_split",
}
"""Public functions whose arguments are too long for an example, or that serve the others."""


def test_every_public_function_has_an_example():
    finder = doctest.DocTestFinder(exclude_empty=False)
    functions = {name: value for name, value in vars(metrics).items() if inspect.isfunction(value)}
    lacking = {name for name, value in functions.items() if not finder.find(value, name)[0].examples}
    assert {name for name in lacking if not name.endswith("_measure")} <= INSIDE
