"""Sphinx extension: names of jaxreg in running text lead to the page that documents them.

So the pages stay plain Markdown: ``penalties.l2``, ``rl.Dropout(0.5)`` or ``drop_path`` become
links if there is exactly one such name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

# Names by which the pages import modules.
SHORT = {"rl": "linen", "rx": "nnx"}
# Where modules live that the pages name without their package.
HOMES = ("", "augment.", "training.")
FORMS = ("linen.", "nnx.")
NAME = re.compile(r"(?:jaxreg\.)?([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?", re.DOTALL)


def address(text: str, known: Collection[str], single: dict[str, str]) -> str | None:
    """Returns the address below ``jaxreg`` that a literal names, or None.

    Args:
      text: Text of the literal, a name or a call.
      known: All addresses.
      single: Addresses by names that only one of them has, see :func:`single_names`.
    """
    match = NAME.fullmatch(text.strip())
    if match is None:
        return None
    head, dot, rest = match[1].partition(".")
    if not dot:
        return single.get(head)
    name = f"{SHORT.get(head, head)}.{rest}"
    return next((home + name for home in HOMES if home + name in known), None)


def single_names(known: Iterable[str]) -> dict[str, str]:
    """Returns the addresses of functions whose last name is long and belongs to no other."""
    found: dict[str, list[str]] = {}
    for name in known:
        if not name.startswith(FORMS):
            found.setdefault(name.rpartition(".")[2], []).append(name)
    return {last: names[0] for last, names in found.items() if "_" in last and len(names) == 1}


class Names(SphinxPostTransform):
    """Turns literals that name something of jaxreg into references."""

    default_priority = 5  # before references are resolved

    def run(self, **_: Any) -> None:
        """Replaces the literals of a document."""
        objects = self.env.domaindata["py"]["objects"]
        known = {name.removeprefix("jaxreg.") for name in objects if name.startswith("jaxreg.")}
        single = single_names(known)
        inside = nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc
        for literal in list(self.document.findall(nodes.literal)):
            if any(isinstance(parent, inside) for parent in parents(literal)):
                continue
            if found := address(literal.astext(), known, single):
                self._link(literal, f"jaxreg.{found}")

    def _link(self, literal: nodes.literal, target: str) -> None:
        reference = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True
        )
        reference["refdoc"] = self.env.docname
        literal.replace_self(reference)
        reference += literal


def parents(node: nodes.Node) -> Iterable[nodes.Node]:
    """Yields the nodes around a node, from the inside."""
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app: Any) -> dict[str, Any]:
    """Registers the transformation."""
    app.add_post_transform(Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
