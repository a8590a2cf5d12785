"""Studies that compare regularizers over strengths and seeds, with confidence intervals.

An arm of a study is one technique, trained at each strength of its grid. ``jaxreg study`` on the
command line is a thin layer over this package:

- :func:`run` trains every recipe with every seed; runs with the same structure share a compiled
  program. A :class:`Trainer` does so in several calls, and returns the weights of a run.
- :func:`compare` adds the protocol: strengths are chosen on validation and reported on test, and
  differences from the baseline are paired by seed. Its two steps are :func:`best` and
  :func:`paired_difference`. It returns a :class:`Study`, which :func:`report` writes to a folder.
- :class:`Recipe` maps arms to strengths, and :class:`Grid` holds the recipes of an arm (made by
  :func:`grid`). :func:`combine` joins recipes, and :func:`optimizer` builds the optimizer of a
  recipe. :mod:`jaxreg.study.arms` has a row for every arm.
- :func:`search_policy` draws a :class:`Policy` of augmentation, which :func:`apply_policy` applies.
- Models come from a Linen module (:func:`from_linen`), an NNX module (:func:`from_nnx`), or three
  functions of your own (:class:`Model`); :func:`mlp`, :func:`conv_net` and :func:`transformer` are
  built in.
- Data is a function from a seed to a :class:`Split`; :func:`stratified_split` makes it from arrays.
- An :class:`Objective` is the loss of a task with its metrics: :data:`CLASSIFICATION` or
  :data:`REGRESSION`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg.study.arms import Arm
    from jaxreg.study.data.splits import Split, stratified_split
    from jaxreg.study.grids import Grid, grid
    from jaxreg.study.models import Model, from_linen, from_nnx
    from jaxreg.study.networks import conv_net, mlp, transformer
    from jaxreg.study.objectives import CLASSIFICATION, REGRESSION, Metric, Objective
    from jaxreg.study.operations import apply_policy
    from jaxreg.study.optimizers import optimizer
    from jaxreg.study.policies import search_policy
    from jaxreg.study.recipes import Policy, Recipe, combine
    from jaxreg.study.records import Ablation, ArmResult, Interval, Study
    from jaxreg.study.reports import report
    from jaxreg.study.runner import Runs, Trainer, run
    from jaxreg.study.selection import best, compare, paired_difference

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Ablation",
    "Arm",
    "ArmResult",
    "Grid",
    "Interval",
    "Metric",
    "Model",
    "Objective",
    "Policy",
    "Recipe",
    "Runs",
    "Split",
    "Study",
    "Trainer",
    "apply_policy",
    "best",
    "combine",
    "compare",
    "conv_net",
    "from_linen",
    "from_nnx",
    "grid",
    "mlp",
    "optimizer",
    "paired_difference",
    "report",
    "run",
    "search_policy",
    "stratified_split",
    "transformer",
]

_MODULES = {
    "Ablation": "records",
    "Arm": "arms",
    "ArmResult": "records",
    "CLASSIFICATION": "objectives",
    "Grid": "grids",
    "Interval": "records",
    "Metric": "objectives",
    "Model": "models",
    "Objective": "objectives",
    "Policy": "recipes",
    "REGRESSION": "objectives",
    "Recipe": "recipes",
    "Runs": "runner",
    "Split": "data.splits",
    "Study": "records",
    "Trainer": "runner",
    "apply_policy": "operations",
    "best": "selection",
    "combine": "recipes",
    "compare": "selection",
    "conv_net": "networks",
    "from_linen": "models",
    "from_nnx": "models",
    "grid": "grids",
    "mlp": "networks",
    "optimizer": "optimizers",
    "paired_difference": "selection",
    "report": "reports",
    "run": "runner",
    "search_policy": "policies",
    "stratified_split": "data.splits",
    "transformer": "networks",
}


def __getattr__(name: str) -> Any:
    # Modules load on first use, so that the command line answers `--help` without importing Flax.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
