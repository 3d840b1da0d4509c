"""Settings: declared once, checked at the door, the same after a trip through YAML."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from pathlib import Path
from typing import Any, Literal

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mococxr import cli, commands
from mococxr.classifier.fit import run_fit
from mococxr.cli import GROUP_ORDER
from mococxr.errors import InputError
from mococxr.settings import (
    COMMANDS,
    PRESETS,
    QUEUES,
    PretrainSettings,
    StudySettings,
    describe,
    fields,
    flag,
    from_yaml,
    make,
    nearest,
    setting,
    to_mapping,
    to_yaml,
)
from mococxr.settings.fields import Range
from small_run import make_synthetic_store, tiny_run


def values_of_numbers(kind: Any) -> bool:
    """Whether a setting of this type holds numbers."""
    return kind in (int, float) or any(map(values_of_numbers, typing.get_args(kind)))


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
def test_every_setting_has_words_and_a_default_of_its_own_type(command: str, field: dataclasses.Field[Any]) -> None:
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
        assert field.metadata["shown"] or "none" in commands.describe(command, field)


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_are_the_same_after_a_trip_through_yaml(command: str, tmp_path: Path) -> None:
    settings = smallest(command)
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    assert make(COMMANDS[command], from_yaml(tmp_path / "settings.yaml")) == settings


def values_of(kind: Any, limits: Range) -> st.SearchStrategy[Any]:
    """Values that a setting of this type and range may have."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values_of(inner[0], limits), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(item, limits) for item in inner)).map(sorted).map(tuple)
    if inner:
        return st.one_of([st.none() if t is type(None) else values_of(t, limits) for t in inner])
    low = next((end for end in (limits.low, limits.above) if end is not None), -(2**40))
    high = next((end for end in (limits.high, limits.below) if end is not None), 2**40)
    return {
        int: st.integers(int(low), int(high)),
        float: st.floats(low, high).filter(lambda number: number in limits),
        str: st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=12),
        bool: st.booleans(),
        Path: st.text("abc/ .:#'\"-äß", min_size=1, max_size=9).map(Path),
    }[kind]


@pytest.mark.parametrize("kind", [PretrainSettings, StudySettings])
@hypothesis.settings(max_examples=25)
@given(data=st.data())
def test_any_settings_are_the_same_after_a_trip_through_yaml(kind: type, data: st.DataObject) -> None:
    hints = typing.get_type_hints(kind)
    drawn = {
        f.name: data.draw(values_of(hints[f.name], f.metadata["range"]), label=f.name) for f in dataclasses.fields(kind)
    }
    drawn |= {name: 1 for name in ("key_groups", "accumulate") if name in drawn}
    drawn |= {"sizes": ()} if "sizes" in drawn else {}
    drawn |= {"compile": False} if drawn.get("auxiliary") else {}  # refused together
    settings = make(kind, drawn)
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
        ({"batch": "many"}, "--batch must be a whole number (got 'many')"),
        ({"batch": 2.5}, "--batch must be a whole number (got 2.5)"),
        ({"batch": True}, "--batch must be a whole number (got True)"),
        ({"batch": float("inf")}, "--batch"),
        ({"batch": float("nan")}, "--batch"),
        ({"batch": [1, 2]}, "--batch"),
        ({"lr": "fast"}, "--lr must be a number (got 'fast')"),
        ({"lr": {"a": 1}}, "--lr"),
        ({"crop": [0.5]}, "--crop takes 2 values, not 1"),
        ({"crop": 0.5}, "--crop takes 2 values, not 1"),
        ({"crop": ["a", 1]}, "--crop"),
        ({"resume": "maybe"}, "--resume must be true or false"),
        ({"preset": "papre"}, "paper"),
        ({"stores": None}, "'stores' is missing"),
        ({"out": None}, "'out' is missing"),
        ({"stores": {"a": 1}}, "--stores"),
        ({"stores": [None]}, "--stores"),
        ({"backbone": ["a"]}, "--backbone"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        make(PretrainSettings, {"stores": "s", "out": "r"} | given)


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5.0e-04"])
def test_a_number_in_yaml_is_a_number_however_it_is_written(text: str) -> None:
    given = yaml.safe_load(f"{{stores: [s], out: r, lr: {text}}}")
    assert make(PretrainSettings, given).lr == 0.0005


def test_a_missing_setting_is_named_with_what_it_means() -> None:
    with pytest.raises(InputError, match=r"'out' is missing[^$]*Run folder"):
        make(PretrainSettings, {"stores": "s"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_what_was_not_given_and_nothing_else(preset: str) -> None:
    settings = make(PretrainSettings, {"stores": "s", "out": "r", "preset": preset, "lr": 0.25})
    expected = {**vars(PRESETS[preset]), "lr": 0.25}
    assert {name: getattr(settings, name) for name in expected} == expected
    assert settings.queue is None, "decided when the number of images is known"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_s_values_are_of_the_settings_types_and_in_range(preset: str) -> None:
    values = vars(PRESETS[preset])
    settings = make(PretrainSettings, {"stores": "s", "out": "r", **values})
    assert {name: getattr(settings, name) for name in values} == values


def test_the_preset_paper_says_what_the_paper_says() -> None:
    paper = PRESETS["paper"]
    assert (QUEUES["paper"], paper.momentum, paper.temperature, paper.dim) == (24_576, 0.999, 0.2, 128)
    assert (paper.optimizer, paper.lr, paper.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (paper.epochs, paper.batch, paper.size, paper.rotation) == (20, 16, 320, 10.0)
    assert [share * paper.epochs for share in paper.milestones] == [12.0, 18.0]
    assert math.isclose(paper.std, 0.29255**2, rel_tol=1e-4), "a variance where a std belongs, kept"


def how_many(kind: Any) -> int:
    """How many values a setting of this type takes at least."""
    inner = typing.get_args(kind)
    return len(inner) if typing.get_origin(kind) is tuple and ... not in inner else 1


NUMBERS = [(c, f) for c, f in FIELDS if values_of_numbers(typing.get_type_hints(COMMANDS[c])[f.name])]


@pytest.mark.parametrize(("command", "field"), NUMBERS, ids=[f"{c}-{f.name}" for c, f in NUMBERS])
@hypothesis.settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_number_outside_its_range_is_refused_by_name_and_one_inside_is_taken(
    command: str, field: dataclasses.Field[Any], data: st.DataObject
) -> None:
    """The range is compared in words of its own: what `__contains__` says is not asked."""
    limits, kind = field.metadata["range"], typing.get_type_hints(COMMANDS[command])[field.name]
    whole = "int" in str(kind)
    ends = [(limits.low, -1, False), (limits.high, 1, False), (limits.above, -1, True), (limits.below, 1, True)]
    outside: list[Any] = [] if whole else [math.nan, math.inf, -math.inf]
    for end, side, itself in ends:
        if end is not None:
            distance = data.draw(st.integers(1, 10**6) if whole else st.floats(1e-6, 1e6))
            outside += [end + side * distance, *([end] if itself else [])]
    outside = [value for value in outside if value not in field.metadata["words"].values()]
    assert outside, "a number without a range"
    for value in outside:
        wrong = [value] * how_many(kind) if typing.get_origin(kind) is tuple else value
        with pytest.raises(InputError, match=rf"{flag(field.name)} must be .* \(got"):
            make(COMMANDS[command], {**to_mapping(smallest(command)), field.name: wrong})


@pytest.mark.parametrize("command", sorted({command for command, _ in NUMBERS}))
def test_every_command_ends_with_2_on_a_number_outside_its_range(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = typing.get_type_hints(COMMANDS[command])
    words = []
    for field in dataclasses.fields(COMMANDS[command]):
        if field.default is dataclasses.MISSING:
            words += [*([] if field.metadata["positional"] else [flag(field.name)]), some_value(kinds[field.name])]
    for _, field in (pair for pair in NUMBERS if pair[0] == command):
        limits = field.metadata["range"]
        value = next(end for end in (limits.low, limits.above) if end is not None) - 1
        count = how_many(kinds[field.name])
        with pytest.raises(SystemExit) as end:
            cli.main([command, *words, *([flag(field.name)] + [f"{value:g}"] * count)])
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {flag(field.name)} must be ")


@pytest.mark.parametrize("wrong", [{"key_groups": 17}, {"accumulate": 17}, {"crop": (0.9, 0.5)}, {"batch": 2}])
def test_values_that_contradict_one_another_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"--(key-groups|accumulate|crop) must be"):
        make(PretrainSettings, {"stores": "s", "out": "r", **wrong})


def test_settings_cannot_be_changed_after_they_are_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        smallest("pretrain").lr = 1.0


def test_a_setting_keeps_all_that_is_said_of_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class One:
        side: int = setting("How wide.", 3, unit="px", above=0, high=9, source="arXiv 2010.05352")

    assert describe(dataclasses.fields(One)[0]) == (
        "How wide. [px; above 0 and at most 9; default: 3; arXiv 2010.05352]"
    )


def test_a_seed_may_be_any_that_64_bits_hold(tmp_path: Path) -> None:
    """A time stamp is a usual seed; products of it are taken modulo 2^63, and scikit-learn gets 32 bits."""
    store = make_synthetic_store(tmp_path, images=12)
    for i, seed in enumerate((20260101120000, 2**63 - 1)):
        run = tiny_run(store, tmp_path / f"run{i}", seed=seed, epochs=1, batch=2, key_groups=1, queue=None)
        fit = make(COMMANDS["fit"], {
            "store": store, "encoder": str(run), "target": "Effusion", "out": tmp_path / f"model{i}", "seed": seed,
            "C": "cv", "device": "cpu", "jobs": 1,
        })  # fmt: skip
        run_fit(fit)
    with pytest.raises(InputError, match=r"--seed must be between 0 and 2\^63 - 1"):
        make(PretrainSettings, {"stores": "s", "out": "r", "seed": 2**63})


def test_words_and_numbers_in_yaml_are_what_they_look_like(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "s.yaml").write_text(
        "\ufeffstores: [~/a, b]\nout: ~/run\nseed: 010\nepochs: 1e1\nresume: no\nprecision: no\ninit: ~/w.pth\nqueue:\n",
        encoding="utf-8",
    )
    s = make(PretrainSettings, from_yaml(tmp_path / "s.yaml"))
    assert (s.stores, s.out, s.init) == ((Path("/home/me/a"), Path("b")), Path("/home/me/run"), "/home/me/w.pth")
    assert (s.seed, s.epochs, s.resume, s.precision, s.queue) == (10, 10, False, "no", None)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("m=~/a,~/b", "m=/home/me/a,/home/me/b"), ("resnet18:~/w.pth", "resnet18:/home/me/w.pth"), ("a~/b", "a~/b")],
)
def test_a_home_inside_the_name_of_an_arm_is_expanded(text, expanded, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert make(StudySettings, {"store": "s", "out": "o", "target": "t", "arm": text}).arm == (expanded,)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", float("nan")])
def test_no_option_takes_a_number_that_is_none_or_below_zero(number):
    for kind in COMMANDS.values():
        for field in dataclasses.fields(kind):
            type_ = fields.types_of(kind)[field.name]
            if not {int, float} & {type_, *typing.get_args(type_)}:
                continue
            many = typing.get_origin(type_) is tuple and typing.get_args(type_)[-1] is not Ellipsis
            value = (number,) * len(typing.get_args(type_)) if many else number
            with pytest.raises(InputError, match="must be"):
                fields._checked(field, type_, value)
