"""The command line, made from the settings of each command. Nobody imports this room.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import Field
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Union

import cyclopts
from cyclopts import Group, Parameter

from mococxr import commands, console
from mococxr.errors import InputError, RunError
from mococxr.settings import COMMANDS, flag, from_yaml
from mococxr.version import VERSION

SWITCHES = ("--quiet", "--verbose", "--json", "--debug")
DONE, FAILED, BAD_INPUT = 0, 1, 2
"""Exit statuses; a command may end with another, as `inspect` does with 3 where it finds what needs attention."""

INTRODUCTION = """\
From a folder of chest X-rays, most of them unlabelled, to a classifier that needs few labels,
with honest numbers.

For example:
    mococxr run      images/ --target TB --out result
or step by step:
    mococxr prepare  images/ --out store
    mococxr pretrain store --out run
    mococxr study    store --target TB --arm moco=run --arm imagenet --out cmp
    mococxr fit      store --encoder run --target TB --out model

`mococxr demo` runs the whole workflow on synthetic images; try it first."""

EPILOGUE = (
    "`mococxr COMMAND --help` lists every setting of a command. With every command, anywhere on the line: --quiet (results, "
    "warnings and errors alone), --verbose (settings and messages of libraries, too), --json (the result for programs, on "
    "standard output), --debug (the traceback of an error)."
)
ALWAYS = "Anywhere on the line: --quiet, --verbose, --json, --debug."
CONFIG_HELP = "YAML file of settings, e.g. the settings.yaml of a run; options given here override it."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status: 0 done, 2 bad input or settings, 3 findings, 1 anything else."""
    words, switches = _switches(list(sys.argv[1:] if arguments is None else arguments))
    console.manner = console.Manner("--quiet" in switches, "--verbose" in switches, "--json" in switches)
    try:
        status = _status(words, "--debug" in switches)
    finally:
        console.manner = console.Manner()
    sys.exit(status)


def _switches(words: list[str]) -> tuple[list[str], set[str]]:
    """The words of a command, and the switches that may stand anywhere on the line and belong to no command."""
    rest: list[str] = []
    switches: set[str] = set()
    for word, following in zip_longest(words, words[1:], fillvalue="-"):
        # `evaluate --json FILE` is a setting
        if word in SWITCHES and not (word == "--json" and words[0] == "evaluate" and not following.startswith("-")):
            switches.add(word)
        else:
            rest.append(word)
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    return ["--version"] if rest == ["version"] else rest, switches


def _status(words: list[str], debug: bool) -> int:
    """Do what the words say; every way it can end, as an exit status."""
    try:
        if not (debug or console.manner.verbose):
            _quieten_libraries()
        application()(words or ["--help"])
    except (InputError, cyclopts.CycloptsError) as error:
        _complain(_in_words(error), debug)
        return BAD_INPUT
    except RunError as error:
        _complain(f"error: {error}", debug)
    except KeyboardInterrupt:
        _complain("stopped", debug)
    except BrokenPipeError:  # of `mococxr ... | head`: nobody reads on, so nothing is said
        # or Python's own flush at the end would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as end:  # of a command with a status of its own
        return end.code if isinstance(end.code, int) else FAILED
    except Exception as error:  # the last door: whatever it is, the user gets one line and the status 1
        text = f"unexpected: {type(error).__name__}: {error}"
        _complain(f"{text}; run again with --debug for the traceback", debug)
    else:
        return DONE
    return FAILED


def _quieten_libraries() -> None:
    """Keep the warnings, logs and bars of libraries off the screen: what matters the journal says."""
    warnings.simplefilter("ignore")
    logging.basicConfig(handlers=[logging.NullHandler()])
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub's client is imported


def _in_words(error: Exception) -> str:
    """`error: ` and what is wrong, then the way out."""
    text = " ".join(str(error).split()) if isinstance(error, cyclopts.CycloptsError) else str(error)
    if isinstance(error, cyclopts.CycloptsError):
        chain = [name for name in (error.command_chain or ()) if name in COMMANDS]
        text += f"\n  See {' '.join(['mococxr', *chain, '--help'])}."
    return f"error: {text}"


def _complain(text: str, debug: bool) -> None:
    if debug:
        console.error(traceback.format_exc().rstrip())
    console.error(text)


def application() -> cyclopts.App:
    """The whole command line as a cyclopts application that raises its errors instead of exiting."""
    app = cyclopts.App(
        name="mococxr",
        help=INTRODUCTION,
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=VERSION,
        group_commands=Group("Commands", sort_key=0),
        exit_on_error=False,  # `_status` says errors and gives the status
        print_error=False,
        suppress_keyboard_interrupt=False,  # or cyclopts would end with a status of its own
        result_action="return_none",  # or cyclopts would print and exit with what a command returns
        usage="Usage: mococxr COMMAND [SETTINGS]",
    )
    other = Group("Other", sort_key=1)
    app.register_install_completion_command(help="Have this shell complete commands and settings.", group=other)
    app["--help"].group = app["--version"].group = other
    for order, name in enumerate(COMMANDS):
        app.command(_function(name), name=name, sort_key=order, usage=_usage(name), help_epilogue=ALWAYS)
        app[name].help = inspect.getdoc(COMMANDS[name])
    return app


def _usage(command: str) -> str:
    """`Usage: mococxr fit STORE --encoder ... --out ... [SETTINGS]`: what must be given, in place."""
    by_position, by_name = commands.fields_of(command)
    kinds = commands.types_of(command)
    words = [f.name.upper() + ("..." if _many(kinds[f.name]) else "") for f in by_position if commands.is_required(f)]
    words += [f"[{f.name.upper()}]" for f in by_position if not commands.is_required(f)]
    words += [f"{flag(f.name)} {_metavar(kinds[f.name])}" for f in by_name if commands.is_required(f)]
    return " ".join(["Usage: mococxr", command, *words, "[SETTINGS]"])


def _metavar(kind: Any) -> str:
    return "PATH" if kind is Path else "STR"


def _function(command: str) -> Callable[..., None]:
    """A function whose signature cyclopts reads as the command's arguments and flags.

    Every parameter is optional here, so that it arrives only when it was really given: what is required may
    stand in the file of `--config`, and is checked when the settings are made.
    """

    def call(*values: Any, **flags: Any) -> None:
        named = {name: value for name, value in flags.items() if value is not None}
        config = named.pop("config", None)
        stated = _merge(config, _by_position(command, values) | named)
        done = commands.run(command, stated)
        if console.manner.json:
            console.document(commands.document(done))
        elif line := commands.next_line(command, stated):
            console.say(f"Next: {line}")
        if status := getattr(done, "exit_status", DONE):
            raise SystemExit(status)

    kinds = commands.types_of(command)
    by_position, by_name = commands.fields_of(command)
    first = [_parameter(command, f, kinds[f.name]) for f in by_position]
    rest = [_parameter(command, f, kinds[f.name]) for f in by_name]
    config = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None, Parameter(help=CONFIG_HELP, show_default=False, group=_GROUPS["Execution"], metavar="FILE")
        ],
    )
    call.__signature__ = inspect.Signature([*first, *rest, config])  # type: ignore[attr-defined]
    call.__name__ = command
    call.__doc__ = inspect.getdoc(COMMANDS[command])
    call.__annotations__ = {p.name: p.annotation for p in [*first, *rest, config]}
    return call


def _by_position(command: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """The values given by position under the names of their settings; the last may take all that is left."""
    names = [f.name for f in commands.fields_of(command)[0]]
    kinds = commands.types_of(command)
    by_name: dict[str, Any] = {}
    for order, name in enumerate(names):
        if _many(kinds[name]):
            if values[order:]:
                by_name[name] = values[order:]
        elif len(values) > order and values[order] is not None:
            by_name[name] = values[order]
    return by_name


def _merge(config: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Settings from the file, then from the flags, which win; a preset stands behind both."""
    if config is None and flags.get("resume"):
        kept = Path(flags["out"]) / "settings.yaml" if "out" in flags else None
        config = kept if kept is not None and kept.is_file() else None
    if config is None:
        return flags
    stated = from_yaml(config)
    preset, asked = stated.get("preset"), flags.get("preset")
    if preset is not None and asked is not None and preset != asked:
        raise InputError(
            f"--preset {asked} contradicts {config}, whose settings come from the preset {preset}.",
            "Leave one of the two out; settings in the file win over any preset.",
        )
    return stated | flags


GROUP_ORDER = (
    "Required", "Images", "Labels", "Split", "Privacy", "Design", "Columns", "Comparison", "Classifier",
    "Operating point", "Statistics", "Archive", "Receiving", "Encoder", "Method", "Contrastive learning",
    "Augmentation", "Optimisation", "Linear probe", "Gradient training", "Checkpoints and logging", "Model card",
    "Output", "Page", "Address", "Limits", "Execution",
)  # fmt: skip
_GROUPS = {name: Group(name, sort_key=order) for order, name in enumerate(GROUP_ORDER)}


def _parameter(command: str, field: Field[Any], kind: Any) -> inspect.Parameter:
    """One setting as a parameter that cyclopts understands."""
    plain = _plain_type(kind)
    group = "Required" if commands.is_required(field) else field.metadata["group"]
    parameter = Parameter(
        help=commands.describe(command, field),
        # cyclopts would write --C in lower case
        name=None if field.metadata["positional"] else flag(field.name),
        show_default=False,
        # "": or cyclopts would add --no-X to each flag; what is on is switched off by it
        negative=flag(f"no_{field.name}") if field.default is True else "",
        group=_GROUPS[group],
        consume_multiple=not field.metadata["single"],  # `--label A B`: several words behind one flag
        required=False,
        metavar="INT" if plain is int else None,
    )
    if plain is int:
        plain = str  # cyclopts would take 2.5 as 2; `make` refuses it
    if field.metadata["positional"] and _many(kind):
        item = typing.get_args(kind)[0]
        return inspect.Parameter(field.name, inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[item, parameter])
    where = inspect.Parameter.POSITIONAL_ONLY if field.metadata["positional"] else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, where, default=None, annotation=Annotated[plain | None, parameter])


def _many(kind: Any) -> bool:
    """Whether the type is a tuple of any length."""
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[-1:] == (Ellipsis,)


def _plain_type(kind: Any) -> Any:
    """The type without `| None`; a tuple of any length as a list, which may be repeated on the line."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        kind = next(inner for inner in typing.get_args(kind) if inner is not types.NoneType)
    if _many(kind):
        return list[typing.get_args(kind)[0]]  # type: ignore[misc]
    return kind
