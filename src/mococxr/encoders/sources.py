"""What a user may name as an encoder, and what it means.

| written | meaning |
|---|---|
| `FOLDER` | a run, or any folder with encoder.json |
| `imagenet`, `random` | ImageNet or random weights in the network of `--backbone`, or of the first run |
| `NAME`, `timm:NAME` | timm's network with its trained weights: `resnet50`, `resnet50.a1_in1k` |
| `hf:OWNER/NAME`, `hf:FOLDER` | a repository of the Hugging Face hub, or its files on disk: timm or transformers |
| `xrv:NAME` | torchxrayvision's network: `xrv:densenet121-res224-all` |
| `NAME:FILE` | a weights file for timm's network NAME |
| `FILE` | a weights file for `--backbone`, or one that a run wrote |
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open

from mococxr.encoders import transformer
from mococxr.encoders.encoder import Encoder, build, check_name, finished, load_weights
from mococxr.encoders.folder import load_encoder, read_spec
from mococxr.encoders.hub import hub_file
from mococxr.encoders.names import PLAIN
from mococxr.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec, Grey, spec_of
from mococxr.encoders.weights import (
    TIMM_FILES,
    fit_stem,
    imagenet_file,
    load_imagenet,
    load_timm,
    read_weights,
    timm_facts,
    timm_file,
    without_classifier,
)
from mococxr.encoders.xrv import xrv_file, xrv_spec, xrv_weights
from mococxr.errors import InputError
from mococxr.files import read_json, sha256_file

KINDS = (
    "Name a finished run folder, imagenet, random, a timm network, hf:OWNER/NAME, xrv:NAME, or NETWORK:FILE with "
    "a weights file."
)
SMALLEST_STD = 0.01
"""A run with a smaller one goes back to weights with a scale of their own (-1024..1024), which ImageNet's never saw."""


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder comes from, all its files at hand, before it is built.

    Args:
        name: as the user wrote it.
        kind: `run`, `imagenet`, `random`, `timm`, `hf`, `xrv` or `file`.
        spec: what it is built as; `spec.size` is the side of the frames it is shown.
        path: the run folder.
        files: the files that are read, weights first.
    """

    name: str
    kind: str
    spec: EncoderSpec
    path: Path | None = None
    files: tuple[Path, ...] = ()

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file read, by file name."""
        return {file.name: sha256_file(file) for file in self.files}


def resolve_encoder(
    name: str, *, backbone: str | None = None, size: int | None = None, like: EncoderSpec | None = None
) -> EncoderSource:
    """What the name of an encoder means; weights that are named and not here are fetched now.

    Args:
        backbone: timm name for `imagenet`, `random` and a weights file; None takes that of `like`.
        size: side of a frame, px; None takes the encoder's own, or for `imagenet` and `random` that of `like`.
        like: the spec of the first run among the arms; `imagenet` and `random` follow its channels and grey.

    Raises:
        InputError: there is no such encoder, or it cannot be had here, or nobody says how to build it.
    """
    kind, _, rest = name.partition(":")
    if name in PLAIN:
        source = _plain(name, backbone, size, like)
    elif kind in _NAMED and rest:
        source = _NAMED[kind](name, rest)
    elif Path(name).is_dir():
        source = _folder(name)
    elif Path(name).is_file():
        source = _file(name, Path(name), backbone or (like.timm if like else None))
    elif rest and timm.is_model(kind):
        source = _file(name, Path(rest), kind)
    elif timm.is_model(name):
        source = _timm(name, name)
    else:
        raise InputError(f"There is no encoder {name!r}.", KINDS)
    return replace(source, spec=replace(source.spec, size=size or source.spec.size))


def _plain(name: str, backbone: str | None, size: int | None, like: EncoderSpec | None) -> EncoderSource:
    wanted, side = backbone or (like and like.timm), size or (like and like.size)
    if not wanted or not side:
        raise InputError(
            f"The encoder {name!r} has no backbone or no size: no run folder says them.",
            "Give --backbone (for example tf_efficientnet_lite0) and --size (for example 96).",
        )
    spec = replace(like, timm=wanted, size=side) if like else EncoderSpec(wanted, side)
    if backbone and spec.package != "timm":
        spec = EncoderSpec(wanted, side)
    elif like and min(_numbers(like.std)) < SMALLEST_STD:
        spec = replace(spec, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if name == "imagenet" and spec.package != "timm":
        raise InputError(
            f"timm has no ImageNet weights for the {spec.timm} of the first run.", "Give --backbone."
        )
    return EncoderSource(name, name, spec, files=(imagenet_file(wanted),) if name == "imagenet" else ())


def _numbers(grey: Grey) -> tuple[float, ...]:
    return grey if isinstance(grey, tuple) else (grey,)


def _folder(name: str) -> EncoderSource:
    folder = Path(name)
    if not (folder / "encoder.json").is_file() and (folder / "config.json").is_file():
        raise InputError(f"{name} is no run, but looks like a repository of the hub.", f"Write hf:{name}.")
    return EncoderSource(name, "run", read_spec(folder), folder, (folder / "encoder.safetensors",))


def _timm(name: str, network: str) -> EncoderSource:
    check_name(network)
    told = timm_facts(network)
    return EncoderSource(name, "timm", _timm_spec(told, network.split(".")[0]), files=(timm_file(told),))


def _timm_spec(told: dict[str, Any], network: str, config: str = "") -> EncoderSpec:
    channels, height, _ = told.get("input_size") or (3, 224, 224)
    mean, std = tuple(told["mean"]), tuple(told["std"])
    if len({*mean}) == len({*std}) == 1:
        mean, std = mean[0], std[0]
    return EncoderSpec(network, height, channels, mean, std, config=config)


def _hub(name: str, repository: str) -> EncoderSource:
    config = hub_file(repository, ("config.json",))
    told = read_json(config)
    if "architecture" in told:
        check_name(told["architecture"])
        arguments = json.dumps(told["model_args"], sort_keys=True) if told.get("model_args") else ""
        spec = _timm_spec(told.get("pretrained_cfg", told), told["architecture"], arguments)
        return EncoderSource(name, "hf", spec, files=(hub_file(repository, TIMM_FILES), config))
    grey = transformer.grey_of(hub_file(repository, ("preprocessor_config.json", "processor_config.json")))
    parts = _shards(repository)
    _, spec = transformer.read_folder(config.parent, grey)
    return EncoderSource(name, "hf", spec, files=(*parts, config))


def _shards(repository: str) -> tuple[Path, ...]:
    """The weights of a transformers model: one file, or those that an index lists."""
    names = [f"{name}{index}" for name in TIMM_FILES for index in ("", ".index.json")]
    first = hub_file(repository, names)
    if first.suffix != ".json":
        return (first,)
    return tuple(
        hub_file(repository, (part,)) for part in sorted(set(read_json(first)["weight_map"].values()))
    )


def _xrv(name: str, network: str) -> EncoderSource:
    return EncoderSource(name, "xrv", xrv_spec(network), files=(xrv_file(network),))


def _file(name: str, file: Path, network: str | None) -> EncoderSource:
    if not file.is_file():
        raise InputError(f"There is no weights file {file}.", KINDS)
    written = _spec_inside(file)
    if written and network in (None, written.timm):
        return EncoderSource(name, "file", written, files=(file,))
    if not network:
        raise InputError(
            f"{file} does not say which network it is for.", f"Write NETWORK:{file}, or --backbone."
        )
    check_name(network)
    told = timm.get_pretrained_cfg(network)
    size, mean, std = ((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    spec = _timm_spec(
        {"input_size": (3, *size), "mean": mean, "std": std} if told is None else vars(told), network
    )
    return EncoderSource(name, "file", spec, files=(file,))


def _spec_inside(file: Path) -> EncoderSpec | None:
    """The spec that `save_encoder` writes into the weights file itself."""
    if file.suffix != ".safetensors":
        return None
    try:
        with safe_open(file, "pt") as opened:
            inside = (opened.metadata() or {}).get("spec")
    except (SafetensorError, OSError):
        return None  # whoever reads the weights says what is wrong with them
    return spec_of(json.loads(inside), str(file)) if inside else None


_NAMED = {"timm": _timm, "hf": _hub, "xrv": _xrv}


def open_encoder(source: EncoderSource, seed: int = 0) -> Encoder:
    """Build the encoder and load its weights, in eval mode.

    Args:
        seed: of the weights of `random`.

    Raises:
        InputError: the weights do not fit.
    """
    if source.kind == "run" and source.path is not None:
        return load_encoder(source.path)
    if source.kind == "timm":
        return load_timm(source.spec, timm_facts(source.name.removeprefix("timm:")), source.files[0]).eval()
    if source.kind == "hf":
        return _open_hub(source)
    encoder = build(source.spec, seed)
    if source.kind == "imagenet":
        load_imagenet(encoder)
    elif source.kind == "xrv":
        load_weights(encoder, xrv_weights(source.files[0]), source.name)
    elif source.kind == "file":
        load_weights(
            encoder, without_classifier(read_weights(source.files[0]), source.spec.timm), source.name
        )
    return encoder.eval()


def _open_hub(source: EncoderSource) -> Encoder:
    config = source.files[-1]
    if source.spec.package == "timm":
        told = read_json(config)
        return load_timm(source.spec, told.get("pretrained_cfg", told), source.files[0]).eval()
    network, _ = transformer.read_folder(config.parent, source.spec)
    return finished(network, source.spec).eval()


def initialise(encoder: Encoder, init: str) -> str:
    """Load the weights that pretraining starts from into the network of `--backbone`.

    Args:
        init: `imagenet`, `random`, a run or encoder folder, or a weights file.

    Returns:
        Where they came from, for the record.
    """
    if init == "random":
        return "random weights"
    if init == "imagenet":
        return load_imagenet(encoder)
    path = Path(init)
    if path.is_dir():
        load_weights(encoder, fit_stem(read_weights(path / "encoder.safetensors"), encoder), str(path))
        return f"the encoder in {path.name}"
    if not path.is_file():
        raise InputError(f"There is no encoder {init!r}.", KINDS)
    weights = without_classifier(read_weights(path), encoder.spec.timm)
    load_weights(encoder, fit_stem(weights, encoder), str(path))
    return f"the file {path.name}"


def start(init: str, spec: EncoderSpec, seed: int) -> tuple[Encoder, str]:
    """The encoder that pretraining starts from, in train mode.

    Args:
        init: any encoder. `imagenet`, `random`, a run of a timm network and a plain weights file are put into the
            network of `spec`; every other brings its own network, channels and grey, and keeps but the size of
            `spec`.
        spec: backbone, size, channels, mean and std of the settings.

    Returns:
        The encoder, and where its weights came from, for the record.

    Raises:
        InputError: no such encoder, or weights that do not fit.
    """
    path = Path(init)
    own_run = (path / "encoder.json").is_file() and read_spec(path).package != "timm"
    if init in PLAIN or path.is_file() or (path.is_dir() and not own_run):
        encoder = build(spec, seed)
        return encoder, initialise(encoder, init)
    source = resolve_encoder(init, size=spec.size)
    if source.kind == "file":
        encoder = build(replace(spec, timm=source.spec.timm), seed)
        return encoder, initialise(encoder, str(source.files[0]))
    encoder = open_encoder(source)
    return Encoder(encoder.network, replace(encoder.spec, size=spec.size)).train(), init
