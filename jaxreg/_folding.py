"""Pairs each batch norm with the layer before it, by marks in a model's trace.

A mark is an identity operation that is visible in the trace. The trace shows that a norm reads the
output of a layer, and that nothing else does; a tree of variables does not show this.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import ArrayLike, DTypeLike

from jaxreg._checks import canonical_axes

_INPUT = "input"


class Layer(NamedTuple):
    """Output axes and shape of a layer's kernel, recorded when the layer is called."""

    axis: tuple[int, ...]  # output axes of its kernel, counted from the end
    shape: tuple[int, ...]  # of its kernel


class Norm(NamedTuple):
    """Settings of a batch norm, recorded when the norm is called."""

    axis: int | tuple[int, ...]
    ndim: int
    eps: ArrayLike
    scale_offset: ArrayLike
    dtype: DTypeLike  # of its result
    is_training: bool


@dataclasses.dataclass(eq=False)
class Tape:
    """Records the called layers and norms by their names in the model, in call order."""

    layers: dict[str, Layer] = dataclasses.field(default_factory=dict)
    norms: dict[str, Norm] = dataclasses.field(default_factory=dict)

    def layer(self, name: str, kernel: jax.Array, y: jax.Array, axis: tuple[int, ...]) -> jax.Array:
        """Records a layer, marks its kernel, and returns its output ``y`` with a mark."""
        self.layers[name] = Layer(axis, kernel.shape)
        checkpoint_name(kernel, _kernel(name))
        return checkpoint_name(y, _layer(name))

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        """Returns the input ``x`` of a norm with a mark."""
        return checkpoint_name(x, _norm(name))


def find_pairs(
    tape: Tape, function: Callable[..., Any], inputs: tuple[Any, ...], norms: Collection[str] | None
) -> dict[str, str]:
    """Returns a dictionary from names of batch norms to names of the layers they fold into.

    Args:
      tape: Empty tape that ``function`` writes to.
      function: Model whose layers and norms set marks.
      inputs: Its arguments, including the parameters.
      norms: Names of the norms to fold; all by default.

    Raises:
      ValueError: ``function`` has no batch norm, or one of ``norms`` cannot be folded.
    """
    marks = _trace(function, inputs)
    if not tape.norms:
        raise ValueError(
            "`norms` must be batch norms of the model, but it calls no batch norm of Flax or "
            "jaxreg; if it has one, pass the model or the function without jax.jit and nnx.jit."
        )
    chosen = tuple(tape.norms if norms is None else norms)
    for name in chosen:
        if name not in tape.norms:
            raise ValueError(
                f"`norms` must name batch norms of the model, got {name!r}; it has "
                f"{', '.join(map(repr, tape.norms))}."
            )
    return {name: _layer_before(name, tape, marks) for name in chosen}


class _Mark(NamedTuple):
    """Input, shape and uses of a marked array in a trace."""

    source: str  # mark of its input, or _INPUT
    shape: tuple[int, ...]  # of its input
    reads_before: int  # how often its input is read, including by the mark
    reads_after: int  # how often its result is read


def _trace(function: Callable[..., Any], inputs: tuple[Any, ...]) -> dict[str, list[_Mark]]:
    """Traces ``function`` and returns its marks by name, except marks inside nested jaxprs."""
    program = jax.make_jaxpr(function)(*inputs).jaxpr
    equations = [eqn for eqn in program.eqns if eqn.primitive.name == "name"]
    origin = {id(var): _INPUT for var in program.invars}
    origin |= {id(eqn.outvars[0]): eqn.params["name"] for eqn in equations}
    reads = collections.Counter(id(var) for eqn in program.eqns for var in eqn.invars)
    reads += collections.Counter(map(id, program.outvars))
    marks: dict[str, list[_Mark]] = collections.defaultdict(list)
    for eqn in equations:
        before = eqn.invars[0]
        after = eqn.outvars[0]
        found = _Mark(
            origin.get(id(before), ""), before.aval.shape, reads[id(before)], reads[id(after)]
        )
        marks[eqn.params["name"]].append(found)
    return marks


def _layer_before(name: str, tape: Tape, marks: dict[str, list[_Mark]]) -> str:
    """Returns the name of the layer that a norm folds into.

    Raises:
      ValueError: There is no such layer, for a reason that the message gives.
    """
    norm = tape.norms[name]
    calls = marks[_norm(name)]
    if norm.is_training:
        raise _refuse(name, "it uses the statistics of the batch; call it in evaluation mode")
    if len(calls) != 1:
        raise _refuse(name, f"it is called {len(calls)} times outside of scan, remat and jit")
    layer = next((layer for layer in tape.layers if _layer(layer) == calls[0].source), None)
    if layer is None:
        raise _refuse(name, "its input is not the output of a dense layer or a convolution")
    outputs = marks[_layer(layer)]
    kernels = marks[_kernel(layer)]
    if len(outputs) != 1:
        raise _refuse(name, f"layer {layer!r} is called {len(outputs)} times")
    if outputs[0].reads_after > 1:
        raise _refuse(name, f"the output of layer {layer!r} is also used elsewhere")
    axis, shape = tape.layers[layer]
    if kernels[0].source != _INPUT or kernels[0].shape != shape:
        raise _refuse(name, f"the kernel of layer {layer!r} is changed before it is used")
    if kernels[0].reads_before > 2:  # by the mark and by the layer
        raise _refuse(name, f"the kernel of layer {layer!r} is also used elsewhere")
    if canonical_axes(norm.axis, norm.ndim) != tuple(range(norm.ndim - len(axis), norm.ndim)):
        reason = f"its `axis` is {norm.axis}, which does not name the features of layer {layer!r}"
        raise _refuse(name, reason)
    return layer


def _refuse(name: str, reason: str) -> ValueError:
    return ValueError(
        f"`norms` must be batch norms that fold into the layer before them, got {name!r}: "
        f"{reason}. To leave it as it is, list only the other norms in `norms`."
    )


def _layer(name: str) -> str:
    return f"jaxreg.folding: layer {name}"


def _kernel(name: str) -> str:
    return f"jaxreg.folding: kernel {name}"


def _norm(name: str) -> str:
    return f"jaxreg.folding: norm {name}"
