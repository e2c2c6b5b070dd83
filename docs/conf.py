"""Configuration of the documentation site: `python -m sphinx -W --keep-going docs site`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from pages import write_pages

from callsieve import __version__

write_pages()

project, release = "callsieve", __version__
html_title = f"callsieve {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/_*"]
nb_execution_mode = "off"  # the notebooks bring their output; the tests run them
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # no file from another host
html_theme = "pydata_sphinx_theme"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def setup(app: Any) -> None:
    """Leaves out the methods for metadata routing, whose texts are scikit-learn's."""
    app.connect(
        "autodoc-skip-member", lambda _app, _what, name, _member, skip, _options: skip or name.endswith("_request")
    )
