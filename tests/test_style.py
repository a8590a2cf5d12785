"""The package keeps the rules for English and statements of CONTRIBUTING.md."""

import functools

import pytest

from tests import style

# Places a line of the package; the other rules allow none.
LIMITS = {"that_of": 3 / 10_000, "packed": 0.3 / 1_000}

# One sample by rule that breaks this rule and no other, in jaxreg/linen/dropout.py.
BAD = {
    "openers": ['"""What a rate is."""', 'def rate():\n    """Whether it is 0."""'],
    "that_of": ["# The rate is that of the layer.", 'MESSAGE = "Those of a cell."'],
    "packed": ["a, b = f(x), g(y)", "a, b = (f(v) for v in (x, y))", "a, b = map(f, (x, y))"],
    "flags": ['lines += ["import jax"] * (rate > 0)', 'text = f", {x}" * bool(x)'],
    "private": [
        "from jaxreg.nnx._norms import put_before",
        "from jaxreg.nnx import _norms",
        "from jaxreg.augment.series._shared import runs",
    ],
    "plan": ["# S0 3.4 asks for it.", '"""Rates of the course material."""'],
    "participles": ["def clipped(rate): ...", "class Rate:\n    def _kept(self): ..."],
}
GOOD = '''
"""Rates; whether they are zero or not."""

from jaxreg._axes import split_axes
from jaxreg.linen._norms import put_before
from jaxreg.normalization import moments


def clip_rate(rate, low, high):
    """Returns a rate in range, which is of course between 0 and 1, in the course of time."""
    low, high = high, low
    rows, columns = rate.shape
    mean, var = moments(rate)
    first, second = 0, len(rate)
    both = [first, second] * 2
    line = "-" * len(rate)
    return [0.5] * columns


def embed(tokens): ...
'''


@functools.cache
def places():
    return style.count("jaxreg")


@pytest.mark.parametrize("rule", style.RULES)
def test_the_package_keeps_each_rule(rule):
    found = places()[rule]
    limit = LIMITS.get(rule, 0) * style.count_lines("jaxreg")
    assert len(found) <= limit, "\n".join([f"{rule}: {style.RULES[rule]}", *found])


@pytest.mark.parametrize("document", style.documents())
def test_documents_keep_the_rules(document):
    found = {rule: lines for rule, lines in style.count(document).items() if lines}
    assert not found


@pytest.mark.parametrize("rule", style.RULES)
def test_each_rule_finds_what_breaks_it(rule, tmp_path):
    for sample in BAD[rule]:
        found = {name for name, lines in count(sample, tmp_path).items() if lines}
        assert found == {rule}, sample


def test_good_style_passes(tmp_path):
    assert not any(count(GOOD, tmp_path).values())


def test_places_have_a_path_and_a_line(tmp_path):
    found = count("rate = 0\na, b = f(x), g(y)\n", tmp_path)
    assert found["packed"] == ["jaxreg/linen/dropout.py:2: a, b = (f(x), g(y))"]


def count(text, folder):
    """The counts of one file of the package of that text."""
    path = folder / "jaxreg" / "linen" / "dropout.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return style.count("jaxreg", root=folder)
