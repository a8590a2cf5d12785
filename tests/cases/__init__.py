"""One row per public function: the inputs on which the contract runs it.

A new technique gets a row in the file of its package; ``tests/test_cases.py`` fails if a public
name has none.
"""

from collections.abc import Callable
from typing import Any

import jaxreg
from tests.cases import (
    augment,
    dropout,
    information,
    noise,
    normalization,
    penalties,
    projections,
    proximal,
    reparam,
    series,
    smoothness,
    targets,
    text,
    training,
    transforms,
)
from tests.cases.base import KERNEL, KEY, Case, Transformation, X

__all__ = [
    "FUNCTIONS",
    "KERNEL",
    "KEY",
    "OF_LABELS",
    "TRANSFORMATIONS",
    "WITHOUT_ROW",
    "WRAPPERS",
    "X",
    "first_rows",
]

FUNCTIONS: tuple[Case, ...] = (
    *dropout.FUNCTIONS,
    *noise.FUNCTIONS,
    *normalization.FUNCTIONS,
    *reparam.FUNCTIONS,
    *penalties.FUNCTIONS,
    *smoothness.FUNCTIONS,
    *information.FUNCTIONS,
    *targets.FUNCTIONS,
    *proximal.FUNCTIONS,
    *projections.FUNCTIONS,
    *transforms.FUNCTIONS,
    *augment.FUNCTIONS,
    *text.FUNCTIONS,
    *series.FUNCTIONS,
    *training.FUNCTIONS,
)
TRANSFORMATIONS: tuple[Transformation, ...] = transforms.TRANSFORMATIONS
OF_LABELS = augment.OF_LABELS


def first_rows() -> list[Case]:
    """Returns the first row of each function, except rows that draw strengths."""
    first: dict[Callable[..., Any], Case] = {}
    for case in FUNCTIONS:
        first.setdefault(case.function, case)
    return [case for case in first.values() if not case.draws_strengths]


# One call of another function, which has a row. Their programs take seconds and run by night.
WRAPPERS = {
    jaxreg.augment.rotate,
    jaxreg.augment.scale,
    jaxreg.augment.shear,
    jaxreg.augment.translate,
}

# Functions that do not regularize arrays: the tests of their package name them.
WITHOUT_ROW = {
    "jaxreg.advice.advise",
    "jaxreg.augment.affine_labels",
    "jaxreg.augment.borders.edge",
    "jaxreg.augment.borders.reflect",
    "jaxreg.augment.borders.wrap",
    "jaxreg.augment.for_each",
    "jaxreg.augment.matrices.chain",
    "jaxreg.augment.matrices.quadrilateral",
    "jaxreg.augment.matrices.rotation",
    "jaxreg.augment.matrices.scaling",
    "jaxreg.augment.matrices.shearing",
    "jaxreg.augment.matrices.translation",
    "jaxreg.augment.matrices.window",
    "jaxreg.augment.one_of",
    "jaxreg.augment.partners.reverse",
    "jaxreg.augment.partners.reverse_within",
    "jaxreg.augment.partners.share_per_batch",
    "jaxreg.augment.partners.share_per_example",
    "jaxreg.augment.partners.shuffle",
    "jaxreg.augment.sequence",
    "jaxreg.augment.series.even_cuts",
    "jaxreg.augment.series.random_cuts",
    "jaxreg.augment.switch",
    "jaxreg.augment.tables.fit_mixture",
    "jaxreg.augment.tables.shortfall",
    "jaxreg.augment.text.back_translation",
    "jaxreg.augment.text.neighbors_from_dictionary",
    "jaxreg.augment.text.neighbors_from_embeddings",
    "jaxreg.augment.text.paraphrase",
    "jaxreg.augment.text.random_deletion",
    "jaxreg.augment.text.random_insertion",
    "jaxreg.augment.text.random_swap",
    "jaxreg.augment.text.span_masking",
    "jaxreg.augment.text.synonym_replacement",
    "jaxreg.augment.text.token_masking",
    "jaxreg.augment.to_float",
    "jaxreg.augment.to_uint8",
    "jaxreg.augment.with_probability",
    "jaxreg.diagnosis.diagnose",
    "jaxreg.diagnosis.diagnose_better",
    "jaxreg.diagnosis.read",
    "jaxreg.diagnosis.read_runs",
    "jaxreg.dropout.concrete_dropout_logit",
    "jaxreg.dropout.drop_path_rates",
    "jaxreg.dropout.fold_in_axis",
    "jaxreg.explain.explain",
    "jaxreg.masks.depth",
    "jaxreg.masks.all_of",
    "jaxreg.masks.any_of",
    "jaxreg.masks.kernels",
    "jaxreg.masks.match",
    "jaxreg.masks.multipliers",
    "jaxreg.masks.negate",
    "jaxreg.masks.no_bias_or_norm",
    "jaxreg.normalization.init_stats",
    "jaxreg.penalties.per_example",
    "jaxreg.reparam.output_axes",
    "jaxreg.reparam.spectral_norm_vector",
    "jaxreg.reparam.weight_standardization_scale",
    "jaxreg.smoothness.virtual_adversarial",
    "jaxreg.targets.mean_of_all",
    "jaxreg.targets.per_example",
    "jaxreg.targets.smooth_labels",
    "jaxreg.targets.smooth_labels_excluding",
    "jaxreg.targets.sum_and_count",
    "jaxreg.targets.weighted_mean",
    "jaxreg.testing.check_regularizer",
    "jaxreg.testing.contract",
    "jaxreg.training.digests.digest",
    "jaxreg.training.digests.verify",
    "jaxreg.training.early_stopping.init",
    "jaxreg.training.early_stopping.update",
    "jaxreg.training.early_stopping.update_maximizing",
    "jaxreg.training.ensembles.error_moments",
    "jaxreg.training.ensembles.monte_carlo",
    "jaxreg.training.plateau.init",
    "jaxreg.training.plateau.update",
    "jaxreg.training.plateau.update_maximizing",
    "jaxreg.training.schedules.curriculum_dropout",
    "jaxreg.training.schedules.early_dropout",
    "jaxreg.training.schedules.late_dropout",
    "jaxreg.training.statistics.recalibrate",
    "jaxreg.training.statistics.recalibrate_model",
    "jaxreg.transforms.adagrad_metric",
    "jaxreg.transforms.adam_metric",
    "jaxreg.transforms.asam",
    "jaxreg.transforms.read_average",
    "jaxreg.transforms.centralize",
    "jaxreg.transforms.compensate_rounding",
    "jaxreg.transforms.exponential_average",
    "jaxreg.transforms.lookahead",
    "jaxreg.transforms.own_iterates",
    "jaxreg.transforms.preconditioned_proximal",
    "jaxreg.transforms.rmsprop_metric",
    "jaxreg.transforms.sam",
    "jaxreg.transforms.stochastic_weight_average",
}
