"""A report as one HTML page that needs nothing beside it: no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import jinja2
from markupsafe import Markup

from tvm_mobilenet.reporting.page import Page
from tvm_mobilenet.reporting.sections import build
from tvm_mobilenet.results.inputs import Inputs
from tvm_mobilenet.results.schema import Results

TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"


def render(files: Sequence[tuple[str, Results]]) -> str:
    """One page for these (file name, results)."""
    return render_inputs(Inputs(tuple(files)))


def render_inputs(inputs: Inputs) -> str:
    """One page for everything; whatever the files hold is escaped."""
    return render_page(build(inputs))


def render_page(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_own_text(TEMPLATE))
    # Markup: our own files, and charts in which every text is escaped.
    return template.render(
        page=page,
        style=Markup(_own_text(STYLE)),
        script=Markup(_own_text(SCRIPT)),
        svg=Markup,
    )


def _own_text(name: str) -> str:
    return resources.files("tvm_mobilenet.reporting").joinpath(name).read_text("utf-8")
