"""The update of a stack: the slopes of its losses, and the rates of every step.

Hyperparameters that may differ between trials are [K, 1] tensors, so a new value recompiles nothing
and no loop runs over trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from phasemap.networks.network import Layout
from phasemap.numerics import random_streams
from phasemap.numerics.losses import losses
from phasemap.plan.trial import Trial

BLOCK = 4096  # numbers added in one go


def slope(kind: str, logits: Tensor, labels: Tensor, weights: Tensor, temperature: Tensor | None = None) -> Tensor:
    """Gradient [K, B, C] of the batch's weighted loss by its logits, which the loss sees divided by the temperature
    [K, 1]. Cross-entropy's is written out: half the work of deriving it."""
    if temperature is not None:
        scale = temperature[..., None]
        return slope(kind, logits / scale, labels, weights) / scale
    if kind.endswith("_float64"):
        return slope(kind.removesuffix("_float64"), logits.double(), labels, weights.double()).to(logits.dtype)
    if kind == "cross_entropy":
        shares = logits.softmax(-1) * weights[..., None]
        return shares.scatter_add(-1, labels[..., None], -weights[..., None])
    free = logits.detach().requires_grad_()
    return torch.autograd.grad((losses(kind, free, labels) * weights).sum(), free)[0]


@dataclass(frozen=True)
class Rates:
    """What the update needs at each of S steps, per trial; computed ahead on the host in float64."""

    step_size: Tensor  # [S, K, 1] learning rate over AdamW's first correction
    decay: Tensor  # [S, K, 1] learning rate x weight decay (decoupled), or weight decay (adam, sgd)
    root: Tensor  # [S, 1, 1] square root of the second correction
    more: Mapping[str, Tensor] = field(default_factory=dict)  # [S, K or 1, 1] each, by name; keys of draws are int64

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.step_size, self.decay, self.root, *self.more.values()

    def at(self, places: slice) -> Rates:
        """Of the weights there, where the rates of a step differ between the weights [K, P]."""
        step_size, decay = (part if part.shape[-1] == 1 else part[..., places] for part in (self.step_size, self.decay))
        return replace(self, step_size=step_size, decay=decay)


def rates(trials: tuple[Trial, ...], first: int, steps: int, device: torch.device) -> Rates:
    """Rates of steps ``first`` … ``first + steps - 1`` (counted from 0)."""
    shape = trials[0]  # warm-up, schedule and optimizer are part of the shape
    count = torch.arange(first, first + steps, dtype=torch.float64)[:, None, None]
    learning_rate = torch.tensor([t.learning_rate for t in trials], dtype=torch.float64)[:, None]
    decay = torch.tensor([t.weight_decay for t in trials], dtype=torch.float64)[:, None].expand(steps, -1, -1)
    if shape.late_weight_decay >= 0:
        decay = torch.where(count >= shape.decay_switch, shape.late_weight_decay, decay)
    learning_rate = learning_rate * ((count + 1) / max(shape.warmup, 1)).clamp(max=1)
    if shape.annealing != "none":
        learning_rate = learning_rate * _left(shape, count)
    rule = shape.shape.rule
    first_correction, root = rule.corrections(count + 1)
    if rule.decoupled:
        decay = decay * learning_rate
    step_size, decay, root = (part.float().to(device) for part in (learning_rate / first_correction, decay, root))
    more = {name: part.float().to(device) for name, part in rule.numbers(count + 1).items()}
    more |= {name: column.expand(steps, -1, -1) for name, column in switched(trials, device).items()}
    seeds = tuple(trial.seed for trial in trials)
    if "weight_noise" in more:
        more["noise"] = random_streams.step_keys(seeds, random_streams.NOISE, first, steps, device)
    if shape.shape.network.dropout:
        more["dropout"] = random_streams.step_keys(seeds, random_streams.DROPOUT, first, steps, device)
    return Rates(step_size, decay, root, more)


def switched(trials: tuple[Trial, ...], device: torch.device) -> dict[str, Tensor]:
    """The fields of ``SWITCHED`` that are on, [K, 1] each."""
    columns = {name: [[getattr(trial, name)] for trial in trials] for name in trials[0].shape.switched}
    return {name: torch.tensor(column, dtype=torch.float32, device=device) for name, column in columns.items()}


def _left(trial: Trial, count: Tensor) -> Tensor:
    """The share of the learning rate that annealing leaves: 1 in the first step after the warm-up, and 0 in the one
    that would follow the last."""
    left = 1 - (count - trial.warmup).clamp(min=0) / max(trial.steps - trial.warmup, 1)
    return left if trial.annealing == "linear" else (1 - torch.cos(left * math.pi)) / 2


def by_group(layout: Layout, rate: Rates, decoupled: bool) -> Rates:
    """The rates of a step, for embeddings and readout times their own factors: then [K, P]."""
    if "embedding_rate" not in rate.more and "readout_rate" not in rate.more:
        return rate
    one = torch.ones_like(rate.step_size)
    factors = [rate.more.get(f"{piece.group}_rate", one).expand(-1, layout.room(piece)) for piece in layout.pieces]
    factor = torch.cat(factors, 1)
    return replace(rate, step_size=rate.step_size * factor, decay=rate.decay * factor if decoupled else rate.decay)


def clipped(gradient: Tensor, largest: Tensor) -> Tensor:
    """The gradient [K, P], of a norm of at most ``largest`` [K, 1] over all weights of a trial; as
    torch.nn.utils.clip_grad_norm_."""
    return gradient * (largest / (_whole_norm(gradient) + 1e-6)).clamp(max=1)


def clamp(flat: Tensor, norm: Tensor) -> None:
    """Rescales the weights [K, P] in place, all by one factor, to the norm [K, 1] (Liu et al. 2023, arXiv 2210.01117;
    Khanh 2026, arXiv 2606.18465)."""
    flat.mul_(norm / _whole_norm(flat))


def orthogonal(layout: Layout, flat: Tensor, gradient: Tensor) -> Tensor:
    """The gradient without its part along the weights, as long as the whole, tensor by tensor.

    As its authors define it (Prieto et al. 2025, arXiv 2501.04697): what is left is rescaled to the norm of
    the gradient. Sums over one axis of [K, n]: a trial alone rounds as it does in a stack.
    """
    weights, parts = layout.split(flat), layout.split(gradient)
    kept = []
    for piece in layout.pieces:
        w, g = weights[piece.name].flatten(1), parts[piece.name].flatten(1)
        along = (w * g).sum(1, keepdim=True) / ((w * w).sum(1, keepdim=True) + 1e-30)
        across = g - along * w
        kept.append(across * (_norm(g) / (_norm(across) + 1e-30)))
        if spare := layout.room(piece) - piece.size:
            kept.append(g.new_zeros(len(g), spare))
    return torch.cat(kept, 1)


def _whole_norm(values: Tensor) -> Tensor:
    """Euclidean norm of each row, [K, P] -> [K, 1]. Summed in blocks: threads share a sum over all of [1, P], but not
    one over [K, P], and would round a trial alone otherwise."""
    squares = F.pad(values * values, (0, -values.shape[1] % BLOCK))
    return squares.view(values.shape[0], -1, BLOCK).sum(2).sum(1, keepdim=True).sqrt()


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm of each row: [K, n] -> [K, 1]."""
    return (values * values).sum(1, keepdim=True).sqrt()
