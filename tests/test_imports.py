"""Imports go one way, and each outside library has its door. Read off the source, nothing is run."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("phasemap", "analysis")
    for file in sorted((ROOT / package).rglob("*.py"))
}
DOORS = {  # library -> the modules that may import it
    "ray": {"phasemap.scheduling.cluster", "phasemap.scheduling.ray_tune"},
    "mlflow": {f"phasemap.record.{room}" for room in ("client", "claim", "writer", "live", "reader")},
    "optuna": {"phasemap.maps.boundary_sampler", "phasemap.maps.explorer"},
}
TENSORS = {
    "numerics",
    "networks",
    "training",
    "probes",
    "scheduling.worker",
}  # folders, or files
DOOR = "phasemap.command.figures"
LIGHT = {"plan.trial", "plan.space", "plan.stack", "tasks.task", "command.terminal", "sweep"}  # a dry run's rooms


def _is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _source(module: str, node: ast.ImportFrom) -> str:
    """The module a ``from`` names, from the root."""
    if not node.level:
        return node.module or ""
    package = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) + 1 - node.level]
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def imports(module: str, lazily: bool = True) -> frozenset[str]:
    """Full names a module imports; with ``lazily`` those inside functions too, but none for types alone."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{_source(module, node)}.{name.name}" for name in node.names}
            elif _is_for_types_alone(node):
                continue
            elif lazily or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                waiting.append(node)
    return frozenset(found)


def libraries(module: str, lazily: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(module, lazily)}


def rooms(module: str, lazily: bool = True) -> set[str]:
    """Modules of ours that it imports."""
    found = set()
    for name in imports(module, lazily):
        while name and name not in FILES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", module}
    return found - {"phasemap", "analysis"}


def reached(module: str, lazily: bool = True) -> set[str]:
    """Everything of ours that comes with it."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for room in rooms(waiting.pop(), lazily) - found:
            found.add(room)
            waiting.append(room)
    return found


@pytest.mark.parametrize("library", DOORS)
def test_an_outside_library_has_its_doors(library):
    assert {module for module in FILES if library in libraries(module)} <= DOORS[library]


def test_tensors_stay_in_the_rooms_of_training():
    allowed = tuple(f"phasemap.{name}" for name in TENSORS)
    assert not [m for m in FILES if "torch" in libraries(m) and not m.startswith(allowed)]


def test_figures_are_drawn_in_analysis_alone():
    drawing = {"matplotlib", "plotly", "pandas", "lifelines"}
    found = [module for module in FILES if module.startswith("phasemap") and libraries(module) & drawing]
    assert found == ["phasemap.record.reader"]
    assert libraries("phasemap.record.reader") & drawing == {"pandas"}


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_what_a_dry_run_imports_is_light(module):
    module = f"phasemap.{module}"
    for room in {module} | reached(module, lazily=False):
        heavy = {"torch", "ray", "mlflow", "optuna", "pandas", "matplotlib"}
        assert not libraries(room, lazily=False) & heavy, room


@pytest.mark.parametrize("module", FILES)
def test_no_room_reaches_itself(module):
    assert module not in reached(module)


def test_training_knows_neither_the_cluster_nor_the_record():
    above = ("scheduling", "record", "sweep", "command", "maps", "plan.space", "plan.stack")
    below = [m for m in FILES if m.startswith(("phasemap.training.", "phasemap.networks.", "phasemap.numerics."))]
    for module in below:
        assert not [room for room in reached(module) if room.removeprefix("phasemap.").startswith(above)], module


def test_a_worker_knows_neither_the_record_nor_the_figures():
    found = reached("phasemap.scheduling.worker")
    assert not found & {"phasemap.record.writer", "phasemap.sweep", "phasemap.scheduling.ray_tune"}
    assert not [module for module in found if module.startswith("analysis")]


def test_one_room_opens_stores():
    """Only there are passwords hidden, outages told from faults, and databases locked."""
    for module in FILES:
        if module != "phasemap.record.client":
            text = FILES[module].read_text()
            assert not [name for name in ("MlflowClient(", "create_engine(") if name in text], module


def test_the_record_holds_no_tensors():
    for room in {"phasemap.record.writer"} | reached("phasemap.record.writer"):
        assert not libraries(room) & {"torch", "ray"}, room


@pytest.mark.parametrize("module", FILES)
def test_figures_are_reached_by_one_name_and_at_one_door(module):
    """``analysis`` may be the user's own package, and in a wheel it is phasemap's: no import from the root names it."""
    nodes = list(ast.walk(ast.parse(FILES[module].read_text())))
    absolute = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    absolute += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    assert not [name for name in absolute if name.startswith(("analysis", "phasemap.analysis"))]
    if module.startswith("phasemap"):
        assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level], "import from the root"
        names = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        named = [name for name in names if re.fullmatch(r"(phasemap\.)?analysis(\.\w*)*", name)]
        assert named == (["phasemap.analysis"] if module == DOOR else [])


def test_the_door_to_the_figures_is_light():
    assert not rooms(DOOR)
    assert DOOR in rooms("phasemap.command.execution") & rooms("phasemap.command.refresh")


def test_figures_reach_no_tensors_and_no_cluster():
    figures = [module for module in FILES if module.startswith("analysis")]
    assert "analysis.style" in rooms("analysis.phase_diagram")
    for module in figures:
        for room in {module} | reached(module):
            assert not libraries(room) & {"torch", "ray"}, f"{module} reaches {room}"


def test_the_bottom_rooms_import_nothing_of_ours():
    assert rooms("phasemap.probes", lazily=False) == set()  # reads its files, imports none
    assert rooms("phasemap.words") == set()
    assert rooms("phasemap.fields") == {"phasemap.words"}
    assert rooms("phasemap.tasks.task") == {"phasemap.fields"}
    assert rooms("phasemap.numerics.random_streams") == rooms("phasemap.numerics.processor") == set()
    assert rooms("phasemap.numerics.matmul") == {"phasemap.numerics.processor"}
