"""Pages that are written from other files are in step with them."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false

import json
import pathlib

from docs.site import examples, notebook

ROOT = pathlib.Path(__file__).parents[2]


def test_the_notebook_is_the_tour():
    assert notebook.NOTEBOOK.read_text() == notebook.notebook(notebook.PAGE.read_text())


def test_the_notebook_has_the_code_of_the_page():
    found = json.loads(notebook.notebook("# A\n\n```python\nx = 1\n```\n\nText\n"))["cells"]
    assert [c["cell_type"] for c in found] == ["markdown", "code", "markdown"]
    assert found[1]["source"] == ["x = 1"]


def test_every_example_is_listed_once():
    listed = [name for group in examples.GROUPS.values() for name in group]
    scripts = [path.stem for path in (ROOT / "examples").glob("*.py")]
    assert sorted(listed) == sorted(scripts)


def test_the_page_of_examples_is_written_from_them():
    assert examples.PAGE.read_text() == examples.page()


def test_every_example_has_its_output_and_its_picture():
    for name in examples.names():
        script = (ROOT / "examples" / f"{name}.py").read_text()
        assert (examples.RESULTS / f"{name}.txt").exists(), name
        assert (examples.RESULTS / f"{name}.png").exists() == ("savefig" in script), name


def test_docstrings_become_markdown():
    text = "Title.\n\n.. math::\n\n  a + b\n\nSee `Paper <https://a.b>`_ and ``x``.\n"
    expected = "Title.\n\n$$\na + b\n$$\n\nSee [Paper](https://a.b) and `x`."
    assert examples.to_markdown(text) == expected
