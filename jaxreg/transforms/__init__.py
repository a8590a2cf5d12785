"""Optax transformations for regularization, to chain with or wrap around an optimizer.

- Lifts: ``add_penalty_gradient`` (any penalty, before the optimizer), ``proximal`` (any proximal
  operator) and ``project`` (any projection), both after it.
- Decay: ``decoupled_decay`` (as in AdamW), ``independent_decay`` (not scaled by the learning rate)
  and ``cautious_decay`` (where the optimizer does not enlarge a weight). The module
  :mod:`jaxreg.transforms.decay` lists the decay of well-known optimizers.
- Steps by depth: ``layerwise_scale``.
- Gradients: ``centralize`` subtracts the mean of each unit, before the optimizer.
- Averages: ``exponential_average`` (EMA) and ``stochastic_weight_average`` (SWA) at the end of a
  chain, ``lookahead`` around it; ``read_average`` reads them for evaluation.
- Flat minima: ``sam`` and ``asam`` around the optimizer, with an update that takes a ``grad_fn``;
  ``sam_perturbation`` and ``asam_perturbation`` for a loop of your own.
- Wrappers: ``preconditioned_proximal``, for a proximal step in the metric of Adam, RMSProp or
  Adagrad (``adam_metric``, ``rmsprop_metric``, ``adagrad_metric``), ``compensate_rounding``, for
  parameters in bfloat16, float16 and float8, and ``own_iterates``, for proximal steps and
  projections inside ``optax.contrib.schedule_free``.

Strengths are numbers, arrays (traced ones too) or Optax schedules. Leaves that are not
floating-point pass through unchanged. Restrict a lift to some parameters with ``optax.masked``.
Kernels that ``nn.scan`` or ``nnx.vmap`` stacked, ``[layers, in, out]``, are treated separately if
``stacked`` selects them; see ``docs/stacked.md``. ``docs/optimizers.md`` shows where to put each
transformation if an optimizer has iterates of its own: SAM, lookahead, gradient accumulation,
schedule-free optimizers. Gradients of integers, which have the dtype float0, come back as zeros.
Under ``optax.inject_hyperparams`` name the arguments that are functions but not schedules in
``static_args``: ``("prox",)``, ``("penalty",)``, ``("mask",)``, ``("multipliers",)``,
``("stacked",)``, ``("depth",)``, ``("inner",)``, and ``("inner", "prox", "metric", "mask")`` for
``preconditioned_proximal``.

Parameters in bfloat16 or float16 round small steps away. At 1.0 a step below 0.002 is lost, so a
smaller decay, such as a weight of 0.1 with a learning rate of 0.001, has no effect.
``compensate_rounding`` around the whole chain carries the rounding error to the next step.
"""

from jaxreg import _signatures
from jaxreg.transforms._steps import StepState
from jaxreg.transforms.averaging import (
    AverageState,
    LookaheadState,
    exponential_average,
    lookahead,
    read_average,
    stochastic_weight_average,
)
from jaxreg.transforms.centralization import centralize
from jaxreg.transforms.decay import cautious_decay, decoupled_decay, independent_decay
from jaxreg.transforms.iterates import IteratesState, own_iterates
from jaxreg.transforms.layerwise import layerwise_scale
from jaxreg.transforms.lifts import add_penalty_gradient, project, proximal
from jaxreg.transforms.metrics import (
    PreconditionedState,
    adagrad_metric,
    adam_metric,
    preconditioned_proximal,
    rmsprop_metric,
)
from jaxreg.transforms.rounding import CompensationState, compensate_rounding
from jaxreg.transforms.sharpness import (
    SharpnessState,
    asam,
    asam_perturbation,
    sam,
    sam_perturbation,
)

__all__ = [
    "AverageState",
    "CompensationState",
    "IteratesState",
    "LookaheadState",
    "PreconditionedState",
    "SharpnessState",
    "StepState",
    "adagrad_metric",
    "adam_metric",
    "add_penalty_gradient",
    "asam",
    "asam_perturbation",
    "cautious_decay",
    "centralize",
    "compensate_rounding",
    "decoupled_decay",
    "exponential_average",
    "independent_decay",
    "layerwise_scale",
    "lookahead",
    "own_iterates",
    "preconditioned_proximal",
    "project",
    "proximal",
    "read_average",
    "rmsprop_metric",
    "sam",
    "sam_perturbation",
    "stochastic_weight_average",
]

_signatures.show(__name__)
