"""The standard recipes whose models are larger than those of the default suite."""

import pytest

from tests.explain.recipes import RECIPES
from tests.explain.test_recipes import FAST, check


@pytest.mark.parametrize(
    "make", [make for make in RECIPES if make not in FAST], ids=lambda make: make.__name__
)
def test_a_recipe_is_explained_in_full(make):
    check(make())
