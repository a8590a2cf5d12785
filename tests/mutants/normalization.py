"""Faults in ``jaxreg.normalization`` and ``jaxreg.reparam``."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "normalization/_masks.py",
        "jnp.expand_dims(mask, tuple(range(x.ndim - mask.ndim)))",
        "jnp.expand_dims(mask, tuple(range(mask.ndim, x.ndim)))",
        "mask aligned with the first axes",
    ),
    Mutant(
        "normalization/_affine.py",
        "gain = inverse_root(var + as_strength(eps, x))",
        "gain = 1 / (jnp.sqrt(var) + as_strength(eps, x))",
        "eps outside of the root",
    ),
    Mutant(
        "normalization/_affine.py",
        "(dbias - dmean * gain)",
        "(dbias + dmean * gain)",
        "sign in a hand-written derivative",
    ),
    Mutant(
        "normalization/_affine.py",
        "dy + (x - mean) * dgain",
        "dy + x * dgain",
        "a hand-written derivative forgets the mean",
    ),
    Mutant(
        "_numerics.py",
        "flat = (x <= 0) | (x == jnp.inf)",
        "flat = (x < 0) | (x == jnp.inf)",
        "infinite at variance 0",
    ),
    Mutant(
        "normalization/batch.py",
        "past * old.mean + (1 - past) * batch.mean",
        "(1 - past) * old.mean + past * batch.mean",
        "momentum the other way round",
    ),
    Mutant(
        "normalization/batch.py",
        "known = batch.count > jnp.maximum(lost, 1)",
        "known = batch.count > lost",
        "a single element has no variance",
    ),
    Mutant(
        "normalization/_devices.py",
        "mine = (groups == groups[index])",
        "mine = (groups != groups[index])",
        "the other groups of devices",
    ),
    Mutant(
        "normalization/_affine.py",
        "wide_dtype(x.dtype) if jnp.iscomplexobj(a) else real_dtype(x)",
        "real_dtype(x)",
        "imaginary parts lost",
    ),
    Mutant(
        "normalization/batch.py",
        "batch.count - lost, jnp.ones_like",
        "batch.count + lost, jnp.ones_like",
        "sign of ddof",
    ),
    Mutant(
        "normalization/batch.py",
        "batch_norm_inference(x, used,",
        "batch_norm_inference(x, stats,",
        "running statistics in training",
    ),
    Mutant(
        "normalization/batch.py",
        "momentum: ArrayLike = 0.99",
        "momentum: ArrayLike = 0.9",
        "wrong default",
    ),
    Mutant(
        "normalization/fold.py",
        "offset = -as_wide(stats.mean, kernel)",
        "offset = as_wide(stats.mean, kernel)",
        "sign of the mean",
    ),
    Mutant(
        "normalization/fold.py", "offset = offset * gain", "offset = offset * 1", "missing factor"
    ),
    Mutant(
        "normalization/ghost.py",
        "[factors[1:], jnp.ones_like(factors[:1])]",
        "[jnp.ones_like(factors[:1]), factors[:-1]]",
        "shares of the ghosts shifted by one",
    ),
    Mutant(
        "normalization/ghost.py",
        "_average(stats.var, new_var, has_var, past)",
        "_average(stats.var, new_var, known, past)",
        "a single element has no variance",
    ),
    Mutant(
        "normalization/group.py",
        "return tuple(range(1, x.ndim))",
        "return tuple(range(x.ndim))",
        "statistics over the batch",
    ),
    Mutant(
        "normalization/group.py",
        "groups, shape[-1] // groups)",
        "shape[-1] // groups, groups)",
        "channels of a group lie apart",
    ),
    Mutant(
        "normalization/layer.py",
        "devices.total((total, count_along(x, axes, mask)))",
        "devices.total((total, count_along(x, axes, None)))",
        "dropped mask in a mean",
    ),
    Mutant(
        "normalization/layer.py",
        "tuple(a for a in range(1, x.ndim) if a not in features)",
        "tuple(a for a in range(x.ndim) if a not in features)",
        "statistics over the batch",
    ),
    Mutant(
        "normalization/layer.py",
        "total, count = devices.total((total, count_along(x, axes, mask)))",
        "total, count = devices.total(total), count_along(x, axes, mask)",
        "count of one device",
    ),
    Mutant(
        "normalization/renorm.py",
        "jnp.clip(r, 1 / r_max, r_max)",
        "jnp.clip(r, 0, r_max)",
        "lower bound lost",
    ),
    Mutant(
        "normalization/renorm.py",
        "= jax.lax.stop_gradient((batch, stats, eps))",
        "= (batch, stats, eps)",
        "a stop_gradient lost",
    ),
    Mutant(
        "normalization/renorm.py",
        "jnp.sqrt(batch.var + eps) * inverse",
        "(batch.var + eps) * inverse",
        "root lost",
    ),
    Mutant(
        "normalization/response.py",
        "y = jnp.maximum(y, _along(threshold, x))",
        "y = jnp.minimum(y, _along(threshold, x))",
        "bounded on the wrong side",
    ),
    Mutant(
        "normalization/response.py",
        "mean_square + once / unit)",
        "mean_square + once)",
        "eps scaled once only",
    ),
    Mutant(
        "normalization/response.py",
        "jnp.abs(as_strength(eps, x))",
        "as_strength(eps, x)",
        "a negative learned eps",
    ),
    Mutant(
        "normalization/statistics.py",
        "second = 2 * jnp.sum(",
        "second = jnp.sum(",
        "factor 2 of a derivative lost",
    ),
    Mutant(
        "normalization/statistics.py",
        "dx = select(tangents[0], mask)",
        "dx = tangents[0]",
        "dropped mask in a derivative",
    ),
    Mutant(
        "normalization/statistics.py",
        "total(count * (var + square(mean - center)))",
        "total(count * var)",
        "variance between the parts lost",
    ),
    Mutant(
        "normalization/statistics.py",
        "jnp.all(squares <= _CANCELLATION * var)",
        "jnp.all(squares >= _CANCELLATION * var)",
        "the inaccurate branch for large means",
    ),
    Mutant(
        "normalization/statistics.py",
        "repeats = math.prod(x.shape[a] for a in axes if mask.shape[a] == 1)",
        "repeats = 1",
        "a broadcast mask counted once",
    ),
    Mutant(
        "normalization/style.py", "eps: ArrayLike = 1e-5", "eps: ArrayLike = 1e-3", "wrong default"
    ),
    Mutant(
        "normalization/style.py",
        "batch = moments(x, axis=spatial, where=where)",
        "batch = moments(x, axis=spatial)",
        "dropped mask",
    ),
    Mutant(
        "reparam/axes.py",
        "set(path[-2:-1])",
        "set(path[-1:])",
        "looks for the layer at the wrong place",
    ),
    Mutant(
        "reparam/spectral.py",
        "jax.lax.fori_loop(1, steps, lambda",
        "jax.lax.fori_loop(0, steps, lambda",
        "a step too many",
    ),
    Mutant(
        "reparam/spectral.py",
        "sigma = jnp.where(sigma > 0, sigma, jnp.ones_like(sigma))",
        "sigma = jnp.abs(sigma)",
        "NaN for a zero kernel",
    ),
    Mutant(
        "reparam/spectral.py",
        "fixed = jax.lax.stop_gradient(widen(w))",
        "fixed = widen(w)",
        "a stop_gradient lost",
    ),
    Mutant(
        "reparam/spectral.py",
        "return u, safe_norm(_sum(widen(w) * v, others), axis=None)",
        "return u, safe_norm(_sum(widen(w) * u, outputs), axis=None)",
        "sigma of the vector after the last step",
    ),
    Mutant("reparam/spectral.py", "vectors[:, -1]", "vectors[:, 0]", "the smallest singular value"),
    Mutant("reparam/units.py", "number**-0.5", "number**0.5", "inverse scale"),
    Mutant(
        "reparam/units.py",
        "var + as_strength(eps, w) / constant / constant",
        "var + as_strength(eps, w)",
        "eps not scaled",
    ),
    Mutant(
        "reparam/units.py",
        "(scale * ((x - mean) * gain))",
        "(scale * (x * gain))",
        "mean not subtracted",
    ),
    Mutant(
        "reparam/units.py",
        "(scale * unit(v, axis=others)).astype(v.dtype)",
        "(scale * unit(v, axis=outputs)).astype(v.dtype)",
        "swapped axes",
    ),
)
