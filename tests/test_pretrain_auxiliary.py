"""An auxiliary head: which columns it may predict, its loss, and that the encoder learns from it in every method."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from method_parts import alone
from mococxr.errors import InputError
from mococxr.pretraining import auxiliary
from mococxr.pretraining import loader as feed_module
from mococxr.pretraining.auxiliary import AuxiliaryHead, read_metadata
from mococxr.pretraining.dataset import gather_images, study_partners
from mococxr.pretraining.pretrain import METHODS
from mococxr.store import Store
from small_run import read_log, tiny_run
from test_pretrain import assert_same_run, break_off, loop_start
from test_pretrain_dataset import edited_store
from test_pretrain_methods import batch, make_method


@pytest.fixture(scope="module")
def store(synthetic_store) -> Store:
    return Store.open(synthetic_store)


# --- the columns


def test_words_are_numbered_over_all_stores_and_numbers_are_standardised(store, tmp_path):
    other = edited_store(
        store,
        tmp_path,
        lambda index: index.drop("age").with_columns(
            view=pl.when(pl.col("row") % 3 == 0).then(None).otherwise(pl.lit("lateral")), sex=pl.lit(None, pl.String)
        ),
        source="elsewhere",
    )
    both = gather_images([store, other], (32,), "all")
    metadata = read_metadata([store, other], both, ["view", "age"])
    index = [store.index, other.index]
    views = pl.concat(frame["view"] for frame in index).to_list()
    kinds = sorted({view for view in views if view is not None})
    assert metadata.words == (len(kinds), 0)
    codes = [math.nan if view is None else kinds.index(view) for view in views]
    np.testing.assert_array_equal(metadata.values_NA[:, 0], codes)
    ages = store.index["age"].to_numpy()
    standard = (ages - np.nanmean(ages)) / np.nanstd(ages)
    np.testing.assert_allclose(metadata.values_NA[:60, 1], standard, rtol=1e-5)
    assert np.isnan(metadata.values_NA[60:, 1]).all()  # a store without the column knows nothing
    known = [int(np.isfinite(column).sum()) for column in metadata.values_NA.T]
    assert [fact["images"] for fact in metadata.facts()] == known


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Effusion", "--auxiliary Effusion is a label"),
        ("viwe", "No store has metadata 'viwe'.*\n.*view"),
        ("patient", "No store has metadata 'patient'"),
        ("one", "one has one value at most"),
        ("same", "same has one value at most"),
        ("many", "many has 60 different words"),
    ],
)
def test_columns_that_teach_nothing_or_too_much_are_refused(store, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(auxiliary, "MOST_WORDS", 59)
    more = [pl.lit("x").alias("one"), pl.format("w{}", pl.col("row")).alias("many")]
    more.append(pl.when(pl.col("row") < 9).then(pl.lit("1")).otherwise(pl.lit("1.0")).alias("same"))
    other = edited_store(store, tmp_path, lambda index: index.with_columns(more))
    with pytest.raises(InputError, match=words):
        read_metadata([other], gather_images([other], (32,), "all"), [name])


# --- the loss


def test_the_loss_is_that_of_a_slow_loop_over_known_values():
    torch.manual_seed(0)
    head, features = AuxiliaryHead((3, 0), 5), torch.randn(6, 5)
    values = torch.tensor([[0, 0.5], [2, math.nan], [math.nan, -1], [1, 2], [math.nan, math.nan], [2, 0]])
    losses: list[list[torch.Tensor]] = [[], []]
    for feature, (word, number) in zip(features, values.tolist(), strict=True):
        predicted = head.head.weight @ feature + head.head.bias
        if not math.isnan(word):
            losses[0].append(-torch.log_softmax(predicted[:3], 0)[int(word)])
        if not math.isnan(number):
            losses[1].append((predicted[3] - number) ** 2)
    expected = sum(torch.stack(column).mean() for column in losses) / 2
    torch.testing.assert_close(head(features, values), expected)
    nothing = head(features, torch.full_like(values, math.nan))
    nothing.backward()
    assert nothing == 0
    assert torch.isfinite(head.head.weight.grad).all()


FIRST = torch.tensor([[0.0, 1.0], [1, -1], [0, math.nan], [1, 0.3], [math.nan, 2], [0, 0], [1, 1], [0, -2]])
METADATA = torch.stack([FIRST, FIRST.flip(0)])  # the second views may be of other images


@pytest.mark.parametrize(("name", "parts"), [("moco", 1), ("moco", 2), ("simclr", 1), ("simsiam", 1)])
def test_the_head_sees_the_features_of_the_right_images_and_the_encoder_learns_from_it(name, parts):
    method = make_method(name, auxiliary_weight=3.0, accumulate=parts, optimizer="sgd")
    plain = make_method(name, accumulate=parts, optimizer="sgd")
    method.predict((2, 0), alone())
    encoder, head = copy.deepcopy(method.encoder), copy.deepcopy(method.auxiliary.head)
    views = batch()
    result = method.step(views, 0.1, None, METADATA)
    passes = {"moco": views[0].tensor_split(parts), "simclr": [views.flatten(0, 1)], "simsiam": list(views)}[name]
    features = [encoder(images) for images in passes]
    if name == "moco":  # each part by its share
        values = METADATA[0].tensor_split(parts)
        expected = sum(head(f, v) for f, v in zip(features, values, strict=True)) / parts
    else:
        expected = head(torch.cat(features), torch.cat(list(METADATA)))
    torch.testing.assert_close(result.auxiliary, expected.detach())
    gradients = torch.autograd.grad(3.0 * expected, encoder.network.conv_stem.weight)[0]
    other = plain.step(views, 0.1)
    torch.testing.assert_close(result.loss, other.loss)
    ours, theirs = (each.encoder.network.conv_stem.weight.grad for each in (method, plain))
    torch.testing.assert_close(ours - theirs, gradients, rtol=1e-3, atol=1e-3 * float(gradients.abs().max()))


@pytest.mark.parametrize("name", METHODS)
def test_a_head_without_weight_leaves_the_encoder_as_it_is_to_the_bit(name):
    method, plain = make_method(name, auxiliary_weight=0.0), make_method(name)
    method.predict((2, 0), alone())
    for number in range(2):
        method.step(batch(number), 1e-3, None, METADATA)
        plain.step(batch(number), 1e-3)
    for ours, theirs in zip(method.encoder.state_dict().values(), plain.encoder.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


# --- runs


def test_a_run_with_a_head_goes_on_to_the_bit_and_says_what_it_predicted(synthetic_store, tmp_path, monkeypatch):
    how, out = {"auxiliary": ("view", "age"), "knn": "Effusion"}, tmp_path / "broken"
    whole = tiny_run(synthetic_store, tmp_path / "whole", **how)
    break_off(monkeypatch, 7, synthetic_store, out, **how)
    tiny_run(synthetic_store, out, resume=True, **how)
    assert_same_run(whole, out)
    assert all(math.isfinite(entry["auxiliary_loss"]) for entry in read_log(whole))
    said = json.loads((whole / "run.json").read_text())["auxiliary"]
    assert [fact["column"] for fact in said] == ["view", "age"]
    assert load_file(whole / "encoder.safetensors").keys() == loop_start(whole).keys()
    with pytest.raises(InputError, match="--compile"):
        tiny_run(synthetic_store, tmp_path / "compiled", compile=True, **how)


@pytest.mark.parametrize("positives", ["view", "study"])
def test_each_image_of_either_side_of_a_step_comes_with_its_own_metadata(store, positives):
    pool = gather_images([store], (32,), "train")
    order = feed_module.SpacedShuffle(len(pool), 40, 7, seed=0)
    values = np.arange(len(pool), dtype=np.float32)[:, None]
    feeds = [feed_module.BatchLoader(pool, feed_module.Recipe(32), order, batch=8, seed=0, rank=rank, world=2,
                                     metadata_NA=values, positives=positives) for rank in (0, 1)]  # fmt: skip
    for feed in feeds:
        for step in (0, 3, 6):
            epoch, images = feed.images(step)
            sides = [images, study_partners(pool, images, 0, epoch) if positives == "study" else images]
            np.testing.assert_array_equal(sides, feed.metadata(step)[:, :, 0])
    assert F.mse_loss(feeds[0].metadata(0), feeds[1].metadata(0)) > 0
    first, second = feeds[0].metadata(0)
    assert torch.equal(first, second) == (positives == "view")
