from __future__ import annotations

import torch

from phasemap.probes import activation

HIDDEN = torch.tensor([[[3.0, 4.0], [0.05, -0.05], [100.0, 100.0]], [[0.0, 0.0], [-2.0, 2.0], [0.0, -5.0]]])
CHOSEN = torch.tensor([[True, True, False], [True, True, True]])


def test_known_values() -> None:
    assert activation.sparsity(HIDDEN, CHOSEN).tolist() == [0.5, 0.5]
    torch.testing.assert_close(
        activation.norm(HIDDEN, CHOSEN), torch.tensor([(5 + 0.005**0.5) / 2, (8**0.5 + 5) / 3], dtype=torch.float64)
    )
    assert activation.largest(HIDDEN, CHOSEN).tolist() == [4, 2]
    spread = [HIDDEN[0, :2].double().std(correction=0), HIDDEN[1].double().std(correction=0)]
    torch.testing.assert_close(activation.deviation(HIDDEN, CHOSEN), torch.stack(spread))


def test_nothing_chosen_is_nan() -> None:
    nothing = torch.zeros_like(CHOSEN)
    for measure in (activation.sparsity, activation.norm, activation.deviation, activation.largest):
        assert measure(HIDDEN, nothing).isnan().all()
