"""Optax forms of the techniques: transformations to chain with any optimizer.

- Lifts: ``add_penalty_gradient`` (any penalty, before the optimizer), ``proximal`` (any proximal
  operator) and ``project`` (any projection), both after it.
- Decay: ``decoupled_decay`` (as AdamW) and ``independent_decay`` (whatever the learning rate).

Strengths are numbers, arrays (traced ones too) or Optax schedules. Leaves that are not
floating-point pass through unchanged. Restrict a lift to some parameters with ``optax.masked``.
Under ``optax.inject_hyperparams`` name the arguments that are functions but not schedules in
``static_args``: ``("prox",)``, ``("penalty",)``, ``("mask",)``.

Parameters in bfloat16 or float16 round small steps away: at 1.0, a step below 0.002 is lost. The
proximal step and the decays keep what rounding lost, in float32, and take it into the next step.
"""

from jaxreg.transforms.decay import DecayState, decoupled_decay, independent_decay
from jaxreg.transforms.lifts import (
    PenaltyState,
    ProximalState,
    add_penalty_gradient,
    project,
    proximal,
)

__all__ = [
    "DecayState",
    "PenaltyState",
    "ProximalState",
    "add_penalty_gradient",
    "decoupled_decay",
    "independent_decay",
    "project",
    "proximal",
]
