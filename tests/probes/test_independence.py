"""One harness for every probe: a trial reads the same alone and in any stack, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from phasemap.plan.component import load_task
from phasemap.probes import activation, attention, dimension, information, purity, spectrum, spread, stride
from phasemap.probes.batch import finite_mean
from phasemap.probes.circles import class_vectors, inner_circles, outer_circle
from phasemap.probes.progress import progress
from phasemap.probes.within_class import within_class_share

TASK = load_task("modular_multiplication", modulus=17)
GROUP = TASK.group
LABELS = torch.from_numpy(TASK.labels)
Probe = Callable[[Tensor, Tensor], Tensor]


def circles_of(hidden: Tensor, chosen: Tensor, inner: bool) -> Tensor:
    vectors = class_vectors(hidden, LABELS, chosen, TASK.classes)
    assert GROUP is not None
    circles = (inner_circles if inner else outer_circle)(vectors, GROUP)
    assert circles is not None
    return circles


def on_variances(measure: Callable[[Tensor], Tensor]) -> Probe:
    return lambda hidden, chosen: measure(dimension.pca_spectrum(hidden, chosen))


def on_circles(measure: Callable[[Tensor], Tensor], inner: bool = False) -> Probe:
    return lambda hidden, chosen: measure(circles_of(hidden, chosen, inner))


def bits(hidden: Tensor, chosen: Tensor) -> Tensor:
    found = information.learned_bits(hidden[:, :, : TASK.classes].argmax(2), LABELS, chosen, TASK.classes)
    return torch.where(hidden.isfinite().flatten(1).all(1), found, torch.nan)  # argmax hides the NaN


def coset_purity(hidden: Tensor, chosen: Tensor) -> Tensor:
    assert GROUP is not None
    found = purity.coset_purity(class_vectors(hidden, LABELS, chosen, TASK.classes), GROUP)
    assert found is not None
    return found


def attention_entropy(hidden: Tensor, chosen: Tensor) -> Tensor:
    tokens = hidden.unflatten(2, (3, -1))
    entropy = attention.example_entropy(attention.attention_weights(tokens[:, :, :1], tokens, heads=2))
    return finite_mean(entropy, chosen)


def of_logits(name: str) -> Probe:
    """The first hidden values as logits, in blocks."""

    def measure(hidden: Tensor, chosen: Tensor) -> Tensor:
        logits = hidden[:, :, : TASK.classes]
        cuts = [slice(start, start + 100) for start in range(0, len(LABELS), 100)]
        return progress(lambda: ((cut, logits[:, cut]) for cut in cuts), TASK, chosen, "cross_entropy")[name]

    return measure


PROBES: dict[str, Probe] = {
    "pca95": on_variances(dimension.pca_dimension),
    "pca99": on_variances(lambda variances: dimension.pca_dimension(variances, 0.99)),
    "participation": on_variances(dimension.participation_ratio),
    "largest_variance": on_variances(lambda variances: variances[:, 0]),
    "twonn": dimension.twonn_dimension,
    "sparsity": activation.sparsity,
    "norm": activation.norm,
    "deviation": activation.deviation,
    "largest": activation.largest,
    "learned_bits": bits,
    "attention_entropy": attention_entropy,
    "coset_purity": coset_purity,
    "within_class_share": lambda hidden, chosen: within_class_share(hidden, LABELS, chosen, TASK.classes),
    "loss_spread": lambda hidden, chosen: spread.loss_spread(hidden.sum(2), chosen),
    "loss_percentile": lambda hidden, chosen: spread.loss_percentile(hidden.sum(2), chosen, 95),
    "restricted_loss": of_logits("restricted_loss"),
    "excluded_loss": of_logits("excluded_loss"),
    "key_frequencies": of_logits("key_frequencies"),
    "frequencies": on_circles(lambda circles: spectrum.spectrum(circles).frequencies),
    "dominant_share": on_circles(lambda circles: spectrum.spectrum(circles).dominant_share),
    "predicted_stride": on_circles(lambda circles: spectrum.spectrum(circles).predicted_stride),
    "inner_dominant_share": on_circles(lambda circles: spectrum.spectrum(circles).dominant_share, inner=True),
    "outer_stride": on_circles(lambda circles: stride.winning_stride(circles).stride),
    "outer_score": on_circles(lambda circles: stride.best_stride(circles)[1]),
    "outer_p_value": on_circles(lambda circles: stride.winning_stride(circles).p_value),
    "inner_stride": on_circles(lambda circles: stride.winning_stride(circles, True).stride, inner=True),
    "inner_score": on_circles(lambda circles: stride.best_stride(circles, True)[1], inner=True),
    "inner_p_value": on_circles(lambda circles: stride.winning_stride(circles, True).p_value, inner=True),
}


def mixed_stack(examples: int, width: int) -> tuple[Tensor, Tensor]:
    """Trials unlike each other in scale, rank and number of test examples; trial 2 has diverged."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(6, examples, width, generator=generator)
    hidden[1] *= 1e3
    hidden[2, 7, 3] = torch.nan
    hidden[3, :, 3:] = 0
    hidden[4] = 0.01 * hidden[4] + 5
    hidden[5, 0, 0] = torch.inf
    shares = torch.tensor([0.7, 0.4, 0.5, 0.9, 0.6, 0.5])
    return hidden, torch.rand(6, examples, generator=generator) < shares[:, None]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROBES)
def test_trial_reads_the_same_alone_and_beside_a_diverged_neighbor(name: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        hidden, chosen = mixed_stack(len(LABELS), 24)
        together = PROBES[name](hidden, chosen)
        assert together.shape == (6,)
        assert together.isnan().tolist() == [False, False, True, False, False, True]
        for k in range(6):
            alone = PROBES[name](hidden[k : k + 1].clone(), chosen[k : k + 1].clone())
            assert torch.equal(alone.nan_to_num(-1), together[k : k + 1].nan_to_num(-1))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    [
        "pca95",
        "largest_variance",
        "twonn",
        "sparsity",
        "norm",
        "deviation",
        "largest",
        "loss_spread",
        "loss_percentile",
    ],
)
def test_trial_reads_the_same_at_the_size_of_the_published_protocol(name: str) -> None:
    hidden, chosen = mixed_stack(97 * 97, 128)
    together = PROBES[name](hidden, chosen)
    alone = torch.cat([PROBES[name](hidden[k : k + 1].clone(), chosen[k : k + 1].clone()) for k in (0, 3)])
    assert torch.equal(alone, together[[0, 3]])


@pytest.mark.parametrize("name", PROBES)
def test_probe_does_not_write_to_what_it_reads(name: str) -> None:
    hidden, chosen = mixed_stack(len(LABELS), 24)
    copies = hidden.clone(), chosen.clone()
    PROBES[name](hidden, chosen)
    assert torch.equal(hidden.nan_to_num(0), copies[0].nan_to_num(0))
    assert torch.equal(chosen, copies[1])


NO_EXTENT = {  # of the values alone
    *(
        "sparsity",
        "norm",
        "deviation",
        "largest",
        "attention_entropy",
        "learned_bits",
        "loss_spread",
        "loss_percentile",
    ),
    *("restricted_loss", "excluded_loss", "key_frequencies"),
}


@pytest.mark.parametrize("name", [name for name in PROBES if name not in NO_EXTENT])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 3e4])
def test_vectors_that_are_all_equal_have_no_shape(name: str, scale: float) -> None:
    """Their mean is rounded, so that their distances to it are not zero."""
    hidden, chosen = mixed_stack(len(LABELS), 24)
    hidden[0] = scale * hidden[0, 0]
    found = PROBES[name](hidden, chosen)
    assert found[0].isnan()
    assert found[1].isfinite()
