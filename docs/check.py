"""Holds the documentation to the program: ``python docs/check.py``. Exit status 1 if they differ.

Definitions are those of the program; every field and message is described; the changes shown in
extend.md apply and train; search spaces cost what they say. Takes a minute.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import definitions

from phasemap.plan.space import load
from phasemap.plan.trial import FIELDS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
TINY = {"modulus": 7, "width": 8, "depth": 1, "data_fraction": 0.5, "batch_size": 16, "steps": 20, "evaluate_every": 10}
TRIED = ({"task": "modular_squares", "model": "mlp"}, {"model": "bilinear"}, {"model": "mlp"})  # one per change shown
RUN = """
from phasemap.training.train import begin, train
from phasemap.plan.trial import make_trial
results = [r for ended in train(begin((make_trial({values!r}),))) for r in ended]
assert results[0].outcome.phase, results
{more}
"""


def main() -> int:
    """Prints what is wrong."""
    wrong = [fault for check in (pages, fields, changes, costs, messages) for fault in check()]
    print("\n".join(wrong) or "documentation and program agree")
    return 1 if wrong else 0


def pages() -> Iterator[str]:
    """definitions.md is what would be written now."""
    if definitions.PAGE.read_text() != definitions.page():
        yield "docs/definitions.md: is out of step; run `python docs/definitions.py`"


def fields() -> Iterator[str]:
    """search-spaces.md has every field with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", (DOCS / "search-spaces.md").read_text(), re.M))
    for name, field in FIELDS.items():
        if rows.get(name) != str(field.default):
            yield f"docs/search-spaces.md: {name} has the default {field.default!r}, the page says {rows.get(name)!r}"


def changes() -> Iterator[str]:
    """Each change of extend.md, alone on a copy: applies, trains, is shorter than 30 lines, keeps the probes' test."""
    shown = re.findall(r"```diff\n(.*?)```", (DOCS / "extend.md").read_text(), re.S)
    if len(shown) != len(TRIED):
        yield f"docs/extend.md: shows {len(shown)} changes, {len(TRIED)} are tried"
    for change, values in zip(shown, TRIED, strict=False):
        name = " ".join(map(str, values.values()))
        added = len(re.findall(r"^\+(?!\+\+ )", change, re.M))
        if added >= 30:
            yield f"docs/extend.md: the change tried with {name} adds {added} lines, 30 is too many"
        with tempfile.TemporaryDirectory() as folder:
            for part in ("phasemap", "tests/probes"):
                shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__"))
            probe = "effective_rank" in change
            more = "assert results[0].outcome.effective_rank >= 1, results" if probe else ""
            commands = [["patch", "-p1"], [sys.executable, "-c", RUN.format(values={**TINY, **values}, more=more)]]
            if probe:
                commands.append([sys.executable, "-m", "pytest", "-q", "tests/probes", "-k", "effective_rank and 1"])
            for command in commands:
                done = subprocess.run(command, input=change, cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    yield f"docs/extend.md: {name}: {command[0]} failed:\n{(done.stdout + done.stderr)[-1_500:]}"
                    break


def costs() -> Iterator[str]:
    """Every search space's docstring says its trials and trial-steps."""
    for path in sorted((ROOT / "search_spaces").glob("*.py")):
        space = load(path)
        if space.sampler != "grid":
            continue
        trials = space.trials()
        steps = f"{sum(trial.steps for trial in trials):,} trial-steps"
        said = path.read_text().split('"""')[1]
        if not re.search(rf"\b{len(trials):,} trials\b", said) or steps not in said:
            yield f"{path.relative_to(ROOT)}: must say {len(trials)} trials and {steps}"


def messages() -> Iterator[str]:
    """Every message quoted in troubleshooting.md (its headings) still stands in the program."""
    sources = [*(ROOT / "phasemap").rglob("*.py"), *(ROOT / "analysis").glob("*.py")]
    text = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))  # joins split literals
    for heading in re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(), re.M):
        for part in heading.split("…"):
            if part.strip() and part.strip() not in text:
                yield f"docs/troubleshooting.md: no message says {part.strip()!r} any more (of {heading!r})"


if __name__ == "__main__":
    sys.exit(main())
