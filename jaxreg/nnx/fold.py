"""Folds the batch norms of an NNX model into the preceding layers."""

import operator
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.typing import DTypeLike

from jaxreg import normalization
from jaxreg._folding import Norm, Tape, find_pairs
from jaxreg._numerics import offset_scale
from jaxreg.nnx.batch_norms import is_batch_norm, named_modules, put_before, replace
from jaxreg.nnx.normalization import evaluates

_LAYERS = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose)
_CALLS = tuple(layer.__call__ for layer in _LAYERS)
Model = TypeVar("Model", bound=nnx.Module)


class FoldedBatchNorm(nnx.Module):
    """Identity module that takes the place of a folded batch norm.

    Attributes:
      dtype: Dtype of the result, as in the replaced norm.
      use_running_average: True; if it is False, calls raise, because a folded norm cannot train.
    """

    def __init__(self, dtype: DTypeLike):
        self.dtype = dtype
        self.use_running_average = True

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,  # noqa: FBT001
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns ``x``, cast to the dtype that the norm returned.

        Args:
          x: Input array.
          use_running_average: Overrides the attribute; must not be False.
          mask: Has no effect, like the mask of a norm in evaluation mode.

        Raises:
          ValueError: ``use_running_average`` is False.
        """
        del mask
        if not evaluates(self, use_running_average):
            raise ValueError(
                "`use_running_average` must be True for a folded batch norm, got False; train the "
                "original model instead."
            )
        return x.astype(self.dtype)

    def set_view(self, use_running_average: bool | None = None) -> None:  # noqa: FBT001
        """Switches between training and evaluation mode; called by ``flax.nnx.view``.

        Args:
          use_running_average: True in evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


def fold_batch_norm(
    model: Model,
    *inputs: Any,
    call: Callable[..., Any] = operator.call,
    norms: Collection[str] | None = None,
) -> Model:
    """Folds batch norms into the preceding layers by :func:`jaxreg.normalization.fold_batch_norm`.

    Use it on a trained model in evaluation mode. The model is traced once to check that each norm
    reads the output of a ``Linear``, ``LinearGeneral``, ``Conv`` or ``ConvTranspose``, that nothing
    else reads it, and that both are outside of scan, remat and jit. Norms of Flax and of jaxreg are
    folded. In the new model, a folded layer has a new kernel and a bias, and a
    :class:`FoldedBatchNorm` replaces the norm.

    Args:
      model: Model in evaluation mode, after ``model.eval()``; it is not changed.
      *inputs: Arrays to trace the model with; their values do not matter.
      call: Function ``call(model, *inputs)`` that calls the model, without ``flax.nnx.jit``; by
        default ``model(*inputs)``.
      norms: Paths of the norms to fold, such as ``"blocks/0/norm"``; all by default.

    Returns:
      The folded model, which shares no variable with ``model``.

    Raises:
      TypeError: ``model`` is not a module.
      ValueError: The model has no batch norm, or one of ``norms`` cannot be folded: its input is
        not a layer's output or is used elsewhere too, the feature axes differ, or it is in training
        mode. The message names the norm and the layer.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> rngs = flax_nnx.Rngs(0)
      >>> linear = flax_nnx.Linear(3, 4, use_bias=False, rngs=rngs)
      >>> model = flax_nnx.Sequential(linear, nnx.BatchNorm(4, rngs=rngs))
      >>> model.eval()
      >>> x = jnp.ones((1, 3))
      >>> folded = nnx.fold_batch_norm(model, x)
      >>> print(jnp.allclose(folded(x), model(x)), folded.layers[0].bias.shape)
      True (4,)

    References:
      Jacob et al., `Quantization and Training of Neural Networks for Efficient
      Integer-Arithmetic-Only Inference <https://arxiv.org/abs/1712.05877>`_, 2018, section 3.2
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`model` must be a module, got {type(model).__name__}; pass the model itself, and the "
            "function that calls it as `call`."
        )
    tape = Tape()
    graph, state = nnx.split(_copy_with_marks(model, tape))

    def run(state: Any, *inputs: Any) -> Any:
        return call(nnx.merge(graph, state), *inputs)

    pairs = find_pairs(tape, run, (state, *inputs), norms)
    folded = nnx.clone(model)
    modules = named_modules(folded)
    for norm, layer in pairs.items():
        _fold(modules[layer], modules[norm], tape.layers[layer].axis)
    replace(folded, {name: FoldedBatchNorm(tape.norms[name].dtype) for name in pairs})
    return folded


class _MarkedLayer(nnx.Module):
    """Mixin that makes a layer append its kernel and its result to a list of calls, the tape."""

    def __call__(self: Any, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        y = super().__call__(x, *args, **kwargs)
        return self.marks_tape.layer(self.marks_name, self.kernel[...], y, self.marks_axis)


class _MarkedNorm(nnx.Module):
    """Mixin that makes a batch norm record its input on the tape."""

    def __call__(
        self: Any,
        x: jax.Array,
        use_running_average: bool | None = None,  # noqa: FBT001
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        tape: Tape = self.marks_tape
        name = self.marks_name
        call = super().__call__
        y = call(tape.norm(name, x), use_running_average, mask=mask)
        trains = not evaluates(self, use_running_average)
        offset = getattr(self, "scale_offset", 0.0)
        tape.norms[name] = Norm(self.axis, y.ndim, self.epsilon, offset, y.dtype, trains)
        return y


def _copy_with_marks(model: Model, tape: Tape) -> Model:
    """Returns a copy of a model, with the same paths, that records layers and norms on ``tape``."""
    copy = nnx.clone(model)
    for name, module in named_modules(copy).items():
        axis = _output_axes(module)
        if axis or is_batch_norm(module):
            put_before(module, _MarkedLayer if axis else _MarkedNorm)
            module.marks_tape = tape
            module.marks_name = name
            module.marks_axis = axis
    return copy


def _output_axes(layer: Any) -> tuple[int, ...]:
    """Returns the output axes of a layer's kernel, or ``()`` if no norm can be folded into it."""
    if not isinstance(layer, _LAYERS) or type(layer).__call__ not in _CALLS:
        return ()
    if isinstance(layer, nnx.LinearGeneral):
        return () if layer.batch_axis else tuple(range(-len(layer.out_features), 0))
    return (-2,) if getattr(layer, "transpose_kernel", False) else (-1,)


def _fold(layer: Any, norm: Any, axis: tuple[int, ...]) -> None:
    """Changes a layer's kernel and bias in place so that it applies the norm too."""
    params = {name: getattr(norm, name) for name in ("scale", "bias")}
    given = {name: param[...] for name, param in params.items() if param is not None}
    layer.kernel[...], new_bias = normalization.fold_batch_norm(
        layer.kernel[...],
        normalization.BatchStats(norm.mean[...], norm.var[...]),
        layer_bias=None if layer.bias is None else layer.bias[...],
        **offset_scale(given, getattr(norm, "scale_offset", 0.0)),
        eps=norm.epsilon,
        axis=axis,
    )
    if layer.bias is None:
        layer.bias = nnx.Param(new_bias)
        layer.use_bias = True
    else:
        layer.bias[...] = new_bias
