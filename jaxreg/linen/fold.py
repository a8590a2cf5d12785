"""Folds the batch norms of a Linen model into the preceding layers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from flax import linen as nn
from flax import traverse_util
from flax.core import meta
from jax.typing import DTypeLike

from jaxreg import normalization
from jaxreg._folding import Norm, Tape, find_pairs
from jaxreg._numerics import offset_scale
from jaxreg.linen.batch_norms import evaluates, is_batch_norm

_LAYERS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose)
_CALLS = tuple(layer.__call__ for layer in _LAYERS)


def fold_batch_norm(
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    *inputs: Any,
    norms: Collection[str] | None = None,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Folds batch norms into the preceding layers by :func:`jaxreg.normalization.fold_batch_norm`.

    Use it on a trained model in evaluation mode. The model is traced once to check that each norm
    reads the output of a ``Dense``, ``DenseGeneral``, ``Conv`` or ``ConvTranspose``, that nothing
    else reads it, and that both are outside of scan, remat and jit. Norms of Flax and of jaxreg are
    folded. In the new variables, a folded layer has a new kernel and a bias, and a folded norm has
    no variables; the new ``apply`` skips the norm.

    Args:
      apply: Function ``(variables, *inputs)`` that calls ``model.apply`` in evaluation mode,
        without ``jax.jit``, such as ``functools.partial(model.apply, train=False)``.
      variables: Variables of the model, with ``params`` and ``batch_stats``; they are unchanged.
      *inputs: Arrays to trace ``apply`` with; their values do not matter.
      norms: Paths of the norms to fold, such as ``"Block_0/BatchNorm_0"``; all by default.

    Returns:
      The function ``apply``, which may be compiled, and the ``variables`` of the folded model.

    Raises:
      TypeError: ``apply`` is a module.
      ValueError: The model has no batch norm, or one of ``norms`` cannot be folded: its input is
        not a layer's output or is used elsewhere too, the feature axes differ, or it is in training
        mode. The message names the norm and the layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> model = nn.Sequential([nn.Dense(4), linen.BatchNorm(use_running_average=True), nn.relu])
      >>> x = jnp.ones((1, 3))
      >>> variables = model.init(jax.random.key(0), x)
      >>> apply, folded = linen.fold_batch_norm(model.apply, variables, x)
      >>> print(jax.tree.map(jnp.shape, folded))
      {'params': {'layers_0': {'bias': (4,), 'kernel': (3, 4)}}}
      >>> print(jnp.allclose(apply(folded, x), model.apply(variables, x)))
      True

    References:
      Jacob et al., `Quantization and Training of Neural Networks for Efficient
      Integer-Arithmetic-Only Inference <https://arxiv.org/abs/1712.05877>`_, 2018, section 3.2
    """
    if isinstance(apply, nn.Module):
        raise TypeError(
            f"`apply` must be a function of variables and inputs, got the module "
            f"{type(apply).__name__}; pass its `apply` method, such as "
            "functools.partial(model.apply, train=False)."
        )
    tape = Tape()
    marked = _intercept(apply, partial(_mark, tape))
    pairs = find_pairs(tape, marked, (variables, *inputs), norms)
    dtypes = {name: tape.norms[name].dtype for name in pairs}
    skip = partial(_skip, frozenset(pairs.values()), dtypes)
    return _intercept(apply, skip), _fold(variables, pairs, tape)


def _intercept(apply: Callable[..., Any], interceptor: Callable[..., Any]) -> Callable[..., Any]:
    """Returns ``apply`` with all calls of modules routed through an interceptor."""

    def run(variables: Mapping[str, Any], *inputs: Any) -> Any:
        with nn.intercept_methods(interceptor):
            return apply(variables, *inputs)

    return run


def _mark(tape: Tape, call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts a call to record the layer or norm on ``tape``; the result is unchanged."""
    module: Any = context.module
    if context.method_name != "__call__" or not args:
        return call(*args, **kwargs)
    if is_batch_norm(module):
        name = "/".join(module.path)
        y = call(tape.norm(name, args[0]), *args[1:], **kwargs)
        trains = not evaluates(module, args, kwargs)
        offset = getattr(module, "scale_offset", 0.0)
        tape.norms[name] = Norm(module.axis, y.ndim, module.epsilon, offset, y.dtype, trains)
        return y
    y = call(*args, **kwargs)
    if axis := _output_axes(module):
        kernel = meta.unbox(module.get_variable("params", "kernel"))
        y = tape.layer("/".join(module.path), kernel, y, axis)
    return y


def _output_axes(layer: Any) -> tuple[int, ...]:
    """Returns the output axes of a layer's kernel, or ``()`` if no norm can be folded into it."""
    if not isinstance(layer, _LAYERS) or type(layer).__call__ not in _CALLS:
        return ()
    if isinstance(layer, nn.DenseGeneral):
        several = isinstance(layer.features, Sequence)
        number = len(layer.features) if several else 1  # pyright: ignore[reportArgumentType]
        return () if layer.batch_dims else tuple(range(-number, 0))
    return (-2,) if getattr(layer, "transpose_kernel", False) else (-1,)


def _skip(
    layers: Collection[str],
    norms: Mapping[str, DTypeLike],
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: Any,
) -> Any:
    """Intercepts a call to add a bias to a folded layer or to skip a folded norm."""
    module: Any = context.module
    if context.method_name != "__call__" or not args:
        return call(*args, **kwargs)
    if is_batch_norm(module) and (name := "/".join(module.path)) in norms:
        if not evaluates(module, args, kwargs):
            raise ValueError(
                f"`use_running_average` must be True for the folded {name!r}, got False; train the "
                "original model instead."
            )
        return args[0].astype(norms[name])
    if isinstance(module, _LAYERS) and not module.use_bias and "/".join(module.path) in layers:
        return module.clone(parent=module.scope, use_bias=True)(*args, **kwargs)
    return call(*args, **kwargs)


def _fold(variables: Mapping[str, Any], pairs: Mapping[str, str], tape: Tape) -> dict[str, Any]:
    """Returns the variables with the folded kernels and biases, and without the folded norms."""
    flat: dict[Any, Any] = traverse_util.flatten_dict(variables, sep="/")
    for norm, layer in pairs.items():
        mean = meta.unbox(flat.pop(f"batch_stats/{norm}/mean"))
        var = meta.unbox(flat.pop(f"batch_stats/{norm}/var"))
        paths = {name: f"params/{norm}/{name}" for name in ("scale", "bias")}
        params = {name: meta.unbox(flat.pop(p)) for name, p in paths.items() if p in flat}
        names = [f"params/{layer}/{name}" for name in ("kernel", "bias")]
        old = [flat.get(name) for name in names]
        new = normalization.fold_batch_norm(
            meta.unbox(old[0]),
            normalization.BatchStats(mean, var),
            layer_bias=meta.unbox(old[1]),
            **offset_scale(params, tape.norms[norm].scale_offset),
            eps=tape.norms[norm].eps,
            axis=tape.layers[layer].axis,
        )
        for name, box, value in zip(names, old, new, strict=True):
            flat[name] = value if box is None else meta.replace_boxed(box, value)
    return traverse_util.unflatten_dict(flat, sep="/")
