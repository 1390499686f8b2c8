"""Every product of this machine against float64; what the shorter precisions round to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from phasemap.numerics import matmul
from phasemap.numerics.matmul import (
    CANDIDATES,
    MARGIN,
    ONEDNN_PAYS,
    ROUNDS,
    is_invariant,
    preferred,
    product,
    ranked,
    rounded,
)

PRECISIONS = ("fp32", "tf32", "bf16")
UNIT = {"fp32": 2**-24, "tf32": 2**-11, "bf16": 2**-8}  # largest relative error of rounding


def operands(
    seed: int = 0, trials: int = 3, m: int = 37, inner: int = 24, n: int = 19
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(trials, m, inner, generator=generator), torch.randn(trials, inner, n, generator=generator)


SIZES = {"small": {}, "large": {"m": 530, "inner": 96, "n": 88}}  # onednn leaves small ones to openblas
assert ONEDNN_PAYS <= 530 * 96 * 88


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_agrees_with_float64(name, size):
    a, b = operands(**SIZES[size])
    assert distance(CANDIDATES[name](a, b), a.double() @ b.double()) < 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_takes_operands_that_are_not_contiguous(name, size):
    a, b = operands(**SIZES[size])
    views = {
        "transposed": (a.mT.contiguous().mT, b.mT.contiguous().mT),
        "columns of a wider one": (torch.cat([a, a], 2)[..., : a.shape[2]], torch.cat([b, b], 2)[..., b.shape[2] :]),
        "every second row": (torch.stack([a, -a], 2).flatten(1, 2)[:, ::2], b),
        "trials in the middle": (a.transpose(0, 1).contiguous().transpose(0, 1), b),
        "one row": (a[:, :1], b),
        "one trial": (a[1:2], b[1:2]),
    }
    for told, (left, right) in views.items():
        exact = left.double() @ right.double()
        assert distance(CANDIDATES[name](left, right), exact) < 1e-6, told


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidates_product_of_a_trial_does_not_depend_on_its_neighbors(name, size):
    a, b = operands(trials=5, **SIZES[size])
    a[3] = torch.nan
    whole = CANDIDATES[name](a, b)
    for k in (0, 2, 4):
        assert torch.equal(whole[k], CANDIDATES[name](a[k : k + 1], b[k : k + 1])[0])
    assert whole[3].isnan().all()


@pytest.mark.long
def test_no_product_of_a_training_step_falls_to_the_reference_loops_of_onednn():
    wide = "width=128, modulus=31, batch_size=512, steps=2, evaluate_every=2, probe_every=2"
    code = f"import dataclasses, small; small.trained([small.TRANSFORMER.replace({wide})])"
    environment = {**os.environ, "PHASEMAP_PRODUCT": "onednn", "ONEDNN_VERBOSE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[1] / "helpers",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    run = [line for line in told.splitlines() if line.startswith("onednn_verbose") and ",exec," in line]
    assert run
    assert not [line for line in run if ",ref:" in line]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_product_and_its_gradients_follow_autograd_in_float64(precision):
    a, b = operands()
    slope = torch.randn(3, 37, 19, generator=torch.Generator().manual_seed(1))
    ours = [x.clone().requires_grad_() for x in (a, b)]
    product(ours[0], ours[1], precision).backward(slope)
    exact = [x.double().requires_grad_() for x in (a, b)]
    torch.bmm(*exact).backward(slope.double())
    tolerance = 4 * UNIT[precision]
    assert distance(product(a, b, precision), a.double() @ b.double()) < tolerance
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert distance(mine.grad, theirs.grad) < tolerance


def test_only_the_gradients_asked_for_are_made():
    a, b = operands()
    b.requires_grad_()
    (gradient,) = torch.autograd.grad(product(a, b, "fp32").sum(), b)
    assert distance(gradient, (a.double().mT @ torch.ones(3, 37, 19).double())) < 1e-6


def test_a_short_product_is_the_product_of_rounded_operands():
    a, b = operands()
    for precision in PRECISIONS:
        assert torch.equal(product(a, b, precision), product(rounded(a, precision), rounded(b, precision), "fp32"))


def numbers() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4_000, generator=generator) * 10.0 ** torch.randint(-30, 30, (4_000,), generator=generator)
    ties = (1 + torch.arange(64) * 2.0**-11) * 2.0 ** torch.arange(-32, 32)  # half-way for tf32
    return torch.cat(
        [x, ties, -ties, (1 + torch.arange(64) * 2.0**-8), torch.tensor([0.0, -0.0, torch.inf, -torch.inf])]
    )


def test_fp32_rounds_nothing():
    x = numbers()
    assert rounded(x, "fp32") is x


def test_bf16_rounds_as_torch_does():
    x = numbers()
    assert torch.equal(rounded(x, "bf16"), x.to(torch.bfloat16).to(torch.float32))


def test_tf32_keeps_ten_bits_of_mantissa_and_rounds_ties_to_even():
    x = numbers()
    mantissa, exponent = np.frexp(x.double().numpy())
    kept = np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)
    assert torch.equal(rounded(x, "tf32").double(), torch.from_numpy(kept))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1.0, 1.0),
        (1 + 2**-10, 1 + 2**-10),
        (1 + 2**-11, 1.0),
        (1 + 3 * 2**-11, 1 + 2**-9),
        (1 + 2**-11 + 2**-23, 1 + 2**-10),
        (-(1 + 3 * 2**-11), -(1 + 2**-9)),
        (2 - 2**-23, 2.0),
    ],
)
def test_known_numbers_in_tf32(value, kept):
    assert rounded(torch.tensor([value]), "tf32").item() == kept


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_finite_stays_so(precision):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf])
    found = rounded(x, precision)
    assert found[0].isnan()
    assert found[1:].tolist() == [torch.inf, -torch.inf]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rounded_view_is_that_of_its_elements(precision):
    x = torch.randn(4, 6, 8)
    assert torch.equal(rounded(x.mT, precision), rounded(x, precision).mT)


def by_alignment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One that begins its sums elsewhere where a trial's weights do not begin on a line, as MKL does."""
    parts = [x @ w if w.data_ptr() % 64 == 0 else (x.flip(1) @ w.flip(0)) for x, w in zip(a, b, strict=True)]
    return torch.stack(parts)


def by_stack(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One with another order of sums for three trials than for any other number."""
    return CANDIDATES["openblas"](a.flip(2), b.flip(1)) if len(a) == 3 else CANDIDATES["openblas"](a, b)


def by_result(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One whose sums depend on where a trial's result lies."""
    out = CANDIDATES["openblas"](a, b)
    for k in range(len(a)):
        if out[k].data_ptr() % 64:
            out[k] = CANDIDATES["openblas"](a[k : k + 1].flip(2), b[k : k + 1].flip(1))[0]
    return out


@pytest.mark.parametrize("candidate", [by_alignment, by_stack, by_result])
def test_a_product_that_depends_on_the_stack_is_never_chosen(candidate):
    a, b = operands()
    assert distance(candidate(a, b), a.double() @ b.double()) < 1e-6
    assert not is_invariant(candidate)
    assert ranked({"quick": candidate, "openblas": CANDIDATES["openblas"]}) == ["openblas"]
    assert ranked({"quick": candidate}) == []


def test_a_product_that_is_wrong_or_absent_is_never_chosen():
    def absent(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn.no_such_operator(a, b)

    def wrong(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return CANDIDATES["openblas"](a, b) * (1 + 1e-5)

    assert is_invariant(wrong)
    assert ranked({"absent": absent, "wrong": wrong}) == []


def test_the_first_product_is_kept_unless_another_is_clearly_faster():
    assert preferred({"a": 1.04, "b": 1.0, "c": 1.0}) == "a"
    assert preferred({"a": 1.0, "b": 1.04}) == "a"
    assert preferred({"a": MARGIN + 0.01, "b": 1.0}) == "b"
    assert preferred({"a": 2.0, "b": 1.1, "c": 1.0}) == "b"


def test_a_machine_that_is_busy_most_of_the_time_chooses_as_a_quiet_one(monkeypatch):
    monkeypatch.setattr(matmul, "is_invariant", lambda candidate: True)  # proved elsewhere, and counted as calls here
    calls = 0

    def disturbed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        time.sleep(0.02 if calls // 3 % 4 else 0)  # three products a round
        calls += 1
        return CANDIDATES["openblas"](a, b)

    def slow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return CANDIDATES["openblas"](a, b)

    assert ranked({"slow": slow, "disturbed": disturbed}) == ["disturbed", "slow"]
    assert calls == 3 * (1 + ROUNDS)


def chosen(**environment: str) -> subprocess.CompletedProcess:
    code = "from phasemap.numerics.matmul import chosen; print(chosen())"
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_product_that_does_not_exist_is_refused_with_those_that_do():
    message = f"PHASEMAP_PRODUCT: must be one of {', '.join(CANDIDATES)}, got 'mkl'; choose one"
    assert message in chosen(PHASEMAP_PRODUCT="mkl").stderr


def test_a_listed_number_of_threads_is_the_products(tmp_path):
    assert chosen(XDG_CACHE_HOME=str(tmp_path), OMP_NUM_THREADS="1,2", PHASEMAP_PRODUCT="").returncode == 0
    (memory,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert "-1threads-" in memory.name


@pytest.mark.long
def test_a_product_that_is_not_proved_here_is_refused_by_name(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    chosen(**environment, PHASEMAP_PRODUCT="")
    (memory,) = (file for file in tmp_path.rglob("*") if file.is_file())
    memory.write_text("openblas onednn")
    assert chosen(**environment, PHASEMAP_PRODUCT="onednn").stdout.strip() == "onednn"
    told = chosen(**environment, PHASEMAP_PRODUCT="bmm").stderr
    assert "same numbers in every stack, got 'bmm', which does not here; choose openblas or onednn, or unset it" in told
    memory.write_text("")
    assert "got none that does on this machine with 1 threads; set OMP_NUM_THREADS=1" in chosen(**environment).stderr


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("OPENBLAS_CORETYPE", "Nehalem"),
        ("ATEN_CPU_CAPABILITY", "default"),
        ("ONEDNN_MAX_CPU_ISA", "AVX"),
        ("OMP_NUM_THREADS", "3"),
    ],
)
def test_what_chooses_other_loops_is_part_of_a_results_device_and_has_a_proof_of_its_own(name, other):
    code = "from phasemap.numerics import matmul, processor; print(processor.name()); print(matmul.memory())"
    kept = {key: value for key, value in os.environ.items() if key != name}
    threads = {"OPENBLAS_NUM_THREADS": "1", "MKL_VERBOSE": "0"}  # these move no sum

    def told(**change: str) -> str:
        return subprocess.check_output([sys.executable, "-c", code], env=kept | change, text=True)

    usual = told()
    assert told(**threads) == usual
    changed = told(**{name: other})
    for line, before in zip(changed.splitlines(), usual.splitlines(), strict=True):
        assert line != before
    assert ("3 threads" if name == "OMP_NUM_THREADS" else f"{name}={other}") in changed


def test_the_machines_product_is_measured_once_and_remembered(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PHASEMAP_PRODUCT": ""}
    first = chosen(**environment).stdout.strip()
    assert first in CANDIDATES
    (memory,) = (file for file in tmp_path.rglob("*") if file.is_file())
    other = next(name for name in CANDIDATES if name != first)
    memory.write_text(memory.read_text().replace(first, other))
    assert chosen(**environment).stdout.strip() == other
