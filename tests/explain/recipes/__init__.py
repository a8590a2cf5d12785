"""Programs as people train them, with everything that `explain` has to find in each."""

from tests.explain.recipes.generative import GENERATIVE
from tests.explain.recipes.language import LANGUAGE
from tests.explain.recipes.others import OTHERS
from tests.explain.recipes.vision import VISION

RECIPES = (*VISION, *LANGUAGE, *GENERATIVE, *OTHERS)
