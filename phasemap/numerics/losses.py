"""What can be minimized, example by example: fp32 in training, and any floating type where it is measured."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def losses(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of every example. logits [K, B, C], labels [K, B] -> [K, B]."""
    if kind == "cross_entropy":
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    if kind.endswith("_float64"):  # no softmax collapse (Prieto et al. 2025, arXiv 2501.04697); float64 losses
        return losses(kind.removesuffix("_float64"), logits.double(), labels)
    if kind == "mean_squared_error":  # against one-hot labels, mean over classes
        return (logits - F.one_hot(labels, logits.shape[-1])).square().mean(-1)
    # StableMax (Prieto et al. 2025, arXiv 2501.04697): exp replaced by x + 1, or 1 / (1 - x) below 0
    weights = torch.where(logits >= 0, logits + 1, 1 / (1 - logits.clamp(max=0)))
    shares = weights / weights.sum(-1, keepdim=True)
    return -shares.gather(-1, labels[..., None])[..., 0].log()
