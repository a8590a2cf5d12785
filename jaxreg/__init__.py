"""Functional regularization for JAX and Flax.

Every technique is written once, as a pure function that imports only JAX and NumPy. Its namespace
is named after the part of a training step where it acts:

- ``dropout``, ``noise``: activations, ``(key, x) -> x``.
- ``normalization``: activations with statistics, ``(x, stats) -> (y, stats)``.
- ``reparam``: weights in place of parameters, ``w -> w``.
- ``penalties``, ``smoothness``, ``information``, ``targets``: the loss, ``w -> scalar``,
  ``(f, x) -> scalar``, ``mean, log_var -> kl`` and ``logits, labels -> loss``.
- ``proximal``, ``projections``: the update, ``w -> w``.
- ``augment``: the data, ``image -> image`` and ``(key, image) -> image``.
- ``masks``: selections of the parameters to regularize.

Other packages build on them:

- ``linen``, ``nnx``: adapters without mathematics for Flax modules.
- ``transforms``: adapters for Optax chains.
- ``training``: early stopping, schedules, ensembles and more for the training loop.
- ``explain``, ``diagnosis``, ``advice``: show what regularizers do, judge a training run, and
  suggest techniques to try first.
- ``study``: measures which regularizers help.
- ``testing``: checks a regularizer of your own against the same contract.

Each is imported on first use. ``import jaxreg`` alone imports neither these packages nor Flax.

>>> import jax.numpy as jnp
>>> import jaxreg
>>> print(jaxreg.penalties.l2(jnp.array([3.0, 4.0])))
12.5
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxreg._version import __version__

if TYPE_CHECKING:
    from jaxreg import (
        augment,
        dropout,
        information,
        masks,
        noise,
        normalization,
        penalties,
        projections,
        proximal,
        reparam,
        smoothness,
        targets,
    )

__all__ = [
    "__version__",
    "augment",
    "dropout",
    "information",
    "masks",
    "noise",
    "normalization",
    "penalties",
    "projections",
    "proximal",
    "reparam",
    "smoothness",
    "targets",
]

_OTHERS = (
    "advice",
    "diagnosis",
    "explain",
    "linen",
    "nnx",
    "study",
    "testing",
    "training",
    "transforms",
)


def __getattr__(name: str) -> Any:
    """Imports a package on first access."""
    if name in __all__ or name in _OTHERS:
        return importlib.import_module(f"jaxreg.{name}")
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_OTHERS})
