"""The source of a user's classes and functions: what it is, where it stands, and how it travels.

A fingerprint changes when code changes that a component can reach, and only then: comments, layout and docstrings do
not count. What it can reach: its own source; the functions, classes, constants and arrays of the user's that it names,
and theirs; every module of the user's that it imports, whole. Objects of other kinds count by their type alone.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import io
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np

import phasemap
from phasemap.fields import Fault

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = tuple(str(Path(place).resolve()) for place in phasemap.__path__[:1])
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def place(target: Any) -> str:
    """ "nets.py line 12: ", or nothing where it is not known."""
    code = _code(target)
    return f"{Path(code.co_filename).name} line {code.co_firstlineno}: " if code else ""


def fingerprint(target: Any) -> str:
    """16 hex digits of the code that a class or function of the user's can reach.

    Raises:
        Fault: its source cannot be read.
    """
    pieces = sorted(_Reader().read(target))
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:16]


def pack(target: Any) -> bytes:
    """The class or function as bytes that another machine can read without the files it was written in.

    Raises:
        Fault: something it holds cannot be carried.
    """
    reader = _Reader()
    list(reader.read(target))
    home = sys.modules.get(target.__module__)
    by_value = [one for one in {*reader.modules, home} if one is not None and one.__name__ != "__main__"]
    by_value = [one for one in by_value if is_users(one) and one.__name__ in sys.modules]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        buffer = io.BytesIO()
        _Pickler(buffer).dump((target, {one.__name__: one for one in reader.modules}))
        return buffer.getvalue()
    except Exception as error:  # pickling calls whatever the object wants
        raise Fault(
            [
                f"{place(target)}{target.__name__} must be picklable, to be sent to other processes, got "
                f"{type(error).__name__}: {error}; create what is not inside the function, instead of beside it"
            ]
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def unpack(content: bytes) -> Any:
    """What ``pack`` packed. Modules that it imports while it runs are put where an import looks for them."""
    target, modules = cloudpickle.loads(content)
    for name, module in modules.items():
        sys.modules.setdefault(name, module)
    return target


def is_users(module: ModuleType) -> bool:
    """Whether a module is the user's own file: not Python's, not installed, not ours."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__"
    return not str(Path(file).resolve()).startswith((*_INSTALLED, *_OURS))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Takes modules of a type of their own (torch.classes is one) by name: cloudpickle does not know them, and meets
    them wherever a function mentions an attribute of their name."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
            return importlib.import_module, (obj.__name__,)
        return super().reducer_override(obj)


class _Reader:
    """Walks over all that a target reaches, each thing once."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.modules: list[ModuleType] = []

    def read(self, target: Any) -> Iterator[str]:
        """A text for everything reached."""
        if id(target) in self.seen:
            return
        self.seen.add(id(target))
        node = _definition(target)
        yield f"{target.__qualname__} {ast.unparse(_bare(node))}"
        known = _surroundings(target)
        for name in sorted({one.id for one in ast.walk(node) if isinstance(one, ast.Name)} & known.keys()):
            yield from self._value(name, known[name], target.__module__)
        for name in _imported(node):
            module = _import(name)
            if module is not None:
                yield from self._module(module)

    def _value(self, name: str, value: Any, home: str) -> Iterator[str]:
        if isinstance(value, ModuleType):
            yield from self._module(value)
        elif inspect.isclass(value) or isinstance(value, FunctionType):
            module = sys.modules.get(value.__module__)
            if module is None or is_users(module):  # None: a space file that is no module of its own
                yield from self.read(value)
                if value.__module__ != home and module is not None:
                    yield from self._module(module)
        else:
            yield f"{name} {_text(value)}"

    def _module(self, module: ModuleType) -> Iterator[str]:
        if id(module) in self.seen or not is_users(module) or module.__name__ == "__main__":
            return
        self.seen.add(id(module))
        self.modules.append(module)
        tree = ast.parse(Path(str(module.__file__)).read_bytes())
        yield f"{module.__name__} {ast.unparse(_bare(tree))}"
        for name in _imported(tree):
            inner = _import(name)
            if inner is not None:
                yield from self._module(inner)


def _text(value: Any) -> str:
    """A constant's value; of an array its bytes; of anything else the type."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {[_text(one) for one in value]}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(_text(one) for one in value)}"
    if isinstance(value, dict):
        return f"dict {[(_text(key), _text(one)) for key, one in value.items()]}"
    return repr(value) if isinstance(value, _PLAIN) else type(value).__qualname__


def _code(target: Any) -> Any:
    """The code object of a function, or of the first method of a class."""
    if isinstance(target, FunctionType):
        return inspect.unwrap(target).__code__
    methods = [one for one in vars(target).values() if isinstance(one, FunctionType)]
    return methods[0].__code__ if methods else None


def _definition(target: Any) -> ast.AST:
    """The statement that defines a function or class, from a file or a notebook's cell."""
    code = _code(target)
    file = code.co_filename if code else str(inspect.getsourcefile(target))
    linecache.checkcache(file)
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a notebook's cell with magics
        tree = ast.parse(inspect.getsource(target))
    wanted = ast.ClassDef if inspect.isclass(target) else ast.FunctionDef
    same = [one for one in ast.walk(tree) if isinstance(one, wanted) and one.name == target.__name__]
    if not same:
        raise Fault(
            [f"{place(target)}{target.__name__}: its source must be readable, got none; define it in a file or a cell"]
        )
    line = code.co_firstlineno if code else 0
    return min(same, key=lambda one: abs(one.lineno - line))


def _surroundings(target: Any) -> dict[str, Any]:
    """Names that a function or class can see: its module's and those it encloses."""
    functions = [target] if isinstance(target, FunctionType) else vars(target).values()
    known: dict[str, Any] = dict(vars(sys.modules[target.__module__])) if target.__module__ in sys.modules else {}
    for one in functions:
        if isinstance(one, FunctionType):
            known |= one.__globals__
            cells = zip(one.__code__.co_freevars, one.__closure__ or (), strict=True)
            known |= {name: cell.cell_contents for name, cell in cells if name != "__class__"}
    return known


def _imported(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from (name.name for name in one.names)
        elif isinstance(one, ast.ImportFrom) and one.module and not one.level:
            yield one.module


def _import(name: str) -> ModuleType | None:
    """The module of this name if it is the user's; others are not loaded for it."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or spec.origin.startswith((*_INSTALLED, *_OURS)) or spec.origin == "built-in":
        return None
    return importlib.import_module(name)


class _Bare(ast.NodeTransformer):
    """Takes docstrings out."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        return node


def _bare(node: ast.AST) -> ast.AST:
    return ast.fix_missing_locations(_Bare().visit(node))


def place_of(error: BaseException) -> str:
    """ "nets.py line 12: " of the innermost line of the user's that an error passed through, or nothing."""
    lines = [
        one
        for one in traceback.extract_tb(error.__traceback__)
        if not one.filename.startswith(("<frozen", *_INSTALLED, *_OURS))
    ]
    return f"{Path(lines[-1].filename).name} line {lines[-1].lineno}: " if lines else ""
