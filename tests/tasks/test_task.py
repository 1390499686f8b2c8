"""Tables with known answers, group axioms, ceilings, overlap, and the words of every refusal."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from small import faults

from phasemap import Space
from phasemap.fields import Fault
from phasemap.plan.component import load_task, names
from phasemap.plan.trial import make_trial
from phasemap.tasks import permutations
from phasemap.tasks.task import Task, distinct_index, majority_accuracy, overlap

ADDITIVE = {"modular_addition", "modular_subtraction"}
MULTIPLICATIVE = {"modular_multiplication", "modular_division"}

RULES = {
    "modular_addition": lambda a, b, p: (a + b) % p,
    "modular_subtraction": lambda a, b, p: (a - b) % p,
    "modular_multiplication": lambda a, b, p: a * b % p,
    "modular_division": lambda a, b, p: a * pow(b, -1, p) % p,
    "modular_quadratic": lambda a, b, p: (a * a + a * b + b * b) % p,
    "modular_cubic": lambda a, b, p: (a**3 + a * b) % p,
    "modular_squares": lambda a, b, p: (a**2 + b**2) % p,
    "modular_quadratic_x": lambda a, b, p: (a**2 + a * b + b**2 + a) % p,
    "modular_cubic_xy2_y": lambda a, b, p: (a**3 + a * b**2 + b) % p,
    "modular_division_if_odd": lambda a, b, p: (a * pow(b, -1, p) if b % 2 else a - b) % p,
}
NEED_A_PRIME = {"modular_multiplication", "modular_division", "modular_division_if_odd"}
REAL = {"teacher_student"}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("p", [5, 13])
def test_modular_labels_follow_their_rule(name, p):
    table = load_task(name, modulus=p, context=16)
    smallest = 1 if name in MULTIPLICATIVE else 0
    assert table.inputs.tolist() == [[a, b] for a in range(smallest, p) for b in range(smallest, p)]
    assert table.labels.tolist() == [RULES[name](a, b, p) for a, b in table.inputs.tolist()]


@pytest.mark.parametrize("name", sorted(set(RULES) - NEED_A_PRIME))
@pytest.mark.parametrize("p", [2, 12])
def test_only_what_divides_or_has_a_circle_of_multiplication_needs_a_prime(name, p):
    table = load_task(name, modulus=p)
    assert table.labels.tolist() == [RULES[name](a, b, p) for a in range(p) for b in range(p)]


@pytest.mark.parametrize("operands", [2, 3, 4])
def test_addition_takes_any_number_of_operands(operands):
    table = load_task("modular_addition", modulus=6, operands=operands)
    assert table.inputs.tolist() == [list(row) for row in itertools.product(range(6), repeat=operands)]
    assert table.labels.tolist() == [sum(row) % 6 for row in table.inputs.tolist()]
    assert table.group is not None
    assert (table.tokens, table.classes, table.group.order) == (operands, 6, 6)


def test_too_many_operands_are_refused_with_the_most_there_may_be():
    with pytest.raises(Fault) as caught:
        make_trial({"operands": 4})
    message = "operands: must give at most 4,000,000 examples mod 97, got 4, which gives 88,529,281; use 3"
    assert caught.value.faults == [message]
    assert make_trial({"operands": 3, "model": "mlp"}).shape.examples.pool == 97**3


@pytest.mark.parametrize("name", names("task"))
def test_every_task_is_whole(name):
    table = load_task(name, modulus=13, context=16)
    count = len(table.labels)
    assert table.inputs.shape[0] == count == table.divided("examples")
    assert table.is_real == (name in REAL)
    assert table.inputs.dtype == (np.float32 if table.is_real else np.int64)
    assert table.labels.dtype == np.int64
    assert table.is_real or 0 <= table.inputs.min() <= table.inputs.max() < table.vocabulary
    assert 0 <= table.labels.min() <= table.labels.max() < table.classes
    assert table.distinct.shape == (count,)
    assert table.divided("distinct") == len(np.unique(table.inputs, axis=0)) == table.distinct.max() + 1
    assert set(table.distinct.tolist()) == set(range(table.distinct.max() + 1))
    assert 0 < table.ceiling <= 1
    assert load_task(name, modulus=13, context=16) is table


EXACT = [*RULES, "permutation_composition", "permutation_conjugation", "permutation_xyx", "sparse_parity"]


@pytest.mark.parametrize("name", [*EXACT, *REAL])
def test_a_table_of_a_rule_has_ceiling_one_and_no_overlap(name):
    table = load_task(name, modulus=13, context=16)
    assert table.ceiling == 1
    third = np.arange(len(table.labels)) % 3 == 0
    assert overlap(table.inputs, third, ~third) == 0


def test_random_labels_have_the_ceiling_of_chance():
    assert load_task("random_labels", modulus=97, context=16).ceiling == 1 / 97


def test_majority_accuracy_counts_the_commonest_label_of_equal_inputs():
    inputs, labels = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 1, 0, 3, 4])
    assert majority_accuracy(inputs, labels) == pytest.approx((2 + 1 + 1) / 6)


def test_overlap_is_the_share_of_test_inputs_seen_in_training():
    tokens = np.array([[0, 1], [0, 1], [1, 0], [2, 2], [1, 0]])
    train = np.array([True, False, True, False, False])
    assert overlap(tokens, train, ~train) == pytest.approx(2 / 3)
    assert overlap(distinct_index(tokens), train, ~train) == pytest.approx(2 / 3)


def test_a_split_by_distinct_inputs_has_no_overlap():
    table = load_task("lcg_simple", modulus=97, context=16)
    assert table.divided("distinct") == 128
    assert overlap(table.inputs, table.distinct < 40, table.distinct >= 40) == 0


def test_distinct_index_is_sorted_and_equal_for_equal_rows():
    assert distinct_index(np.array([[1, 0], [0, 1], [1, 0], [0, 0]])).tolist() == [2, 1, 2, 0]


def test_s5_obeys_the_group_axioms():
    product, everyone = permutations.products(), np.arange(120)
    np.testing.assert_array_equal(product[product], product[:, product])  # (a b) c = a (b c), all 120^3
    np.testing.assert_array_equal(product[0], everyone)
    np.testing.assert_array_equal(product[:, 0], everyone)
    inverse = (product == 0).argmax(1)
    assert (product[everyone, inverse] == 0).all()
    assert (product[inverse, everyone] == 0).all()
    assert (np.sort(product, 1) == everyone).all()
    assert (product != product.T).any()


def test_s5_products_apply_the_right_factor_first():
    sends = permutations.elements()
    table = load_task("permutation_composition", modulus=97, context=16)
    for row in (1, 777, 9_000, 14_399):
        a, b = table.inputs[row]
        assert sends[table.labels[row]].tolist() == [sends[a][sends[b][i]] for i in range(5)]
    assert table.group is None
    assert len(table.labels) == 120**2


@pytest.mark.parametrize("name", ["permutation_conjugation", "permutation_xyx"])
def test_the_other_tables_of_s5_are_what_their_names_say(name):
    sends, table = permutations.elements().tolist(), load_task(name)
    for row in (0, 1, 777, 9_000, 14_399):
        x, y = (sends[one] for one in table.inputs[row])
        first = [x.index(i) for i in range(5)] if name == "permutation_conjugation" else x
        assert sends[table.labels[row]] == [x[y[first[i]]] for i in range(5)]
    assert table.pool == 120**2


def test_s5_elements_have_the_known_orders():
    """1 identity, then 25, 20, 30, 24 and 20 elements of orders 2, 3, 4, 5 and 6."""
    product, power, orders = permutations.products(), np.arange(120), np.zeros(120, int)
    for order in range(1, 7):
        orders[(power == 0) & (orders == 0)] = order
        power = product[power, np.arange(120)]
    assert np.bincount(orders).tolist() == [0, 1, 25, 20, 30, 24, 20]


@pytest.mark.parametrize(("context", "count"), [(3, 8), (10, 1_024), (12, 4_096), (13, 4_096), (20, 4_096)])
def test_sparse_parity_is_the_parity_of_three_bits(context, count):
    table = load_task("sparse_parity", modulus=97, context=context)
    assert table.inputs.shape == (count, context)
    np.testing.assert_array_equal(table.labels, table.inputs[:, 0] ^ table.inputs[:, 1] ^ table.inputs[:, 2])
    assert table.distinct.max() + 1 == count == table.divided("distinct")
    assert abs(table.labels.mean() - 0.5) < 0.05
    assert table.ceiling == 1


@pytest.mark.parametrize(("context", "relevant", "count"), [(6, 1, 64), (21, 5, 900), (40, 3, 2_000), (100, 7, 50)])
def test_sparse_parity_takes_any_bits_and_draws_different_examples(context, relevant, count):
    table = load_task(
        "sparse_parity", context=context, relevant=relevant, parity_examples=2_000 if count == 64 else count
    )
    assert table.inputs.shape == (count, context)
    np.testing.assert_array_equal(table.labels, np.bitwise_xor.reduce(table.inputs[:, :relevant], 1))
    assert table.divided("distinct") == count
    assert abs(table.inputs.mean(0) - 0.5).max() < 3 / np.sqrt(count)


def test_the_inputs_of_sparse_parity_stay_those_of_the_recorded_trials():
    table = load_task("sparse_parity", context=16)
    assert hashlib.sha256(table.inputs.tobytes()).hexdigest()[:16] == "2af79fb41c116a30"


def test_a_student_learns_which_output_of_the_teacher_is_largest():
    table = load_task("teacher_student", input_size=3, teacher_width=50, teacher_classes=4, inputs_drawn=2_000)
    assert table.inputs.shape == (2_000, 3)
    assert abs(table.inputs.mean(0)).max() < 0.1
    assert abs(table.inputs.std(0) - 1).max() < 0.1
    assert np.bincount(table.labels, minlength=4).min() > 100
    generator = np.random.default_rng([3, 50, 4, 2_000])
    first, second, last = (generator.standard_normal(shape) / shape[0] ** 0.5 for shape in ((3, 50), (50, 50), (50, 4)))
    inputs = generator.standard_normal((2_000, 3))
    told = np.einsum(
        "nj,jk->nk", np.tanh(np.einsum("ni,ij->nj", np.tanh(np.einsum("nf,fi->ni", inputs, first)), second)), last
    )
    np.testing.assert_array_equal(table.labels, np.argmax(told - told.mean(0), 1))
    np.testing.assert_allclose(table.inputs, inputs, rtol=1e-6)


def test_real_inputs_have_no_values_to_split_by():
    message = [
        "split: values needs a task whose tokens stand in all places together, as in modular tables; use examples"
    ]
    assert faults(Space(task="teacher_student", model="mlp", split="values").trials) == message
    images = Task(inputs=np.zeros((6, 4, 4)) + 0.5, labels=np.arange(6) % 2)
    assert faults(images.parts, "values") == message


def test_only_the_cyclic_tasks_have_a_group():
    cyclic = {name for name in names("task") if load_task(name, modulus=13, context=16).group is not None}
    assert cyclic == ADDITIVE | MULTIPLICATIVE


def test_exponents_turn_multiplication_into_addition():
    table = load_task("modular_multiplication", modulus=97, context=16)
    group = table.group
    assert group is not None
    assert (group.order, group.cosets, group.exponent[0], group.exponent[5]) == (96, 12, -1, 1)
    a, b = group.exponent[table.inputs].T
    np.testing.assert_array_equal(group.exponent[table.labels], (a + b) % 96)


@pytest.mark.parametrize(
    ("name", "modulus", "context", "message"),
    [
        ("modular_addition", 1, 16, "modulus: must be at least 2, got 1; use a prime such as 97"),
        ("modular_multiplication", 96, 16, "modulus: modular_multiplication needs a prime, got 96; use 97"),
        ("modular_cubic", 2_001, 16, "modulus: must be at most 2000 (four million examples), got 2001; lower it"),
        (
            "modular_division",
            3,
            16,
            "modulus: modular_division needs a prime of at least 5, got 3; use 5 or more",
        ),
        ("csprng", 97, 0, "context: must be at least 1, got 0; use a positive whole number"),
        (
            "lcg_glibc",
            97,
            9_000,
            "context: lcg_glibc needs 1 to 8999 tokens, got 9000; use 16, or a longer stream_length",
        ),
        ("lfsr_5", 97, 4, "context: lfsr_5 shows its rule from 5 tokens on, got 4; use 5 or more"),
        ("periodic", 97, 3, "context: periodic shows its rule from 4 tokens on, got 3; use 4 or more"),
        ("sparse_parity", 97, 2, "context: sparse_parity needs at least relevant (3) bits, got 2; raise it"),
    ],
)
def test_refusals_say_axis_rule_value_and_cure(name, modulus, context, message):
    with pytest.raises(Fault) as caught:
        make_trial({"task": name, "modulus": modulus, "context": context})
    assert caught.value.faults == [message]


@pytest.mark.parametrize(
    ("name", "modulus", "context"),
    [
        ("lfsr_31", 96, 1),
        ("lcg_simple", 5, 8_999),
        ("lfsr_5", 97, 5),
        ("periodic", 97, 4),
        ("sparse_parity", 4, 3),
        ("sparse_parity", 4, 20),
        ("permutation_composition", 4, 1),
        ("modular_quadratic", 10, 1),
    ],
)
def test_a_task_ignores_what_it_does_not_use(name, modulus, context):
    values = {"task": name, "modulus": modulus, "context": context, "data_fraction": 0.5}
    assert make_trial({**values, "model": "mlp", "embedding": "concatenate"}).task == name


def test_tasks_need_no_torch():
    code = (
        "import sys; from phasemap.plan.component import load_task; load_task('lfsr_5'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_users_arrays_become_examples_in_their_order():
    task = Task(inputs=[[0.0, 1.5], [2.0, 3.0], [4.0, 5.0]], labels=[0, 2, 1], test_inputs=[[6, 7]], test_labels=[1])
    assert task.inputs.dtype == np.float32
    assert task.inputs.tolist() == [[0, 1.5], [2, 3], [4, 5], [6, 7]]
    assert (task.pool, task.apart, task.classes, task.features) == (3, True, 3, 2)
    tokens = Task(inputs=np.array([[3, 0], [1, 2]], np.uint8), labels=np.array([0.0, 1.0]))
    assert (tokens.inputs.dtype, tokens.vocabulary, tokens.tokens, tokens.apart) == (np.dtype(np.int64), 4, 2, False)


WRONG = {
    "NaN": ({"inputs": [[1.0, np.nan], [1.0, 2.0]], "labels": [0, 1]}, "must be finite, got NaN or infinity in 1 ex"),
    "one axis": ({"inputs": [1, 2], "labels": [0, 1]}, "inputs must be [N, T] or [N, …], got shape [2]"),
    "too few labels": ({"inputs": [[1], [2]], "labels": [0]}, "labels must be [N], one for each input, got shape [1]"),
    "fractions": ({"inputs": [[1], [2]], "labels": [0.5, 1]}, "labels must be whole numbers"),
    "negative label": ({"inputs": [[1], [2]], "labels": [-1, 1]}, "labels must lie from 0 to classes - 1, got -1"),
    "out of range": (
        {"inputs": [[1], [2]], "labels": [0, 3], "classes": 3},
        "to classes - 1 = 2, got 3",
    ),
    "negative token": ({"inputs": [[1], [-2]], "labels": [0, 1]}, "tokens in inputs must not be negative, got -2"),
    "token out of range": ({"inputs": [[1], [5]], "labels": [0, 1], "vocabulary": 5}, "below vocabulary = 5, got 5"),
    "one side": ({"inputs": [[1]], "labels": [0], "test_inputs": [[1]]}, "test_inputs and test_labels go together"),
    "text": ({"inputs": [["a"]], "labels": [0]}, "inputs must be an array of numbers"),
    "none": ({"inputs": np.zeros((0, 2)), "labels": []}, "inputs must hold an example, got none"),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG.values(), ids=WRONG)
def test_arrays_that_cannot_be_examples_are_refused(arrays, message):
    with pytest.raises(Fault, match=r"task: ") as caught:
        Task(**arrays)
    assert any(message in fault for fault in caught.value.faults)


def test_all_faults_of_the_arrays_come_at_once():
    with pytest.raises(Fault) as caught:
        Task(inputs=[[np.inf]], labels=[-1, 0])
    assert len(caught.value.faults) == 3
