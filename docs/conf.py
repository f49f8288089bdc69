"""Settings of Sphinx for these pages: ``nox -s docs`` builds them."""

from __future__ import annotations

import sys

from keras_reduce import __version__

project = "keras_reduce"
author = "The keras_reduce developers"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]

# Pages are plain Markdown, so that they read well in a checkout as well; anchors are as there.
myst_heading_anchors = 3

# Names in single backticks are links where they name something public, and code elsewhere.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]
# Types are in the docstrings.
autodoc_typehints = "none"
autodoc_default_options = {"member-order": "bysource"}
numpydoc_show_class_members = False
add_module_names = False

html_theme = "furo"
html_title = f"keras_reduce {version}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_domain_indices = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: object) -> None:
    """Check that the API can be documented without a framework."""
    frameworks = {"keras", "tensorflow", "tf_keras", "jax", "torch"}

    def check(app: object, exception: Exception | None) -> None:
        imported = frameworks & set(sys.modules)
        if imported and exception is None:
            raise RuntimeError(f"Documenting the package has imported {sorted(imported)}")

    app.connect("build-finished", check)  # type: ignore[attr-defined]
