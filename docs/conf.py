"""How Sphinx builds the site: ``sphinx-build -W docs docs/_build/html``, with the extra ``docs`` installed."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "captum-vit"
author = "the authors of captum-vit"
copyright = "2026, the authors of captum-vit. Apache-2.0"
version = release = version_of("captum-vit")

extensions = [
    "commands",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_external_toc",
]
exclude_patterns = ["_build", "extensions"]

# Pages are Markdown that a code host shows as well, so what is in which order is told apart from them.
external_toc_path = "_toc.yml"
myst_heading_anchors = 4

# Notebooks are shown as they are kept: the tests run them, and the build needs no kernel.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "captum-vit"
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
