"""Settings: declared once, checked at the door, the same after a trip through YAML."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any, Literal

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mococxr import commands
from mococxr.cli import GROUP_ORDER
from mococxr.errors import InputError
from mococxr.settings import (
    COMMANDS,
    PRESETS,
    PretrainSettings,
    StudySettings,
    from_yaml,
    make,
    nearest,
    resolve,
    setting,
    to_mapping,
    to_yaml,
)

FIELDS = [(name, field) for name, kind in COMMANDS.items() for field in dataclasses.fields(kind)]


def smallest(command: str) -> Any:
    """The settings of a command with only what must be given."""
    kinds = typing.get_type_hints(COMMANDS[command])
    required = [f.name for f in dataclasses.fields(COMMANDS[command]) if f.default is dataclasses.MISSING]
    return make(COMMANDS[command], {name: some_value(kinds[name]) for name in required})


def some_value(kind: Any) -> str:
    """Text that a setting of this type takes."""
    return str(typing.get_args(kind)[0]) if typing.get_origin(kind) is Literal else "x"


@pytest.mark.parametrize(("command", "field"), FIELDS, ids=[f"{c}-{f.name}" for c, f in FIELDS])
def test_every_setting_has_words_and_a_default_of_its_own_type(
    command: str, field: dataclasses.Field[Any]
) -> None:
    words = field.metadata["help"]
    assert words.endswith("."), "a sentence"
    assert not words.startswith(" ")
    assert "  " not in words
    assert field.metadata["group"] in ("", *GROUP_ORDER)
    if field.default is not dataclasses.MISSING:
        kept = getattr(smallest(command), field.name)
        again = make(COMMANDS[command], to_mapping(smallest(command)))
        assert kept == getattr(again, field.name)
    if field.default is None:
        assert field.metadata["shown"] or "none" in commands.describe(field)


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_are_the_same_after_a_trip_through_yaml(command: str, tmp_path: Path) -> None:
    settings = smallest(command)
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    assert make(COMMANDS[command], from_yaml(tmp_path / "settings.yaml")) == settings


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a setting of this type may have."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values_of(inner[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inner))
    if inner:
        return st.one_of([st.none() if t is type(None) else values_of(t) for t in inner])
    return {
        int: st.integers(-(2**40), 2**40),
        float: st.floats(allow_nan=False),
        str: st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=12),
        bool: st.booleans(),
        Path: st.text("abc/ .:#'\"-äß", min_size=1, max_size=9).map(Path),
    }[kind]


@pytest.mark.parametrize("kind", [PretrainSettings, StudySettings])
@hypothesis.settings(max_examples=25)
@given(data=st.data())
def test_any_settings_are_the_same_after_a_trip_through_yaml(kind: type, data: st.DataObject) -> None:
    hints = typing.get_type_hints(kind)
    settings = kind(**{name: data.draw(values_of(hint), label=name) for name, hint in hints.items()})
    assert make(kind, yaml.safe_load(to_yaml(settings))) == settings


def test_numbers_stay_numbers_and_paths_become_text() -> None:
    mapping = to_mapping(make(PretrainSettings, {"stores": "s", "out": "r", "crop": (0.5, 1)}))
    assert mapping["crop"] == [0.5, 1.0]
    assert mapping["stores"] == ["s"]
    assert mapping["out"] == "r"


@pytest.mark.parametrize(
    ("name", "known"), [("bathc", "batch"), ("temprature", "temperature"), ("save-every", "save_every")]
)
def test_an_unknown_name_is_refused_with_the_nearest_known(name: str, known: str) -> None:
    with pytest.raises(InputError, match=known):
        make(PretrainSettings, {"stores": "s", "out": "r", name: 1})


def test_a_setting_that_is_null_counts_as_not_given() -> None:
    settings = make(PretrainSettings, {"stores": "s", "out": "r", "preset": None, "lr": None})
    assert settings == make(PretrainSettings, {"stores": "s", "out": "r"})


def test_a_name_like_no_other_is_refused_with_all_that_are_known() -> None:
    assert nearest("zzz", ["b", "a"]) == "Known are: a, b."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch": "many"}, "--batch cannot be 'many'"),
        ({"batch": 2.5}, "--batch cannot be 2.5"),
        ({"batch": True}, "--batch cannot be True"),
        ({"batch": float("inf")}, "--batch"),
        ({"batch": float("nan")}, "--batch"),
        ({"batch": [1, 2]}, "--batch"),
        ({"lr": "fast"}, "--lr cannot be 'fast'"),
        ({"lr": {"a": 1}}, "--lr"),
        ({"crop": [0.5]}, "--crop takes 2 values, not 1"),
        ({"crop": 0.5}, "--crop takes 2 values, not 1"),
        ({"crop": ["a", 1]}, "--crop"),
        ({"resume": "yes"}, "--resume is yes or no"),
        ({"preset": "papre"}, "paper"),
        ({"stores": None}, "'stores' is missing"),
        ({"out": None}, "'out' is missing"),
        ({"stores": {"a": 1}}, "--stores"),
        ({"stores": [None]}, "--stores"),
        ({"backbone": ["a"]}, "--backbone"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        make(PretrainSettings, {"stores": "s", "out": "r"} | given)


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5.0e-04"])
def test_a_number_in_yaml_is_a_number_however_it_is_written(text: str) -> None:
    given = yaml.safe_load(f"{{stores: [s], out: r, lr: {text}}}")
    assert make(PretrainSettings, given).lr == 0.0005


def test_a_missing_setting_is_named_with_what_it_means() -> None:
    with pytest.raises(InputError, match=r"'out' is missing[^$]*The run folder"):
        make(PretrainSettings, {"stores": "s"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_what_was_not_given_and_nothing_else(preset: str) -> None:
    settings = resolve(make(PretrainSettings, {"stores": "s", "out": "r", "preset": preset, "lr": 0.25}))
    for name, value in PRESETS[preset].items():
        if name not in ("lr", "queue"):
            assert getattr(settings, name) == value
    assert settings.lr == 0.25
    assert settings.queue is None, "decided when the number of images is known"
    assert resolve(settings) == settings


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_s_values_are_of_the_settings_types(preset: str) -> None:
    settings = make(PretrainSettings, {"stores": "s", "out": "r", **PRESETS[preset]})
    assert {name: getattr(settings, name) for name in PRESETS[preset]} == PRESETS[preset]
    assert PRESETS[preset].keys() == PRESETS["paper"].keys()


def test_the_preset_paper_says_what_the_paper_says() -> None:
    paper = PRESETS["paper"]
    assert (paper["queue"], paper["momentum"], paper["temperature"], paper["dim"]) == (
        24_576,
        0.999,
        0.2,
        128,
    )
    assert (paper["optimizer"], paper["lr"], paper["weight_decay"]) == ("adam", 1e-4, 1e-4)
    assert (paper["epochs"], paper["batch"], paper["size"], paper["rotation"]) == (20, 16, 320, 10.0)
    assert [share * paper["epochs"] for share in paper["milestones"]] == [12.0, 18.0]
    assert math.isclose(paper["std"], 0.29255**2, rel_tol=1e-4), "a variance where a std belongs, kept"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 8), ("epochs", 0), ("batch", 1), ("momentum", 1.5), ("temperature", 0.0), ("flip", -0.1),
        ("key_groups", 0), ("key_groups", 17), ("rotation", 181.0), ("save_every", 0), ("queue", 0),
        ("std", 0.0), ("crop", (0.0, 1.0)), ("crop", (0.9, 0.5)), ("crop", (0.5, 1.5)),
        ("lr", -1.0), ("lr", float("nan")),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: Any) -> None:
    settings = make(PretrainSettings, {"stores": "s", "out": "r", name: value})
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} cannot be"):
        resolve(settings)


def test_settings_cannot_be_changed_after_they_are_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        smallest("pretrain").lr = 1.0


def test_a_setting_keeps_all_that_is_said_of_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class One:
        side: int = setting("How wide.", 3, unit="px", source="arXiv 2010.05352")

    assert commands.describe(dataclasses.fields(One)[0]) == "How wide. [px; default: 3; arXiv 2010.05352]"
