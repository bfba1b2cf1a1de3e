"""How Sphinx makes a site of these pages: ``make docs``."""

import re
from importlib import metadata

from pygments.lexers.special import TextLexer

project = "resnet-proto"
release = metadata.version("resnet-proto")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
default_role = "code"
smartquotes = False  # they make one dash of the two before an option
html_theme = "furo"
html_title = "resnet-proto"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch", "keras"]  # `make docs` needs neither
napoleon_google_docstring = True
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
exclude_patterns = ["_build"]


def outside(app, page, source):
    """Links to what lies outside of docs/ become its path: the site has no such page."""

    def path(found):
        text, target = found.groups()
        return f"`{target}`" if text.strip("`/") == target.strip("/") else f"{text} (`{target}`)"

    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", path, source[0])


def as_code(app, context, lines):
    """Examples in the help of a command, which come as lines behind bars, become code."""
    block = re.compile(r"(?:^\| .*\n)+", re.M)

    def code(found):
        shown = [line[2:] for line in found[0].splitlines() if line != "| Examples:"]
        return "\n".join((".. code-block:: console", "", *(f"    $ {line}" for line in shown), ""))

    text = block.sub(code, "\n".join([*lines, ""]))
    # the lines of one command that go on have no prompt
    lines[:] = re.sub(r"(\\\n    )\$ ", r"\1", text).split("\n")


def setup(app):
    """Called by Sphinx."""
    app.add_lexer("prototxt", TextLexer)
    app.connect("source-read", outside)
    app.connect("sphinx-click-process-description", as_code)
