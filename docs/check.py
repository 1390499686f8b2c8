"""Holds the documentation to the program: ``python docs/check.py``. Exit status 1 if they differ.

Definitions and fields are those of the program; the Python on the pages and in the README runs; search spaces cost what
they say; every message quoted is one of the program's. Takes a minute or two.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import critical_weight_decay
import definitions

import phasemap
from phasemap.fields import Fault
from phasemap.plan.space_file import load

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SMALL = ("steps=20", "evaluate_every=10", "seed=0", "weight_decay=1", "width=16", "prime=11", "batch_size=16")


def main() -> int:
    """Prints what is wrong."""
    wrong = [fault for check in (pages, examples, programs, spaces, costs, messages) for fault in check()]
    print("\n".join(wrong) or "documentation and program agree")
    return 1 if wrong else 0


def pages() -> Iterator[str]:
    """What definitions.py and critical_weight_decay.py write is what they would write now."""
    for path, text in definitions.pages().items():
        if path.read_text() != text:
            yield f"{path.relative_to(ROOT)}: is out of step; run `python docs/definitions.py`"
    if critical_weight_decay.PAGE.read_text() != critical_weight_decay.page(critical_weight_decay.fitted()):
        yield "docs/notes/critical-weight-decay.md: is out of step; run `python docs/critical_weight_decay.py`"


def examples() -> Iterator[str]:
    """The blocks of extend.md, and the README's own network, are space files that train without a fault."""
    with tempfile.TemporaryDirectory() as folder:
        for page, models in ((DOCS / "extend.md", "model=Product,Stacked"), (ROOT / "README.md", "model=Net")):
            try:
                faults = list(_trained(page, models, Path(folder)))
            except Fault as fault:
                faults = fault.faults
            yield from (f"{page.relative_to(ROOT)}: {fault}" for fault in faults)


def _trained(page: Path, models: str, folder: Path) -> Iterator[str]:
    blocks = _blocks(page)
    file = folder / f"example_of_{page.stem.lower()}.py"
    file.write_text("\n\n".join(block for block in blocks if "phasemap.run" not in block))
    space = load(file)
    small = [one for one in SMALL if one.partition("=")[0] in space.known]
    given = {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "storage": str(folder / "checkpoints")}
    results = phasemap.run(space.override([*small, models]), page.stem, local=True, figures=False, **given)
    if results.status or len(results.table) != models.count(",") + 1:
        yield f"must train with {models}, got status {results.status} and {len(results.table)} trials"
    for column in ("phase", *(part.name for part in space.parts if part.kind == "probe")):
        if column not in results.table or results.table[column].isna().any():
            yield f"every trial must have its {column}, got none of some"


def programs() -> Iterator[str]:
    """The blocks of these pages are one program each, which runs to its end and prints what the page says."""
    for page, printed in (("weights", "go on from the states"), ("boundaries", "Boundary(")):
        blocks = _blocks(DOCS / f"{page}.md")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "example.py"
            file.write_text("\n\n".join(blocks))
            done = subprocess.run([sys.executable, file], cwd=folder, env=kept, capture_output=True, text=True)
            if done.returncode or printed not in done.stdout:
                yield f"docs/{page}.md: must run to its end, got {done.stderr.strip().splitlines()[-1:]}"


def spaces() -> Iterator[str]:
    """Each block of search-spaces.md is a space without a fault."""
    with tempfile.TemporaryDirectory() as folder:
        for n, block in enumerate(_blocks(DOCS / "search-spaces.md"), 1):
            file = Path(folder) / f"example_{n}.py"
            file.write_text(block)
            try:
                load(file).check()
            except Fault as fault:
                yield from (f"docs/search-spaces.md: block {n}: {one}" for one in fault.faults)


def _blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


def costs() -> Iterator[str]:
    """Every search space's docstring says its trials and trial-steps."""
    for path in sorted((ROOT / "search_spaces").glob("*.py")):
        space = load(path)
        if space.sampler != "grid":
            continue
        trials = space.trials()
        steps = f"{sum(trial.steps for trial in trials):,} trial-steps"
        docstring = path.read_text().split('"""')[1]
        if not re.search(rf"\b{len(trials):,} trials\b", docstring) or steps not in docstring:
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
