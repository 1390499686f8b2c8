"""What a trial leaves behind besides its numbers: its weights at chosen steps, and its state at the end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from phasemap.fields import Rule
from phasemap.plan.trial import Trial

NEVER = sys.maxsize  # a step that no training reaches
MOST_STEPS = 500  # of a trial: a tag of its run lists them
_WORD = re.compile(r"final|log|every:[1-9]\d*|[1-9]\d*")
STEPS = Rule(
    lambda text: not text or all(_WORD.fullmatch(word) for word in text.split("+")),
    "must be final, log, every:N or steps, joined by +",
    "write final, 1000+2000, log or every:5000",
)


@dataclass(frozen=True)
class Keep:
    """``weights``: words as of ``STEPS``, empty for none. Wherever weights are kept, those of a trial's last step are.
    ``state``: weights, what the optimizer remembers and the curves at the end of the budget, for a longer one."""

    weights: str = ""
    state: bool = False

    def next(self, step: int) -> int:
        """The first kept step after ``step``, as far as it is known before the trial ends."""
        return min((_next(word, step) for word in self.weights.split("+") if word), default=NEVER)

    def steps(self, last: int) -> list[int]:
        """The kept steps of a trial that ends at step ``last``."""
        found: list[int] = []
        step = 0
        while self.weights and (step := self.next(step)) < last and len(found) <= MOST_STEPS:
            found.append(step)
        return [*found, last] if self.weights else []

    def faults(self, trials: Iterable[Trial]) -> list[str]:
        """What these trials cannot keep."""
        budgets = {trial.steps for trial in trials}
        named = {int(word) for word in self.weights.split("+") if word.isdigit()}
        beyond = sorted(step for step in named if budgets and step > max(budgets))
        faults = [f"keep_weights: must lie within steps ({max(budgets)}), got {step}; lower it" for step in beyond]
        if any(len(self.steps(steps)) > MOST_STEPS for steps in budgets):
            law = f"keep_weights: must be at most {MOST_STEPS} steps of a trial"
            faults.append(f"{law}, got {self.weights!r}, which are more; keep fewer")
        return faults


def _next(word: str, step: int) -> int:
    if word == "final":
        return NEVER
    if word == "log":  # 1, 2, 4, 8, …
        return 1 << step.bit_length()
    if word.startswith("every:"):
        every = int(word.removeprefix("every:"))
        return (step // every + 1) * every
    return int(word) if int(word) > step else NEVER


NOTHING = Keep()
