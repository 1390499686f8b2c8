"""docs/reach-ins.md: every private name of a library is listed there, is where it was, and can be done without."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MethodType

import mlflow
import pytest
import torch
from small import MLP

from phasemap.networks import arithmetic
from phasemap.numerics import matmul
from phasemap.plan.component import component
from phasemap.record import client, mlflow_views, reader
from phasemap.training.step import compiler_is_known
from phasemap.training.train import begin

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reach-ins.md").read_text()
FOREIGN = ("mlflow.utils", "mlflow.tracking.request_header", "mlflow.store")  # not private by name, and not promised
LIBRARIES = ("torch", "ray", "mlflow", "optuna", "pandas", "numpy", "scipy", "sqlalchemy", "matplotlib")


def listed() -> set[tuple[str, str]]:
    """(file, function) of each row of the page."""
    rows, file = set(), ""
    for function, where in re.findall(r"^\| `(\w+)` in (the same file|`[\w/.]+`)", PAGE, re.M):
        file = file if where == "the same file" else where.strip("`")
        rows.add((file, function))
    return rows


def private(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(function or class of the file, name) of each private name that is read of a library."""
    for top in tree.body:
        for node in ast.walk(top):
            where = getattr(top, "name", "the file itself")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [one.name for one in node.names]
                sources = [f"{node.module}.{name}" for name in names] if isinstance(node, ast.ImportFrom) else names
                for name in sources:
                    if name.split(".")[0] in LIBRARIES and (re.search(r"\._[a-z]", name) or name.startswith(FOREIGN)):
                        yield where, name
            elif isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-zA-Z]\w*", node.attr):
                base = node.value
                while isinstance(base, ast.Attribute):
                    base = base.value
                if isinstance(base, ast.Name) and base.id in LIBRARIES:
                    yield where, ast.unparse(node)


def test_every_private_name_is_in_a_function_of_the_page():
    known, used = listed(), set()
    assert len(known) == 14
    for file in [*(ROOT / "phasemap").rglob("*.py"), *(ROOT / "analysis").glob("*.py")]:
        for function, name in private(ast.parse(file.read_text())):
            place = str(file.relative_to(ROOT)), function
            assert place in known, f"{name} is used in {place}: docs/reach-ins.md must list it"
            used.add(place)
    assert len(used) == 11  # the others are texts: an operator's name, SQL, the words of MLflow's pages


@pytest.mark.parametrize("library", ["torch", "ray", "mlflow"])
def test_the_page_was_read_from_the_version_that_is_pinned(library):
    pinned = re.search(rf"^{library}==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    assert f"{library} {pinned[1]}" in PAGE, f"{library} is another version: read the page's names again"
    assert version(library).split("+")[0] == pinned[1]


# Each is where it was. A name in the failure is the one that has moved.


def test_torch_has_what_a_rule_for_a_stack_needs():
    assert arithmetic._vmap() is not None


def test_torch_has_what_compiled_steps_need():
    assert compiler_is_known()


def test_torch_has_the_linear_layer_of_onednn():
    assert callable(matmul._onednn_linear())


def test_ray_has_what_a_cluster_of_ours_needs():
    from ray._private import ray_constants, services, worker

    from phasemap.scheduling import cluster

    assert callable(worker.print_to_stdstream)
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert issubclass(services.ConsolePopen, subprocess.Popen)
    assert cluster._read_token()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Address of a database with a run of a curve of three points, one of which was logged twice."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    made = client.connect(uri)
    run = made.create_run(made.create_experiment("one")).info.run_id
    for step, value in ((0, 0.1), (10, 0.2), (10, 0.3), (20, float("nan"))):
        made.log_metric(
            run, "test_accuracy", value, step=step, timestamp=1_000 + round(10 * value if value == value else 9)
        )
    return uri, run


def test_mlflow_asks_for_our_headers_and_has_its_table_of_metrics(store):
    from mlflow.tracking.request_header.registry import _request_header_provider_registry as providers

    assert any(isinstance(one, client.CloseConnections) for one in providers)
    uri, run = store
    points = reader._sql_points(uri, [run], ["test_accuracy"])
    assert points is not None
    assert len(points) == 4


def test_mlflows_pages_know_every_word_of_a_saved_view():
    pages = "".join(one.read_text() for one in Path(mlflow.__file__).parent.glob("server/js/build/static/js/*.js"))
    assert "mlflow.sharedViewState" in pages
    charts = mlflow_views.sections(["dimension", "stride", "sharpness"])
    state = mlflow_views._state(("width",), charts, "tags.phase = 'grokking'", mlflow_views.ORDER)
    assert [word for word in words(state) if word not in pages] == []


def words(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from () if re.search(r"[`/]", key) else (key,)  # a column's name is ours
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)


# Each is taken away: the product works on.


@pytest.fixture
def gone(monkeypatch):
    """Takes modules away from phasemap's own imports."""

    def take(*modules: str) -> None:
        found = builtins.__import__

        def importing(name, given=None, own=None, names=(), level=0):
            asked = {name, *(f"{name}.{one}" for one in names or ())}
            if (given or {}).get("__name__", "").startswith("phasemap.") and asked & set(modules):
                raise ImportError(f"{name} has moved")
            return found(name, given, own, names, level)

        monkeypatch.setattr(builtins, "__import__", importing)

    return take


class Net(torch.nn.Module):
    def __init__(self, task, width: int = 16):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(width, task.classes)

    def forward(self, tokens):
        return self.head(self.table(tokens).sum(1).relu())


def test_without_torchs_vmap_names_a_module_trains_by_torchs_own_layers(monkeypatch):
    from phasemap.networks.module import ModuleNetwork

    task = MLP.shape.examples
    build = partial(ModuleNetwork, component("model", Net), task, {"width": 16}, "fp32")
    usual = build()
    monkeypatch.delattr(torch._C._functorch, "_unwrap_batched")
    arithmetic._vmap.cache_clear()
    try:
        plain = build()
    finally:
        arithmetic._vmap.cache_clear()
    ours, theirs = (one.module.get_submodule("head") for one in (usual, plain))
    assert ours.forward == MethodType(arithmetic._linear, ours)
    assert theirs.forward == MethodType(torch.nn.Linear.forward, theirs)
    flat = torch.stack([usual.initial(seed) for seed in range(3)])
    inputs = torch.from_numpy(task.inputs)[None]
    both = [one.logits(one.layout.split(flat), inputs) for one in (usual, plain)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("name", ["mark_dynamic", "exc"])
def test_without_a_name_of_torchs_compiler_steps_are_the_uncompiled_ones(monkeypatch, name):
    eager = begin((MLP,))
    eager.advance(10)
    monkeypatch.delattr(torch._dynamo, name)
    training = begin((MLP,), compiled=True)
    training.advance(10)
    assert not training.compiled
    assert torch.equal(training.flat, eager.flat)


def test_without_onednns_layer_a_machine_chooses_another_product(monkeypatch):
    def moved():
        raise AttributeError("_linear_pointwise has moved")

    monkeypatch.setattr(matmul, "_onednn_linear", moved)
    assert matmul.ranked({name: matmul.CANDIDATES[name] for name in ("onednn", "openblas")}) == ["openblas"]


@pytest.mark.long
def test_without_rays_names_a_cluster_of_ours_runs(gone):
    import ray

    from phasemap.scheduling import cluster

    gone("ray._private.worker", "ray._private.ray_constants", "ray._private.services", "ray._raylet")
    assert not cluster._read_token()
    cluster.connect(None, cluster.Resources(1, 0))
    try:
        assert ray.get(ray.remote(lambda: 7).remote(), timeout=60) == 7
    finally:
        cluster.leave()


def test_without_mlflows_helpers_a_server_that_is_away_is_still_named(gone, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone("mlflow.utils.credentials", "mlflow.tracking.request_header.registry")
    client._close_connections()
    with pytest.raises(ValueError, match=r"tracking store http://127\.0\.0\.1:9: must answer, got"):
        client.connect("http://127.0.0.1:9")


def test_without_mlflows_table_curves_are_asked_for_run_by_run(store, monkeypatch):
    uri, run = store
    usual = reader.load_curves([run], uri, ["test_accuracy"])
    assert usual.step.tolist() == [0, 10, 20]
    monkeypatch.setattr(reader, "POINT", (*reader.POINT, "moved"))
    assert reader._sql_points(uri, [run], ["test_accuracy"]) is None
    assert reader.load_curves([run], uri, ["test_accuracy"]).equals(usual)
