"""The authors' checkpoints: every tensor read, or named; nothing run, nothing half written."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import mococxr
from mococxr import cli
from mococxr.encoders import EncoderSpec, initial_encoder
from mococxr.errors import InputError
from mococxr.exporting.moco_checkpoint import read_checkpoint
from mococxr.exporting.state_dicts import PAIRS, ArchitecturePair
from official_checkpoint import checkpoint, features, state_dict, write
from small_store import make_store

MEAN, STD = 0.5020, 0.085585


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (3, 1, 64, 96), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def bring_in(folder: Path, content: object, **settings: object) -> Path:
    file = write(folder / "checkpoint_0019.pth.tar", content)
    return mococxr.import_checkpoint("moco-cxr", file, out=folder / "run", **settings)


def refused(folder: Path, content: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        bring_in(folder, content)
    assert not (folder / "run").exists()


# --- the same network


@pytest.mark.parametrize("arch", ["resnet18", "mnasnet1_0", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_the_encoder_gives_the_features_of_the_authors_network_to_the_bit(tmp_path, frames, arch):
    run = bring_in(tmp_path, checkpoint(arch))
    encoder = mococxr.load_encoder(run)
    normalised = ((frames.float() / 255 - MEAN) / STD).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        ours = encoder(frames)
    theirs = features(arch, normalised.contiguous(memory_format=torch.channels_last))
    assert ours.std() > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * float(theirs.abs().max()))
    network = encoder.network.to(memory_format=torch.contiguous_format)
    with torch.inference_mode():
        assert (network(normalised.contiguous()) - features(arch, normalised.contiguous())).abs().max() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.torchvision)
def test_torchvision_and_timm_have_the_same_network_under_two_names(pair: ArchitecturePair):
    theirs = pair.build(0)
    generator = torch.Generator().manual_seed(0)
    for key, value in theirs.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    ours = timm.create_model(pair.timm, num_classes=0).eval()
    table = theirs.state_dict()
    assert [k.rpartition(".")[2] for k in table] == [k.rpartition(".")[2] for k in ours.state_dict()]
    ours.load_state_dict(pair.to_timm(table, list(ours.state_dict())), strict=True)
    back = pair.to_torchvision(ours.state_dict())
    assert all(torch.equal(back[key], table[key]) for key in table)
    assert list(back) == list(table)
    frames = torch.rand(2, 3, 70, 97, generator=generator)
    with torch.inference_mode():
        assert (ours(frames) - theirs(frames)).abs().max() == 0.0


@pytest.mark.parametrize(("head", "prefix"), [("mlp", ""), ("linear", "module."), ("linear", "")])
def test_heads_of_v1_and_v2_are_known_with_and_without_parallel_prefixes(tmp_path, head, prefix):
    run = bring_in(tmp_path, checkpoint("resnet18", head, prefix))
    record = json.loads((run / "run.json").read_text())["checkpoint"]
    assert record["head"] == head
    kept = load_file(run / "head.safetensors")
    source = state_dict("resnet18", head, prefix)
    assert {f"{prefix}encoder_q.fc.{key}" for key in kept} == {k for k in source if "encoder_q.fc" in k}
    assert all(torch.equal(value, source[f"{prefix}encoder_q.fc.{key}"]) for key, value in kept.items())


def test_mnasnet_has_its_v1_head_inside_a_sequence(tmp_path):
    table = state_dict("mnasnet1_0", "linear")
    moved = {key.replace("classifier.", "classifier.1."): value for key, value in table.items()}
    run = bring_in(tmp_path, {"arch": "mnasnet1_0", "state_dict": moved})
    assert json.loads((run / "run.json").read_text())["checkpoint"]["head"] == "linear in a sequence"


# --- the record


def test_every_tensor_of_the_file_is_read_or_named_as_left_out(tmp_path, capsys):
    content = checkpoint("resnet18") | {"loss": np.float64(2.5), "queue_length": 8}
    run = bring_in(tmp_path, content, source="chexpert")
    record = json.loads((run / "run.json").read_text())
    left = record["checkpoint"]["left_out"]
    named = {name for group in left.values() for name in group}
    read = load_file(run / "encoder.safetensors")
    taken = {f"module.encoder_q.{key}" for key in read}
    assert taken | named >= set(content["state_dict"])
    assert not taken & named
    assert {k: len(v) for k, v in left.items()} == {
        "key encoder": 124, "projection head": 4, "queue": 2, "optimizer": 3, "other entries": 2,
    }  # fmt: skip
    said = capsys.readouterr().err
    assert all(f"left out: {group}, {len(names)}" in said for group, names in left.items())
    assert record["kind"] == "imported"
    assert record["checkpoint"]["epoch"] == 20
    assert record["pretrained_on"]["source"] == ["chexpert"]
    spec = json.loads((run / "encoder.json").read_text())
    assert (spec["architecture"], spec["size"], spec["mean"], spec["std"]) == ("resnet18", 320, MEAN, STD)


def test_what_the_checkpoint_does_not_record_stays_unknown(tmp_path):
    run = bring_in(tmp_path, {"state_dict": state_dict("resnet18")})
    record = json.loads((run / "run.json").read_text())
    assert record["pretrained_on"] is None
    assert record["checkpoint"]["epoch"] is None
    assert record["checkpoint"]["architecture_from"] == "the tensors"
    assert record["backbone"] == "resnet18"


def test_other_preprocessing_is_stated_by_flags(tmp_path):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    run = bring_in(tmp_path, checkpoint("resnet18"), size=224, mean=mean, std=std)
    spec = mococxr.load_encoder(run).spec
    assert (spec.size, spec.mean, spec.std) == (224, mean, std)


def test_a_safetensors_file_with_the_same_names_is_read(tmp_path):
    tensors = {key: value.contiguous() for key, value in state_dict("resnet18").items()}
    save_file(tensors, tmp_path / "moco.safetensors")
    run = mococxr.import_checkpoint("moco-cxr", tmp_path / "moco.safetensors", out=tmp_path / "run")
    assert mococxr.load_encoder(run).spec.architecture == "resnet18"


def test_the_old_file_format_of_torch_is_read(tmp_path):
    torch.save(checkpoint("resnet18"), tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    run = mococxr.import_checkpoint("moco-cxr", tmp_path / "old.pth.tar", out=tmp_path / "run")
    assert mococxr.load_encoder(run).spec.feature_dim == 512


# --- what is refused


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, new):
    mark = tmp_path / "it-ran"
    content = checkpoint("resnet18") | {"args": Trap(mark)}
    torch.save(content, tmp_path / "trap.pth.tar", _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match=r"mkdir.*nothing of it was run") as refusal:
        mococxr.import_checkpoint("moco-cxr", tmp_path / "trap.pth.tar", out=tmp_path / "run")
    assert "torch.save" in refusal.value.way_out
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists(), "the trap is one"


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "it-ran"
    (tmp_path / "c.pth.tar").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(InputError):
        mococxr.import_checkpoint("moco-cxr", tmp_path / "c.pth.tar", out=tmp_path / "run")
    assert not mark.exists()


def test_settings_of_a_script_inside_a_checkpoint_are_named_with_the_way_out(tmp_path):
    refused(tmp_path, checkpoint("resnet18") | {"args": argparse.Namespace(lr=1)}, r"argparse\.Namespace")


def test_numbers_of_numpy_are_let_through_and_nothing_else_of_it(tmp_path):
    path = write(tmp_path / "c.pt", {"state_dict": {"a": torch.ones(1)}, "best": np.float64(0.5), "n": np.int64(3)})
    assert read_checkpoint(path)["best"] == 0.5
    write(path, {"state_dict": {}, "array": np.ones(3)})
    with pytest.raises(InputError, match="numpy"):
        read_checkpoint(path)


def _cut(table: dict[str, torch.Tensor], key: str) -> None:
    del table[key]


def _stretch(table: dict[str, torch.Tensor], key: str) -> None:
    table[key] = torch.cat([table[key], table[key]])


def _spoil(table: dict[str, torch.Tensor], key: str) -> None:
    table[key].view(-1)[-1] = float("nan")


def _add(table: dict[str, torch.Tensor], key: str) -> None:
    table[key + ".more"] = torch.ones(1)


CONV, NORM = "layer4.1.conv2.weight", "bn1.running_var"


@pytest.mark.parametrize(
    ("fault", "key", "match"),
    [
        (_cut, f"module.encoder_q.{CONV}", rf"missing.*{CONV}"),
        (_stretch, f"module.encoder_q.{CONV}", rf"another shape: {CONV} \(1024, 512, 3, 3\) for \(512"),
        (_spoil, f"module.encoder_q.{CONV}", rf"not finite: encoder_q\.{CONV}"),
        (_add, f"module.encoder_q.{CONV}", rf"encoder_q\.\* unknown: {CONV}\.more"),
        (_add, "module.queue", r"unknown: queue\.more"),
        (_spoil, "module.queue", "not finite: queue"),
        (_cut, f"module.encoder_k.{NORM}", rf"encoder_k\.\* missing: {NORM}"),
        (_cut, "module.encoder_q.fc.0.bias", "neither MoCo v2's nor v1's"),
        (_stretch, "module.encoder_q.fc.2.bias", "shapes that do not fit"),
    ],
)
def test_a_fault_in_one_tensor_is_refused_by_its_name(tmp_path, fault, key, match):
    content = checkpoint("resnet18")
    fault(content["state_dict"], key)
    refused(tmp_path, content, match)


def test_a_network_that_is_not_the_one_it_says_is_refused(tmp_path):
    refused(tmp_path, checkpoint("resnet18") | {"arch": "resnet34"}, r"missing for torchvision's resnet34")


@pytest.mark.parametrize("arch", ["alexnet", "no-such-network"])
def test_a_network_that_timm_has_not_in_equal_form_is_refused(tmp_path, arch):
    refused(tmp_path, checkpoint("resnet18") | {"arch": arch}, "does not have in equal form")


def test_tensors_of_no_known_network_are_refused(tmp_path):
    table = state_dict("resnet18")
    del table[f"module.encoder_q.{CONV}"]
    refused(tmp_path, {"state_dict": table}, "does not name its network")


def test_a_plain_network_is_told_which_way_to_go(tmp_path):
    plain = {key.replace("module.encoder_q.", ""): value for key, value in state_dict("resnet18").items()}
    refused(tmp_path, {"arch": "resnet18", "state_dict": plain}, r"no tensor module\.encoder_q")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"state_dict": {"a": 1}}, {"epoch": 3}])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    refused(tmp_path, content, "no checkpoint|no table of tensors|are no tensors")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path, share):
    path = write(tmp_path / "c.pth.tar", checkpoint("resnet18"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="cut off or damaged"):
        mococxr.import_checkpoint("moco-cxr", path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings", [{"size": 8}, {"mean": (0.1, 0.2)}, {"mean": (-1.0,)}, {"std": (0.0,)}, {"std": (float("nan"),)}]
)
def test_preprocessing_that_cannot_be_is_refused(tmp_path, settings):
    path = write(tmp_path / "c.pth.tar", checkpoint("resnet18"))
    with pytest.raises(InputError):
        mococxr.import_checkpoint("moco-cxr", path, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("x")
    path = write(tmp_path / "c.pth.tar", checkpoint("resnet18"))
    with pytest.raises(InputError, match="is not empty"):
        mococxr.import_checkpoint("moco-cxr", path, out=tmp_path / "run")


@pytest.mark.parametrize(("kind", "status"), [("moco-cxr", 0), ("simclr", 2)])
def test_the_command_line_names_whose_checkpoint_it_is(tmp_path, kind, status, capsys):
    path = write(tmp_path / "c.pth.tar", checkpoint("resnet18"))
    with pytest.raises(SystemExit) as end:
        cli.main(["import", kind, str(path), "--out", str(tmp_path / "run"), "--size", "224"])
    assert end.value.code == status
    assert (tmp_path / "run" / "run.json").is_file() == (status == 0)
    assert ("moco-cxr" in capsys.readouterr().err) == (status == 2)


@pytest.mark.slow
def test_an_imported_run_is_a_run_like_any_other(tmp_path):
    """`pretrain --init`, `embed`, `fit` and `study` take it, and a model's card remembers where it came from."""
    store = make_store(tmp_path, patients=24)
    run = bring_in(tmp_path, checkpoint("resnet18"), source="chexpert")
    start, _ = initial_encoder(str(run), EncoderSpec("resnet18", 32), seed=0)
    assert torch.equal(start.network.conv1.weight, mococxr.load_encoder(run).network.conv1.weight)
    how = {"size": 32, "device": "cpu", "jobs": 1}
    mococxr.embed(store.path, encoder=str(run), out=tmp_path / "f.parquet", **how)
    mococxr.study(
        store.path, target="Finding", arm=[f"moco={run}"], fraction=[1.0], draws=1, out=tmp_path / "study", **how
    )
    model = mococxr.fit(store.path, encoder=str(run), target="Finding", out=tmp_path / "model", **how)
    out = mococxr.export(model, to="torchvision", out=tmp_path / "out", study=tmp_path / "study")
    card = (out / "README.md").read_text()
    assert "Imported from a checkpoint of MoCo (resnet18, epoch 20" in card
    assert "Arm `moco` of a study" in card
    assert str(tmp_path) not in card + (out / "export.json").read_text()
