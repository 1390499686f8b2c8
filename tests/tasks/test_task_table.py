"""A table on disk is a task: what becomes of its columns, its identity, and its way to another process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import facts, trained

from phasemap import Space
from phasemap.fields import Fault
from phasemap.plan.component import load_task
from phasemap.tasks.table import table

SMALL: dict[str, Any] = {"model": "mlp", "width": 8, "data_fraction": 0.5}
SMALL |= {"steps": 6, "evaluate_every": 3, "batch_size": 16}


def written(folder: Path, text: str, name: str = "sums.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def sums(folder: Path, modulus: int = 5) -> Path:
    rows = [f"{a},{b},{(a + b) % modulus}" for a in range(modulus) for b in range(modulus)]
    return written(folder, "\n".join(["a,b,sum", *rows]) + "\n")


def test_a_table_of_sums_trains_as_the_built_in_task(tmp_path):
    (own,) = Space(task=table(sums(tmp_path), label="sum"), **SMALL).trials()
    (built_in,) = Space(task="modular_addition", modulus=5, **SMALL, probes="dimension").trials()
    task, wanted = own.shape.examples, load_task("modular_addition", modulus=5)
    np.testing.assert_array_equal(task.inputs, wanted.inputs)
    np.testing.assert_array_equal(task.labels, wanted.labels)
    told, expected = (facts(trained([one])[one.id]) for one in (own.replace(probes="dimension"), built_in))
    assert told == expected
    assert own.task == "sums"


def test_parquet_reads_as_csv_does(tmp_path):
    import pyarrow
    from pyarrow import parquet

    columns = {"x": [0.5, 1.0, 2.25], "y": [1, 2, 3], "kind": ["b", "a", "b"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    text = "x,y,kind\n0.5,1,b\n1.0,2,a\n2.25,3,b\n"
    for part in (table(tmp_path / "t.parquet", "kind"), table(written(tmp_path, text, "t.csv"), "kind")):
        task = part.target()
        assert task.is_real
        assert task.inputs.tolist() == [[0.5, 1.0], [1.0, 2.0], [2.25, 3.0]]
        assert task.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([str(i) for i in range(12)], range(12)),
        (["10", "-2", "2.5", "1e1", "0"], [3, 0, 2, 3, 1]),
        (["10", "9", "b", "a"], [0, 1, 3, 2]),
        (["1_11", "11_1", "2_1"], [1, 0, 2]),  # words, though Python would read them as numbers
    ],
    ids=["whole", "real", "words", "underscores"],
)
def test_labels_are_classes_in_the_order_of_numbers_or_of_words(tmp_path, labels, classes):
    text = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    assert table(written(tmp_path, f"x,y\n{text}"), "y").target().labels.tolist() == list(classes)


def test_csv_and_parquet_of_one_table_have_the_same_classes(tmp_path):
    import pyarrow
    from pyarrow import parquet

    for labels in (list(range(12)), [float(i) for i in range(12)], [str(i) for i in range(12)], [2**60 + 1, 2**60]):
        columns = {"x": list(range(len(labels))), "y": labels}
        parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
        text = "".join(f"{x},{y}\n" for x, y in zip(*columns.values(), strict=True))
        files = tmp_path / "t.parquet", written(tmp_path, f"x,y\n{text}", "t.csv")
        read = [table(file, "y").target().labels.tolist() for file in files]
        assert read[0] == read[1]
        assert len(set(read[0])) == len(labels)


def test_what_is_no_label_in_a_parquet_file_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    for labels in (["u", None, "v"], [1, None, 2], [0.0, float("nan"), 1.0]):
        parquet.write_table(pyarrow.table({"x": [0, 1, 2], "y": labels}), tmp_path / "t.parquet")
        with pytest.raises(
            Fault, match=r"t\.parquet: column y must hold a label in every row, got none in 1 row; fill"
        ):
            table(tmp_path / "t.parquet", "y")


def test_only_a_table_whose_classes_are_in_another_order_than_as_text_has_another_identity(tmp_path):
    assert table(sums(tmp_path), "sum").code == "c44a222951cfe443"  # as trials are recorded
    assert table(sums(tmp_path, 11), "sum").code != "7249dbe60ee2f4fa"  # of 0, 1, 10, 2, ...


def test_named_columns_are_the_inputs_in_their_order(tmp_path):
    task = table(sums(tmp_path), label="sum", columns=["b", "a"]).target()
    assert task.inputs[1].tolist() == [1, 0]
    assert table(sums(tmp_path), label="sum", columns=["b"]).target().tokens == 1


def test_the_content_of_the_file_is_part_of_the_identity(tmp_path):
    first = Space(task=table(sums(tmp_path), label="sum"), **SMALL).trials()[0]
    again = Space(task=table(sums(tmp_path), label="sum"), **SMALL).trials()[0]
    (tmp_path / "sums.csv").write_text((tmp_path / "sums.csv").read_text().replace("4,4,3", "4,4,2"))
    changed = Space(task=table(tmp_path / "sums.csv", label="sum"), **SMALL).trials()[0]
    assert first.id == again.id != changed.id
    assert Space(task=table(sums(tmp_path), label="a"), **SMALL).trials()[0].id != first.id


def test_the_rows_travel_to_a_process_without_the_file(tmp_path):
    (trial,) = Space(task=table(sums(tmp_path), label="sum"), **SMALL).trials()
    (tmp_path / "trial").write_bytes(pickle.dumps(trial))
    (tmp_path / "sums.csv").unlink()
    code = (
        "import pickle, sys; trial = pickle.load(open(sys.argv[1], 'rb')); "
        "print(trial.id, int(trial.shape.examples.labels.sum()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "trial")], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert told.stdout.split() == [trial.id, "50"]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a,b\n1,2\n", "t.txt", "task: t.txt must end in .csv or .parquet, got '.txt'; convert it"),
        ("a,b\n", "t.csv", "task: t.csv must be a readable table, got no rows below the names"),
        ("a,y\n1,2\n3\n", "t.csv", "task: t.csv must be a readable table, got no rows below the names, or rows of"),
        ("a,b\n1,2\n", "t.csv", "task: t.csv must have a column y, got a, b; choose one of these"),
        ("y\n1\n", "t.csv", "task: t.csv must have a column beside y, got none; add the inputs"),
        ("a,y\nred,1\n", "t.csv", "task: t.csv: column a must be numbers, got could not convert string"),
        ("a,y\nnan,1\n", "t.csv", "task: t.csv: column a must be finite, got NaN or infinity; remove or fill them"),
        ("a,y\n1, \n2,b\n3,\n", "t.csv", "task: t.csv: column y must hold a label in every row, got none in 2 rows; "),
        ("a,y\n1,2\n", "lfsr_5.csv", "task: lfsr_5.csv: lfsr_5 is the name of a built-in one; rename yours, so that"),
        ("a,y\n-1,1\n", "t.csv", "task: tokens in inputs must not be negative, got -1; number them from 0"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, monkeypatch, text, name, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, text, name)
    with pytest.raises(Fault) as caught:
        table(name, label="y")
    assert caught.value.faults[0].startswith(message)


def test_a_missing_file_is_refused():
    with pytest.raises(Fault, match=r"task: no\.csv must be a readable table, got .*No such file"):
        table("no.csv", label="y")
