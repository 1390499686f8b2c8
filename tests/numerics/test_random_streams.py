"""Splits, batches and weight seeds: all drawn from the trial's own seed, and fairly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from phasemap.numerics import random_streams
from phasemap.numerics.random_streams import Batches, keys, shuffled, weight_seed
from phasemap.plan.trial import train_examples

SIZES = [7, 20, 83]
KNOWN_KEYS = [[-7108620063390100493, 8303042382312347024], [-8948086963294052808, 5083318231231200896]]
KNOWN_ORDER = [10, 0, 9, 3, 2, 4, 8, 11, 5, 6, 1, 7]


def batches(*sizes: int, size: int = 8) -> Batches:
    """One trial per size of training set, with seeds 0, 1, 2, ..."""
    train = [shuffled(seed, 100)[:count] for seed, count in enumerate(sizes)]
    return Batches(tuple(range(len(sizes))), pad_sequence(train, batch_first=True), sizes, size)


def epoch(streams: Batches, k: int, number: int) -> list[list[int]]:
    """The examples of trial k's batches in one epoch, padding left out."""
    per_epoch = -(-streams.counts[k] // streams.size)
    examples, weights = streams.draw(number * per_epoch, per_epoch)
    return [row[weight > 0].tolist() for row, weight in zip(examples[:, k], weights[:, k], strict=True)]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.29, 0.7, 0.999])
def test_a_split_truncates_its_share(fraction):
    assert train_examples(97 * 97, fraction) == int(97 * 97 * fraction)


def test_a_share_that_is_a_whole_number_is_not_lost_to_rounding():
    assert train_examples(100, 0.29) == 29
    assert train_examples(100, 0.57) == 57


def test_a_split_is_an_order_of_all_examples():
    assert shuffled(3, 1_000).sort().values.tolist() == list(range(1_000))


def test_a_larger_data_fraction_adds_examples_and_moves_none():
    order = shuffled(5, 400)
    small, large = (set(order[: train_examples(400, share)].tolist()) for share in (0.3, 0.5))
    assert small < large


def test_seeds_differ():
    firsts = {tuple(shuffled(seed, 50).tolist()) for seed in range(100)}
    assert len(firsts) == 100
    assert len({weight_seed(seed) for seed in range(1_000)}) == 1_000
    assert all(0 <= weight_seed(seed) < 2**63 for seed in range(100))


def test_the_purposes_of_one_seed_do_not_meet():
    zero = torch.zeros(1, dtype=torch.int64)
    streams = [set(keys(seed, purpose, zero, 200)[0].tolist()) for seed in range(8) for purpose in (1, 2, 3)]
    assert len(set.union(*streams)) == 8 * 3 * 200


def test_drawing_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    batches(20).draw(0, 10)
    weight_seed(3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_epoch_covers_the_training_set_once_and_ends_with_the_remainder(k, number):
    streams = batches(*SIZES)
    found = epoch(streams, k, number)
    assert sorted(x for batch in found for x in batch) == sorted(streams.train[k, : SIZES[k]].tolist())
    assert [len(batch) for batch in found[:-1]] == [8] * (len(found) - 1)
    assert len(found[-1]) == SIZES[k] - 8 * (len(found) - 1)


def test_each_epoch_has_a_shuffle_of_its_own():
    streams = batches(*SIZES)
    for k in range(3):
        assert len({str(epoch(streams, k, number)) for number in range(20)}) == 20


def test_weights_sum_to_one_in_every_batch_and_are_equal_within_it():
    _, weights = batches(*SIZES).draw(0, 40)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(40, 3))
    for row in weights.flatten(0, 1):
        assert len(set(row[row > 0].tolist())) == 1


@pytest.mark.parametrize("cuts", [[64], [1] * 64, [5, 11, 48], [40, 24]])
def test_batches_do_not_depend_on_how_many_are_drawn_at_once(cuts):
    streams = batches(*SIZES)
    whole = streams.draw(13, 64)
    first, parts = 13, []
    for steps in cuts:
        parts.append(streams.draw(first, steps))
        first += steps
    for i in range(2):
        assert torch.equal(whole[i], torch.cat([part[i] for part in parts]))


def test_batches_do_not_depend_on_the_neighbors():
    streams = batches(*SIZES)
    whole = streams.draw(7, 30)
    for k in range(3):
        alone = Batches((streams.seeds[k],), streams.train[k : k + 1], (SIZES[k],), 8).draw(7, 30)
        for i in range(2):
            assert torch.equal(whole[i][:, k : k + 1], alone[i])


def drawn_alone(seed: int, train: Tensor, size: int, first: int, steps: int) -> tuple[Tensor, Tensor]:
    """One trial's batches, written without a trial axis: examples and weights [S, B]."""
    count = len(train)
    per_epoch = -(-count // size)
    epochs = torch.arange(first // per_epoch, (first + steps - 1) // per_epoch + 1)
    order = train[keys(seed, random_streams.BATCHES, epochs, count).argsort(dim=1)]
    examples = torch.nn.functional.pad(order, (0, per_epoch * size - count)).view(-1, size)
    lengths = torch.full((per_epoch,), size)
    lengths[-1] = count - (per_epoch - 1) * size
    weights = ((torch.arange(size) < lengths[:, None]) / lengths[:, None]).float().repeat(len(epochs), 1)
    skip = first % per_epoch
    return examples[skip : skip + steps], weights[skip : skip + steps]


@pytest.mark.parametrize("size", [1, 8, 32, 83, 100])
@pytest.mark.parametrize("sizes", [(20, 20, 20), (17, 20, 24), (7, 20, 83, 17, 20), (83,)])
@pytest.mark.parametrize("first", [0, 13])
def test_a_stack_draws_to_the_last_bit_what_each_trial_would_draw_alone(sizes, size, first):
    streams = batches(*sizes, size=size)
    examples, weights = streams.draw(first, 30)
    assert examples.is_contiguous()
    assert weights.is_contiguous()
    for k, count in enumerate(sizes):
        alone = drawn_alone(streams.seeds[k], shuffled(k, 100)[:count], size, first, 30)
        assert torch.equal(examples[:, k], alone[0])
        assert torch.equal(weights[:, k], alone[1])


@pytest.mark.parametrize("sizes", [(50, 7, 21), (3, 100, 8, 9, 64), (5,), (100, 1)])
@pytest.mark.parametrize(("size", "first"), [(8, 13), (64, 0), (1, 450)])
@pytest.mark.parametrize("there", [False, True], ids=["numpy's sort", "a device's sorts"])
def test_epochs_of_any_lengths_drawn_at_once_are_as_drawn_one_by_one(sizes, size, first, there, monkeypatch):
    monkeypatch.setattr(random_streams, "GROUPS", 0)
    if there:
        monkeypatch.setattr(random_streams, "_order_here", by_a_devices_sorts)
    examples, weights = batches(*sizes, size=size).draw(first, 30)
    for k, count in enumerate(sizes):
        alone = drawn_alone(k, shuffled(k, 100)[:count], size, first, 30)
        assert torch.equal(examples[:, k], alone[0])
        assert torch.equal(weights[:, k], alone[1])


def by_a_devices_sorts(drawn: np.ndarray, start: np.ndarray, to: np.ndarray) -> torch.Tensor:
    lengths, shift = torch.from_numpy(np.diff(start)), torch.from_numpy(to - start[:-1])
    return random_streams._order_there(torch.from_numpy(drawn), lengths, shift)


def test_seeds_draw_the_keys_they_always_drew():
    """Recorded trials are repeated from their seed: a change here would make every record a lie."""
    assert keys(5, random_streams.BATCHES, torch.tensor([0, 3]), 2).tolist() == KNOWN_KEYS
    assert shuffled(5, 12).tolist() == KNOWN_ORDER


def test_a_batch_as_large_as_the_training_set_is_the_whole_of_it():
    streams = batches(20, size=20)
    examples, weights = streams.draw(0, 3)
    assert all(row.sort().values.tolist() == streams.train[0].sort().values.tolist() for row in examples[:, 0])
    assert (weights == torch.tensor(1 / 20)).all()


def test_orders_are_uniform():
    """Chi-squared over the 24 orders of 4 examples; 49.7 is exceeded once in a thousand tries."""
    orders = keys(11, random_streams.BATCHES, torch.arange(24_000), 4).argsort(1)
    codes = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = torch.tensor([(codes == 64 * a + 16 * b + 4 * c + d).sum() for a, b, c, d in permutations(range(4))])
    assert counts.sum() == 24_000
    assert ((counts - 1_000.0) ** 2 / 1_000).sum() < 49.7


def test_neighboring_seeds_are_independent():
    """Where example 0 lands is uniform over seeds, and two seeds' training sets overlap as chance has it."""
    places = torch.tensor([shuffled(seed, 10).tolist().index(0) for seed in range(2_000)]).bincount(minlength=10)
    assert ((places - 200.0) ** 2 / 200).sum() < 27.9  # 9 degrees of freedom, one in a thousand
    chosen = torch.zeros(200, 1_000)
    for seed in range(200):
        chosen[seed, shuffled(seed, 1_000)[:300]] = 1
    overlap = (chosen[:-1] * chosen[1:]).sum(1).mean()
    assert abs(overlap - 90) < 3  # standard error 0.7
