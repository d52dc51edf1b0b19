"""Settings of Sphinx; `hatch run docs:build` builds with warnings as errors."""

from fifteen import __version__
from sphinx.application import Sphinx

project = "fifteen"
author = "the fifteen authors"
release = __version__
html_theme = "furo"
pygments_dark_style = "github-dark"  # Furo's own underlines what is imported.
html_title = f"fifteen {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Members in the order of the source, which is that of use; the annotations are in the signatures.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _sign_collate_fn)


def _sign_collate_fn(_app: Sphinx, _what: str, name: str, *_: object) -> tuple[str, str] | None:
    # A field with a function for its default looks like a method, whose first argument is `self`.
    if name.endswith(".DataLoader.collate_fn"):
        return "(samples: list[SampleType])", "PyTreeType"
    return None
