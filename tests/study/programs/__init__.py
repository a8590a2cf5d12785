"""Recipes of every kind, and stored programs of some of them.

After a change of the code that writes programs, ``python -m tests.study.programs`` stores them
again. Read the difference and run ``pytest tests/exhaustive/study/test_recipe_code.py`` before you
commit it.
"""

import dataclasses
from pathlib import Path

from jaxreg.study import recipe_code, terms
from jaxreg.study.recipes import Policy, Recipe
from tests.study.helpers import ALL_ON, with_recipe

FOLDER = Path(__file__).parent
SOME = {"l1": 0.01, "elastic_net": 1e-3, "distance": 1e-3, "flood": 0.01}
TERMS = dict.fromkeys((name for name in terms.TERMS if name != "r_drop"), 1e-3)
LAYERS = dict.fromkeys(("activity_l1", "decorrelation", "l0", "bottleneck"), 1e-3)
LINKS = {"centralize": True, "cautious_decay": 0.1, "independent_decay": 1e-3, "sparse_units": 0.1}
WRAPPERS = {"adaptive_l1": 1e-3, "lookahead": 0.5, "average_steps": 30.0, "sam": 0.05, "asam": 0.5}
IMAGES = {"augmentation": 0.1, "cutout": 0.3, "cutmix": 0.5}
RECIPES = {
    "images": Recipe(**IMAGES, mixup=0.2, patience=3.0),
    "series": Recipe(magnitude_warp=0.2, time_warp=0.2, jitter=0.1, sam=0.1),
    "words": Recipe(token_dropout=0.2, patience=3.0),
    "policy": Recipe(policy=Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))),
    "policy and others": Recipe(
        policy=Policy(("jitter", "shear"), (0.1, 0.2), (0.5, 0.5)), mixup=0.2, dropout=0.2
    ),
    "policy of words": Recipe(policy=Policy(("token_dropout",), (0.2,), (0.5,)), patience=3.0),
    "policy of a table": Recipe(policy=Policy(("jitter",), (0.2,), (0.5,))),
    "mixed": Recipe(mixup=0.2, label_smoothing=0.1, dropout=0.2, batch_norm=True),
    "some terms": Recipe(**SOME),
    "all terms": Recipe(**TERMS),
    "all terms and noise": Recipe(**TERMS, r_drop=0.5, dropout=0.2),
    "layers": Recipe(**LAYERS),
    "layers and statistics": Recipe(**LAYERS, batch_norm=True, r_drop=0.1),
    "everything": dataclasses.replace(ALL_ON, **TERMS, **LAYERS, r_drop=0.1, flood=0.01),
    "off": Recipe(),
    "all on": ALL_ON,
    "noise": Recipe(dropout=0.5),
    "statistics": Recipe(batch_norm=True, l2=1.0),
    "stopping at once": Recipe(patience=0.0, label_smoothing=0.2),
    "constraint": Recipe(max_norm=1.5),
    "links": Recipe(**LINKS),
    "wrappers": Recipe(**WRAPPERS),
    "the optimizer": dataclasses.replace(ALL_ON, **LINKS, **WRAPPERS),
}
# Together they contain every line that a program can have.
STORED = {
    "off": "circles",
    "statistics": "data of my own",
    "stopping at once": "circles",
    "all terms and noise": "breast_cancer",
    "everything": "digits",
    "the optimizer": "digits",
    "wrappers": "circles",
    "images": "digits",
    "series": "digit_rows",
    "words": "text",
    "policy and others": "digits",
    "mixed": "circles",
}


def program(name: str) -> str:
    """The program of a stored recipe, as the current code writes it."""
    return recipe_code.source(with_recipe(RECIPES[name], STORED[name]))


def path(name: str) -> Path:
    """The program's file; it is a text file, so that tools do not treat it as our code."""
    return FOLDER / f"{name.replace(' ', '_')}.txt"
