"""What a person sees: a map that fits the terminal, plain lines where there is none."""

from __future__ import annotations

import io
import re
import signal
import time

import pytest
from small import MLP, waited

from phasemap.command.terminal import Doing, Map, Pace, Screen, Status, line, picture
from phasemap.plan.phases import PHASES
from phasemap.plan.space import Space

SPACE = Space(weight_decay=[0.1, 1.0, 3.0], width=[8, 16], seed=range(2), modulus=13, model="mlp")


def trial(decay, width, seed):
    return MLP.replace(weight_decay=decay, width=width, seed=seed)


def status(recorded, **pace) -> Status:
    known = {"training": 16, "stacks": 2, "starting": 0, "rate": 614.0, "seconds_left": 190.0}
    return Status("sweep", 200, Map.of(SPACE, recorded), pace=Pace(**{**known, **pace}))


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
    assert last == "3 min left | 4/200 trials | 16 training in 2 stacks | 614 trial-steps/s"


def test_the_time_left_is_seen_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Screen(lambda: status(RECORDED), stream, every=60):
        pass
    assert plain(stream.getvalue()).rstrip("\n").split("\n")[-1].startswith("3 min left | 4/200 trials | ")


def test_a_stack_that_compiles_is_reported_to_start_and_nothing_unknown_is_shown():
    told = line(status([], training=0, stacks=0, starting=16, rate=0.0, seconds_left=None))
    assert told == "0/200 trials | no phase yet | 16 starting"


def test_one_is_singular():
    one = Status("sweep", 1, Map.of(SPACE, []), pace=Pace(1, 1, 0, 3.0, 5.0))
    assert line(one, phases=False) == "5 s left | 0/1 trial | 1 training in 1 stack | 3 trial-steps/s"


def test_no_color_where_none_is_wanted(monkeypatch):
    assert "\x1b" in "".join(picture(status(RECORDED).map, 80))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(picture(status(RECORDED).map, 80))


def test_what_is_reported_after_the_screen_has_closed_stays(monkeypatch):
    stream = Terminal()
    with Screen(lambda: status(RECORDED), stream, every=60) as screen:
        pass
    before = stream.getvalue()
    screen.say("interrupted")
    assert stream.getvalue() == before + "interrupted\n"


def test_what_is_being_done_is_reported_at_once_and_its_line_goes_when_it_is_done():
    stream = Terminal()
    with Doing("starting Ray", stream):
        waited(stream.getvalue)
        assert stream.getvalue() == "starting Ray\r"
        waited(lambda: "starting Ray (1 s)" in stream.getvalue())
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(("plainly", "said"), [(True, "starting Ray\n"), (False, "")])
def test_without_a_terminal_what_is_being_done_is_a_line(plainly, said):
    stream = io.StringIO()
    with Doing("starting Ray", stream, plain=plainly):
        pass
    assert stream.getvalue() == said


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with Screen(lambda: status(RECORDED), stream, every=60) as screen:
        screen.say("tracking store is back")
    assert "\x1b" not in stream.getvalue()
    said, shown = stream.getvalue().splitlines()
    assert said == "tracking store is back"
    assert shown.endswith(line(status(RECORDED)))
    assert "1 grokking, 3 memorization" in shown


def test_a_screen_that_nobody_reads_any_more_interrupts_the_sweep() -> None:
    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without one
    try:
        with pytest.raises(BrokenPipeError) as raised, Screen(lambda: status(RECORDED), Unread(), every=0.5):
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(raised.value.__context__, KeyboardInterrupt)
