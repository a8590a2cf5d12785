"""The documents: their Python blocks run, and their commands are the ones that CI runs."""

import pathlib
import re

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_blocks_run(name):
    document = Sybil([PythonCodeBlockParser()]).parse(ROOT / name)
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
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
