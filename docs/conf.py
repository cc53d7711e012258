"""The documentation site: `pip install -e ".[docs]"`, then `sphinx-build -W --keep-going docs docs/_build`."""

from __future__ import annotations

from typing import Any

import fastbp

project = "fastbp"
author = "fastbp contributors"
copyright = author
version = release = fastbp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "figures"]

# The anchors of headings that plain git hosts make, so that a link to one works here and there.
myst_heading_anchors = 3

default_role = "code"  # single backticks in docstrings
autodoc_typehints = "none"  # numpydoc's sections say the types in words
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_title = "fastbp"
html_show_sourcelink = False
html_copy_source = False


def tell_the_activations(_app: Any, _what: str, name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """A list of the registry in the place of dict's own docstring."""
    if name == "fastbp.activations.ACTIVATIONS":
        kinds = fastbp.activations.ACTIVATIONS.values()
        lines[:] = [f"- ``{kind.name}``: ``{kind.formula}``; initial weights ``{kind.init}``" for kind in kinds]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", tell_the_activations)
