"""Sphinx's configuration: ``make docs`` builds the pages of this folder into ``build/docs``.

The pages are MyST (Markdown) and read well as they are, too; Sphinx adds the navigation, the search and the reference, which numpydoc
makes of the docstrings. Warnings are errors: a link to a heading that is not there fails the build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import interop

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "array-interop"
copyright = "the array-interop developers"  # noqa: A001 - the name is Sphinx's
version = release = interop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]

myst_heading_anchors = 4  # as on GitHub, so that one link works in both places
default_role = "py:obj"  # a name in single backticks, as the docstrings have them

autodoc_typehints = "none"  # numpydoc has them from the docstring
numpydoc_show_class_members = False  # one page for each module: its classes have few members, which are on it

LINKS = {
    "](../CONTRIBUTING.md": "](contributing.md",
    "](../examples/README.md": "](examples.md",
    "[its page](conformance.html)": '<a href="_static/conformance.html">its page</a>',
}
"""On GitHub a link leads to a file; here to the page that includes it, or to a copy."""


def link_to_pages(_app: object, _page: str, source: list[str]) -> None:
    """Turn links to files into links to what is built."""
    for file, page in LINKS.items():
        source[0] = source[0].replace(file, page)


def setup(app: Sphinx) -> None:
    """Take part in the build; Sphinx calls it."""
    app.connect("source-read", link_to_pages)


html_theme = "pydata_sphinx_theme"
html_title = "array-interop"
html_static_path = ["conformance.html"]
html_theme_options = {
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"**": ["globaltoc.html"]}
