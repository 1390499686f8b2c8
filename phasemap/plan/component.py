"""A task, a network, an optimizer, a probe or a phase rule, built in or the user's, as a component.

A component is a function or a class whose parameters are fields of a trial. Ours are the public functions and classes
of ``tasks/``, ``networks/`` and ``optimizers/``, listed by the names of the files, so that adding one is adding a file.
The user's stand in the space file, in a notebook or in a module that a dotted name (``my_package.nets:Net``) leads to;
the source of theirs is part of a trial's identity, and they travel to the workers as bytes.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from phasemap.fields import Fault, Field, read_fields
from phasemap.optimizers.optimizer import Optimizer
from phasemap.words import did_you_mean

if TYPE_CHECKING:
    from phasemap.networks.network import Network
    from phasemap.tasks.task import Task

FOLDERS = {"task": "phasemap.tasks", "model": "phasemap.networks", "optimizer": "phasemap.optimizers"}
GIVEN = {"task": (), "model": ("self", "task"), "optimizer": ("self",)}  # parameters that are no fields
WORDS = {
    "task": "a function that returns a Task",
    "model": "a torch.nn.Module",
    "optimizer": "a phasemap.optimizers.optimizer.Optimizer",
    "probe": "a function of a view",
    "phases": "a function of curves and outcomes",
}


@dataclass(frozen=True)
class Component:
    """``code`` is the fingerprint of its source, empty for a built-in one. ``target`` is absent where only a record
    names it."""

    kind: str
    name: str
    code: str = ""
    fields: tuple[Field, ...] = field(default=(), compare=False, repr=False)
    target: Any = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.code:
            return (built_in, (self.kind, self.name)) if self.target else (Component, (self.kind, self.name))
        return _unpacked, (self.kind, self.name, self.code, self._packed())

    def _packed(self) -> bytes:
        from phasemap.plan.source import pack

        content = _PACKED[self][1] if self in _PACKED else pack(self.target)
        _PACKED[self] = self, content  # the latest of equal code: a cell may have been run again
        return content

    def check_travels(self) -> None:
        """Raises Fault if it cannot be carried to another process."""
        if self.code:
            self._packed()


_PACKED: dict[Component, tuple[Component, bytes]] = {}  # what has left this process or come to it


def _unpacked(kind: str, name: str, code: str, content: bytes) -> Component:
    """What came back is what left: cloudpickle would overwrite the methods of the classes that it left from, and their
    source could not be read again."""
    from phasemap.plan.source import unpack

    component = Component(kind, name, code)
    if component not in _PACKED:
        target = unpack(content)
        component = Component(kind, name, code, _fields(kind, target), target)
        _PACKED[component] = component, content  # it may travel on
    return _PACKED[component][0]


def component(kind: str, value: Any) -> Component:
    """The component that a space's value means: the name of a built-in one, a dotted name, or the thing itself.

    Raises:
        Fault: no such thing, or its parameters cannot be fields.
    """
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        return _imported(kind, value) if ":" in value else built_in(kind, value)
    if not (inspect.isclass(value) or isinstance(value, FunctionType)):
        got = f"an object of class {type(value).__name__}"
        raise Fault([f"{kind}: must be a name, or {WORDS[kind]}, got {got}; write the class or function itself"])
    return users(kind, value.__name__, value)


def users(kind: str, name: str, target: Any) -> Component:
    """The user's own class or function as a component."""
    from phasemap.plan.source import fingerprint, place

    check_name(kind, name, place(target))
    return Component(kind, name, fingerprint(target), _fields(kind, target), target)


def check_name(kind: str, name: str, where: str) -> None:
    """Raises Fault where a component of the user's has the name of a built-in one."""
    if name in names(kind):
        cure = "rename yours, so that records tell them apart"
        raise Fault([f"{kind}: {where}{name} is the name of a built-in one; {cure}"])


def _fields(kind: str, target: Any) -> tuple[Field, ...]:
    if kind not in GIVEN:
        return ()
    try:
        from phasemap.plan.source import place

        where = "" if target.__module__.startswith("phasemap.") else place(target)
        return read_fields(target, GIVEN[kind], where)
    except (ValueError, NameError, TypeError) as error:
        if isinstance(error, Fault):
            raise
        raise Fault(
            [f"{kind}: the parameters of {target.__name__} must be readable, got {error}; correct them"]
        ) from error


def _imported(kind: str, name: str) -> Component:
    where, _, inner = name.partition(":")
    try:
        target = getattr(importlib.import_module(where), inner)
    except (ImportError, AttributeError) as error:
        raise Fault([f"{kind}: {name} must be found, got {error}; write package.module:Name"]) from error
    return users(kind, name, target)


@lru_cache(maxsize=256)
def built_in(kind: str, name: str) -> Component:
    """Ours of that name.

    Raises:
        Fault: there is none.
    """
    target = _ours(kind).get(name)
    if target is None:
        near = did_you_mean(name, names(kind))
        raise Fault([f"{kind}: must be one of {', '.join(names(kind))}, got {name!r}; choose one of these{near}"])
    return Component(kind, name, "", _fields(kind, target), target)


def names(kind: str) -> tuple[str, ...]:
    """Names of all built-in components of a kind."""
    return tuple(_ours(kind)) if kind in FOLDERS else ()


@cache
def _ours(kind: str) -> Mapping[str, Callable[..., Any]]:
    """What each file of the folder lists in ``__all__``: tasks by their names, a network or optimizer by its file's."""
    package = importlib.import_module(FOLDERS[kind])
    components: dict[str, Callable[..., Any]] = {}
    for file in sorted(one.name for one in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{FOLDERS[kind]}.{file}") if _announces(package, file) else None
        for name in getattr(module, "__all__", ()):
            components[name if kind == "task" else file] = getattr(module, name)
    return components


def _announces(package: Any, file: str) -> bool:
    """Whether a file lists components; read as text, because others of the folder load torch."""
    spec = importlib.util.find_spec(f"{package.__name__}.{file}")
    return spec is not None and "\n__all__ = " in Path(str(spec.origin)).read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def build_task(chosen: Component, own: tuple[tuple[str, Any], ...]) -> Task:
    """The examples of a task with these parameters; shared, and never written to.

    Raises:
        Fault: it cannot be made with them.
    """
    task = _built(chosen, dict(own))
    from phasemap.tasks.task import Task

    if not isinstance(task, Task):
        raise Fault([f"task: {chosen.name} must return a phasemap.Task, got {type(task).__name__}; return one"])
    return task


def load_task(name: str, **own: Any) -> Task:
    """The examples of one of our tasks; parameters that are left out have their defaults."""
    chosen = built_in("task", name)
    return build_task(chosen, tuple((field.name, own.get(field.name, field.default)) for field in chosen.fields))


@lru_cache(maxsize=64)
def build_network(chosen: Component, task: Task, own: tuple[tuple[str, Any], ...], precision: str) -> Network:
    """The network of one shape for a task.

    Raises:
        Fault: it cannot be made so.
    """
    from phasemap.networks.network import Network

    if inspect.isclass(chosen.target) and issubclass(chosen.target, Network):
        network: Network = _built(chosen, {"task": task, **dict(own)})
        network.precision = precision
        return network
    module = importlib.import_module("phasemap.networks.module")
    stacked: Network = module.ModuleNetwork(chosen, task, dict(own), precision)
    return stacked


@lru_cache(maxsize=64)
def build_optimizer(chosen: Component, own: tuple[tuple[str, Any], ...]) -> Optimizer:
    """The optimizer with these parameters.

    Raises:
        Fault: it cannot be made with them.
    """
    optimizer = _built(chosen, dict(own))
    if not isinstance(optimizer, Optimizer):
        raise Fault(
            [
                f"optimizer: {chosen.name} must be a phasemap.optimizers.optimizer.Optimizer, got "
                f"{type(optimizer).__name__}; derive it from that"
            ]
        )
    return optimizer


def _built(chosen: Component, own: Mapping[str, Any]) -> Any:
    if chosen.target is None:
        raise Fault([f"{chosen.kind}: {chosen.name} is recorded without its code; run it from its space file"])
    try:
        return chosen.target(**own)
    except Fault:
        raise
    except Exception as error:  # whatever a user's code may raise
        from phasemap.plan.source import place_of

        called = f"{chosen.name}({', '.join(f'{name}={value!r}' for name, value in own.items() if name != 'task')})"
        what = f"raised {type(error).__name__}: {error}"
        raise Fault([f"{chosen.kind}: {place_of(error)}{called} {what}; correct it"]) from error
