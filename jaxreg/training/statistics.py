r"""Population statistics for batch norms in place of running averages (precise BN).

A running average gives the last batches of training the most weight and mixes statistics of many
versions of the weights. Here the weights are fixed, the model runs in training mode on some
batches, and every batch norm collects the mean and the variance of all elements that it sees:

.. math::

  n = \sum_b n_b, \qquad \mu = \sum_b \frac{n_b}{n} \mu_b, \qquad
  \sigma^2 = \sum_b \frac{n_b}{n} \left(\sigma_b^2 + (\mu_b - \mu)^2\right)

Each element counts equally, in small and in large batches; masked elements do not count. A norm
that saw no element keeps its statistics, and one that saw a single element keeps its variance. As
in training, deeper norms see activations that were normalized with the statistics of the batch, so
batches should be as large as in training. Norms with ``use_running_average=True`` are unchanged.

References:
  Wu and Johnson, `Rethinking "Batch" in BatchNorm <https://arxiv.org/abs/2105.07576>`_, 2021,
  section 3; Chan, Golub and LeVeque, `Updating Formulae and a Pairwise Algorithm for Computing
  Sample Variances <https://doi.org/10.1007/978-3-642-51461-6_3>`_, 1982
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx, traverse_util
from flax.core import meta
from jax.core import Tracer

from jaxreg import _signatures, normalization
from jaxreg._checks import canonical_axes
from jaxreg.linen import batch_norms as linen_norms
from jaxreg.nnx import batch_norms as nnx_norms
from jaxreg.nnx.normalization import evaluates
from jaxreg.normalization import Moments

__all__ = ["recalibrate", "recalibrate_model"]

_COUNT = "recalibration_count"
Model = TypeVar("Model", bound=nnx.Module)


def recalibrate(
    apply: Callable[[Any, Any], Any], variables: Mapping[str, Any], batches: Iterable[Any]
) -> dict[str, Any]:
    """Returns the variables of a Linen model with batch norm statistics computed over ``batches``.

    The batch norms may come from Flax or jaxreg, with any momentum. ``apply`` is compiled once for
    each shape of a batch. Call this function outside ``jax.jit``: it looks at the counts.

    Args:
      apply: Function ``(variables, batch) -> (outputs, updated)`` that calls ``model.apply`` in
        training mode with ``mutable=["batch_stats"]``.
      variables: Trained variables; they are not changed.
      batches: Batches, each a pytree of arrays, that may differ in size.

    Returns:
      ``variables`` with new values in ``batch_stats``.

    Raises:
      TypeError: ``apply`` does not return the updated ``batch_stats``, or arrays are traced.
      ValueError: There is no batch, ``variables`` has no statistics of a batch norm, or no norm
        counted an element, as happens in evaluation mode.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from functools import partial
      >>> from jaxreg import linen
      >>> from jaxreg.training import statistics
      >>> model = linen.BatchNorm(use_running_average=False)
      >>> variables = model.init(jax.random.key(0), jnp.ones((1, 1)))
      >>> batches = [jnp.array([[1.0], [2.0]]), jnp.array([[6.0]])]
      >>> apply = partial(model.apply, mutable=["batch_stats"])
      >>> stats = statistics.recalibrate(apply, variables, batches)["batch_stats"]
      >>> print(stats["mean"], jnp.round(stats["var"], 4))
      [3.] [4.6667]
    """
    old: dict[Any, Any] = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    norms = [path[:-1] for path in old if path[-1] == "var" and (*path[:-1], "mean") in old]
    if not norms:
        raise ValueError(
            "`variables` must contain statistics of batch norms in `batch_stats`, got none; pass "
            "the result of `model.init`."
        )

    @jax.jit
    def step(variables: Any, batch: Any) -> Any:
        with nn.intercept_methods(_collect):
            return _updated_stats(apply(variables, batch))

    # The counts are inputs, so a program that was compiled without them is not reused.
    counts = {(*path, _COUNT): jax.tree.map(jnp.zeros_like, old[*path, "var"]) for path in norms}
    state = traverse_util.unflatten_dict({**old, **counts})
    for batch in batches:
        state = step({**variables, "batch_stats": state}, batch)
    new: dict[Any, Any] = traverse_util.flatten_dict(state)
    _check_counts([meta.unbox(new[*path, _COUNT]) for path in norms])
    for path in norms:
        count = meta.unbox(new[*path, _COUNT])
        box = old[*path, "var"]
        var = _known_variance(count, meta.unbox(new[*path, "var"]), meta.unbox(box))
        new[*path, "var"] = meta.replace_boxed(box, var)
    stats = traverse_util.unflatten_dict({path: new[path] for path in old})
    return {**variables, "batch_stats": stats}


def recalibrate_model(
    model: Model, batches: Iterable[Any], *, call: Callable[..., Any] = operator.call
) -> Model:
    """Returns a copy of an NNX model with batch norm statistics computed over ``batches``.

    The batch norms may come from Flax or jaxreg, with any momentum. The call is compiled once for
    each shape of a batch.

    Args:
      model: Trained model in training mode, after ``model.train()``; it is not changed.
      batches: Batches, each a pytree of arrays, that may differ in size.
      call: Function that calls the model, ``call(model, batch)``; by default ``model(batch)``.

    Returns:
      Copy of the model whose norms have new values of ``mean`` and ``var``.

    Raises:
      TypeError: Arrays are traced, as inside ``jax.jit``.
      ValueError: There is no batch, ``model`` has no batch norm, or no norm counted an element, as
        happens in evaluation mode.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> from jaxreg.training import statistics
      >>> model = nnx.BatchNorm(1, rngs=flax_nnx.Rngs(0))
      >>> batches = [jnp.array([[1.0], [2.0]]), jnp.array([[6.0]])]
      >>> print(statistics.recalibrate_model(model, batches).mean[...])
      [3.]
    """
    collecting = nnx.clone(model)
    result = nnx.clone(model)
    modules = nnx_norms.named_modules(collecting)
    norms = {name: m for name, m in modules.items() if nnx_norms.is_batch_norm(m)}
    if not norms:
        raise ValueError("`model` must contain a BatchNorm of Flax or jaxreg, got none.")
    for norm in norms.values():
        nnx_norms.put_before(norm, _Collecting)
        norm.recalibration_count = nnx.BatchStat(jnp.zeros_like(norm.var[...]))

    @nnx.jit
    def step(model: Any, batch: Any) -> None:
        call(model, batch)

    for batch in batches:
        step(collecting, batch)
    _check_counts([norm.recalibration_count[...] for norm in norms.values()])
    targets = nnx_norms.named_modules(result)
    for name, norm in norms.items():
        target = targets[name]
        count = norm.recalibration_count[...]
        target.mean[...] = norm.mean[...]
        target.var[...] = _known_variance(count, norm.var[...], target.var[...])
    return result


def _combine(a: Moments, b: Moments) -> Moments:
    """Merges the moments of two sets, in the dtypes of ``a``; ignores a set whose count is 0."""
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    delta = b.mean - a.mean
    var = a.var + share * (b.var - a.var) + share * (1 - share) * jnp.abs(delta) ** 2
    together = Moments(a.mean + share * delta, var, count)
    is_first = a.count == 0
    is_empty = b.count == 0

    def choose(old: jax.Array, new: jax.Array, both: jax.Array) -> jax.Array:
        return jnp.where(is_empty, old, jnp.where(is_first, new, both)).astype(old.dtype)

    return jax.tree.map(choose, a, b, together)


def _add_batch(norm: Any, stats: Moments, x: jax.Array, mask: jax.Array | None) -> Moments:
    """Merges the moments of ``x``, the input to one batch norm, into ``stats``."""
    features = canonical_axes(norm.axis, x.ndim)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    across = {"axis_name": norm.axis_name, "axis_index_groups": norm.axis_index_groups}
    batch = normalization.moments(x, axis=reduced, where=mask, **across)
    return _combine(stats, batch)


def _collect(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts Linen calls to collect moments of the inputs to batch norms in training mode."""
    norm: Any = context.module
    if (
        context.method_name != "__call__"
        or not linen_norms.is_batch_norm(norm)
        or linen_norms.evaluates(norm, args, kwargs)
    ):
        return call(*args, **kwargs)
    names = ("mean", "var", _COUNT)
    boxes = [norm.get_variable("batch_stats", name) for name in names]
    x = args[0] if args else kwargs["x"]
    stats = _add_batch(norm, Moments(*map(meta.unbox, boxes)), x, kwargs.get("mask"))
    y = call(*args, **kwargs)
    for name, box, value in zip(names, boxes, stats, strict=True):
        norm.put_variable("batch_stats", name, meta.replace_boxed(box, value))
    return y


class _Collecting(nnx.Module):
    """Mixin that collects moments of an NNX batch norm's inputs; it must be the first base."""

    def __call__(
        self: Any,
        x: jax.Array,
        use_running_average: bool | None = None,  # noqa: FBT001
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        call = super().__call__
        if evaluates(self, use_running_average):
            return call(x, use_running_average, mask=mask)
        variables = (self.mean, self.var, self.recalibration_count)
        stats = _add_batch(self, Moments(*(v[...] for v in variables)), x, mask)
        y = call(x, use_running_average, mask=mask)
        for variable, value in zip(variables, stats, strict=True):
            variable[...] = value
        return y


def _known_variance(count: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns ``new`` where ``count``, the number of elements, is above 1, else ``old``."""
    return jnp.where(count > 1, new, old)


def _updated_stats(result: Any) -> Any:
    """Returns the updated ``batch_stats`` in the result of ``apply``.

    Raises:
      TypeError: ``result`` has no ``batch_stats``.
    """
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not is_pair or not isinstance(result[1], Mapping) or "batch_stats" not in result[1]:
        raise TypeError(
            "`apply` must return `(outputs, updated)` with the statistics in "
            f"`updated['batch_stats']`, got {type(result).__name__}; call the model in training "
            "mode with mutable=['batch_stats']."
        )
    return result[1]["batch_stats"]


def _check_counts(counts: list[jax.Array]) -> None:
    """Raises if no batch norm saw any element, or if nobody can know."""
    if any(isinstance(count, Tracer) for count in counts):
        raise TypeError(
            "`batches` must be arrays, got traced ones; recalibrate outside of `jax.jit` and of "
            "loops of JAX."
        )
    if not any(bool(jnp.any(count > 0)) for count in counts):
        raise ValueError(
            "`batches` must contain input for a batch norm in training mode, got none; pass at "
            "least one batch, and call the model in training mode."
        )


_signatures.show(__name__)
