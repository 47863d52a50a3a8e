"""Settings of Sphinx; `make docs` calls it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mapgym

# For the extensions of this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "mapgym"
author = "the authors of mapgym"
version = release = mapgym.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "references"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
# Every name in a docstring or an annotation has to lead to something.
nitpicky = True
needs_sphinx = "8.0"

# Anchors as the pages have them where the repository is read in a browser.
myst_heading_anchors = 4
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# The site can be built without the extras.
_EXTRAS = (
    "cmaes",
    "matplotlib",
    "optuna",
    "pyarrow",
    "safetensors",
    "sb3_contrib",
    "scipy",
    "stable_baselines3",
    "tensorboard",
    "torch",
)
autodoc_mock_imports = [name for name in _EXTRAS if importlib.util.find_spec(name) is None]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
maximum_signature_line_length = 100
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"mapgym {version}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# A summary needs the page, which browsers do not let a script fetch from a disk.
html_show_search_summary = False
toc_object_entries_show_parents = "hide"
pygments_style = "friendly"
pygments_dark_style = "monokai"
