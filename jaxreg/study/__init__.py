"""Studies that compare regularizers over strengths and seeds, with confidence intervals.

``jaxreg study`` on the command line is a thin layer over this package:

- :func:`run` trains every recipe with every seed, runs of one structure in one compiled program.
- :func:`compare` adds the protocol: strengths are chosen on validation and reported on test, and
  differences to the baseline are paired by seed. Its two steps are :func:`best` and
  :func:`paired_difference`.
- :class:`Recipe` holds a strength for every technique, and :class:`Grid` the recipes of an arm
  (made by :func:`grid`). :func:`combine` joins recipes, and :func:`optimizer` builds the optimizer
  of a recipe.
- :func:`search_policy` draws a :class:`Policy` of augmentation, which :func:`apply_policy` applies.
- Models come from a Linen module (:func:`from_linen`), an NNX module (:func:`from_nnx`), or three
  functions of your own (:class:`Model`); the command line uses :func:`mlp`.
- Data is a function from a seed to a :class:`Split`; :func:`stratified_split` makes it from arrays.
- :class:`Study`, :class:`Arm` and :class:`Interval` hold the results; ``report`` prints and writes
  them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg.study.data import Split, stratified_split
    from jaxreg.study.models import MLP, Model, from_linen, from_nnx, mlp
    from jaxreg.study.operations import apply_policy
    from jaxreg.study.optimizers import optimizer
    from jaxreg.study.policies import search_policy
    from jaxreg.study.recipes import Policy, Recipe, combine
    from jaxreg.study.records import Arm, Interval, Study
    from jaxreg.study.runner import Runs, run
    from jaxreg.study.selection import Comparison, best, compare, paired_difference
    from jaxreg.study.techniques import Grid, grid

__all__ = [
    "MLP",
    "Arm",
    "Comparison",
    "Grid",
    "Interval",
    "Model",
    "Policy",
    "Recipe",
    "Runs",
    "Split",
    "Study",
    "apply_policy",
    "best",
    "combine",
    "compare",
    "from_linen",
    "from_nnx",
    "grid",
    "mlp",
    "optimizer",
    "paired_difference",
    "run",
    "search_policy",
    "stratified_split",
]

_MODULES = {
    "MLP": "models",
    "Arm": "records",
    "Comparison": "selection",
    "Grid": "techniques",
    "Interval": "records",
    "Model": "models",
    "Policy": "recipes",
    "Recipe": "recipes",
    "Runs": "runner",
    "Split": "data",
    "Study": "records",
    "apply_policy": "operations",
    "best": "selection",
    "combine": "recipes",
    "compare": "selection",
    "from_linen": "models",
    "from_nnx": "models",
    "grid": "techniques",
    "mlp": "models",
    "optimizer": "optimizers",
    "paired_difference": "selection",
    "run": "runner",
    "search_policy": "policies",
    "stratified_split": "data",
}


def __getattr__(name: str) -> Any:
    # Modules load on first use, so that the command line answers `--help` without importing Flax.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
