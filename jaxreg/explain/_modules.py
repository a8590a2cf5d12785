"""Finds what regularizes in a model, in modules and in functions, by calling it."""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from jaxreg import linen as our_linen
from jaxreg import nnx as our_nnx
from jaxreg._checks import is_static
from jaxreg._scopes import TRACED
from jaxreg.explain import _flow, _marks
from jaxreg.explain._marks import TOP
from jaxreg.linen.batch_norms import evaluates
from jaxreg.nnx import batch_norms as nnx_norms

# Stochastic modules that do not shift the variance of activations.
_NO_SHIFT = {
    "AlphaDropout", "FeatureAlphaDropout", "EmbeddingDropout", "GaussianNoise", "UniformNoise",
    "SaltAndPepper", "PatchDropout", "Zoneout",
}  # fmt: skip
# Pure functions that do, and pure functions that average the statistics of a batch.
_SHIFTING = {
    f"dropout.{name}"
    for name in (
        "classical_dropout", "concrete_dropout", "drop_block", "drop_connect", "drop_path",
        "dropout", "gaussian_dropout", "locked_dropout", "spatial_dropout", "stochastic_depth",
        "variational_dense", "variational_dropout",
    )
}  # fmt: skip
_AVERAGING = {
    "normalization.batch_norm", "normalization.batch_renorm", "normalization.ghost_batch_norm",
}  # fmt: skip
_SKIPPING = ("dropout.drop_path", "dropout.stochastic_depth")
_BATCH_NORMS = (
    nn.BatchNorm, nnx.BatchNorm, our_linen.BatchNorm, our_nnx.BatchNorm, our_linen.GhostBatchNorm,
    our_nnx.GhostBatchNorm, our_linen.BatchRenorm, our_nnx.BatchRenorm,
)  # fmt: skip
_NOISE = (nn.Dropout, nnx.Dropout, our_linen.Stochastic, our_nnx.Stochastic)
_BRANCHES = (
    our_linen.DropPath, our_nnx.DropPath, our_linen.StochasticDepth, our_nnx.StochasticDepth,
)  # fmt: skip
_ATTENTION = (nn.MultiHeadDotProductAttention, nnx.MultiHeadAttention)
_CELLS = (
    our_linen.LockedDropoutCell, our_linen.ZoneoutCell, our_nnx.LockedDropoutCell,
    our_nnx.ZoneoutCell,
)  # fmt: skip
_OTHERS = (
    nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm, nn.SpectralNorm, nn.WeightNorm,
    nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.SpectralNorm, nnx.WeightNorm,
    our_linen.LayerNorm, our_linen.RMSNorm, our_linen.GroupNorm, our_linen.InstanceNorm,
    our_linen.AdaptiveInstanceNorm, our_linen.FilterResponseNorm, our_linen.ActivityPenalty,
    our_linen.SpectralNorm, our_linen.WeightNorm, our_linen.WeightStandardization,
    our_nnx.LayerNorm, our_nnx.RMSNorm, our_nnx.GroupNorm, our_nnx.InstanceNorm,
    our_nnx.AdaptiveInstanceNorm, our_nnx.FilterResponseNorm, our_nnx.ActivityPenalty,
    our_nnx.SpectralNorm, our_nnx.WeightNorm, our_nnx.WeightStandardization,
)  # fmt: skip
_STRENGTHS = ("rate", "input_rate", "state_rate", "weight", "stddev", "limit", "momentum")
_MODES = {
    "train": True, "training": True, "is_training": True, "is_train": True, "enable_dropout": True,
    "update_stats": True, "deterministic": False,
}  # fmt: skip


class Used(NamedTuple):
    """A regularizing module that a model calls, or a strength of one."""

    place: str  # its path; "model" for the model itself
    kind: str  # name of its class
    argument: str  # name of its strength, with a remark if it is not known; empty if there is none
    strength: float  # NaN if it is not a number


class Shift(NamedTuple):
    """Noise before a batch norm."""

    noise: str
    norm: str
    skips: bool  # whether the noise skips branches, as in stochastic depth


@dataclasses.dataclass(eq=False)
class Tape:
    """Records modules in the order of their calls."""

    used: dict[str, list[Used]] = dataclasses.field(default_factory=dict)  # by place
    noisy: set[str] = dataclasses.field(default_factory=set)  # those that should draw
    skipping: set[str] = dataclasses.field(default_factory=set)

    def add(self, place: str, module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Records a module, its place and its strengths."""
        own = _strengths(module, given)
        self.used[place] = [Used(place, _kind(module), *each) for each in own]
        if _is_noise(module) and not all(strength == 0 for _, strength in own):
            self.noisy.add(place)
        if _skips(module, args):
            self.skipping.add(place)


class Model(NamedTuple):
    """A model as a function of its parameters, and what regularizes in it."""

    params: Any
    apply: Callable[[Any], Any] | None  # of the parameters to the outputs, in training
    used: tuple[Used, ...]
    acting: tuple[_marks.Acting, ...] = ()  # pure functions
    drawing: tuple[str, ...] = ()  # places of random numbers that nothing known draws
    shifts: tuple[Shift, ...] = ()
    idle: tuple[str, ...] = ()  # noise modules that drew nothing


def of_linen(
    module: Any, variables: Any, inputs: tuple[Any, ...], call: Callable[..., Any] | None
) -> Model:
    """Traces a Linen module, or ``call(variables, *inputs)``, and records its regularizers."""
    if "params" not in variables:
        variables = {"params": variables}
    call = _without_jit(call or partial(_apply, module))
    rest = {name: value for name, value in variables.items() if name != "params"}

    def apply(params: Any) -> Any:
        return call({**rest, "params": params}, *inputs)

    return _trace(Tape(), apply, apply, variables["params"])


def of_function(function: Callable[..., Any], params: Any, inputs: tuple[Any, ...]) -> Model:
    """Traces ``function(params, *inputs)``, and records its regularizers."""
    function = _without_jit(function)

    def apply(params: Any) -> Any:
        return function(params, *inputs)

    return _trace(Tape(), apply, apply, params)


def of_nnx(module: nnx.Module, inputs: tuple[Any, ...], call: Callable[..., Any] | None) -> Model:
    """Traces an NNX module in its current mode, and records its regularizers."""
    call = call or operator.call
    tape = Tape()
    marked = nnx.clone(module)
    for name, child in nnx_norms.named_modules(marked).items():
        # A module of Linen inside NNX takes all attributes for variables.
        if callable(child) and not isinstance(child, nnx.bridge.ToNNX):
            _put_recorder(child, tape, name or TOP)

    def function_of(module: nnx.Module) -> tuple[Callable[[Any], Any], Any]:
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        # The copy is made inside the call: variables may only change in their own trace.
        return lambda params: call(nnx.merge(graph, params, _fresh(rest)), *inputs), params

    apply, params = function_of(module)
    return _trace(tape, function_of(marked)[0], apply, params)


def of_nothing(params: Any) -> Model:
    """Returns a model that is not called, of which only the parameters are known."""
    return Model(params, None, ())


def of_graph(module: nnx.Module) -> Model:
    """Lists the regularizing modules of an NNX module that is not called."""
    children = nnx_norms.named_modules(module).items()
    known = [(name, child) for name, child in children if _regularizes(child)]
    used = [
        Used(name or TOP, _kind(child), *each)
        for name, child in known
        for each in _strengths(child, {})
    ]
    return Model(nnx.state(module, nnx.Param), None, tuple(used))


def _trace(
    tape: Tape, marked: Callable[[Any], Any], apply: Callable[[Any], Any], params: Any
) -> Model:
    """Walks through the program of ``marked``, the model whose modules are recorded."""

    def call(params: Any) -> Any:
        with nn.intercept_methods(partial(_record, tape)):
            return marked(params)

    flow = _flow.follow(call, params, sources=_SHIFTING, targets=_AVERAGING)
    idle = [place for place in tape.used if place in tape.noisy - flow.busy]
    used = [each for place, own in tape.used.items() if place not in idle for each in own]
    shifts = [
        Shift(noise, norm, noise in tape.skipping or noise.startswith(_SKIPPING))
        for noise, norm in flow.pairs
        if noise not in idle
    ]
    return Model(params, apply, tuple(used), flow.acting, flow.drawing, tuple(shifts), tuple(idle))


def _without_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function inside ``jax.jit``, which does not trace again what it knows."""
    is_jitted = hasattr(function, "lower") and hasattr(function, "__wrapped__")
    return function.__wrapped__ if is_jitted else function  # pyright: ignore


def _apply(module: nn.Module, variables: Any, *inputs: Any) -> Any:
    """Applies a module in training mode, by an argument such as ``train`` or ``deterministic``."""
    known = inspect.signature(type(module).__call__).parameters
    # The first parameter is the module; further ones are given by position.
    free = list(known)[1 + len(inputs) :]
    # Flax takes a mode either from the constructor or at the call.
    free = [name for name in free if getattr(module, name, None) is None]
    mode = {name: value for name, value in _MODES.items() if name in free}
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    apply: Callable[..., Any] = module.apply
    return apply(variables, *inputs, rngs=keys, mutable=True, **mode)[0]


def _record(tape: Tape, call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts Linen calls, to record regularizing modules and mark their inputs or outputs."""
    module: Any = context.module
    if module.scope is None:
        return call(*args, **kwargs)
    place = "/".join(module.path) or TOP
    if context.method_name == "__call__":
        return _observe(tape, place, module, call, args, kwargs)
    with jax.named_scope(_marks.module_scope(place, _scope_kind(module))):
        return call(*args, **kwargs)


def _observe(
    tape: Tape, place: str, module: Any, call: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Calls a module inside its scope; records it and marks its input or output if it is known."""
    known = _regularizes(module)
    if known:
        tape.add(place, module, args, kwargs)
    if _is_batch_norm(module) and args and not evaluates(module, args, kwargs):
        args = (_flow.mark_target(place, args[0]), *args[1:])
    with jax.named_scope(_marks.module_scope(place, _scope_kind(module))):
        result = call(*args, **kwargs)
    return _flow.mark_source(place, result) if known and _shifts(module) else result


def _regularizes(module: Any) -> bool:
    return isinstance(module, (*_BATCH_NORMS, *_OTHERS)) or _is_noise(module)


def _scope_kind(module: Any) -> str:
    if isinstance(module, _CELLS):
        return _marks.CLOSED
    return _marks.KNOWN if _regularizes(module) else _marks.MODULE


def _is_batch_norm(module: Any) -> bool:
    return isinstance(module, _BATCH_NORMS)


def _is_noise(module: Any) -> bool:
    return isinstance(module, _NOISE) or _drops_attention(module)


def _drops_attention(module: Any) -> bool:
    return isinstance(module, _ATTENTION) and module.dropout_rate != 0


def _kind(module: Any) -> str:
    return "attention dropout" if isinstance(module, _ATTENTION) else type(module).__name__


def _strengths(module: Any, given: dict[str, Any]) -> list[tuple[str, float]]:
    """Returns names and values of the strengths of a module, and one empty pair if it has none."""
    found = []
    for name in ("dropout_rate",) if isinstance(module, _ATTENTION) else _STRENGTHS:
        value: Any = given.get(name, getattr(module, name, None))
        if is_static(value):
            found.append((name, float(value)))
        elif hasattr(value, "dtype"):
            found.append((f"{name}, {TRACED}", np.nan))
    return found or [("", np.nan)]


def _shifts(module: Any) -> bool:
    """Returns whether a module changes the variance of activations in training only."""
    rate = getattr(module, "rate", None)
    silent = is_static(rate) and rate == 0
    return _is_noise(module) and _kind(module) not in _NO_SHIFT and not silent


def _skips(module: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether a module drops whole examples, which skips a branch of a residual block."""
    if isinstance(module, _BRANCHES):
        return True
    if not (isinstance(module, nn.Dropout | nnx.Dropout) and args):
        return False
    axes = np.ndim(args[0])
    shared = {axis % axes for axis in np.ravel(module.broadcast_dims).tolist() if axes > 1}
    return bool(shared) and shared == set(range(1, axes))


def _fresh(state: Any) -> Any:
    """Copies a state into JAX arrays; a model cannot update statistics that are NumPy arrays."""

    def copy(leaf: Any) -> Any:
        return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf

    return jax.tree.map(copy, state)


def _put_recorder(module: Any, tape: Tape, place: str) -> None:
    own = inspect.signature(module.__call__)
    nnx_norms.put_before(module, _Recorder)
    # nnx.Sequential asks whether a layer takes `rngs`.
    type(module).__signature__ = own
    module.flow_tape = tape
    module.flow_place = place


class _Recorder(nnx.Module):
    """Mixin, first base class of an NNX module, that records and marks its calls."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _observe(self.flow_tape, self.flow_place, self, super().__call__, args, kwargs)
