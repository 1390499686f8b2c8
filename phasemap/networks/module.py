"""A stack of any torch.nn.Module: the user's own network, written for one model and run for K at once.

The module's parameters become one row of the flat [K, P] tensor; ``torch.func`` calls it once for the whole stack
(``functional_call`` under ``vmap``). Its linear layers go through the project's matrix product, whose result for a
trial does not depend on the stack; those on embeddings are applied to whole tables (``first_layer.py``). What cannot be
a function of weights and inputs alone is refused here: random draws in ``forward`` (dropout), buffers that change
(running statistics), examples of a batch that touch each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.flop_counter import FlopCounterMode

from phasemap.fields import Fault
from phasemap.networks.arithmetic import adopt
from phasemap.networks.first_layer import FirstLayer, find, known
from phasemap.networks.network import Group, Layout, Network, Piece, Start
from phasemap.plan.source import place, place_of
from phasemap.tasks.task import Task
from phasemap.words import first_line

if TYPE_CHECKING:
    from phasemap.plan.component import Component

ALIGNED = 16  # numbers: pieces start at whole cache lines, because libraries round differently elsewhere
TRIED = 3  # examples shown to a module before it is trusted
SEEN = 512  # examples at which its layers on embeddings are recognized


class _Look(nn.Module):
    """A module's logits and the vectors that probes look at, from one call."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        hidden = getattr(inner, "hidden", None)
        self.own = hidden if callable(hidden) and not isinstance(hidden, nn.Module) else None
        linears = [one for one in inner.modules() if isinstance(one, nn.Linear)]
        self.last = () if self.own else tuple(linears[-1:])  # in a tuple, or it would count as a part of this module

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.own:
            return self.own(inputs).flatten(1), self.inner(inputs)
        seen: list[Tensor] = []
        hooks = [one.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for one in self.last]
        try:
            logits = self.inner(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return (seen[-1] if seen else logits).flatten(1), logits


class ModuleNetwork(Network):
    """The user's module as a stack.

    Raises:
        Fault: it cannot be built, returns the wrong shape, or is not a function of weights and inputs.
    """

    def __init__(self, chosen: Component, task: Task, own: Mapping[str, Any], precision: str):
        super().__init__(task)
        self.chosen, self.own, self.precision = chosen, own, precision
        if precision != "fp32":
            raise Fault(
                [f"precision: must be fp32 for a network of your own ({chosen.name}), got {precision!r}; use fp32"]
            )
        self.module = self._module(0)
        adopt(self.module)
        self.looking = _Look(self.module)
        self.trained = {name: one for name, one in self.module.named_parameters() if one.requires_grad}
        self.first: tuple[FirstLayer, ...] = ()
        if not self.trained:
            raise Fault([f"model: {self._where}{chosen.name} must have parameters to train, got none; add some"])
        self.width = self._tried()
        self.first = self._first_layers()

    @property
    def _where(self) -> str:
        return place(self.chosen.target)

    def _module(self, seed: int) -> nn.Module:
        """The module as one trial starts it. Whatever its layers draw comes from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module = self.chosen.target(self.task, **self.own)
            except Fault:
                raise
            except Exception as error:  # whatever a user's code may raise
                listed = ", ".join(f"{name}={value!r}" for name, value in self.own.items())
                what = f"{place_of(error)}{self.chosen.name}({listed}) raised {type(error).__name__}: {error}"
                raise Fault([f"model: {what}; correct it"]) from error
        if not isinstance(module, nn.Module):
            what = f"{self._where}{self.chosen.name} must be a torch.nn.Module, got {type(module).__name__}"
            raise Fault([f"model: {what}; derive it from one"])
        return module.float()

    def cost(self, batch: int) -> float:
        """Thrice the multiply-adds of its forward pass."""
        return 3 * batch * self._multiply_adds + 2e6

    @cached_property
    def _multiply_adds(self) -> float:
        """Of one example, in products, convolutions and attention; where there are none, one for each parameter."""
        with torch.no_grad(), FlopCounterMode(display=False) as counted:
            self._module(0)(torch.from_numpy(self.task.inputs[:TRIED]))
        return counted.get_total_flops() / 2 / TRIED or float(self.parameters)

    def _tried(self) -> int:
        """Shows the module a few examples, alone and stacked; returns the length of a hidden vector."""
        name, inputs = self.chosen.name, torch.from_numpy(self.task.inputs[:TRIED])
        self._run_plainly(inputs)
        before = {key: one.clone() for key, one in self.module.named_buffers()}
        stacked = self._stacked({key: one.detach()[None].expand(2, *one.shape) for key, one in self.trained.items()})
        try:
            with torch.no_grad(), _plain_attention():
                hidden, logits = self.look(stacked, inputs[None])
                self.logits(stacked, inputs.expand(2, *inputs.shape).contiguous())  # as in training: a batch for each
                alone = self.look(stacked, inputs[None, :1])[1]
        except Exception as error:  # whatever a user's forward may raise
            cure = "write it with tensor operations that torch.vmap knows, the same for every example and weight"
            if "randomness" in str(error):
                cure = "draw nothing in forward: dropout and noise must be 0"
            elif re.search(r"in[- ]?place|running_", str(error)):
                cure = "keep no running statistics (track_running_stats=False, or another norm)"
            what = f"{place_of(error)}{name} must run on a stack of inputs {list(inputs.shape)}"
            raise Fault([f"model: {what}, got {first_line(error)}; {cure}"]) from error
        wanted = [len(inputs), self.task.classes]
        faults = []
        if list(logits.shape[1:]) != wanted:
            got = list(logits.shape[1:])
            faults.append(f"must return logits [examples, classes] = {wanted}, got {got}; correct its last layer")
        elif hidden.shape[1] != len(inputs):
            faults.append(
                f"hidden() must return a vector for each of {len(inputs)} examples, got {list(hidden.shape[1:])}"
            )
        elif not torch.allclose(logits[:, :1], alone, rtol=1e-4, atol=1e-5):
            faults.append("must treat each example by itself, got logits that change with the batch; use no batch norm")
        if any(not torch.equal(one, before[key]) for key, one in self.module.named_buffers()):
            faults.append("must not change its buffers in forward, got running statistics; use another norm")
        other = dict(self._module(1).named_buffers()) | dict(self._frozen(self._module(1)))
        if any(not torch.equal(one, other[key]) for key, one in {**before, **dict(self._frozen(self.module))}.items()):
            faults.append(
                "must draw its buffers and frozen weights from no seed, got others for another seed; fix them"
            )
        if faults:
            raise Fault([f"model: {self._where}{name} {fault}" for fault in faults])
        return int(hidden.shape[2])

    def _run_plainly(self, inputs: Tensor) -> None:
        """As torch alone would: a fault of the module's own is reported in torch's words, not in those of a stack."""
        try:
            with torch.no_grad():
                self._module(0)(inputs)
        except Exception as error:  # whatever a user's forward may raise
            what = f"{place_of(error)}{self.chosen.name} must run on inputs {list(inputs.shape)}"
            raise Fault([f"model: {what}, got {first_line(error)}; correct its forward"]) from error

    def _first_layers(self) -> tuple[FirstLayer, ...]:
        """Those that are applied to whole tables: logits, hidden vectors and gradients stay the same."""
        if self.task.is_real:
            return ()
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.task.inputs), generator=generator)
        inputs = torch.from_numpy(self.task.inputs)[order[:SEEN]]
        weights = {name: torch.randn(2, *one.shape, generator=generator) for name, one in self.trained.items()}
        try:
            with _plain_attention():
                layers = find(self.module, self.trained, partial(self._call, self.module), inputs)
                ways = [self._slopes(weights, inputs, first) for first in ((), layers)] if layers else []
        except Exception:  # whatever a user's forward may raise at weights that no training gives
            return ()
        return layers if all((ours - own).norm() <= 1e-2 * own.norm() for own, ours in zip(*ways, strict=True)) else ()

    def _slopes(self, weights: dict[str, Tensor], inputs: Tensor, first: tuple[FirstLayer, ...]) -> tuple[Tensor, ...]:
        """Hidden vectors, logits, and the gradients of their squares' sum."""
        given = {name: (one / max((1, *one.shape)) ** 0.5).requires_grad_() for name, one in weights.items()}
        seen = self._run(self.looking, "inner.", given, inputs[None], first)
        size = sum(one.square().sum() for one in seen)
        return *seen, *torch.autograd.grad(size, list(given.values()), allow_unused=True, materialize_grads=True)

    @staticmethod
    def _frozen(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        return ((name, one) for name, one in module.named_parameters() if not one.requires_grad)

    @cached_property
    def layout(self) -> AlignedLayout:
        return AlignedLayout(tuple(self.pieces()))

    @property
    def parameters(self) -> int:
        return sum(one.numel() for one in self.trained.values())

    def pieces(self) -> list[Piece]:
        groups = self._groups()
        return [
            Piece(name, tuple(one.shape), Start("constant", 0.0), groups.get(id(one), "body"))
            for name, one in self.trained.items()
        ]

    def _groups(self) -> dict[int, Group]:
        """Of the weights (by identity) of embeddings, and of the linear layer that the module names last."""
        layers = list(self.module.modules())
        last = [one for one in layers if isinstance(one, nn.Linear)][-1:]
        tables = [one for one in layers if isinstance(one, nn.Embedding)]
        groups: dict[int, Group] = {id(one): "readout" for layer in last for one in layer.parameters()}
        return groups | {id(one): "embedding" for table in tables for one in table.parameters()}

    def initial(self, seed: int) -> Tensor:
        """[P]: the module's own start, drawn under the trial's seed; padding is 0."""
        parts = dict(self._module(seed).named_parameters())
        return self.layout.join({name: parts[name].detach() for name in self.trained})

    def named(self, row: Tensor) -> dict[str, Tensor]:
        """As the module's ``load_state_dict`` takes them, its buffers and frozen weights included."""
        trained = super().named(row)
        names = {id(one): name for name, one in self.trained.items()}  # a shared weight has several
        state = self.module.state_dict(keep_vars=True)
        return {
            name: trained[names[id(one)]].clone() if id(one) in names else one.detach().clone()
            for name, one in state.items()
        }

    def logits(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return self._run(self.module, "", weights, inputs, self._paying(weights, inputs))

    def look(self, weights: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self._run(self.looking, "inner.", weights, inputs, self._paying(weights, inputs))

    def _paying(self, weights: dict[str, Tensor], inputs: Tensor) -> tuple[FirstLayer, ...]:
        return tuple(one for one in self.first if one.pays(weights, inputs.shape[1]))

    def _run(
        self,
        module: nn.Module,
        prefix: str,
        weights: dict[str, Tensor],
        inputs: Tensor,
        first: tuple[FirstLayer, ...],
    ) -> Any:
        named = {prefix + name: one for name, one in {**weights, **known(first, weights, inputs)}.items()}
        return vmap(partial(self._call, module), in_dims=(0, _axis(inputs)))(named, _given(inputs))

    def logits_again(self, weights: dict[str, Tensor], inputs: Tensor, hidden: Tensor) -> Tensor:
        """By a whole pass: what a module does after its hidden vectors is not known apart."""
        return self.look(weights, inputs)[1]

    def _call(self, module: nn.Module, weights: dict[str, Tensor], inputs: Tensor) -> Any:
        return functional_call(module, weights, (inputs,))

    def _stacked(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: one.contiguous() for name, one in weights.items()}


class AlignedLayout(Layout):
    """As ``Layout``, each piece at a whole cache line."""

    def room(self, piece: Piece) -> int:
        return _padded(piece.size)

    def sides(self, matrix: Piece) -> tuple[int, int]:
        """As torch stores it: [out, in]."""
        outputs, inputs = matrix.shape
        return inputs, outputs

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([_padded(piece.size) for piece in self.pieces], dim=1)
        return {
            piece.name: part[:, : piece.size].view(-1, *piece.shape)
            for piece, part in zip(self.pieces, parts, strict=True)
        }

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """[P] from one trial's tensors."""
        rows = [
            nn.functional.pad(parts[piece.name].flatten(), (0, _padded(piece.size) - piece.size))
            for piece in self.pieces
        ]
        return torch.cat(rows)


def _padded(size: int) -> int:
    return math.ceil(size / ALIGNED) * ALIGNED


def _axis(inputs: Tensor) -> int | None:
    return None if len(inputs) == 1 else 0


def _given(inputs: Tensor) -> Tensor:
    return inputs[0] if len(inputs) == 1 else inputs


@contextmanager
def _plain_attention() -> Iterator[None]:
    """torch's fused encoder layer knows no vmap."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
