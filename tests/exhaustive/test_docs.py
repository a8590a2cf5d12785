"""The documents: their examples run, and print what the documents show."""

import contextlib
import io
import pathlib
import re
import shlex
import shutil

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from jaxreg.cli.main import main
from tests.style import WRITTEN

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "docs").rglob("*.md"))
    # The blocks of the others come from docstrings, whose tests are the doctests.
    if path.relative_to(ROOT / "docs").parts[0] not in WRITTEN
]


OUTPUT = re.compile(r"\s*```text\n(.*?)```", re.DOTALL)


def run_commands(example):
    """Runs the lines of a `console` block that begin with `$ jaxreg`, and compares the others."""
    for command, shown in re.findall(r"^\$ jaxreg (.*)\n((?:(?!\$).*\n)*)", example.parsed, re.M):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(shlex.split(command)) == 0
        assert printed.getvalue().strip() == shown.strip()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_run_and_print_what_is_shown(name, tmp_path, monkeypatch):
    """A `text` block right after a Python block is what it prints.

    All run in one folder, which holds the results of a study.
    """
    console = CodeBlockParser(language="console", evaluator=run_commands)
    document = Sybil([PythonCodeBlockParser(), console]).parse(ROOT / name)
    shutil.copytree(ROOT / "docs" / "digits", tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    examples = list(document.examples())
    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            example.evaluate()
        if shown := OUTPUT.match(document.text, example.region.end):
            assert printed.getvalue().strip() == shown[1].strip()
    assert examples or name != "README.md"


def test_the_readme_opens_with_two_commands_that_do_all_the_setup():
    blocks = re.findall(r"^```bash\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.M | re.S)
    study, suite = blocks[0], blocks[1]
    for command in (study, suite):
        assert command.startswith("python3 -m venv ")
        assert "\n" not in command
    assert study.endswith('pip install -e ".[study]" && jaxreg study')
    assert suite.endswith('pip install -e ".[test]" && pytest')


def test_links_inside_the_project_lead_somewhere():
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            if not target.startswith("http"):
                assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"
