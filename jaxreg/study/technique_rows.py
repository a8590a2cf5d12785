"""The techniques of a study, each with its recipe field, grid of strengths and function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxreg.study.recipes import Recipe

# Kinds of rows, which follow from their shape and dtype.
KINDS = {
    "table": "numbers [features]",
    "series": "numbers [time, channels]",
    "image": "numbers [height, width, channels]",
    "text": "integers [length]",
}
NUMBERS = ("table", "series", "image")


@dataclass(frozen=True)
class Technique:
    """A technique of a study, with its recipe field, grid of strengths and function.

    Attributes:
      name: Name of the arm.
      field: Field of :class:`Recipe` that the technique sets.
      function: Full name of the function that implements it.
      summary: Its effect in a few words.
      low: Smallest strength of the default grid; None if it has no strength.
      high: Largest strength of the default grid; None if it has no strength.
      needs: Further recipe fields that the technique requires, with their values.
      kinds: Kinds of rows that it accepts.
    """

    name: str
    field: str
    function: str
    summary: str
    low: float | None = None
    high: float | None = None
    needs: tuple[tuple[str, float], ...] = ()
    kinds: tuple[str, ...] = tuple(KINDS)

    def recipe(self, strength: float | None = None) -> Recipe:
        """Returns a recipe with only this technique; omit ``strength`` if it has none."""
        changed: dict[str, Any] = dict(self.needs)
        changed[self.field] = True if strength is None else strength
        return Recipe(**changed)


TECHNIQUES = (
    Technique(
        name="l1",
        field="l1",
        function="jaxreg.transforms.proximal(jaxreg.proximal.l1, ...)",
        summary="soft-threshold step after the optimizer",
        low=0.02,
        high=0.6,
    ),
    Technique(
        name="l2",
        field="l2",
        function="jaxreg.transforms.decoupled_decay",
        summary="decay of the weights, decoupled from the gradient",
        low=0.1,
        high=10.0,
    ),
    Technique(
        name="dropout",
        field="dropout",
        function="jaxreg.linen.Dropout",
        summary="inverted dropout after every hidden layer",
        low=0.1,
        high=0.6,
    ),
    Technique(
        name="batch_norm",
        field="batch_norm",
        function="jaxreg.linen.BatchNorm",
        summary="batch normalization before every nonlinearity",
    ),
    Technique(
        name="max_norm",
        field="max_norm",
        function="jaxreg.transforms.project(jaxreg.projections.max_norm)",
        summary="bound on the norm of the weights into a unit",
        low=0.5,
        high=2.0,
    ),
    Technique(
        name="label_smoothing",
        field="label_smoothing",
        function="jaxreg.targets.smoothed_cross_entropy",
        summary="targets mixed with the uniform distribution",
        low=0.02,
        high=0.5,
    ),
    Technique(
        name="early_stopping",
        field="patience",
        function="jaxreg.training.early_stopping",
        summary="stop, and go back to the best validation loss",
        low=2.0,
        high=20.0,
    ),
    Technique(
        name="elastic_net",
        field="elastic_net",
        function="jaxreg.penalties.elastic_net",
        summary="half L1, half L2, in the loss",
        low=0.0001,
        high=0.01,
    ),
    Technique(
        name="group_lasso",
        field="group_lasso",
        function="jaxreg.penalties.group_lasso",
        summary="norms of all weights into a unit, in the loss",
        low=1e-05,
        high=0.001,
    ),
    Technique(
        name="orthogonality",
        field="orthogonality",
        function="jaxreg.penalties.orthogonality",
        summary="distance of the kernels to orthogonal ones",
        low=0.0001,
        high=0.1,
    ),
    Technique(
        name="spectral",
        field="spectral",
        function="jaxreg.penalties.spectral",
        summary="largest singular values of the kernels",
        low=0.001,
        high=0.3,
    ),
    Technique(
        name="nuclear",
        field="nuclear",
        function="jaxreg.penalties.nuclear",
        summary="sums of singular values of the kernels",
        low=0.0001,
        high=0.03,
    ),
    Technique(
        name="distance",
        field="distance",
        function="jaxreg.penalties.distance",
        summary="distance to the initial weights",
        low=0.0001,
        high=0.1,
    ),
    Technique(
        name="decorrelation",
        field="decorrelation",
        function="jaxreg.penalties.decorrelation",
        summary="covariances of the units of a hidden layer",
        low=0.0001,
        high=0.1,
    ),
    Technique(
        name="activity_l1",
        field="activity_l1",
        function="jaxreg.linen.ActivityPenalty",
        summary="absolute activations of the hidden units",
        low=0.0001,
        high=0.1,
    ),
    Technique(
        name="l0",
        field="l0",
        function="jaxreg.penalties.hard_concrete_l0",
        summary="number of open gates on the hidden units",
        low=1e-05,
        high=0.01,
    ),
    Technique(
        name="jacobian",
        field="jacobian",
        function="jaxreg.smoothness.jacobian",
        summary="derivatives of the logits with respect to the inputs",
        low=0.0001,
        high=0.1,
        kinds=NUMBERS,
    ),
    Technique(
        name="virtual_adversarial",
        field="virtual_adversarial",
        function="jaxreg.smoothness.virtual_adversarial",
        summary="change of the prediction in the worst direction",
        low=0.1,
        high=10.0,
        kinds=NUMBERS,
    ),
    Technique(
        name="graph_laplacian",
        field="graph_laplacian",
        function="jaxreg.smoothness.graph_laplacian",
        summary="different predictions for similar rows",
        low=0.1,
        high=30.0,
        kinds=NUMBERS,
    ),
    Technique(
        name="bottleneck",
        field="bottleneck",
        function="jaxreg.information.gaussian_kl",
        summary="information that the last hidden layer keeps",
        low=0.0001,
        high=0.1,
    ),
    Technique(
        name="confidence_penalty",
        field="confidence_penalty",
        function="jaxreg.information.confidence_penalty",
        summary="entropy of the predictions",
        low=0.02,
        high=1.0,
    ),
    Technique(
        name="r_drop",
        field="r_drop",
        function="jaxreg.information.symmetric_kl",
        summary="divergence of two passes with different dropout",
        low=0.1,
        high=5.0,
        needs=(("dropout", 0.3),),
    ),
    Technique(
        name="flood",
        field="flood",
        function="jaxreg.targets.flood",
        summary="training loss kept above a level",
        low=0.005,
        high=0.2,
    ),
    Technique(
        name="cautious_decay",
        field="cautious_decay",
        function="jaxreg.transforms.cautious_decay",
        summary="decay of the weights that Adam does not enlarge",
        low=0.1,
        high=10.0,
    ),
    Technique(
        name="independent_decay",
        field="independent_decay",
        function="jaxreg.transforms.independent_decay",
        summary="decay that the learning rate does not scale",
        low=1e-4,
        high=0.01,
    ),
    Technique(
        name="sparse_units",
        field="sparse_units",
        function="jaxreg.transforms.proximal(jaxreg.proximal.group_lasso, ...)",
        summary="proximal step that removes whole units",
        low=0.01,
        high=1.0,
    ),
    Technique(
        name="adaptive_l1",
        field="adaptive_l1",
        function="jaxreg.transforms.preconditioned_proximal(jaxreg.proximal.l1, ...)",
        summary="soft-threshold step in the metric of Adam",
        low=1e-4,
        high=0.01,
    ),
    Technique(
        name="centralize",
        field="centralize",
        function="jaxreg.transforms.centralize",
        summary="gradients of the kernels without their mean",
    ),
    Technique(
        name="average_steps",
        field="average_steps",
        function="jaxreg.transforms.exponential_average",
        summary="evaluation of a running average of the parameters",
        low=10.0,
        high=300.0,
    ),
    Technique(
        name="lookahead",
        field="lookahead",
        function="jaxreg.transforms.lookahead",
        summary="slow weights that follow every fifth step",
        low=0.2,
        high=0.8,
    ),
    Technique(
        name="sam",
        field="sam",
        function="jaxreg.transforms.sam",
        summary="gradient at the worst point of a ball",
        low=0.05,
        high=2.0,
    ),
    Technique(
        name="asam",
        field="asam",
        function="jaxreg.transforms.asam",
        summary="gradient at the worst point, relative to the weights",
        low=0.3,
        high=5.0,
    ),
    Technique(
        name="augmentation",
        field="augmentation",
        function="jaxreg.augment.random_affine",
        summary="images rotated, shifted and scaled at random",
        low=0.01,
        high=0.2,
        kinds=("image",),
    ),
    Technique(
        name="cutout",
        field="cutout",
        function="jaxreg.augment.random_cutout",
        summary="a box of every image erased",
        low=0.1,
        high=0.6,
        kinds=("image",),
    ),
    Technique(
        name="cutmix",
        field="cutmix",
        function="jaxreg.augment.random_cutmix",
        summary="a box of another image in every image, labels mixed",
        low=0.1,
        high=2.0,
        kinds=("image",),
    ),
    Technique(
        name="mixup",
        field="mixup",
        function="jaxreg.augment.random_mixup",
        summary="weighted averages of two rows and of their labels",
        low=0.05,
        high=2.0,
        kinds=NUMBERS,
    ),
    Technique(
        name="jitter",
        field="jitter",
        function="jaxreg.noise.gaussian_noise",
        summary="normal noise on the rows",
        low=0.05,
        high=1.0,
        kinds=NUMBERS,
    ),
    Technique(
        name="token_dropout",
        field="token_dropout",
        function="jaxreg.dropout.dropout",
        summary="words replaced with the unknown one",
        low=0.05,
        high=0.5,
        kinds=("text",),
    ),
    Technique(
        name="magnitude_warp",
        field="magnitude_warp",
        function="jaxreg.augment.series.random_magnitude_warp",
        summary="series multiplied by a smooth curve near 1",
        low=0.05,
        high=0.5,
        kinds=("series",),
    ),
    Technique(
        name="time_warp",
        field="time_warp",
        function="jaxreg.augment.series.random_time_warp",
        summary="series at a varying speed",
        low=0.05,
        high=0.5,
        kinds=("series",),
    ),
)
