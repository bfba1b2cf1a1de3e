"""A net (and another, weights, an input) -> facts -> a page for browsers, in one file.

    Net -> facts.facts -> plain data;  weights, blobs -> values -> plain data
    plain data + page.html, page.css, page.js, vendor/ -> page

What comes from files of others is data in the page, as JSON, and never markup; ``page.js`` hands it
to the browser as text. The page may load nothing, and runs only the scripts that it has itself.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from resnet_proto.report.drawing import readable

VENDOR = (
    "dagre", "d3-dispatch", "d3-selection", "d3-timer", "d3-color", "d3-interpolate", "d3-ease",
    "d3-drag", "d3-transition", "d3-zoom",
)  # fmt: skip
"""What the page is drawn with, each after what it needs; see ``vendor.sh``."""
OWN = ("net.js", "layout.js", "graph.js", "bars.js", "details.js", "page.js")
"""The page's own scripts, in order."""
ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(nets: Sequence[Mapping[str, Any]], live: str = "") -> str:
    """The page of one net, or of two beside each other.

    Args:
        nets: what ``facts.facts`` gives of each.
        live: what the server says while nothing has changed; empty for a file.
    """
    title = " and ".join(readable(str(net["title"])) for net in nets)
    return assembled("page.html", title, {"nets": nets, "live": live})


def refusal(message: str, live: str) -> str:
    """The page of a net that cannot be read, until it can."""
    return assembled("refusal.html", "view", {"message": message, "live": live})


def assembled(template: str, title: str, data: Mapping[str, Any]) -> str:
    """A page with its data, style and scripts, and what it may do."""
    folder = files(__package__)
    style = folder.joinpath("page.css").read_text("utf-8")
    live = folder.joinpath("live.js").read_text("utf-8")
    scripts = [live]
    if template == "page.html":
        vendor = folder.joinpath("vendor")
        scripts = [vendor.joinpath(f"{name}.min.js").read_text("utf-8") for name in VENDOR]
        scripts.append("\n".join(folder.joinpath(name).read_text("utf-8") for name in OWN) + live)
    # ``connect-src`` is for the question whether the files have changed, and for nothing else.
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(digest, scripts)),
        "style-src": digest(style),
        "connect-src": "'self'" if data["live"] else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    parts = {
        "policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "title": html.escape(title),
        "style": style,
        "data": as_script(data),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    text = folder.joinpath(template).read_text("utf-8")
    return PLACE.sub(lambda place: parts[place[1]], text)


def as_script(data: Mapping[str, Any]) -> str:
    """Data as JSON that can stand within a script element: ASCII, without what ends one."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(ESCAPES)


def digest(text: str) -> str:
    """What a Content-Security-Policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
