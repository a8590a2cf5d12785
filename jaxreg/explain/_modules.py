"""Finds the regularizing modules of a Linen or an NNX model by calling it."""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

from jaxreg import linen as our_linen
from jaxreg import nnx as our_nnx
from jaxreg._checks import is_static
from jaxreg.explain import _flow
from jaxreg.nnx import batch_norms as nnx_norms

# Stochastic modules that do not shift the variance of activations.
_NO_SHIFT = {
    "AlphaDropout", "FeatureAlphaDropout", "EmbeddingDropout", "GaussianNoise", "UniformNoise",
    "SaltAndPepper", "PatchDropout", "Zoneout",
}  # fmt: skip
_BATCH_NORMS = (
    nn.BatchNorm, nnx.BatchNorm, our_linen.BatchNorm, our_nnx.BatchNorm, our_linen.GhostBatchNorm,
    our_nnx.GhostBatchNorm, our_linen.BatchRenorm, our_nnx.BatchRenorm,
)  # fmt: skip
_NOISE = (nn.Dropout, nnx.Dropout, our_linen.Stochastic, our_nnx.Stochastic)
_OTHERS = (
    our_linen.ActivityPenalty, our_linen.DropConnect, our_linen.Perturb,
    our_linen.SpectralNorm, our_linen.WeightNorm,
    our_linen.StochasticDepth, our_linen.VariationalDense, our_linen.WeightStandardization,
    our_nnx.ActivityPenalty, our_nnx.DropConnect, our_nnx.Perturb,
    our_nnx.SpectralNorm, our_nnx.WeightNorm,
    our_nnx.StochasticDepth, our_nnx.VariationalDense, our_nnx.WeightStandardization,
)  # fmt: skip
_STRENGTHS = ("rate", "weight", "stddev", "momentum")
_KINDS = (*_BATCH_NORMS, *_NOISE, *_OTHERS)


class Used(NamedTuple):
    """A regularizing module that a model calls."""

    path: str
    kind: str  # name of its class
    argument: str  # name of its strength; empty if there is none
    strength: float  # NaN if it is not a number


@dataclasses.dataclass(eq=False)
class Tape:
    """Records modules in the order of their calls."""

    used: dict[str, Used] = dataclasses.field(default_factory=dict)

    def add(self, path: str, module: Any, kind: str) -> None:
        """Records a module, its path and its strength."""
        for name in _STRENGTHS:
            value = getattr(module, name, None)
            if is_static(value):
                self.used[path] = Used(path, kind, name, float(value))  # pyright: ignore
                return
        self.used[path] = Used(path, kind, "", np.nan)


class Model(NamedTuple):
    """A model as a function of its parameters, with the regularizing modules that it calls."""

    params: Any
    apply: Callable[[Any], Any]  # of the parameters to the outputs, in training
    used: tuple[Used, ...]
    shifts: tuple[tuple[str, str], ...]  # noise before a batch norm


def of_linen(
    module: Any, variables: Any, inputs: tuple[Any, ...], call: Callable[..., Any] | None
) -> Model:
    """Traces a Linen module, or ``call(variables, *inputs)``, and records its regularizers."""
    if "params" not in variables:
        variables = {"params": variables}
    call = call or partial(_apply, module)
    rest = {name: value for name, value in variables.items() if name != "params"}
    tape = Tape()

    def apply(params: Any) -> Any:
        return call({**rest, "params": params}, *inputs)

    def apply_with_marks(params: Any) -> Any:
        with nn.intercept_methods(partial(_record, tape)):
            return apply(params)

    pairs = _flow.dependencies(apply_with_marks, variables["params"])
    return Model(variables["params"], apply, tuple(tape.used.values()), tuple(sorted(pairs)))


def _apply(module: nn.Module, variables: Any, *inputs: Any) -> Any:
    """Applies a module in training mode, by an argument such as ``train`` or ``deterministic``."""
    training = {"train": True, "training": True, "is_training": True, "deterministic": False}
    known = inspect.signature(type(module).__call__).parameters
    mode = {name: value for name, value in training.items() if name in known}
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    apply: Callable[..., Any] = module.apply
    return apply(variables, *inputs, rngs=keys, mutable=True, **mode)[0]


def _record(tape: Tape, call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts Linen calls, to record regularizing modules and mark their inputs or outputs."""
    module: Any = context.module
    if context.method_name != "__call__" or not _regularizes(module):
        return call(*args, **kwargs)
    path = "/".join(module.path)
    tape.add(path, module, type(module).__name__)
    if _is_batch_norm(module) and args:
        return call(_flow.mark_target(path, args[0]), *args[1:], **kwargs)
    result = call(*args, **kwargs)
    return _flow.mark_source(path, result) if _shifts(module, type(module).__name__) else result


def _regularizes(module: Any) -> bool:
    return isinstance(module, _KINDS)


def _is_batch_norm(module: Any) -> bool:
    return isinstance(module, _BATCH_NORMS)


def _shifts(module: Any, kind: str) -> bool:
    """Tells whether a module changes the variance of activations in training only."""
    rate = getattr(module, "rate", None)
    return (
        isinstance(module, _NOISE) and kind not in _NO_SHIFT and not (is_static(rate) and rate == 0)
    )


def of_nnx(module: nnx.Module, inputs: tuple[Any, ...], call: Callable[..., Any] | None) -> Model:
    """Traces an NNX module in its current mode, and records its regularizers."""
    call = call or operator.call
    tape = Tape()
    marked = nnx.clone(module)
    for name, child in nnx_norms.named_modules(marked).items():
        if _regularizes(child):
            kind = type(child).__name__
            nnx_norms.put_before(child, _Recorder)
            child.flow_tape, child.flow_name, child.flow_kind = tape, name, kind

    def function_of(module: nnx.Module) -> tuple[Callable[[Any], Any], Any]:
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        # The copy is made inside the call: variables may only change in their own trace.
        return lambda params: call(nnx.merge(graph, params, _fresh(rest)), *inputs), params

    pairs = _flow.dependencies(*function_of(marked))
    apply, params = function_of(module)
    return Model(params, apply, tuple(tape.used.values()), tuple(sorted(pairs)))


def _fresh(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf, state)


class _Recorder(nnx.Module):
    """Mixin, first base class of a regularizing NNX module, that records and marks its calls."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = super().__call__
        self.flow_tape.add(self.flow_name, self, self.flow_kind)
        if _is_batch_norm(self) and args:
            return call(_flow.mark_target(self.flow_name, args[0]), *args[1:], **kwargs)
        result = call(*args, **kwargs)
        if _shifts(self, self.flow_kind):
            return _flow.mark_source(self.flow_name, result)
        return result
