"""The Ray that a sweep starts: who can reach it, what its workers see, which cores it counts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from phasemap.plan.stack import Slots
from phasemap.scheduling import cluster

OWN = """
    import os, subprocess, sys
    from pathlib import Path
    from phasemap.scheduling import cluster
    cluster.connect(None, cluster.Resources(cpus=1, gpus=0))
    ray = cluster.ray

    @ray.remote
    class Actor:
        def call(self, function):
            return function()

    actor = Actor.remote()
"""


def program(code: str, folder: Path, **environment: str) -> subprocess.Popen:
    """A Python program that has started a cluster."""
    text = textwrap.dedent(OWN) + textwrap.dedent(code)
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    known.pop("RAY_ADDRESS", None)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], cwd=folder, env=known, stdin=pipe, stdout=pipe, text=True)


def output(code: str, folder: Path, **environment: str) -> str:
    process = program(code, folder, **environment)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return told


ASK = """
    from ray._raylet import GcsClient
    print(len(GcsClient({address!r}).internal_kv_keys(b"", namespace=None, timeout=10)), "keys")
"""


def asked(address: str, folder: Path, **token: str) -> str:
    """What a client of another folder with this token is answered."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = textwrap.dedent(ASK.format(address=address))
    client = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=bare | token, capture_output=True, text=True, timeout=60
    )
    return client.stdout + client.stderr


def test_nothing_listens_beyond_this_machine_and_only_the_token_opens(tmp_path):
    process = program(
        """
        ray.get(actor.call.remote(os.getpid))
        print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
        sys.stdin.read(1)
        """,
        tmp_path,
        RAY_AUTH_MODE="disabled",  # not for a cluster of ours
    )
    try:
        assert process.stdout is not None
        address, token = process.stdout.readline().split()
        session = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        ours, rows = {process.pid}, [tuple(map(int, line.split())) for line in session.splitlines()]
        for _ in rows:
            ours |= {pid for pid, parent in rows if parent in ours}
        lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
        listening = [line.split()[3] for line in lines if set(map(int, re.findall(r"pid=(\d+)", line))) & ours]
        assert len(listening) >= 4, lines
        assert not [place for place in listening if "127.0.0.1" not in place]
        assert " keys" in asked(address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
        for wrong in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}):
            refused = asked(address, tmp_path, **wrong)
            assert " keys" not in refused
            assert re.search("Unauthenticated|AuthenticationError|InvalidAuthToken", refused), refused
    finally:
        process.kill()
        process.wait()


SHUT_DOWN_SLOWLY = """
    import gc, threading, time

    worker = ray._private.worker.global_worker
    over = threading.Event()

    class Slow:
        'Ray core that comes back from its shutdown a second later, as where another thread holds the lock of Python.'

        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def shutdown_driver(self):
            self.real.shutdown_driver()
            over.set()
            time.sleep(1)

    def cycle():
        made = [ray.put(1)]
        made.append(made)
        return made

    def collects():
        over.wait()
        held.clear()
        made = [[] for _ in range(300_000)]

    worker.core_worker = Slow(worker.core_worker)
    held = {"garbage once let go": cycle()}
    cycle()  # garbage from now on
    other = threading.Thread(target=collects)
    other.start()
    cluster.leave()
    other.join()
    print("left", gc.isenabled())
"""


@pytest.mark.long
def test_garbage_of_another_thread_does_not_end_the_process_while_ray_shuts_down(tmp_path):
    assert output(SHUT_DOWN_SLOWLY, tmp_path) == "left True\n"


@pytest.mark.long
def test_each_start_has_a_token_of_its_own_and_leaves_the_users_as_it_was(tmp_path):
    told = output(
        """
        first = os.environ["RAY_AUTH_TOKEN"]
        cluster.leave()
        print(os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"])
        cluster.connect(None, cluster.Resources(cpus=1, gpus=0))
        actor = Actor.remote()
        print(ray.get(actor.call.remote(lambda: 7)), first == os.environ["RAY_AUTH_TOKEN"])
        cluster.leave()
        """,
        tmp_path,
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN="users",
    )
    assert told.splitlines() == ["token users", "7 False"]


def test_workers_keep_the_users_import_path_behind_ours_and_a_long_temporary_folder_is_no_fault(tmp_path):
    long = tmp_path / ("long" * 20)
    long.mkdir()
    root = str(Path(__file__).parents[2])
    told = output(
        """
        print(ray.get(actor.call.remote(lambda: os.environ["PYTHONPATH"])))
        cluster.leave()
        """,
        tmp_path,
        PYTHONPATH=f"{root}{os.pathsep}{tmp_path}/modules",
        TMPDIR=str(long),
    )
    assert told.strip() == os.pathsep.join([root, root, f"{tmp_path}/modules"])


@pytest.mark.long
def test_a_worker_of_two_cores_has_two_threads_that_yield_where_they_wait(tmp_path):
    told = output(
        """
        cluster.leave()
        cluster.connect(None, cluster.Resources(cpus=2, gpus=0))
        actor = Actor.remote()
        for name in ("NUM_THREADS", "WAIT_POLICY"):
            print(ray.get(actor.call.remote(lambda: os.environ[f"OMP_{name}"])))
        cluster.leave()
        """,
        tmp_path,
    )
    assert told == "2\npassive\n"


@pytest.mark.long
def test_only_lent_cores_are_slots(tmp_path):
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from phasemap.scheduling import cores; print(cores.lent())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    told = output(
        f"""
        cluster.leave()
        os.sched_setaffinity(0, {{{one}}})
        cluster.connect(None, cluster.Resources(cpus=1, gpus=0))
        print(cluster.count_slots(cluster.Resources(cpus=1, gpus=0), "cpu").cpu)
        cluster.leave()
        """,
        tmp_path,
    )
    assert told == "1\n"


NODE = {"CPU": 8.0, "memory": 32.0}


@pytest.mark.parametrize(
    ("nodes", "wanted", "device", "slots"),
    [
        ([NODE, NODE], (1, 1), "auto", Slots(16, {}, 4.0)),
        ([NODE | {"GPU": 2.0}], (1, 0.4), "auto", Slots(4, {"cuda": 4}, 4.0)),  # two on each GPU, not five in all
        ([NODE | {"GPU": 1.0}] * 2, (1, 2), "auto", Slots(16, {}, 4.0)),  # no node has two GPUs
        ([NODE | {"GPU": 4.0}], (1, 2), "cuda", Slots(0, {"cuda": 2}, 4.0)),
        ([NODE | {"GPU": 16.0}, NODE], (1, 1), "cuda", Slots(0, {"cuda": 8}, 4.0)),  # a stack takes a core as well
        ([NODE | {"GPU": 1.0}, NODE], (3, 1), "auto", Slots(3, {"cuda": 1}, 12.0)),  # cores of two nodes do not add up
        ([NODE | {"GPU": 1.0}, {"memory": 1.0}], (1, 1), "cpu", Slots(8, {}, 4.0)),
        (
            [NODE | {"GPU": 1.0, "accelerator_type:H100": 1.0}, NODE | {"GPU": 2.0, "accelerator_type:T4": 1.0}],
            (4, 1),
            "auto",
            Slots(1, {"cuda H100": 1, "cuda T4": 2}, 16.0),
        ),
        ([NODE | {"GPU": 1.0, "accelerator_type:H100": 1.0}], (8, 1), "auto", Slots(0, {"cuda H100": 1}, 32.0)),
    ],
)
def test_a_stack_lies_on_one_node_and_each_kind_of_gpu_has_slots_of_its_own(nodes, wanted, device, slots):
    assert cluster.slots_of(nodes, cluster.Resources(*wanted), device) == slots


def test_a_stack_is_placed_on_the_kind_of_gpu_it_was_cut_for():
    wanted = cluster.Resources(2, 0.5)
    assert cluster.stack_resources(wanted, "cpu") == {"CPU": 2}
    assert cluster.stack_resources(wanted, "cuda") == {"CPU": 2, "GPU": 0.5}
    assert cluster.stack_resources(wanted, "cuda T4") == {"CPU": 2, "GPU": 0.5, "accelerator_type:T4": 0.001}
