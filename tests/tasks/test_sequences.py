"""Token generators against their rules, replayed, and against the published facts on their windows."""

from __future__ import annotations

import numpy as np
import pytest

from phasemap.fields import Fault
from phasemap.plan.component import load_task
from phasemap.plan.trial import make_trial
from phasemap.tasks import sequences
from phasemap.tasks.task import Task, distinct_index, overlap


def _bits_seen(window: np.ndarray) -> list[int]:
    """The register's bits, oldest first, that a window of lfsr_31 shows."""
    oldest = [int(window[0]) >> i & 1 for i in range(7, -1, -1)]
    return oldest + [int(token) & 1 for token in window[1:]]


def _replay(bits: list[int], tokens: int) -> list[int]:
    """Tokens of the register whose first 31 bits are given: the last one those bits show, then on."""
    state = int("".join(map(str, bits[:31])), 2)
    out = []
    for _ in range(tokens):
        out.append(state & 255)
        state = (state << 1 | (state >> 30 ^ state >> 2) & 1) & 0x7FFFFFFF
    return out


def test_streams_start_as_their_rules_say():
    assert sequences.stream("periodic")[:9].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert sequences.stream("lfsr_5")[:8].tolist() == [0, 1, 0, 1, 0, 0, 1, 1]
    assert sequences.stream("lcg_simple")[:3].tolist() == [133, 150, 201]  # 3 * 42 + 7 = 133, ...
    state = (1103515245 * 42 + 12345) % 2**31
    assert sequences.stream("lcg_glibc")[0] == state >> 16 & 255
    assert sequences.stream("lfsr_31")[:4].tolist() == [84, 169, 82, 164]  # 42 = 0b101010 moving left


@pytest.mark.parametrize("name", sequences.GENERATORS)
def test_streams_are_fixed_and_keep_to_their_vocabulary(name):
    tokens = sequences.stream(name)
    assert tokens.shape == (10_000,)
    assert tokens.dtype == np.int64
    assert tokens.min() >= 0
    assert tokens.max() < sequences.vocabulary(name)
    np.testing.assert_array_equal(tokens, sequences.stream(name))


def test_recurrences_hold_along_the_whole_stream():
    x = sequences.stream("lfsr_5")
    np.testing.assert_array_equal(x[5:], x[4:-1] ^ x[:-5])
    y = sequences.stream("lcg_simple")
    np.testing.assert_array_equal(y[1:], (3 * y[:-1] + 7) % 256)
    z = sequences.stream("lfsr_31")
    np.testing.assert_array_equal(z[1:] >> 1, z[:-1] & 127)  # seven bits are a copy
    np.testing.assert_array_equal(z[31:] & 1, (z[:-31] ^ z[28:-3]) & 1)  # x^31 + x^28 + 1


def test_csprng_has_no_bias_a_count_would_show():
    counts = np.bincount(sequences.stream("csprng"), minlength=256)
    chi_squared = ((counts - 10_000 / 256) ** 2 / (10_000 / 256)).sum()
    assert 190 < chi_squared < 330  # 255 degrees of freedom: 255 +- 3.3 standard deviations


@pytest.mark.parametrize("context", [1, 16, 24, 8_999])
def test_windows_show_the_tokens_before_their_label(context):
    stream = sequences.stream("lcg_glibc")
    tokens, labels = sequences.windows("lcg_glibc", context)
    assert tokens.shape == (10_000 - context, context)
    for i in (0, 7, len(tokens) - 1):
        np.testing.assert_array_equal(tokens[i], stream[i : i + context])
        assert labels[i] == stream[i + context]


@pytest.mark.parametrize("name", sequences.GENERATORS)
def test_a_longer_stream_goes_on_where_the_shorter_one_ends(name):
    short, long = (sequences.windows(name, 16, length) for length in (10_000, 25_000))
    assert len(long[1]) == 25_000 - 16
    for shorter, longer in zip(short, long, strict=True):
        np.testing.assert_array_equal(shorter, longer[: len(shorter)])
    assert len(load_task(name, stream_length=25_000).labels) == 25_000 - 16
    assert len(load_task(name).labels) == 10_000 - 16


def test_the_length_of_the_stream_is_part_of_a_trial_and_its_default_of_none():
    assert make_trial({"task": "lcg_glibc"}).id == "245ac794cd80ce7d"
    assert make_trial({"task": "lcg_glibc", "stream_length": 10_000}).id == "245ac794cd80ce7d"
    assert make_trial({"task": "lcg_glibc", "stream_length": 20_000}).id != "245ac794cd80ce7d"


@pytest.mark.parametrize(
    ("context", "length", "message"),
    [
        (16, 1_001, "stream_length: must be at least 1002, got 1001; use 10000 or more"),
        (16, 1_000_001, "stream_length: must be at most 1000000, got 1000001; lower it"),
        (16, 1_010, "context: csprng needs 1 to 9 tokens, got 16; use 9, or a longer stream_length"),
        (
            200,
            1_000_000,
            "stream_length: csprng must show at most 134217728 tokens, got 999800 windows of 200 tokens; "
            "lower one of the two",
        ),
    ],
)
def test_a_stream_too_short_or_too_long_is_refused(context, length, message):
    with pytest.raises(Fault) as caught:
        make_trial({"task": "csprng", "context": context, "stream_length": length})
    assert caught.value.faults == [message]


def test_more_of_the_stream_moves_no_ceiling():
    assert load_task("lfsr_31", stream_length=20_000).ceiling == load_task("lfsr_31").ceiling == 0.5
    assert load_task("lcg_glibc", stream_length=20_000).ceiling == load_task("lcg_glibc").ceiling == 1


@pytest.mark.parametrize(
    ("name", "distinct", "shared"),
    [("periodic", 7, 1), ("lfsr_5", 21, 1), ("lcg_simple", 128, 1), ("lcg_glibc", 9_984, 0), ("csprng", 9_984, 0)],
)
def test_published_split_repeats_windows_as_published(name, distinct, shared):
    task = load_task(name, context=16)
    assert len(np.unique(task.inputs, axis=0)) == distinct == task.distinct.max() + 1
    assert overlap(task.inputs, *_published_split(len(task.labels))) == shared


def test_published_split_of_lfsr_31_shares_three_in_a_thousand():
    task = load_task("lfsr_31", context=16)
    assert overlap(task.inputs, *_published_split(len(task.labels))) == pytest.approx(0.003, abs=5e-4)


def _published_split(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test examples."""
    order = np.random.RandomState(42).permutation(examples)  # the published code's own generator
    train = np.isin(np.arange(examples), order[: int(0.3 * examples)])
    return train, ~train


@pytest.mark.parametrize(
    ("context", "ceiling"), [(1, 0.5), (16, 0.5), (20, 0.5), (23, 0.5), (24, 1), (28, 1), (32, 1), (100, 1)]
)
def test_lfsr_31_ceiling(context, ceiling):
    assert load_task("lfsr_31", context=context).ceiling == ceiling


@pytest.mark.parametrize("context", [16, 20, 23])
def test_replayed_register_leaves_one_bit_open_below_24_tokens(context):
    """Two registers agree with everything a window shows, and go on differently."""
    window = sequences.windows("lfsr_31", context)[0][500]
    seen = _bits_seen(window)
    assert len(seen) == context + 7 < 31
    nexts = []
    for oldest in (0, 1):
        bits = [oldest, *[0] * (30 - len(seen)), *seen]
        now, coming = _replay(bits, 2)
        assert now == window[-1]
        nexts.append(coming)
    assert nexts[0] ^ nexts[1] == 1  # the seven copied bits agree, the new one does not


@pytest.mark.parametrize("context", [24, 28, 32])
def test_replayed_register_predicts_every_window_from_24_tokens(context):
    tokens, labels = sequences.windows("lfsr_31", context)
    for i in range(0, len(tokens), 50):
        replayed = _replay(_bits_seen(tokens[i]), context - 23 + 1)
        assert replayed[:-1] == tokens[i, 23:].tolist()
        assert replayed[-1] == labels[i]


def test_lcg_glibc_ceiling_rises_to_certainty_at_four_tokens():
    one, two, three, four = (sequences.lcg_glibc_ceiling(context) for context in (1, 2, 3, 4))
    assert 1 / 256 <= one < 0.005
    assert one < two < 0.02
    assert 0.35 < three < 0.5
    assert four == 1
    assert load_task("lcg_glibc", context=16).ceiling == 1


def test_lcg_glibc_never_needs_the_bits_above_23():
    """Why 2^16 hidden values are all there are."""
    full, low, tokens = 42, 42, []
    for _ in range(200):
        full = (1103515245 * full + 12345) % 2**31
        low = (1103515245 * low + 12345) % 2**24
        tokens.append(low >> 16)
        assert full >> 16 & 255 == low >> 16
    assert sequences.stream("lcg_glibc")[:200].tolist() == tokens


def test_csprng_ceiling_is_chance():
    assert load_task("csprng", context=16).ceiling == 1 / 256


@pytest.mark.parametrize(
    ("name", "context", "ceiling"),
    [
        ("periodic", 16, 1),
        ("periodic", 4, 1),
        ("periodic", 3, 6 / 7),  # 0 0 0 is followed by 0 or by 1
        ("lfsr_5", 16, 1),
        ("lfsr_5", 5, 1),
        ("lfsr_5", 4, 15 / 21),
        ("lcg_simple", 1, 1),
    ],
)
def test_ceiling_of_recurring_windows_counts_equal_ones(name, context, ceiling):
    assert Task(*sequences.windows(name, context)).ceiling == pytest.approx(ceiling, abs=1e-3)


def test_distinct_index_numbers_long_rows_without_overflow():
    tokens, _ = sequences.windows("csprng", 40)
    doubled = np.concatenate([tokens, tokens[::-1]])
    index = distinct_index(doubled)
    np.testing.assert_array_equal(index[: len(tokens)], index[len(tokens) :][::-1])
    assert index.max() + 1 == len(tokens)
    np.testing.assert_array_equal(index, np.unique(doubled, axis=0, return_inverse=True)[1].ravel())
