from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mococxr.encoders import EncoderSpec, build
from mococxr.errors import RunError, UndefinedError
from mococxr.features import features, state_hash
from mococxr.frames import random_frame, to_frame
from mococxr.heads import MODES, finetune, train_classifier
from mococxr.heads.classifier import Ensemble, TrainConfig, TrainData, member_scores
from mococxr.heads.finetune import batch_sizes, batches, count_updates, paper_epochs, train_by_gradient
from mococxr.heads.linear import solve_probe
from mococxr.heads.scaling import scaling_of, scaling_rows
from mococxr.heads.targets import read_target
from mococxr.metrics import auroc
from small_store import BACKBONE, make_store


@pytest.fixture(scope="module")
def target(store):
    return read_target(store, "Finding")


@pytest.fixture
def encoder():
    return build(EncoderSpec(BACKBONE, 32), seed=3)


def data_of(encoder, store, target, rows=None, labels=None, validation=None, size=32):
    """The rows and labels that train, those that validate (none unless given)."""
    rows = target.train if rows is None else rows
    every = target.labels.copy()
    if labels is not None:
        every[rows] = labels
    val = np.empty(0, np.int64)
    if validation is not None:
        val = validation[0]
        every[val] = validation[1]
    target = replace(target, labels=every, val=val)

    def features_of(at):
        return features(encoder, store, at, size=size, label=None)

    return TrainData(
        store, target, rows, size, lambda: encoder, features_of, lambda: scaling_of(features_of(scaling_rows(store)))
    )


def train(encoder, store, target, *, validation=None, frozen=False, rows=None, labels=None, **changed):
    how = {"epochs": 2.0, "batch": 8, "lr": 1e-3, "seed": 1, "checkpoints": 0} | changed
    data = data_of(encoder, store, target, rows, labels, validation)
    return train_by_gradient(data, TrainConfig("finetune", **how), frozen=frozen)


def bits(trained):
    return [
        {k: v.numpy().tobytes() for k, v in m.weights[0].items()} | {"head": m.head.weight.tobytes()}
        for m in trained.members
    ]


@pytest.mark.parametrize(("images", "epochs"), [(223, 220), (2244, 95), (22454, 41), (223414, 18)])
def test_the_length_rule_gives_the_papers_epochs(images, epochs):
    assert round(paper_epochs(images)) == epochs


def authors_updates(images, batch, epochs):
    """The authors' loop: batches of a pass, the last of them with what is left."""
    updates = 0
    for _ in range(epochs):
        for _ in range(0, images, batch):
            updates += 1
    return updates


@pytest.mark.parametrize("batch", [1, 3, 4, 16])
def test_updates_are_those_of_the_authors_loop_at_every_number_of_labels(batch):
    for images in [*range(2, 80), 108, 212, 222, 22_454]:
        assert count_updates(images, batch, 100.0) == authors_updates(images, batch, 100), images


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 16])
def test_training_passes_over_every_image_exactly_as_often_as_asked(monkeypatch, batch):
    """The smallest numbers of labels are those where a rest weighs most."""
    monkeypatch.setattr(finetune, "random_frame", lambda *_: np.zeros((1, 1), np.uint8))
    level = SimpleNamespace(pixels=lambda _: None)
    for images in range(2, 40):
        rows, passes = np.arange(images), 3
        # The label of an image is its number, so that a batch says which images are in it.
        loader = batches(level, rows, rows.astype(np.int8), 1, batch, 0)
        taken = [next(loader)[1].tolist() for _ in range(count_updates(images, batch, passes))]
        assert np.bincount(np.concatenate(taken)).tolist() == [passes] * images
        assert batch == 1 or min(map(len, taken)) > 1  # batch norm


def test_parts_of_a_pass_are_rounded_up():
    assert count_updates(33, 16, 2.5) == 8
    assert count_updates(2, 16, 0.1) == 1
    assert count_updates(160, 16, 1.1) == 11  # though 1.1 x 10 is a little more in binary
    assert count_updates(223, 16, None) == 14 * 220


def test_the_same_seed_gives_the_same_bits_and_another_does_not(store, target, encoder):
    first, again, other = (bits(train(encoder, store, target, seed=s)) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_encoder_given_stays_as_it_was(store, target, encoder):
    before = state_hash(encoder)
    train(encoder, store, target)
    assert state_hash(encoder) == before


def test_fine_tuning_moves_all_layers_and_the_papers_linear_recipe_moves_only_buffers(store, target, encoder):
    own = encoder.network.state_dict()
    learned = {name for name, _ in encoder.network.named_parameters()}
    tuned, frozen = train(encoder, store, target), train(encoder, store, target, frozen=True)
    assert all(not torch.equal(own[k], tuned.members[0].weights[0][k]) for k in learned)
    moved = {k for k in own if not torch.equal(own[k], frozen.members[0].weights[0][k])}
    assert moved
    assert not moved & learned
    assert any("running_mean" in k for k in moved)


def test_the_global_generator_is_left_alone(store, target, encoder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(encoder, store, target)
    assert torch.equal(torch.rand(3), expected)


def test_the_best_checkpoints_by_validation_are_kept(store, target, encoder):
    rows = target.test[:20]
    validation = (rows, target.labels[rows])
    every = train(encoder, store, target, epochs=4.0, checkpoints=100, validation=validation)
    best = train(encoder, store, target, epochs=4.0, checkpoints=2, validation=validation)
    assert best.validation_images == 20
    assert len(every.members) == min(20, every.updates)
    scores = []
    for member in every.members:
        scores.append(
            auroc(
                validation[1], member_scores(encoder, [member], lambda e: features(e, store, rows, size=32, label=None))
            )
        )
    kept = sorted(range(len(scores)), key=lambda i: (scores[i], i))[-2:]
    assert bits(best) == [bits(every)[i] for i in sorted(kept)]


def test_the_final_probability_is_the_mean_over_the_checkpoints(store, target, encoder):
    trained = train(encoder, store, target, checkpoints=3, validation=(target.val, target.labels[target.val]))
    read = lambda e: features(e, store, target.test, size=32, label=None)  # noqa: E731
    one_by_one = [member_scores(encoder, [m], read) for m in trained.members]
    assert np.allclose(member_scores(encoder, trained.members, read), np.mean(one_by_one, axis=0))


@pytest.mark.parametrize(("validation", "words"), [(None, "no validation labels"), ("one class", "of one class")])
def test_without_usable_validation_the_last_weights_are_kept_and_it_is_said(store, target, encoder, validation, words):
    if validation:
        rows = target.train[target.labels[target.train] == 1]
        validation = (rows, target.labels[rows])
    trained = train(encoder, store, target, checkpoints=10, validation=validation)
    assert len(trained.members) == 1
    assert trained.validation_images == 0
    assert words in trained.notes[0]
    assert bits(trained) == bits(train(encoder, store, target))


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_training_is_a_plain_loop_over_the_batches_to_the_bit(store, target, encoder, optimizer, kind):
    """Binary cross-entropy on the labels of each batch; the seed starts the head and orders the images."""
    trained = train(encoder, store, target, optimizer=optimizer, weight_decay=0.1)
    torch.manual_seed(1)
    net, head = encoder.train(), torch.nn.Linear(encoder.spec.feature_dim, 1)
    descent = kind([*net.parameters(), *head.parameters()], lr=1e-3, weight_decay=0.1)
    loader = batches(store.level(32), target.train, target.labels[target.train], 32, 8, 1)
    assert trained.updates > 4
    for _ in range(trained.updates):
        images, labels = next(loader)
        descent.zero_grad()
        F.binary_cross_entropy_with_logits(head(net(images))[:, 0], labels.float()).backward()
        descent.step()
    (member,) = trained.members
    assert all(torch.equal(value, member.weights[0][name]) for name, value in net.network.state_dict().items())
    assert np.array_equal(head.weight.detach().numpy(), member.head.weight)


def test_uncertain_labels_can_be_a_class_of_their_own(store, target, encoder):
    labels = target.labels[target.train].copy()
    labels[np.flatnonzero(labels == 0)[:5]] = 2
    trained = train(encoder, store, target, labels=labels, epochs=1.0)
    assert trained.members[0].head.classes == 3


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [(9, 4, [4, 3, 2]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (5, 2, [2, 3]), (3, 2, [3]), (3, 16, [3]), (3, 1, [1] * 3)],
)
def test_a_rest_of_one_image_takes_a_second_from_the_batch_before(images, batch, sizes):
    assert batch_sizes(images, batch) == sizes


def test_training_frames_are_cut_at_whole_pixels_from_all_of_the_longer_side(tmp_path):
    level, seen = make_store(tmp_path, patients=6, size=32).level(32), set()
    image = level.pixels(0)
    assert (image.shape[0], image.shape[1] > 36) == (32, True)
    cuts = {image[:, i : i + 32].tobytes(): i for i in range(image.shape[1] - 31)}
    loader = batches(level, np.zeros(2, np.int64), np.zeros(2, np.int8), 32, 2, 0)
    for _ in range(200):
        seen.add(cuts[next(loader)[0][0, 0].numpy().tobytes()])
    assert seen == set(cuts.values())


def test_a_training_frame_has_the_pixels_of_evaluation_whatever_the_stores_size():
    image = np.random.default_rng(0).integers(0, 256, (75, 50), dtype=np.uint8)
    resized = to_frame(image, 40, "center")
    middle = (60 - 40) // 2
    assert np.array_equal(random_frame(image, 40, (middle + 0.5) / 21), resized)
    assert random_frame(image.T, 40, 0.999).shape == (40, 40)


def test_labels_of_one_class_are_refused(store, target, encoder):
    rows = target.train[target.labels[target.train] == 0]
    with pytest.raises(UndefinedError, match="one class"):
        train(encoder, store, target, rows=rows)


def test_a_loss_that_is_not_finite_stops_the_training(store, target, encoder):
    with pytest.raises(RunError, match="lower --lr"):
        train(encoder, store, target, lr=1e30, epochs=6.0)


# --- LP-FT, and what holds for every mode


def test_lpft_starts_at_the_solved_probe_and_at_learning_rate_0_stays_there(store, target, encoder):
    data = data_of(encoder, store, target)
    config = TrainConfig("lpft", lr=0.0, epochs=2.0, batch=8, checkpoints=0)
    head = solve_probe(data, config)
    (member,) = train_classifier(data, config).members
    assert all(torch.equal(value, member.weights[0][name]) for name, value in encoder.network.state_dict().items())
    tested = data.features_of(target.test)
    np.testing.assert_allclose(member.head.scores(tested), head.scores(tested), rtol=0, atol=1e-6)
    moved = train_classifier(data, replace(config, lr=1e-4)).members[0]
    assert np.abs(moved.head.weight - member.head.weight).max() > 0
    assert not torch.equal(moved.weights[0]["conv_stem.weight"], member.weights[0]["conv_stem.weight"])


def test_lpft_starts_at_a_probe_of_three_classes_too(store, target, encoder):
    labels = target.labels[target.train].copy()
    labels[np.flatnonzero(labels == 0)[:5]] = 2
    data = data_of(encoder, store, target, labels=labels)
    config = TrainConfig("lpft", lr=0.0, epochs=1.0, batch=8, checkpoints=0)
    head = solve_probe(data, config)
    (member,) = train_classifier(data, config).members
    tested = data.features_of(target.test)
    np.testing.assert_allclose(member.head.scores(tested), head.scores(tested), rtol=0, atol=1e-6)


def test_the_setting_lists_every_mode_and_the_report_has_words_for_it():
    from typing import get_args

    from mococxr.reporting import headline
    from mococxr.settings.classifiers import Mode

    assert get_args(Mode) == tuple(MODES) == tuple(headline.MODES)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_the_contract(mode, store, target, encoder):
    """Deterministic, the encoder untouched, test rows unread, one class refused, kept and restored to the bit."""
    opened, read = [], []

    def features_of(rows):
        read.append(rows)
        return features(encoder, store, rows, size=32, label=None)

    hidden = target.labels.copy()
    hidden[target.test] = 1  # labels of test images change nothing
    data = data_of(encoder, store, target, validation=(target.val, target.labels[target.val]))
    data = replace(
        data, encoder=lambda: opened.append(1) or encoder, features_of=features_of,
        scaling=lambda: scaling_of(features_of(scaling_rows(store))),
    )  # fmt: skip
    config = TrainConfig(mode, epochs=1.0, batch=8, checkpoints=2)
    before = state_hash(encoder)
    result = train_classifier(data, config)
    again = train_classifier(replace(data, target=replace(data.target, labels=hidden)), config)
    assert bool(opened) == MODES[mode].by_gradient(config)
    assert bool(read) == MODES[mode].reads_features(config)
    assert not any(np.isin(rows, target.test).any() for rows in read)
    assert state_hash(encoder) == before
    assert (result.updates > 0) == MODES[mode].by_gradient(config)
    images = [(to_frame(store.level(32).pixels(int(row)), 32, "center"),) for row in target.test]
    cpu = torch.device("cpu")
    ensemble = Ensemble((build(encoder.spec, seed=3),), result.members)
    scores = ensemble.scores(images, cpu)
    assert np.array_equal(scores, Ensemble((build(encoder.spec, seed=3),), again.members).scores(images, cpu))
    assert scores.shape == (len(images), 1)
    assert ((scores >= 0) & (scores <= 1)).all()
    stored = ensemble.state()
    restored = Ensemble.from_state([build(encoder.spec, seed=9)], stored, len(result.members))
    assert np.array_equal(restored.scores(images, cpu), scores)
    with pytest.raises(UndefinedError, match="one class"):
        train_classifier(replace(data, rows=data.rows[data.labels == 0]), config)


def test_no_tensor_becomes_float64_before_it_is_on_the_cpu():
    """A Mac's GPU has no float64: asking for it there is an error after all training."""
    sources = Path(finetune.__file__).parents[1].rglob("*.py")
    sources = [file for file in sources if file.parent.name != "exporting"]  # which computes on the CPU alone
    lines = [(file.name, line) for file in sources for line in file.read_text(encoding="utf-8").splitlines()]
    named = [(name, line) for name, line in lines if re.search(r"\.double\(\)|torch\.(float64|double)", line)]
    assert named
    assert [line for line in named if not re.search(r"\.cpu\(\)\.double\(\)", line[1])] == []
