"""What a user may name as an encoder, and what it means: one row of `SOURCES` each.

| written | meaning |
|---|---|
| `imagenet`, `random` | ImageNet or random weights in the network of `--backbone`, or of the first run |
| `mococxr-lite0` | the weights that this project publishes: the distribution mococxr-weights |
| `hf:OWNER/NAME`, `hf:FOLDER` | a repository of the Hugging Face hub, or its files on disk: timm or transformers |
| `xrv:NAME` | torchxrayvision's network: `xrv:densenet121-res224-all` |
| `FOLDER` | a run, or any folder with encoder.json |
| `FILE`, `NETWORK:FILE` | a weights file for `--backbone`, or one that a run wrote; for timm's network NETWORK |
| `NAME`, `timm:NAME` | timm's network with its trained weights: `resnet50`, `resnet50.a1_in1k` |

How a size is written behind a name, and several side by side: `names.py`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from mococxr.encoders import transformer
from mococxr.encoders.encoder import Encoder, build, check_name, load_weights, read_spec, wrap
from mococxr.encoders.names import encoder_names
from mococxr.encoders.published import LITE0, resolve_published
from mococxr.encoders.spec import (
    BUILT_IN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Defaults,
    EncoderSource,
    EncoderSpec,
    grey_value,
)
from mococxr.encoders.weights import (
    TIMM_FILES,
    fit_stem,
    hub_file,
    hub_grey,
    imagenet_file,
    load_imagenet,
    load_timm,
    spec_inside,
    timm_facts,
    timm_file,
)
from mococxr.encoders.weights_file import fit_names, network_of, read_weights
from mococxr.encoders.xrv import xrv_file, xrv_spec, xrv_weights
from mococxr.errors import InputError
from mococxr.files import read_json

SMALLEST_STD = 0.01
"""A run with a smaller one goes back to weights with a scale of their own (-1024..1024), which ImageNet's never saw."""


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Args:
        words: how a user writes it, as `--help` and messages list it.
        resolve: the source of a name; None where the name is not of this kind. Raises InputError where it is, and
            there is no such encoder.
        open: builds the encoder and loads its weights; the integer is the seed of random weights.
        load: loads its weights into the network that the settings of pretraining describe, and says where they came
            from; None where the source brings its own network.
    """

    words: str
    resolve: Callable[[str, Defaults], EncoderSource | None]
    open: Callable[[EncoderSource, int], Encoder]
    load: Callable[[EncoderSource, Encoder], str] | None = None


def resolve_encoder(
    name: str,
    *,
    backbone: str | None = None,
    size: int | None = None,
    like: EncoderSpec | None = None,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    features: str = "last",
) -> EncoderSource:
    """What the name of an encoder means; weights that are named and not here are fetched now.

    Args:
        backbone, size, like, mean, std: as in `Defaults`.
        features: what is read of the network, `last` or `stages` (`EncoderSpec`).

    Raises:
        InputError: there is no such encoder, or it is not available here, or nothing says how to build it.
    """
    defaults = Defaults(backbone, size, like, grey_value(mean, "--mean"), grey_value(std, "--std"))
    for kind in SOURCES.values():
        if source := kind.resolve(name, defaults):  # the first kind that knows the name: the order of `SOURCES`
            return replace(source, spec=replace(source.spec, size=size or source.spec.size, features=features))
    near = difflib.get_close_matches(name, [*BUILT_IN, LITE0, *timm.list_models()], 3)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"There is no encoder {name!r}.", f"{hint}Name {_all_words()}.")


def resolve_encoders(
    text: str | PathLike[str], *, size: int | None = None, **options: Any
) -> tuple[EncoderSource, ...]:
    """What a text such as `imagenet@288+run@96` means, one source for each encoder in it.

    Args:
        size: of those that have none written; None takes each encoder's own.
        options: as `resolve_encoder`.

    Raises:
        InputError: as `encoder_names` and `resolve_encoder`.
    """
    return tuple(resolve_encoder(name.text, size=name.size or size, **options) for name in encoder_names(text))


def _all_words() -> str:
    return ", ".join(kind.words for kind in SOURCES.values())


def open_encoder(source: EncoderSource, seed: int = 0) -> Encoder:
    """Build the encoder and load its weights, in eval mode.

    Args:
        seed: of the weights of `random`.

    Raises:
        InputError: the weights do not fit.
    """
    return SOURCES[source.kind].open(source, seed).eval()


def load_encoder(
    source: str | PathLike[str],
    *,
    backbone: str | None = None,
    size: int | None = None,
    features: str = "last",
    seed: int = 0,
) -> Encoder:
    """Any encoder by its name, in eval mode: a run folder, `imagenet`, a timm network, `hf:`, `xrv:`, a weights file.

    Args:
        source: as the commands take it, one encoder, with `@SIZE` or without; a path object is taken as it is.
        backbone: timm network of `imagenet`, `random` and a plain weights file.
        size: side of a frame, px; None takes the encoder's own.
        features: `last`, the network's own feature, or `stages`, the pooled maps of its last four stages before it.
        seed: of the weights of `random`.

    Returns:
        Module: (N, 1, H, W) uint8 0..255 or float 0..1, any H and W -> (N, D) float32; `encoder.size` is the side of
        the frames it was trained on, `encoder.spec` describes it.

    Raises:
        InputError: no such encoder, weights that do not fit (each key is named), or several encoders.
    """
    sources = resolve_encoders(source, backbone=backbone, size=size, features=features)
    if len(sources) > 1:
        raise InputError(
            f"{source} names {len(sources)} encoders side by side.", "Load each, or take mococxr.Features."
        )
    return open_encoder(sources[0], seed)


def initial_encoder(init: str, spec: EncoderSpec, seed: int) -> tuple[Encoder, str]:
    """The encoder that pretraining starts from, in train mode.

    Args:
        init: any encoder. `imagenet`, `random`, a run of a timm network and a weights file are put into the network
            of `spec`; every other brings its own network, channels and grey, and takes only the size of `spec`.
        spec: backbone, size, channels, mean and std of the settings.

    Returns:
        The encoder, and where its weights came from, for the record.

    Raises:
        InputError: no such encoder, or weights that do not fit.
    """
    source = resolve_encoder(init, backbone=spec.architecture, size=spec.size, mean=spec.mean, std=spec.std)
    load = SOURCES[source.kind].load
    if load is None or source.spec.package != "timm":  # brings its own network, channels and grey
        encoder = open_encoder(source)
        return Encoder(encoder.network, replace(encoder.spec, size=spec.size)).train(), init
    if source.kind == "file":  # NETWORK:FILE names another backbone than the settings
        spec = replace(spec, architecture=source.spec.architecture)
    encoder = build(spec, seed)
    return encoder, load(source, encoder)


# --- a run folder


def _resolve_run(name: str, _: Defaults) -> EncoderSource | None:
    folder = Path(name)
    if not folder.is_dir():
        return None
    if not (folder / "encoder.json").is_file() and (folder / "config.json").is_file():
        raise InputError(f"{name} is not a run, but looks like a repository of the hub.", f"Write hf:{name}.")
    return EncoderSource(name, "run", read_spec(folder), folder, (folder / "encoder.safetensors",))


def _open_run(source: EncoderSource, seed: int) -> Encoder:
    # The frames' size may be another one here; the network is built for the size that it was trained on.
    encoder = build(replace(read_spec(source.files[0].parent), features=source.spec.features), seed)
    load_weights(encoder, read_weights(source.files[0]), source.name)
    return encoder


def _load_run(source: EncoderSource, encoder: Encoder) -> str:
    load_weights(encoder, fit_stem(read_weights(source.files[0]), encoder), source.name)
    return f"the encoder in {Path(source.name).name}"


# --- imagenet, random


def _resolve_built_in(name: str, defaults: Defaults) -> EncoderSource:
    network, size, like = defaults.network, defaults.size, defaults.like
    size = size or (like.size if like else None)
    if not network or not size:
        raise InputError(
            f"The encoder {name!r} needs a backbone and a size, and there is no run to take them from.",
            "Give --backbone (for example tf_efficientnet_lite0) and --size (for example 96).",
        )
    spec = replace(like, architecture=network, size=size) if like else EncoderSpec(network, size)
    if defaults.backbone and spec.package != "timm":
        spec = EncoderSpec(network, size)
    elif like and min(like.std if isinstance(like.std, tuple) else (like.std,)) < SMALLEST_STD:
        spec = replace(spec, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return EncoderSource(name, name, spec)


def _resolve_random(name: str, defaults: Defaults) -> EncoderSource | None:
    return _resolve_built_in(name, defaults) if name == "random" else None


def _resolve_imagenet(name: str, defaults: Defaults) -> EncoderSource | None:
    if name != "imagenet":
        return None
    source = _resolve_built_in(name, defaults)
    network = source.spec.architecture
    if source.spec.package != "timm":
        raise InputError(f"timm has no ImageNet weights for the {network} of the first run.", "Give --backbone.")
    return replace(source, files=(imagenet_file(network),))


def _open_imagenet(source: EncoderSource, seed: int) -> Encoder:
    load_imagenet(encoder := build(source.spec, seed))
    return encoder


# --- timm's networks, by name


def _resolve_timm(name: str, _: Defaults) -> EncoderSource | None:
    network = name.removeprefix("timm:")
    if network == name and not timm.is_model(name):  # after `timm:` a wrong name is an error, here another kind's
        return None
    check_name(network)
    facts = timm_facts(network)
    return EncoderSource(name, "timm", _timm_spec(facts, network.split(".")[0]), files=(timm_file(facts),))


def _timm_spec(facts: Mapping[str, Any], network: str, config: str = "") -> EncoderSpec:
    channels, height, _ = facts.get("input_size") or (3, 224, 224)
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    if len({*mean}) == len({*std}) == 1:  # one number for all channels lets the encoder sum its first kernels
        mean, std = mean[0], std[0]
    return EncoderSpec(network, height, channels, mean, std, config=config)


def _open_timm(source: EncoderSource, _: int) -> Encoder:
    return load_timm(source.spec, timm_facts(source.name.removeprefix("timm:")), source.files[0])


# --- repositories of the Hugging Face hub


def _resolve_hub(name: str, defaults: Defaults) -> EncoderSource | None:
    if not name.startswith("hf:"):
        return None
    repository = name.removeprefix("hf:")
    config = hub_file(repository, ("config.json",))
    facts = read_json(config)
    if "architecture" in facts:
        check_name(facts["architecture"])
        arguments = json.dumps(facts["model_args"], sort_keys=True) if facts.get("model_args") else ""
        spec = _timm_spec(facts.get("pretrained_cfg", facts), facts["architecture"], arguments)
        return EncoderSource(name, "hf", spec, files=(hub_file(repository, TIMM_FILES), config))
    grey = hub_grey(repository, defaults.size, defaults.mean, defaults.std)
    shards = _shards(repository)
    hub_spec = transformer.read_folder(config.parent, grey)[1]
    return EncoderSource(name, "hf", hub_spec, files=(*shards, config))


def _shards(repository: str) -> tuple[Path, ...]:
    """The weights of a transformers model: one file, or those that an index lists."""
    names = [f"{name}{index}" for name in TIMM_FILES for index in ("", ".index.json")]
    first = hub_file(repository, names)
    if first.suffix != ".json":
        return (first,)
    shards = sorted(set(read_json(first)["weight_map"].values()))  # the index names a file for each tensor
    return tuple(hub_file(repository, (shard,)) for shard in shards)


def _open_hub(source: EncoderSource, _: int) -> Encoder:
    config = source.files[-1]  # `_resolve_hub` puts it behind the weights
    if source.spec.package == "timm":
        facts = read_json(config)
        return load_timm(source.spec, facts.get("pretrained_cfg", facts), source.files[0])
    network, _spec = transformer.read_folder(config.parent, source.spec)
    return wrap(network, source.spec)


# --- torchxrayvision


def _resolve_xrv(name: str, _: Defaults) -> EncoderSource | None:
    if not name.startswith("xrv:"):
        return None
    network = name.removeprefix("xrv:")
    return EncoderSource(name, "xrv", xrv_spec(network), files=(xrv_file(network),))


def _open_xrv(source: EncoderSource, seed: int) -> Encoder:
    load_weights(encoder := build(source.spec, seed), xrv_weights(source.files[0]), source.name)
    return encoder


# --- weights files


def _resolve_file(name: str, defaults: Defaults) -> EncoderSource | None:
    network, _, rest = name.partition(":")
    if Path(name).is_file():
        file, backbone = Path(name), defaults.network
    elif rest and timm.is_model(network):
        file, backbone = Path(rest), network
    else:
        return None
    if not file.is_file():
        raise InputError(f"There is no weights file {file}.", f"Name {_all_words()}.")
    inside = spec_inside(file)
    if inside and backbone in (None, inside.architecture):
        return EncoderSource(name, "file", inside, files=(file,))
    if not backbone:
        fits = network_of(read_weights(file))
        advice = f"They fit {fits}: write {fits}:{file}." if fits else f"Write NETWORK:{file}, or --backbone."
        raise InputError(f"{file} does not say which network it is for.", advice)
    check_name(backbone)
    published = timm.get_pretrained_cfg(backbone)
    grey = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # ImageNet's, where timm states none
    spec = _timm_spec(grey if published is None else vars(published), backbone)
    stated = {name: value for name in ("mean", "std") if (value := getattr(defaults, name)) is not None}
    spec = replace(spec, **stated)
    return EncoderSource(name, "file", spec, files=(file,))


def _open_file(source: EncoderSource, seed: int) -> Encoder:
    encoder = build(source.spec, seed)
    load_weights(encoder, _of_file(source, encoder), source.name)
    return encoder


def _load_file(source: EncoderSource, encoder: Encoder) -> str:
    load_weights(encoder, fit_stem(_of_file(source, encoder), encoder), str(source.files[0]))
    return f"the file {source.files[0].name}"


def _of_file(source: EncoderSource, encoder: Encoder) -> dict[str, Tensor]:
    weights = read_weights(source.files[0])
    return fit_names(weights, encoder.network, encoder.spec.architecture, source.name)


SOURCES: dict[str, Kind] = {
    "imagenet": Kind("imagenet", _resolve_imagenet, _open_imagenet, lambda _, encoder: load_imagenet(encoder)),
    "random": Kind("random", _resolve_random, lambda s, seed: build(s.spec, seed), lambda *_: "random weights"),
    "published": Kind(f"{LITE0} (mococxr-weights)", resolve_published, _open_run),
    "run": Kind("a run folder", _resolve_run, _open_run, _load_run),
    "hf": Kind("hf:OWNER/NAME or hf:FOLDER", _resolve_hub, _open_hub),
    "xrv": Kind("xrv:NAME (torchxrayvision)", _resolve_xrv, _open_xrv),
    "file": Kind("a weights file or NETWORK:FILE", _resolve_file, _open_file, _load_file),
    "timm": Kind("a timm network (resnet50.a1_in1k)", _resolve_timm, _open_timm),
}
"""Kind -> how its names are read; tried in this order, so that a folder named like a network is the folder."""
