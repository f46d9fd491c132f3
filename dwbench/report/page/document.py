"""The page as one file: the template's parts, Plotly and the data put together.

Plotly is embedded compressed (1.9 MB of base64 in place of 4.7 MB; the browser's own DecompressionStream unpacks it):
that leaves room for 1,000 runs in plain, readable JSON below 6 MB. The page's policy lets run these two scripts, named
by their hashes, and nothing else, and lets it fetch nothing.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    "util.js",
    "state.js",
    "figure.js",
    "marks.js",
    "overview.js",
    "quality.js",
    "budget.js",
    "cost.js",
    "ablation.js",
    "agreement.js",
    "chosen.js",
    "samples.js",
    "runs.js",
    "detail.js",
    "main.js",
)
"""In the order in which they are put together."""

# `<` and its like end or begin a script element inside of one; the two separators end a line in older JavaScript; half
# a surrogate pair can't be written as UTF-8.
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def document(payload: Mapping[str, Any]) -> str:
    """The whole page. The same payload gives the same text."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    script = '"use strict";\n(() => {\n' + "\n".join(_part(name) for name in SCRIPTS) + "\n})();\n"
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {_hash(library)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "STYLE": _part("page.css"),
        "PLOTLY": base64.b64encode(zlib.compress(library.encode(), 9)).decode(),
        "SCRIPT": script,
        "PAYLOAD": escaped_json(payload),
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def escaped_json(data: object) -> str:
    """JSON that can stand inside of a script element."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _part(name: str) -> str:
    return (files("dwbench.report.page") / "template" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
