"""What a person sees: a map that fits the terminal, plain lines where there is none."""

from __future__ import annotations

import io
import re

import pytest
from small import MLP

from phasemap.command.terminal import Map, Screen, Status, line, picture
from phasemap.plan.phases import PHASES
from phasemap.plan.space import Space

SPACE = Space(weight_decay=[0.1, 1.0, 3.0], width=[8, 16], seed=range(2), modulus=13, model="mlp")


def trial(decay, width, seed):
    return MLP.replace(weight_decay=decay, width=width, seed=seed)


def status(recorded) -> Status:
    return Status("sweep", 200, 0, 2, 16, 614.0, 190.0, Map.of(SPACE, recorded))


RECORDED = [
    (trial(0.1, 8, 0), "memorization"),
    (trial(0.1, 8, 1), "memorization"),
    (trial(1.0, 16, 0), "grokking"),
    (trial(1.0, 16, 1), "memorization"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def test_a_cell_shows_its_majority_and_a_small_letter_where_seeds_disagree():
    rows = [plain(row) for row in picture(status(RECORDED).map, 80)]
    assert rows[0] == "width"
    assert rows[1].split() == ["16", "·", "g", "·"]
    assert rows[2].split() == ["8", "M", "·", "·"]
    assert rows[3].split() == ["0.1", "1", "3", "weight_decay"]
    assert rows[4].split() == ["G", "grokking", "1", "M", "memorization", "3"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_row_is_longer_than_the_terminal(columns):
    every = [(trial(0.1, 8, i), phase) for i, phase in enumerate(PHASES)]
    assert max(len(plain(row)) for row in picture(status(every).map, columns)) <= columns


def test_a_map_too_wide_for_the_terminal_is_left_out():
    assert picture(status(RECORDED).map, 15) == []


def test_a_terminal_shows_map_rate_and_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with Screen(lambda: status(RECORDED), stream, every=60):
        pass
    *_, keys, last = plain(stream.getvalue()).rstrip("\n").split("\n")
    assert "memorization 3" in keys
    assert last == "4/200 trials | 16 running in 2 stacks | 614 trial-steps/s | 3 min left"


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with Screen(lambda: status(RECORDED), stream, every=60) as screen:
        screen.say("tracking store is back")
    assert "\x1b" not in stream.getvalue()
    said, shown = stream.getvalue().splitlines()
    assert said == "tracking store is back"
    assert shown.endswith(line(status(RECORDED)))
    assert "1 grokking, 3 memorization" in shown
