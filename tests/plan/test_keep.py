"""Which steps' weights are kept, from the words of the option."""

import pytest

from phasemap.command.options import options
from phasemap.fields import Fault
from phasemap.plan.keep import MOST_STEPS, Keep
from phasemap.plan.trial import Trial


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("", []),
        ("final", [100]),
        ("30+10", [10, 30, 100]),
        ("every:40", [40, 80, 100]),
        ("every:50", [50, 100]),
        ("log", [1, 2, 4, 8, 16, 32, 64, 100]),
        ("log+final+30+64+200", [1, 2, 4, 8, 16, 30, 32, 64, 100]),
    ],
)
def test_words_choose_steps_and_the_last_one_is_always_among_them(words, steps):
    assert Keep(words).steps(100) == steps


def test_a_trial_that_ends_early_keeps_the_steps_it_reached_and_its_last():
    assert Keep("30+10+every:25").steps(27) == [10, 25, 27]


@pytest.mark.parametrize("words", ["last", "every:0", "every:", "-5", "0", "1000,2000", "final+", "1e3"])
def test_other_words_are_refused(words):
    with pytest.raises(Fault, match=r"^--keep-weights: must be final, log, every:N or steps, joined by \+, got "):
        options({"keep-weights".replace("-", "_"): words}, prefix="--")


def test_steps_that_no_trial_reaches_and_too_many_steps_are_faults():
    trials = [Trial(steps=100), Trial(steps=2_000)]
    assert Keep("final+100+2000").faults(trials) == []
    assert Keep("150+3000").faults(trials) == ["keep_weights: must lie within steps (2000), got 3000; lower it"]
    assert Keep("every:2").faults(trials)[0].startswith(f"keep_weights: must be at most {MOST_STEPS} steps of a trial")
    assert Keep("every:2").faults([Trial(steps=900)]) == []
