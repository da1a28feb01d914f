"""MkDocs hooks: formulae become MathML (no script, no network), and every source file becomes a page to link to.

`$...$` and `$$...$$` outside code are converted when the page is built. `source/<room>/<file>.md` shows the file.
"""

from __future__ import annotations

import ast
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

_CODE = re.compile(r"(^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\w$])\$(?P<inline>[^$\n]+?)\$(?!\w)", re.DOTALL)
_TAG = re.compile(r"\\tag\{(\d+)\}")
_HTML_CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>|<[^>]*>)", re.DOTALL)
_pages: dict[str, list[str]] = {}


def on_files(files: Files, config: Any) -> Files:
    """Add one page per source file."""
    source = Path(config["docs_dir"]).parent / "src" / "roughspike"
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            continue
        content = f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n````python linenums=\"1\"\n{text}\n````\n"
        files.append(File.generated(config, f"source/{name.removesuffix('.py')}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace formulae by tokens that Markdown leaves alone."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    if page.file.src_uri == "api.md":
        markdown += public_names()
    found: list[str] = []

    def keep(match: re.Match[str]) -> str:
        found.append(formula(match))
        return f"MATHML{len(found) - 1}TOKEN"

    parts = _CODE.split(markdown)
    parts[::2] = [_MATH.sub(keep, part) for part in parts[::2]]
    _pages[page.file.src_uri] = found
    return "".join(parts)


def formula(match: re.Match[str]) -> str:
    """MathML of one formula; a displayed one becomes a row with its number and an anchor, `eq-6`."""
    if not match["block"]:
        return convert(match["inline"].strip())
    text, number = match["block"].strip(), ""
    tag = _TAG.search(text)
    if tag:
        text, number = _TAG.sub("", text), f"<span>({tag[1]})</span>"
    anchor = f' id="eq-{tag[1]}"' if tag else ""
    return f'<div class="equation"{anchor}><div>{convert(text.strip(), display="block")}</div>{number}</div>'


def public_names() -> str:
    """One mkdocstrings entry per public name, under a heading per room, from the table in `__init__.py`."""
    text = (Path(__file__).parents[1] / "src" / "roughspike" / "__init__.py").read_text(encoding="utf-8")
    assign = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign) and "_HOME" in ast.dump(node))
    table: dict[str, str] = ast.literal_eval(assign.value)
    rooms: dict[str, list[str]] = {}
    for name, home in table.items():
        rooms.setdefault(home.partition(".")[0].strip("_"), []).append(f"::: roughspike.{home}.{name}\n")
    return "".join(f"\n## {room}\n\n" + "\n".join(entries) for room, entries in rooms.items())


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Put the formulae back; on the API page, convert those of the docstrings."""
    if page.file.src_uri == "api.md":
        parts = _HTML_CODE.split(html)
        parts[::2] = [_MATH.sub(formula, unescape(part)) if "$" in part else part for part in parts[::2]]
        html = "".join(parts)
    for k, tree in enumerate(_pages.get(page.file.src_uri, [])):
        for token in (f"<p>MATHML{k}TOKEN</p>", f"MATHML{k}TOKEN"):
            html = html.replace(token, tree)
    return html
