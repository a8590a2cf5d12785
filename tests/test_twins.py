"""Classes that Linen and NNX both have are described in the same words."""

import inspect
import re

import pytest

from jaxreg import linen, nnx

# Words of NNX by those of Linen.
FLAX = {"NNX": "Linen", "flax.nnx.vmap": "nn.scan", "flax.nnx.": "nn."}
MODES = {"deterministic", "use_running_average", "update_stats"}  # set in ways that differ
OWN = {*MODES, "variable_filter"}  # the last is of another type
TWINS = [n for n in linen.__all__ if n in nnx.__all__ and inspect.isclass(getattr(linen, n))]


def words_of(cls):
    """The summary and the descriptions of attributes, without line breaks and names of Flax."""
    text = inspect.getdoc(cls)
    for word, twin in FLAX.items():
        text = text.replace(word, twin)
    attributes = re.search(r"^Attributes:\n((?:  .*\n?)+)", text, re.MULTILINE)
    found = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", attributes[1], re.MULTILINE)
    described = {name: " ".join(text.split()) for name, text in found if name not in OWN}
    return " ".join(text.partition("\n\n")[0].split()), described


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_described_in_the_same_words(name):
    summary, attributes = words_of(getattr(linen, name))
    twin_summary, twin_attributes = words_of(getattr(nnx, name))
    assert summary == twin_summary
    for attribute in attributes.keys() & twin_attributes.keys():
        assert attributes[attribute] == twin_attributes[attribute], attribute
