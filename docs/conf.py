"""The documentation site: `pip install -e ".[docs]"`, then `sphinx-build -W docs docs/_build`."""

from __future__ import annotations

import fastbp

project = "fastbp"
author = "fastbp contributors"
copyright = author
version = release = fastbp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "figures"]

# GitHub's anchors of headings, so that a link to one works there and here.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "none"  # numpydoc's sections say the types in words

html_theme = "furo"
html_title = "fastbp"
html_show_sourcelink = False
html_copy_source = False
