"""Which probes run is the trial's word, and what a run records is what each probe says by itself."""

from __future__ import annotations

import math

import pytest
import torch
from small import MLP, TRANSFORMER, trained

from phasemap.networks.transformer import Transformer
from phasemap.plan.trial import make_trial
from phasemap.probes import attention, dimension, names
from phasemap.probes.batch import finite_mean
from phasemap.training.train import begin

STRIDES = {"winning_stride", "winning_stride_score", "inner_winning_stride", "inner_winning_stride_score"}
MULTIPLICATION = TRANSFORMER.replace(task="modular_multiplication", modulus=17)


def curves_of(probes: str, trial=MULTIPLICATION) -> set[str]:
    trial = trial.replace(probes=probes)
    found = trained([trial])[trial.id].curves
    return {key for key in found if not key.startswith(("train_", "test_"))}


@pytest.mark.parametrize(
    ("probes", "curves"),
    [
        ("", set()),
        ("dimension", {"intrinsic_dimension", "pca99_dimension", "participation_ratio", "twonn_dimension"}),
        ("twonn", {"twonn_dimension"}),
        ("purity", {"coset_purity"}),
        ("stride", STRIDES),
        ("attention", {"attention_entropy", "attention_entropy/block0", "attention_entropy/block1"}),
        ("progress", {"restricted_loss", "excluded_loss", "key_frequencies"}),
        ("within_class", {"within_class_share"}),
        ("distance", {"initial_distance"}),
        ("spread", {"loss_spread", "loss_percentile5", "loss_percentile95"}),
    ],
)
def test_a_probe_records_its_own_curves_and_the_weight_norm_is_always_there(probes, curves):
    assert curves_of(probes) == curves | {"weight_norm"}


def test_probes_join_with_a_plus():
    assert curves_of("purity+twonn") == {"coset_purity", "twonn_dimension", "weight_norm"}


def test_an_unknown_probe_is_a_fault_before_anything_starts():
    with pytest.raises(
        ValueError, match=r"probes: must be names of activation, .*, got 'strides' \(did you mean stride\?\)"
    ):
        make_trial({"probes": "dimension+strides"})


def test_the_default_probes_are_known():
    assert set(MLP.probes.split("+")) < set(names())


def test_the_layers_norms_add_up_to_the_whole():
    trial = MULTIPLICATION.replace(probes="layers")
    curves = trained([trial])[trial.id].curves
    layers = {key: values[-1] for key, (_, values) in curves.items() if key.startswith("weight_norm/")}
    assert set(layers) == {f"weight_norm/{name}" for name in ("table", "position", "block0", "block1", "readout")}
    assert math.hypot(*layers.values()) == pytest.approx(curves["weight_norm"][1][-1])


def test_attention_is_that_of_the_readout_token():
    """Against torch's own attention, asked for the weights of the last block."""
    trial = MULTIPLICATION.replace(depth=2, probes="attention", steps=10, evaluate_every=10)
    training = begin((trial,))
    training.advance(10)
    weights = training.network.layout.split(training.flat)
    assert isinstance(training.network, Transformer)
    asked = training.network.attending(weights, training.inputs[None])[1]
    queries, keys, _ = asked[-1]
    assert queries.shape[2] == 1
    entropy = attention.example_entropy(attention.attention_weights(queries, keys, trial.heads))
    expected = finite_mean(entropy, training.split.test).item()
    (result,) = training.evaluate()
    assert result.outcome.attention_entropy == pytest.approx(expected)
    assert 0 < expected <= 1
    assert result.curves["attention_entropy/block1"] == result.curves["attention_entropy"]
    assert result.curves["attention_entropy/block0"] != result.curves["attention_entropy"]


def test_a_dimension_in_the_record_is_that_of_the_hidden_test_vectors():
    trial = MLP.replace(steps=10, evaluate_every=10)
    training = begin((trial,))
    training.advance(10)
    hidden = training.network.hidden(training.network.layout.split(training.flat), training.inputs[None])
    expected = dimension.pca_dimension(dimension.pca_spectrum(hidden, training.split.test)).item()
    (result,) = training.evaluate()
    assert result.outcome.intrinsic_dimension == expected


def test_the_spectrum_and_the_stride_agree_on_a_pure_circle():
    """Embeddings that are cos and sin of 2 pi 3 k / p, and a linear network: stride 1/3 mod p."""
    trial = MLP.replace(modulus=13, width=16, activation="square", probes="stride+spectrum", steps=1)
    training = begin((trial.replace(evaluate_every=1, weight_decay=0.0, learning_rate=1e-12),))
    angle = 2 * torch.pi * 3 * torch.arange(13) / 13
    pieces = training.network.layout.split(training.flat)
    for name in ("table", "layer0.weight", "layer0.bias"):
        pieces[name].zero_()
    for table in pieces["table"][0]:
        table[:, 0], table[:, 1] = angle.cos(), angle.sin()
    cos, sin = pieces["layer0.weight"][0, 0], pieces["layer0.weight"][0, 1]
    turn = 2 * torch.pi * torch.arange(16) / 16
    cos.copy_(turn.cos()), sin.copy_(turn.sin())  # squares: cos(a + b) in every direction
    training.step = 1
    (result,) = training.evaluate()
    assert result.outcome.dominant_frequency == 3
    assert result.outcome.spectrum_frequencies == 1
    assert result.outcome.winning_stride_score == 1
    assert result.outcome.predicted_stride == result.outcome.winning_stride == 4  # 3 x 4 = -1 mod 13
    assert result.outcome.stride_agrees == 1


def test_homology_is_measured_once_at_the_end():
    pytest.importorskip("ripser")
    trial = MLP.replace(probes="homology", probe_every=MLP.evaluate_every)
    found = trained([trial])[trial.id]
    assert found.outcome.betti0 >= 1
    assert not {"betti0", "betti1"} & set(found.curves)


def test_log_spaced_evaluations_are_probed_until_the_even_ones_begin():
    trial = MLP.replace(steps=60, evaluate_every=20, probe_every=20, log_spaced=True, probes="")
    steps = trained([trial])[trial.id].curves["weight_norm"][0]
    assert steps[:6] == (1, 2, 3, 4, 5, 6)
    assert [step for step in steps if step >= 20] == [20, 40, 60]
