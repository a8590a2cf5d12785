"""Counts what the house style rules out; ``python -m tests.style FOLDER`` lists it.

The rules are in CONTRIBUTING.md. Without arguments it looks at the package and the documents.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
# Folders of docs/ that the build of the site writes.
WRITTEN = {"_build", "_generated", "api", "benchmarks", "project", "techniques"}
VERBS = ("embed",)  # Verbs in -ed.
PARTICIPLES = re.compile(
    "bound|built|chosen|cut|drawn|forgotten|given|grown|held|hidden|kept|known|left|lost|made|met|"
    "put|seen|sent|set|shown|split|spread|taken|thrown|told|torn|worn|written|[a-z]{2,}[^e]ed"
)
RULES = {
    "openers": "a docstring begins with What, Which, That, Whether, How, Where or Whoever",
    "that_of": "'that of' and 'those of': write the possessive, or name the thing again",
    "packed": "several statements in one tuple assignment: write one a line",
    "flags": "a list or a text times a condition: write `if`",
    "private": "an import of another package's private module",
    "plan": "notes of a private plan",
    "participles": "a function named by a bare participle: name what it does, or what it returns",
}
OPENERS = re.compile(r"(What|Which|That|Whether|How|Where|Whoever)\b")
THAT_OF = re.compile(r"\b(that|those) of\b(?! X\b)", re.IGNORECASE)
PLAN = re.compile(r"\bS[0-4] |(?<!of )\b[Cc]ourse\b(?! of)")


def sources(folder: str = "jaxreg", root: Path = ROOT) -> list[Path]:
    place = root / folder
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def documents() -> list[str]:
    paths = [path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))]
    names = [path.relative_to(ROOT) for path in paths]
    return [str(name) for name in names if name.parts[0] != "docs" or name.parts[1] not in WRITTEN]


def count_lines(folder: str = "jaxreg") -> int:
    return sum(len(path.read_text().splitlines()) for path in sources(folder))


def find(path: Path, root: Path = ROOT) -> Iterator[tuple[str, int, str]]:
    """Rule, line and text of each place of a file that breaks a rule."""
    text = path.read_text()
    yield from find_in_lines(text)
    if path.suffix == ".py":
        home = path.relative_to(root).parts[:-1]
        for node in ast.walk(ast.parse(text)):
            yield from find_in_node(node, home)


def find_in_lines(text: str) -> Iterator[tuple[str, int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        for _ in THAT_OF.finditer(line):
            yield "that_of", number, line.strip()
        if PLAN.search(line):
            yield "plan", number, line.strip()


def find_in_node(node: ast.AST, home: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        line = (ast.get_docstring(node) or "").split("\n")[0]
        if OPENERS.match(line):
            yield "openers", getattr(node, "lineno", 1), line
    if isinstance(node, ast.FunctionDef) and is_participle(node.name):
        yield "participles", node.lineno, node.name
    if isinstance(node, ast.Assign) and is_packed(node):
        yield "packed", node.lineno, ast.unparse(node)
    if isinstance(node, ast.BinOp) and is_flag(node):
        yield "flags", node.lineno, ast.unparse(node)
    if isinstance(node, ast.ImportFrom) and node.module and is_private(node, home):
        yield "private", node.lineno, ast.unparse(node)


def is_participle(name: str) -> bool:
    word = name.strip("_")
    return word not in VERBS and bool(PARTICIPLES.fullmatch(word))


def is_packed(node: ast.Assign) -> bool:
    """Two calls in a tuple for two names, or a generator or ``map`` that is unpacked."""
    if not isinstance(node.targets[0], ast.Tuple):
        return False
    value = node.value
    if isinstance(value, ast.Tuple):
        return sum(has_call(element) for element in value.elts) > 1
    maps = isinstance(value, ast.Call) and ast.unparse(value.func) == "map"
    return maps or isinstance(value, ast.GeneratorExp)


def has_call(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call) for inner in ast.walk(node))


def is_flag(node: ast.BinOp) -> bool:
    if not isinstance(node.op, ast.Mult):
        return False
    return any(
        (is_texts(one) and not isinstance(other, ast.Constant)) or (is_row(one) and is_test(other))
        for one, other in ((node.left, node.right), (node.right, node.left))
    )


def is_texts(node: ast.AST) -> bool:
    """A list of lines of text."""
    texts = (ast.Constant, ast.JoinedStr)
    return (
        isinstance(node, ast.List)
        and bool(node.elts)
        and all(isinstance(e, texts) and not is_number(e) for e in node.elts)
    )


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def is_row(node: ast.AST) -> bool:
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return text or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple)


def is_test(node: ast.AST) -> bool:
    inverts = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    names = ("bool", "isinstance", "hasattr")
    asks = isinstance(node, ast.Call) and ast.unparse(node.func) in names
    return inverts or asks or isinstance(node, ast.Compare | ast.BoolOp)


def is_private(node: ast.ImportFrom, home: tuple[str, ...]) -> bool:
    """An import of a private module from a package outside the folder ``home``."""
    for alias in node.names:
        parts = f"{node.module}.{alias.name}".split(".")
        for i, part in enumerate(parts):
            own = tuple(parts[:i]) == home[:i]
            if part.startswith("_") and not part.startswith("__") and i > 1 and not own:
                return home[0] == "jaxreg" and parts[0] == "jaxreg"
    return False


def count(folder: str = "jaxreg", root: Path = ROOT) -> dict[str, list[str]]:
    """Places by rule."""
    places: dict[str, list[str]] = {rule: [] for rule in RULES}
    for path in sources(folder, root):
        for rule, line, text in find(path, root):
            places[rule].append(f"{path.relative_to(root)}:{line}: {text}")
    return places


def main(folders: list[str]) -> None:
    for folder in folders or ["jaxreg", *documents()]:
        for rule, places in count(folder).items():
            if not places and folder.endswith(".md"):
                continue
            print(f"{folder} {rule}: {len(places)}  ({RULES[rule]})")
            for place in places:
                print(f"  {place}")


if __name__ == "__main__":
    main(sys.argv[1:])
