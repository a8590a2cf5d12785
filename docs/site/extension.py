"""Sphinx extension: generates the pages of the techniques, of the API and of the gallery."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from docs.site import catalog, drawing, links, markup, notebook, pages, record, signatures
from docs.site.pictures import PICTURES
from docs.site.record import Record

HERE = Path(__file__).parent
# Everything that a picture depends on.
CODE = (HERE / "pictures", HERE / "drawing.py", HERE / "panels.py", HERE.parents[1] / "jaxreg")


def generate(app: Any) -> None:
    """Writes all generated files below the sources of the site."""
    source = Path(app.srcdir)
    pictures = draw_all(source / "_generated" / "pictures")
    for name, text in {**texts(pictures), **links.copies()}.items():
        write(source / f"{name}.md", text)
    write(notebook.NOTEBOOK, notebook.notebook(notebook.PAGE.read_text()))


def draw_all(folder: Path) -> dict[str, Record]:
    """Draws each picture unless its files are newer than all code, and returns their texts."""
    files = [file for path in CODE for file in ([path] if path.is_file() else path.rglob("*.py"))]
    newest = max(file.stat().st_mtime for file in files)
    records = {}
    for row in catalog.TECHNIQUES:
        path = folder / row.page
        written = path.with_name(f"{path.name}-dark.png")
        if not written.exists() or written.stat().st_mtime < newest:
            drawing.save(PICTURES[row.page](), path)
        records[row.page] = record.read(path)
    return records


def texts(pictures: dict[str, Record]) -> dict[str, str]:
    """Returns the generated pages by name."""
    made = {
        "techniques/index": pages.index(),
        "api/index": pages.api_index(),
        "_generated/gallery": pages.gallery(pictures),
    }
    made |= {f"api/{module}": pages.api(module) for module in catalog.MODULES}
    for group in catalog.PLACES:
        made[f"techniques/{group.name}"] = pages.place(group)
        for row in group.techniques:
            made[f"techniques/{row.page}"] = pages.technique(row, group, pictures[row.page])
    return made


def write(path: Path, text: str) -> None:
    """Writes a file unless it has this text already, so that Sphinx reads it once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def show_signature(
    app: Any, what: str, name: str, member: Any, options: Any, signature: Any, returned: Any
) -> tuple[str, str] | None:
    """Shows the signature that ``help`` prints."""
    if what in ("class", "function", "method") and callable(member):
        return signatures.shown(member, inspect.isclass(member), what == "method")
    return None


def rewrite_links(app: Any, docname: str, content: list[str]) -> None:
    """Leads links to other documents of the project to their pages of the site."""
    content[0] = links.rewrite(content[0], docname)


def collapse_navigation(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Opens the branch of a page alone in the navigation, or each page would list all others."""
    if "toctree" in context:
        context["toctree"] = functools.partial(_collapsed, context["toctree"])


def _collapsed(toctree: Any, **options: Any) -> Any:
    return toctree(**{**options, "collapse": True})


def mend_page(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Mends the HTML that Sphinx and the theme made."""
    for name, mend in (
        ("furo_navigation_tree", markup.mend_navigation),
        ("body", markup.mend_body),
    ):
        if name in context:
            context[name] = mend(context[name])


def setup(app: Any) -> dict[str, Any]:
    """Registers the extension."""
    app.connect("builder-inited", generate)
    app.connect("source-read", rewrite_links)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("html-page-context", collapse_navigation, priority=100)  # before the theme
    app.connect("html-page-context", mend_page, priority=900)  # after it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
