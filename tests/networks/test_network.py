"""The stacked networks against torch's own modules with the same weights copied in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from phasemap.networks.network import TokenNetwork
from phasemap.plan.trial import Trial
from phasemap.tasks.task import Task
from phasemap.training.train import begin

TRANSFORMER = Trial(modulus=11, width=16, depth=2, heads=4)
SEQUENCE = TRANSFORMER.replace(task="lfsr_5", context=6)
PARITY = TRANSFORMER.replace(task="sparse_parity", context=6)
MLP = TRANSFORMER.replace(model="mlp", depth=3)
ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "square": torch.square,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "layer": nn.LayerNorm,
    "rms": lambda width: nn.RMSNorm(width, eps=1e-5),
}


class Reference(nn.Module):
    """One trial's network in plain float64 torch; ``load`` copies one row of a stack's weights."""

    def __init__(self, trial: Trial, task: Task, tables: int):
        super().__init__()
        self.trial, self.task = trial, task
        width, tokens = trial.width, task.tokens
        self.table = nn.Parameter(torch.empty(tables, task.vocabulary, width))
        if trial.model == "transformer":
            self.position = nn.Parameter(torch.empty(tokens, width))
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width,
                    trial.heads,
                    4 * width,
                    dropout=0.0,
                    activation=ACTIVATIONS[trial.activation],
                    batch_first=True,
                    norm_first=trial.norm == "pre",
                )
                for _ in range(trial.depth)
            )
            kind = "none" if trial.norm == "none" else trial.norm_kind
            for block in self.blocks:
                block.norm1, block.norm2 = NORMS[kind](width), NORMS[kind](width)
        else:
            joined = width * (tokens if trial.embedding == "concatenate" else 1)
            self.layers = nn.ModuleList(nn.Linear(joined if i == 0 else width, width) for i in range(trial.depth))
            self.norms = nn.ModuleList(NORMS[trial.hidden_norm](width) for _ in range(trial.depth))
        if trial.bottleneck:
            self.squeeze, self.widen = nn.Linear(width, trial.bottleneck), nn.Linear(trial.bottleneck, width)
        self.readout = nn.Linear(width, task.classes)
        self.double()

    def named(self) -> dict[str, tuple[torch.Tensor, bool]]:
        """Stack's name -> parameter, and whether torch stores it transposed."""
        names: dict[str, tuple[torch.Tensor, bool]] = {"table": (self.table, False)}
        linears = {name: module for name, module in self.named_children() if isinstance(module, nn.Linear)}
        if self.trial.model == "transformer":
            names["position"] = (self.position, False)
            for i, block in enumerate(self.blocks):
                assert isinstance(block, nn.TransformerEncoderLayer)
                attention = block.self_attn
                names[f"block{i}.qkv.weight"] = (attention.in_proj_weight, True)
                names[f"block{i}.qkv.bias"] = (attention.in_proj_bias, False)
                linears |= {f"block{i}.out": attention.out_proj, f"block{i}.up": block.linear1}
                linears |= {f"block{i}.down": block.linear2}
                for norm in ("norm1", "norm2"):
                    for part, parameter in getattr(block, norm).named_parameters():
                        names[f"block{i}.{norm}.{part}"] = (parameter, False)
        else:
            linears |= {f"layer{i}": layer for i, layer in enumerate(self.layers) if isinstance(layer, nn.Linear)}
            for i, module in enumerate(self.norms):
                names |= {f"norm{i}.{part}": (parameter, False) for part, parameter in module.named_parameters()}
        for name, linear in linears.items():
            names |= {name + ".weight": (linear.weight, True), name + ".bias": (linear.bias, False)}
        return names

    @torch.no_grad()
    def load(self, weights: dict[str, torch.Tensor], k: int) -> None:
        mine = self.named()
        assert mine.keys() == weights.keys()
        for name, (parameter, transposed) in mine.items():
            parameter.copy_(weights[name][k].T if transposed else weights[name][k])

    def gradient(self, name: str) -> torch.Tensor:
        parameter, transposed = self.named()[name]
        assert parameter.grad is not None
        return parameter.grad.T if transposed else parameter.grad

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        places = (
            torch.arange(tokens.shape[1]) if len(self.table) > 1 else torch.zeros(tokens.shape[1], dtype=torch.int64)
        )
        x = self.table[places, tokens]
        if self.trial.model == "mlp":
            x = x.flatten(1) if self.trial.embedding == "concatenate" else x.sum(1)
            for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
                further = ACTIVATIONS[self.trial.activation](norm(layer(x)))
                x = x + further if self.trial.residual and i else further
            return x
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        if self.trial.pooling == "mean":
            return x.mean(1)
        return x[:, 0 if self.task.readout == "first" else -1]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.trial.bottleneck:
            hidden = self.widen(self.squeeze(hidden).relu())
        return self.readout(hidden)


def stack(trial: Trial, trials: int) -> tuple[TokenNetwork, torch.Tensor]:
    """A model and weights [K, P] with nothing left at 0 or 1, so that no piece can be forgotten."""
    model = trial.shape.network
    assert isinstance(model, TokenNetwork)
    flat = torch.stack([model.initial(k) for k in range(trials)])
    return model, flat + 0.1 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(9))


CASES = [
    *(TRANSFORMER.replace(norm=norm) for norm in ("post", "pre", "none")),
    *(TRANSFORMER.replace(activation=name) for name in ("gelu", "square")),
    TRANSFORMER.replace(depth=1),
    TRANSFORMER.replace(depth=3, norm="pre"),
    TRANSFORMER.replace(tie_embeddings=True),
    TRANSFORMER.replace(bottleneck=3),
    TRANSFORMER.replace(task="modular_division", heads=1),
    SEQUENCE,
    SEQUENCE.replace(norm="pre"),
    PARITY,
    PARITY.replace(context=4),
    *(MLP.replace(embedding=joined) for joined in ("sum", "concatenate")),
    *(MLP.replace(embedding=joined, depth=1, activation="gelu") for joined in ("sum", "concatenate")),
    *(MLP.replace(embedding=joined, tie_embeddings=True) for joined in ("sum", "concatenate")),
    *(MLP.replace(embedding=joined, task="sparse_parity", context=6) for joined in ("sum", "concatenate")),
    MLP.replace(activation="square", bottleneck=2),
    *(MLP.replace(activation=name) for name in ("tanh", "sigmoid", "silu")),
    *(MLP.replace(hidden_norm=name) for name in ("layer", "rms")),
    MLP.replace(residual=True),
    MLP.replace(residual=True, hidden_norm="rms", embedding="concatenate", activation="tanh"),
    *(TRANSFORMER.replace(norm=norm, norm_kind="rms") for norm in ("post", "pre", "none")),
    *(TRANSFORMER.replace(pooling="mean", depth=depth) for depth in (1, 2)),
    SEQUENCE.replace(pooling="mean", norm="pre", norm_kind="rms"),
]


def told(trial: Trial) -> str:
    return trial.label(tuple(name for name, value in trial.cell if value != getattr(TRANSFORMER, name)))


@pytest.mark.parametrize("each_its_own", [True, False], ids=["batches of their own", "one batch for all"])
@pytest.mark.parametrize("trial", CASES, ids=told)
def test_a_stack_equals_torchs_modules_forward_and_backward(trial, each_its_own):
    model, flat = stack(trial, trials=2)
    tokens = torch.from_numpy(model.task.inputs)
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(len(tokens), (2 if each_its_own else 1, 23), generator=generator)
    slope = torch.randn(2, 23, model.task.classes, generator=generator)
    point = flat.clone().requires_grad_()
    weights = model.layout.split(point)
    hidden = model.hidden(weights, tokens[rows])
    logits = model.readout(weights, hidden)
    (logits * slope).sum().backward()
    gradients = model.layout.split(point.grad)
    for k in range(2):
        reference = Reference(trial, model.task, weights["table"].shape[1])
        reference.load(weights, k)
        exact = reference.hidden(tokens[rows[k if each_its_own else 0]])
        expected = reference(exact)
        (expected * slope[k]).sum().backward()
        torch.testing.assert_close(hidden[k].double(), exact, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits[k].double(), expected, rtol=1e-5, atol=1e-5)
        for name in weights:
            wanted = reference.gradient(name)
            atol = 1e-4 * max(1.0, float(wanted.abs().max()))
            torch.testing.assert_close(
                gradients[name][k].double(), wanted, rtol=1e-4, atol=atol, msg=f"{name}: {{}}".format
            )


def test_the_published_transformer_has_its_published_size():
    assert Trial().shape.network.parameters == 2 * 97 * 128 + 2 * 128 + 2 * 198_272 + 128 * 97 + 97 == 434_145
    assert 3.1e6 < Trial(width=256, depth=4, heads=8).shape.network.parameters < 3.3e6


def test_tables_are_one_per_token_where_the_task_says_so():
    tables = {
        (TRANSFORMER, False): 2,
        (TRANSFORMER, True): 1,
        (SEQUENCE, False): 1,
        (PARITY, False): 6,
        (MLP, False): 2,
    }
    for (trial, tied), count in tables.items():
        model, flat = stack(trial.replace(tie_embeddings=tied), 1)
        assert model.layout.split(flat)["table"].shape[1] == count


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_a_bottleneck_has_its_rank(rank):
    for trial in (TRANSFORMER, MLP):
        model, flat = stack(trial.replace(bottleneck=rank), trials=2)
        weights = model.layout.split(flat)
        assert weights["squeeze.weight"].shape == (2, 16, rank)
        assert weights["widen.weight"].shape == (2, rank, 16)
        logits = model.readout(weights, torch.randn(2, 200, 16))
        centered = logits[0].double() - weights["readout.bias"][0].double()
        assert torch.linalg.matrix_rank(centered - centered.mean(0), rtol=1e-5) <= rank


def test_a_row_is_drawn_from_its_own_seed_alone():
    trials = [TRANSFORMER.replace(seed=seed, weight_decay=0.1 * seed) for seed in (3, 1, 4)]
    whole = begin(tuple(trials)).flat
    for k, trial in enumerate(trials):
        assert torch.equal(whole[k], begin((trial,)).flat[0])
    assert not (whole[0] == whole[1]).all()


def test_only_the_seed_chooses_the_initial_weights():
    changed = TRANSFORMER.replace(weight_decay=0.3, learning_rate=1.0, data_fraction=0.6)
    assert torch.equal(begin((TRANSFORMER,)).flat, begin((changed,)).flat)


def test_the_initial_scale_multiplies_every_weight():
    scaled = TRANSFORMER.replace(initial_scale=4.0)
    assert torch.equal(begin((scaled,)).flat, 4 * begin((TRANSFORMER,)).flat)


def test_cloned_blocks_start_alike_and_independent_ones_do_not():
    deep = TRANSFORMER.replace(depth=3)
    model, _ = stack(deep, 1)
    own, cloned = (model.layout.split(begin((deep.replace(clone_blocks=clone),)).flat) for clone in (False, True))
    for name in own:
        if name.startswith("block"):
            first = "block0" + name[6:]
            assert torch.equal(cloned[name], own[first])
            drawn_at_random = own[first].unique().numel() > 1
            assert torch.equal(own[name], own[first]) == (name == first or not drawn_at_random)
        else:
            assert torch.equal(cloned[name], own[name])


def test_initial_weights_are_torchs_defaults():
    wide = TRANSFORMER.replace(modulus=97, width=64)
    model, _ = stack(wide, 1)
    weights = {name: part[0] for name, part in model.layout.split(begin((wide,)).flat).items()}
    assert weights["table"].std() == pytest.approx(1, rel=0.05)
    assert weights["position"].std() == pytest.approx(0.02, rel=0.2)
    bounds = {
        "block0.qkv.weight": math.sqrt(6 / (64 + 3 * 64)),
        "block0.out.weight": 1 / 8,
        "block0.up.weight": 1 / 8,
        "block0.up.bias": 1 / 8,
        "block1.down.weight": 1 / 16,
        "readout.weight": 1 / 8,
        "readout.bias": 1 / 8,
    }
    for name, bound in bounds.items():
        assert 0.9 * bound < weights[name].abs().max() <= bound, name
        assert abs(weights[name].mean()) < 0.15 * bound, name
    for block in ("block0.", "block1."):
        assert (weights[block + "norm1.weight"] == 1).all()
        assert (weights[block + "norm2.weight"] == 1).all()
        for zero in ("norm1.bias", "norm2.bias", "qkv.bias", "out.bias"):
            assert (weights[block + zero] == 0).all()


class Halved(nn.Module):
    """What dropout does on average, without its chance: here, half of everything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x


@pytest.mark.parametrize(
    "trial",
    [TRANSFORMER, TRANSFORMER.replace(norm="pre"), SEQUENCE, PARITY.replace(depth=1), MLP, MLP.replace(residual=True)],
    ids=told,
)
def test_dropout_stands_where_torchs_encoder_layer_has_it_and_after_each_activation_of_an_mlp(trial):
    model, flat = stack(trial, 2)
    weights, tokens = model.layout.split(flat), torch.from_numpy(trial.shape.examples.inputs[:5])
    halving: Any = Halved()  # in the place of a Dropout
    found = model.logits(weights, tokens[None], halving)
    plain = model.logits(weights, tokens[None])
    for k in range(2):
        reference = Reference(trial, trial.shape.examples, len(weights["table"][k]))
        reference.load(weights, k)
        if trial.model == "mlp":
            halved = _halved_layers(reference, tokens)
        else:
            for block in reference.blocks:
                assert isinstance(block, nn.TransformerEncoderLayer)
                block.dropout = block.dropout1 = block.dropout2 = halving
                with torch.no_grad():  # half of each share of attention is half of the values
                    block.self_attn.in_proj_weight[2 * trial.width :] *= 0.5
                    block.self_attn.in_proj_bias[2 * trial.width :] *= 0.5
            halved = reference(reference.train().hidden(tokens))
        torch.testing.assert_close(found[k].double(), halved, rtol=1e-4, atol=1e-5)
        assert (found[k] - plain[k]).abs().max() > 0.01


def _halved_layers(reference: Reference, tokens: torch.Tensor) -> torch.Tensor:
    trial = reference.trial
    x = reference.table[torch.arange(tokens.shape[1]), tokens].sum(1)
    for i, layer in enumerate(reference.layers):
        further = 0.5 * layer(x).relu()
        x = x + further if trial.residual and i else further
    return reference(x)
