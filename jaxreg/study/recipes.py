"""Recipes, which hold a strength for every technique, and augmentation policies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

# Names of the techniques that change the program; runs that share them are trained together.
Structure = tuple[str, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """Augmentations applied to each example in sequence, each with its own probability.

    A policy is a pytree of magnitudes and probabilities, so that a search compiles one program.

    Attributes:
      names: Names of operations, from :data:`jaxreg.study.operations.OPERATIONS`.
      magnitudes: Magnitude of each operation; 0 does nothing.
      probabilities: Probability of applying each operation to an example, in ``[0, 1]``.

    Example:
      >>> from jaxreg.study import Policy
      >>> print(Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0)))
      rotate 0.1 (p 0.5), cutout 0.25 (p 1)
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    magnitudes: tuple[Any, ...]
    probabilities: tuple[Any, ...]

    def __str__(self) -> str:
        """Returns a text with the name, magnitude and probability of each operation."""
        rows = zip(self.names, self.magnitudes, self.probabilities, strict=True)
        return ", ".join(f"{name} {size:.3g} (p {share:.3g})" for name, size, share in rows)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A strength for every technique; the defaults switch everything off.

    A pytree whose leaves are the strengths, so a whole grid of recipes is one recipe with array
    leaves. Techniques without a strength are static: ``batch_norm`` decides which layers the model
    has, and ``centralize`` which links the optimizer has. Penalties without a reference have the
    same name in :mod:`jaxreg.penalties` and are summed over the kernels. Weights are ``>= 0``.

    Attributes:
      l1: Weight of the proximal L1 step, ``>= 0``.
      l2: Weight of the decoupled decay, ``>= 0``.
      dropout: Probability of dropping a hidden unit, in ``[0, 1)``.
      label_smoothing: Share of the target spread over all classes, in ``[0, 1]``.
      max_norm: Largest norm of the weights into a unit, ``> 0``; infinity is off.
      patience: Epochs without a better validation loss before a run stops and returns to
        its best parameters, ``>= 0``; infinity is off.
      elastic_net: Weight of half the L1 and half the L2 penalty, through the gradient.
      group_lasso: Weight of the penalty on the norm of all weights into a unit.
      orthogonality: Weight of :func:`jaxreg.penalties.orthogonality`.
      spectral: Weight of the largest singular values.
      nuclear: Weight of the sums of the singular values.
      distance: Weight of half the squared distance to the initial parameters (L2-SP).
      decorrelation: Weight of the squared covariances of hidden units (DeCov).
      activity_l1: Weight of the absolute activations of hidden units, mean over the batch.
      l0: Weight of the expected number of open hard concrete gates on hidden units.
      jacobian: Weight of :func:`jaxreg.smoothness.jacobian`.
      virtual_adversarial: Weight of :func:`jaxreg.smoothness.virtual_adversarial`, radius 1.
      graph_laplacian: Weight of the mean over the pairs of a batch of
        :func:`jaxreg.smoothness.graph_laplacian`.
      bottleneck: Weight of the rate of a Gaussian bottleneck before the last layer.
      confidence_penalty: Weight of the negative entropy of the predictions.
      r_drop: Weight of the divergence of two passes with different noise; needs dropout.
      flood: Level that the loss does not fall below, ``>= 0``.
      cautious_decay: Weight of :func:`jaxreg.transforms.cautious_decay`.
      independent_decay: Weight of the decay that the learning rate does not scale.
      sparse_units: Weight of the proximal step that shrinks all weights into a unit as a group.
      adaptive_l1: Weight of the proximal L1 step in the metric of Adam.
      average_steps: Number of steps :math:`1 / (1 - d)` that the running average of the parameters
        looks back on, ``>= 1``; 0 is off. The average is evaluated, with the batch statistics of
        the newest parameters.
      lookahead: Step size of the slow weights, in ``[0, 1]``. They move every 5 steps and are
        evaluated.
      sam: Radius of :func:`jaxreg.transforms.sam`.
      asam: Radius of :func:`jaxreg.transforms.asam`.
      augmentation: Largest shift and scaling of an image, relative to its height and its size;
        at 1 the image is also rotated by up to 90 degrees.
      cutout: Sides of the box that is erased from an image, relative to its sides, in ``[0, 1]``.
      cutmix: Parameter of the Beta distribution of :func:`jaxreg.augment.random_cutmix`.
      mixup: Parameter of the Beta distribution of :func:`jaxreg.augment.random_mixup`.
      jitter: Standard deviation of normal noise on standardized rows.
      magnitude_warp: Standard deviation around 1 of the curve that multiplies a series.
      time_warp: Standard deviation of the logarithm of the speed of a series.
      token_dropout: Probability of replacing a word with the unknown one, in ``[0, 1)``.
      policy: Random operations on the examples of a batch, see :class:`Policy`; None is off.
      batch_norm: Whether every hidden layer is batch-normalized.
      centralize: Whether the mean of each kernel's gradient is subtracted.

    Example:
      >>> from jaxreg.study import Recipe
      >>> Recipe(l2=0.1, dropout=0.5).structure
      ('dropout',)
    """

    l1: Any = 0.0
    l2: Any = 0.0
    dropout: Any = 0.0
    label_smoothing: Any = 0.0
    max_norm: Any = math.inf
    patience: Any = math.inf
    elastic_net: Any = 0.0
    group_lasso: Any = 0.0
    orthogonality: Any = 0.0
    spectral: Any = 0.0
    nuclear: Any = 0.0
    distance: Any = 0.0
    decorrelation: Any = 0.0
    activity_l1: Any = 0.0
    l0: Any = 0.0
    jacobian: Any = 0.0
    virtual_adversarial: Any = 0.0
    graph_laplacian: Any = 0.0
    bottleneck: Any = 0.0
    confidence_penalty: Any = 0.0
    r_drop: Any = 0.0
    flood: Any = 0.0
    cautious_decay: Any = 0.0
    independent_decay: Any = 0.0
    sparse_units: Any = 0.0
    adaptive_l1: Any = 0.0
    average_steps: Any = 0.0
    lookahead: Any = 0.0
    sam: Any = 0.0
    asam: Any = 0.0
    augmentation: Any = 0.0
    cutout: Any = 0.0
    cutmix: Any = 0.0
    mixup: Any = 0.0
    jitter: Any = 0.0
    token_dropout: Any = 0.0
    magnitude_warp: Any = 0.0
    time_warp: Any = 0.0
    policy: Policy | None = None
    batch_norm: bool = dataclasses.field(default=False, metadata={"static": True})
    centralize: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        """Raises ValueError if a strength is an invalid Python number; arrays are not checked."""
        for name in strength_names():
            value = getattr(self, name)
            rule, holds = _RULES.get(name, _WEIGHT)
            if isinstance(value, int | float) and not holds(value):
                default = getattr(Recipe, name)
                raise ValueError(f"`{name}` must be {rule}, got {value}; {default} is off.")

    @property
    def structure(self) -> Structure:
        """Names of active techniques that alter the compiled program; strengths are untraced."""
        names = (*strength_names(), *_SWITCHES)
        on = tuple(name for name in names if name not in _ALWAYS and getattr(self, name) > 0)
        # Policies with the same operations share a program.
        return on + tuple(f"policy {name}" for name in (self.policy.names if self.policy else ()))

    def has(self, name: str) -> bool:
        """Returns whether a program must include a technique; False only for an untraced 0."""
        value = getattr(self, name)
        return name in _ALWAYS or not (isinstance(value, bool | int | float) and value == 0)

    def only(self, structure: Structure) -> Recipe:
        """Returns a copy with an untraced 0 for each technique that is not in ``structure``.

        A model can therefore omit layers that are off although the other strengths are traced.
        """
        off = {name for name in strength_names() if name not in (*structure, *_ALWAYS)}
        return dataclasses.replace(self, **dict.fromkeys(off, 0.0))


def strength_names() -> tuple[str, ...]:
    """Returns the names of the recipe's fields that are numeric strengths."""
    others = (*_SWITCHES, "policy")
    return tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in others)


# These cost almost nothing when they are off, so recipes with and without them share a program.
_ALWAYS = ("l1", "l2", "label_smoothing", "max_norm", "patience")
_SWITCHES = ("batch_norm", "centralize")
_WEIGHT = ("finite and at least 0", lambda v: 0 <= v < math.inf)
_RULES = {
    "dropout": ("in [0, 1)", lambda v: 0 <= v < 1),
    "label_smoothing": ("in [0, 1]", lambda v: 0 <= v <= 1),
    "max_norm": ("above 0", lambda v: v > 0),
    "patience": ("at least 0", lambda v: v >= 0),
    "average_steps": ("finite and at least 1, or 0", lambda v: v == 0 or 1 <= v < math.inf),
    "lookahead": ("in [0, 1]", lambda v: 0 <= v <= 1),
    "token_dropout": ("in [0, 1)", lambda v: 0 <= v < 1),
    "cutout": ("in [0, 1]", lambda v: 0 <= v <= 1),
}


def combine(recipes: Sequence[Recipe]) -> Recipe:
    """Returns a recipe with all techniques of the given recipes.

    Args:
      recipes: Recipes with different techniques. If two set the same technique, the last counts.

    Returns:
      The combined recipe.

    Example:
      >>> from jaxreg.study.recipes import Recipe, combine
      >>> combine([Recipe(l2=0.5), Recipe(dropout=0.2)]).dropout
      0.2
    """
    off = Recipe()
    changed: dict[str, Any] = {}
    for recipe in recipes:
        for name in (field.name for field in dataclasses.fields(recipe)):
            if getattr(recipe, name) != getattr(off, name):
                changed[name] = getattr(recipe, name)
    return Recipe(**changed)
