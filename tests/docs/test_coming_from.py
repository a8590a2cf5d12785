"""Every row of docs/coming_from has a test that backs it, and names that exist."""

import functools
import importlib
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "coming_from").glob("*.md"))
PACKAGES = {path.stem for path in (ROOT / "jaxreg").iterdir() if path.stem.isalpha()}
SHORT = {"rl": "linen", "rx": "nnx"}
SHELVES = ("matrices", "borders", "partners", "sampling", "series", "tables", "text")
REFERENCES = ROOT / "tests" / "references"
PAGE_OF = {"torch": "pytorch"}
TEST = re.compile(r"<!-- (tests/[\w/]+\.py)::(test_\w+) -->")


def rows(page: pathlib.Path) -> list[tuple[str, str, str]]:
    """Cells of the tables whose header is ``| you know | here | note |``."""
    found = []
    inside = False
    for line in page.read_text().splitlines():
        if line == "| you know | here | note |":
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            found.append(tuple(cell.strip() for cell in line.strip("|").split(" | ", 2)))
    return found


ROWS = [(page.stem, *row) for page in PAGES for row in rows(page)]


@functools.cache
def names_of_tests(path: str) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_a_test_that_exists(page):
    assert rows(page)
    for known, _, note in rows(page):
        found = TEST.search(note)
        assert found, f"the row of {known} has no test"
        path, name = found.groups()
        assert name in names_of_tests(path), f"{path} has no {name}"


def find(name: str) -> None:
    """Raises unless a dotted name, such as ``penalties.l2``, exists."""
    head, *rest = name.split(".")
    head = SHORT.get(head, head)
    module = importlib.import_module(
        f"jaxreg.augment.{head}" if head in SHELVES else f"jaxreg.{head}"
    )
    for part in rest:
        module = getattr(module, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_ours_exist(page):
    heads = "|".join([*PACKAGES, *SHORT, *SHELVES])
    for known, here, note in rows(page):
        for span in re.findall(r"`([^`]+)`", here + TEST.sub("", note)):
            for name in re.findall(rf"(?<![\w.])(?:{heads})(?:\.[a-zA-Z_]\w*)+", span):
                try:
                    find(name)
                except (AttributeError, ImportError) as error:
                    raise AssertionError(f"the row of {known} names {name}: {error}") from error


LIBRARIES = {path.stem.split("_")[-1]: path for path in REFERENCES.glob("coming_from_*.json")}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_name_is_on_the_page(library):
    """The scripts that make the figures list the names by patterns, not one by one."""
    page = ROOT / "docs" / "coming_from" / f"{PAGE_OF.get(library, library)}.md"
    words = set(re.findall(r"\w+", TEST.sub("", page.read_text())))
    missing = set(json.loads(LIBRARIES[library].read_text())["public"]) - words
    assert not missing
