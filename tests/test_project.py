"""Files around the code: they agree with it, and with each other."""

import re
from pathlib import Path

import jaxreg

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_citation_has_the_version_of_the_package():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", text, re.M) == [jaxreg.__version__]


def test_actions_are_pinned_to_a_commit_and_name_its_release():
    for path in WORKFLOWS:
        for used in re.findall(r"uses: (.*)", path.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), f"{path.name}: {used}"


def test_each_workflow_has_limits():
    for path in WORKFLOWS:
        text = path.read_text()
        assert "concurrency:" in text
        assert text.count("timeout-minutes:") == text.count("runs-on:") > 0
