"""The table of techniques in docs/guides/choosing.md, written from the data of the advice.

``python -m tests.advice.table`` prints it; put it into the page if the data changes.
"""

from jaxreg.advice.rows import ROWS
from jaxreg.advice.starts import STARTS

# Functions that the code of a technique takes.
FUNCTIONS = {"l1": "proximal.l1", "elastic_net": "proximal.elastic_net"}
HEAD = ["| technique | for | not for | start with | source |", "|---|---|---|---|---|"]


def condition(row):
    """The conditions of a row in words."""
    parts = [
        " or ".join(row.architectures),
        " or ".join(row.tasks),
        f"{row.rows} data" if row.rows else "",
        f"{row.batch} batches" if row.batch else "",
        row.need.replace("_", " "),
    ]
    return ", ".join(filter(None, parts)) or "anything"


def conditions(rows):
    return "; ".join(dict.fromkeys(condition(row) for row in rows))


def link(source):
    """The first published work of a source as a link."""
    name, _, address = source.partition(", https://")
    return f"[{name}](https://{address})"


def start(technique):
    given = STARTS[technique]
    where = f"`{given.address.removeprefix('jaxreg.')}`"
    function = FUNCTIONS.get(technique)
    taken = f" of `{function}`" if function else ""
    word, _, ends = given.strength.partition(" ")
    word = f"`{word}`" if given.argument else word
    return f"{where}{taken}, {word} {ends}" if ends else f"{where}{taken}"


def table():
    """The lines of the table, one per technique."""
    lines = []
    for technique in dict.fromkeys(row.technique for row in ROWS):
        rows = [row for row in ROWS if row.technique == technique]
        sources = "; ".join(dict.fromkeys(link(row.source) for row in rows))
        use = [row for row in rows if not row.avoid]
        avoid = [row for row in rows if row.avoid]
        cells = [technique.replace("_", " "), conditions(use), conditions(avoid)]
        lines.append(f"| {' | '.join([*cells, start(technique), sources])} |")
    return [*HEAD, *lines]


if __name__ == "__main__":
    print("\n".join(table()))
