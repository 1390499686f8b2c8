"""Noise and masks that a training step draws: their distribution, and that they depend on seed and step alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasemap.numerics.random_streams import DROPOUT, NOISE, Dropout, normals, quantiles, step_keys

TABLE = quantiles("cpu")
KNOWN_KEY = 3616903089872040552
KNOWN = [-1.5273934602737427, 0.2888184189796448, 0.6641777753829956]


def drawn(seeds: tuple[int, ...], step: int, count: int) -> Tensor:
    return normals(step_keys(seeds, NOISE, step, 1, "cpu")[0], count, TABLE)


def test_numbers_are_standard_normal():
    found = drawn((0, 1, 2), 7, 100_000).double()
    assert found.mean(1).abs().max() < 4 / 100_000**0.5
    assert (found.var(1) - 1).abs().max() < 4 * (2 / 100_000) ** 0.5
    places = torch.special.ndtr(found.flatten().sort().values)
    even = (torch.arange(300_000) + 0.5) / 300_000
    assert (places - even).abs().max() < 1.95 / 300_000**0.5  # Kolmogorov and Smirnov: once in a thousand
    assert found.abs().max() < 4.4


def test_the_table_is_that_of_the_normal_distribution():
    assert len(TABLE) == 2**16
    assert TABLE.double().square().mean().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(torch.special.ndtr(TABLE.double()), (torch.arange(2**16) + 0.5).double() / 2**16)


def test_weights_steps_and_seeds_are_independent():
    first, next_step, other = drawn((3,), 5, 50_000), drawn((3,), 6, 50_000), drawn((4,), 5, 50_000)
    for a, b in ((first, next_step), (first, other), (first[:, 1:], first[:, :-1])):
        assert abs(torch.corrcoef(torch.cat([a, b]).double())[0, 1]) < 4 / 50_000**0.5


def test_masks_and_noise_of_a_step_differ():
    keys = [step_keys((3,), purpose, 5, 1, "cpu") for purpose in (NOISE, DROPOUT)]
    assert not torch.equal(*keys)


def test_a_draw_depends_on_neither_the_stack_nor_on_how_many_steps_are_drawn_at_once():
    whole = step_keys((3, 8, 1), NOISE, 0, 20, "cpu")
    assert whole.shape == (20, 3, 1)
    assert torch.equal(whole[7:9, 1:2], step_keys((8,), NOISE, 7, 2, "cpu"))
    assert torch.equal(drawn((3, 8), 9, 33)[1:], drawn((8,), 9, 33))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_mask_leaves_its_share_and_scales_what_is_left(share):
    drop = Dropout(share, step_keys((0, 1), DROPOUT, 3, 1, "cpu")[0])
    first, second = drop(torch.ones(2, 100, 501)), drop(torch.ones(2, 100, 501))
    for found in (first, second):
        kept = found != 0
        torch.testing.assert_close(found[kept], torch.full_like(found[kept], 1 / (1 - share)))
        spread = 4 * (share * (1 - share) / 50_100) ** 0.5
        assert (kept.double().mean((1, 2)) - (1 - share)).abs().max() < spread
    both = torch.stack([first[0].flatten(), second[0].flatten(), first[1].flatten()]).double()
    assert (torch.corrcoef(both) - torch.eye(3)).abs().max() < 4 / 50_100**0.5


def test_a_mask_of_a_step_is_drawn_again_the_same():
    """As where training is resumed."""
    key = step_keys((5,), DROPOUT, 40, 1, "cpu")[0]
    x = torch.randn(1, 7, 9)
    one, other = Dropout(0.5, key), Dropout(0.5, key)
    for _ in range(3):
        assert torch.equal(one(x), other(x))


def test_the_numbers_of_a_seed_are_those_they_always_were():
    """Recorded trials are repeated from their seed."""
    assert step_keys((5,), NOISE, 3, 1, "cpu").item() == KNOWN_KEY
    torch.testing.assert_close(drawn((5,), 3, 3)[0], torch.tensor(KNOWN), rtol=1e-6, atol=0)
