"""Settings of Sphinx; `hatch run docs:build` builds with warnings as errors."""

from fifteen import __version__

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
