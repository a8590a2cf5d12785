"""Writes the pages of the techniques, of the API and of the gallery."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docs.site import catalog, measured
from docs.site.record import Record
from docs.site.rows.row import Place, Technique

FENCE = "```"
LONGEST_VALUE = 200
FORMS = {"linen": "Linen", "nnx": "NNX"}
HEADS = ("from functools import partial", "import optax")
PURE = ("masks", "penalties", "projections", "proximal", "transforms")


def technique(row: Technique, place: Place, picture: Record) -> str:
    """Returns the page of a technique."""
    parts = [
        f"# {row.title}",
        f"{summary(row.functions[0])} Place in a training step: "
        f"[{place.title[0].lower()}{place.title[1:]}](/techniques/{place.name}.md).",
        _entries(row),
        _names(row),
        figure(row, picture),
        _forms(row),
        "## Function",
        *(autodoc(address) for address in row.functions),
        *_modules(row),
        *_chain(row),
        "## Cost",
        _cost(row),
        *_communication(row),
        *_digits(row),
        "## What can go wrong",
        "\n".join(f"- {risk}" for risk in row.risks),
        "## Source",
        _source(row),
    ]
    return _page(parts)


def summary(address: str) -> str:
    """Returns the first line of a docstring, in Markdown."""
    return to_markdown((inspect.getdoc(catalog.find(address)) or "").partition("\n")[0])


def to_markdown(text: str) -> str:
    """Converts the roles of a line of a docstring to Markdown."""
    text = re.sub(r":(func|class|mod):`([^`]+)`", _role, text)
    text = re.sub(r":math:`([^`]+)`", r"{math}`\1`", text)
    return text.replace("``", "`")


def _role(match: re.Match[str]) -> str:
    return f"`{match[2].removeprefix('jaxreg.').removeprefix('~')}`"


def keywords(row: Technique) -> list[str]:
    """Returns the names under which the index and the search list a technique."""
    plain, _, short = row.title.rstrip(")").partition(" (")
    names = [plain, short, *(address.rpartition(".")[2] for address in row.functions[:1])]
    for other in row.also:
        names += [
            other.replace("`", ""),
            *(name.partition("(")[0] for name in re.findall(r"`([^`]+)`", other)),
        ]
    return list(dict.fromkeys(name.replace(";", ",").strip() for name in names if name))


def _entries(row: Technique) -> str:
    lines = [f"   single: ! {name}" for name in keywords(row)]
    return "\n".join([f"{FENCE}{{eval-rst}}", ".. index::", *lines, FENCE])


def _names(row: Technique) -> str:
    return f"**Other names:** {'; '.join(row.also)}." if row.also else ""


def figure(row: Technique, picture: Record, above: str = "") -> str:
    """Returns both pictures, one of which the page shows, and the calls that made them."""
    shown = ", ".join(picture.titles)
    lines = [above] if above else []
    for theme in ("light", "dark"):
        lines += [
            f"{FENCE}{{image}} /_generated/pictures/{row.page}-{theme}.png",
            f":class: only-{theme}",
            ":loading: lazy",
            f":alt: Picture of {row.title}: {shown or 'curves'}",
            FENCE,
            "",
        ]
    if picture.about:
        lines += [picture.about, ""]
    return "\n".join([*lines, f"{FENCE}{{code-block}} python", *picture.calls, FENCE])


def _forms(row: Technique) -> str:
    forms = [("function", row.functions[:1])]
    modules = catalog.modules_of(row)
    forms += [
        (title, tuple(m for m in modules if m.startswith(f"{form}.")))
        for form, title in FORMS.items()
    ]
    lines = ["| form | call |", "|---|---|"]
    for title, addresses in forms:
        links = ", ".join(f"{{py:obj}}`{a} <jaxreg.{a}>`" for a in addresses)
        lines.append(f"| {title} | {links or 'none'} |")
    lines.append(f"| Optax | {'[a chain](#optax)' if row.chain else 'none'} |")
    return "\n".join(lines)


def autodoc(address: str) -> str:
    """Returns the directive that renders a docstring."""
    member = catalog.find(address)
    lines = [f"{FENCE}{{eval-rst}}"]
    if inspect.isclass(member):
        lines += [f".. autoclass:: jaxreg.{address}", *_members(address)]
    elif callable(member):
        lines.append(f".. autofunction:: jaxreg.{address}")
    else:
        module, _, name = address.rpartition(".")
        lines += [f".. py:data:: {name}", f"   :module: jaxreg.{module}", *_value(member)]
    return "\n".join([*lines, FENCE])


def _value(member: Any) -> list[str]:
    """Returns the type of a constant, and the constant if it is short."""
    lines = [f"   :type: {type(member).__name__}"]
    text = repr(member)
    return lines if len(text) > LONGEST_VALUE else [*lines, f"   :value: {text}"]


def _members(address: str) -> list[str]:
    if address.startswith(("linen.", "nnx.")):
        own = vars(catalog.find(address))
        return ["   :members: __call__"] if "__call__" in own else []
    return ["   :members:"]


def _modules(row: Technique) -> Iterable[str]:
    for form, title in FORMS.items():
        addresses = [a for a in catalog.modules_of(row) if a.startswith(f"{form}.")]
        if addresses:
            yield f"## {title}"
            yield from (autodoc(address) for address in addresses)


def chain_code(row: Technique) -> str:
    """Returns the chain of a technique as a program."""
    used = [name for name in PURE if f"{name}." in row.chain]
    heads = HEADS if "partial(" in row.chain else HEADS[1:]
    return "\n".join([*heads, f"from jaxreg import {', '.join(used)}", "", row.chain])


def _chain(row: Technique) -> Iterable[str]:
    if row.chain:
        yield "## Optax"
        yield f"{FENCE}python\n{chain_code(row)}\n{FENCE}"


def _cost(row: Technique) -> str:
    rows = measured.costs_of(row.work)
    if not rows:
        return "Not measured."
    lines = [
        "The last columns are the cost of jaxreg as a multiple of the other's and of the floor, "
        "which is what the work cannot do without, such as reading and writing its arrays. "
        "*plain* and *all blocks* are the step without the technique. From "
        "`benchmarks/RESULTS.md`.",
        "",
        "| work | other | jaxreg | other's | jaxreg / other | jaxreg / floor |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.work} | {c.peer} | {c.ours:g} {c.unit} | {c.theirs:g} {c.unit} | {1 / c.ratio:.2f} "
        f"| {c.distance:.2f} |"
        for c in rows
    ]
    return "\n".join(lines)


def _communication(row: Technique) -> Iterable[str]:
    known = measured.communication()
    if row.functions[0] not in known:
        return
    yield "## On a mesh"
    if operations := measured.slow_on_tpu().get(row.functions[0]):
        yield (
            f"With its gradient, the program for a TPU has {operations}, which are slow there "
            "([alternatives](/guides/meshes.md#tpus-and-gpus))."
        )
    sent = known[row.functions[0]]
    if not any(count.collectives or count.sometimes for count in sent):
        yield (
            "No communication: on eight devices with the batch or both batch and features spread, "
            "forward and backward ([how it is counted](/guides/communication.md))."
        )
        return
    programs = list(dict.fromkeys(count.program for count in sent))
    lines = [
        "Communication on eight devices. On a mesh of 8 the batch is spread. On 4 x 2 features are "
        "spread too, but not those of images and texts "
        "([how it is counted](/guides/communication.md)).",
        "",
        f"| mesh | {' | '.join(programs)} |",
        "|---|" + len(programs) * "---|",
    ]
    for mesh, mode in dict.fromkeys((count.mesh, count.mode) for count in sent):
        cells = [_sent(count) for count in sent if (count.mesh, count.mode) == (mesh, mode)]
        lines.append(f"| {mesh.replace('x', ' x ')}, {mode} | {' | '.join(cells)} |")
    yield "\n".join(lines)


def _sent(count: measured.Sent) -> str:
    always = f"{count.collectives}: {count.elements} numbers" if count.collectives else "none"
    return f"{always}; rarely {count.sometimes}" if count.sometimes else always


def _digits(row: Technique) -> Iterable[str]:
    study = measured.digits()
    arms = [study[arm.name] for arm in catalog.arms_of(row) if arm.name in study]
    if not arms:
        return
    yield "## On digits"
    lines = [
        "[The study](../../guides/study.md) trains every technique on 300 handwritten digits, at "
        "several strengths and with many seeds. The difference is to the same network without any "
        "regularization, in points of accuracy on test rows, with its 95% interval.",
        "",
        "| arm | strength | accuracy | difference | verdict |",
        "|---|---|---|---|---|",
    ]
    yield "\n".join([*lines, *(_of_arm(arm) for arm in arms)])


def _of_arm(arm: measured.Measured) -> str:
    difference = ""
    if arm.difference is not None and arm.low is not None and arm.high is not None:
        low, high = 100 * arm.low, 100 * arm.high
        difference = f"{100 * arm.difference:+.2f} [{low:+.2f}, {high:+.2f}]"
    accuracy = f"{100 * arm.test:.1f}%"
    return f"| `{arm.arm}` | {arm.strength} | {accuracy} | {difference} | {arm.verdict} |"


def _source(row: Technique) -> str:
    files = [source_file(address) for address in catalog.addresses_of(row)]
    code = ", ".join(f"`{name}`" for name in dict.fromkeys(files) if name)
    return (
        f"Code: {code}. Each entry above has a link to its source, and the papers are below "
        "*References* of the entries."
    )


def source_file(address: str) -> str:
    """Returns the file that defines an address, relative to the project."""
    member = inspect.unwrap(catalog.find(address))
    path = Path(inspect.getsourcefile(member) or "").resolve()
    return str(path.relative_to(measured.ROOT))


def place(group: Place) -> str:
    """Returns the page of a place: its techniques in a table."""
    names = [row.page for row in group.techniques]
    about = f"{group.about} The [guide](/guides/{catalog.GUIDES[group.name]}.md) explains them."
    return _page([f"# {group.title}", about, _table(group), _toctree(names)])


def _table(group: Place) -> str:
    lines = ["| technique | function | purpose |", "|---|---|---|"]
    for row in group.techniques:
        link = f"[{row.title}](/techniques/{row.page}.md)"
        lines.append(f"| {link} | `{row.functions[0]}` | {summary(row.functions[0])} |")
    return "\n".join(lines)


def index() -> str:
    """Returns the page of all techniques."""
    parts = [
        "# Techniques",
        "Every technique has a page with its formula, a picture, its forms, its cost and what can "
        "go wrong. They are grouped by the place of a training step where they act. The search "
        "also knows the names of PyTorch, Keras, timm and papers.",
    ]
    for group in catalog.PLACES:
        parts += [f"## {group.title}", _table(group)]
    parts.append(_toctree([group.name for group in catalog.PLACES]))
    return _page(parts)


def _toctree(names: Iterable[str], caption: str = "") -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join([f"{FENCE}{{toctree}}", *options, "", *names, FENCE])


def api(module: str) -> str:
    """Returns the page of a module: its names, and the docstrings that have no other page."""
    names = catalog.public(module)
    other = {*catalog.pages(), *catalog.ALIASES}
    here = [name for name in names if f"{module}.{name}" not in other]
    parts = [
        f"# `jaxreg.{module}`",
        f"{FENCE}{{eval-rst}}\n.. automodule:: jaxreg.{module}\n   :no-members:\n{FENCE}",
        _names_table(module, names),
        *(autodoc(f"{module}.{name}") for name in here),
    ]
    return _page(parts)


def _names_table(module: str, names: list[str]) -> str:
    lines = ["| name | purpose |", "|---|---|"]
    for name in names:
        address = catalog.ALIASES.get(f"{module}.{name}", f"{module}.{name}")
        about = summary(address) if callable(catalog.find(address)) else "A constant."
        lines.append(f"| {{py:obj}}`{name} <jaxreg.{address}>` | {about} |")
    return "\n".join(lines)


def api_index() -> str:
    """Returns the page of all modules."""
    lines = ["| module | purpose |", "|---|---|"]
    for module in catalog.MODULES:
        home = importlib.import_module(f"jaxreg.{module}")
        about = to_markdown((inspect.getdoc(home) or "").partition("\n")[0])
        lines.append(f"| [`jaxreg.{module}`](/api/{module}.md) | {about} |")
    return _page(
        [
            "# API",
            "Every public name, by module. Names of techniques lead to the page of the technique.",
            "\n".join(lines),
            _toctree(catalog.MODULES),
        ]
    )


def gallery(pictures: dict[str, Record]) -> str:
    """Returns all pictures with their calls, by place."""
    parts = []
    for group in catalog.PLACES:
        parts += [f"## {group.title}"]
        for row in group.techniques:
            parts += [
                f"### [{row.title}](/techniques/{row.page}.md)",
                figure(row, pictures[row.page]),
            ]
    return _page(parts)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
