"""The documentation as a site, from the Markdown that a code host shows: ``sphinx-build -W -c docs . site``.

The source is the whole checkout: the README is the first page, and every relative link is the same
there and on the site.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import phasemap

project = "phasemap"
author = "The phasemap maintainers"
copyright = f"2026, {author}"
release = phasemap.__version__
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "docs/example.ipynb", "docker/README.md", "benchmarks/data/README.md"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

nb_execution_mode = "off"  # its outputs are recorded; a test runs it
myst_heading_anchors = 4  # as a code host's; a link to one that is not there fails the build
suppress_warnings = ["misc.highlighting_failure"]  # a command with … in it is no correct shell

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
add_module_names = False
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"phasemap {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]

NAVIGATION = {  # page -> caption -> the pages below it, which a code host lists in no place
    "README": {
        "Start": [
            "First map <self>",
            "docs/search-spaces",
            "docs/shipped-spaces",
            "docs/example",
            "docs/extend",
            "docs/how-do-i",
            "docs/how-to-read-figures",
            "docs/mlflow",
        ],
        "Go further": ["docs/boundaries", "docs/weights", "docs/cluster", "docker/README", "docs/gallery"],
        "Look up": ["docs/api", "docs/definitions", "docs/troubleshooting"],
        "Evidence": ["docs/replication", "docs/notes/README", "benchmarks/data/README"],
        "Project": ["CONTRIBUTING", "docs/reach-ins", "CHANGELOG"],
    },
    "docs/notes/README": {
        "Notes": ["speed", "reliability", "containers", "boundaries", "critical-weight-decay", "laws", "versions"]
    },
}
LOADS = re.compile(r"""<(?:script|img|iframe|source|link(?! rel="canonical"))\b[^>]*?(?:src|href)=["'](?:https?:)?//""")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_contents)
    app.connect("build-finished", _finish)


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    for caption, pages in NAVIGATION.get(page, {}).items():
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def _finish(app: Sphinx, error: Exception | None) -> None:
    """The first page under the name that servers open, and a page that would load something from elsewhere refused."""
    if error or app.builder.name != "html":
        return
    shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")
    foreign = list(_foreign(Path(app.outdir)))
    if foreign:
        raise ExtensionError(f"pages must load nothing from elsewhere, got {', '.join(foreign)}")


def _foreign(folder: Path) -> Iterator[str]:
    for page in sorted(folder.rglob("*.html")):
        for match in LOADS.finditer(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(folder)}: {match[0]}"
