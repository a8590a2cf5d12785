"""The published tables of AutoAugment equal kornia's."""

import importlib.util
import json
import pathlib

import pytest

from jaxreg import augment
from tests.augment.policies import NAMES

REFERENCES = pathlib.Path(__file__).parents[1] / "references"


def row(step):
    one = step.operation
    return [NAMES[id(one)], step.probability, None if one.high == one.low else step.magnitude]


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "svhn"])
def test_tables_are_those_of_kornia(name):
    """kornia 0.9.0 has them as torchvision does, without the magnitudes that are not read."""
    path = REFERENCES / "auto_augment_kornia.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    policy = getattr(augment, f"{name.upper()}_POLICY")
    assert [len(steps) for steps in policy] == [2] * 25
    rows = [[row(step) for step in steps] for steps in policy]
    stored = json.loads(path.with_suffix(".json").read_text())[f"{name}_policy"]
    assert reference.digest(rows) == stored
