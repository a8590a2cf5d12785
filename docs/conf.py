"""Configuration of the site.

python -m sphinx -W -b html -d docs/_build/doctrees docs docs/_build/html
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from jaxreg import __version__  # noqa: E402

project = "jaxreg"
author = "The jaxreg authors"
project_copyright = "The jaxreg authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "docs.site.extension",
    "docs.site.names",
]
exclude_patterns = ["_build", "_generated", "site"]
source_suffix = {".md": "markdown"}
# A link that leads nowhere is a warning, and `-W` makes it an error.
nitpicky = True
nitpick_ignore_regex = [
    # Words of signatures: types of the standard library, of JAX, Flax, Optax and NumPy, and names
    # that files give to types. Functions and classes of jaxreg have to exist.
    ("py:class", r"(?!jaxreg\.).*"),
    ("py:obj", r"(?!jaxreg\.).*"),
    ("py:data", r"(?!jaxreg\.).*"),
    ("py:func", r"(functools|jax|numpy|optax|flax)\..*"),
    # Parts of the study and of transforms without a page.
    ("py:class", r"jaxreg\.study\.arms\.row\..*"),
    ("py:data", r"jaxreg\.study\.operations\.OPERATIONS"),
    ("py:mod", r"jaxreg\.(transforms|study)\..*"),
]
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False

# Building needs no network; on a machine that has it, links lead to other projects, too.
intersphinx_mapping = {}
if os.environ.get("SPHINX_ONLINE"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "flax": ("https://flax.readthedocs.io/en/latest", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
    }

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"jaxreg {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(HERE / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
viewcode_line_numbers = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
