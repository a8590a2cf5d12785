"""Faults in proximal, projections, masks and transforms."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "proximal/elementwise.py",
        "(widen(w) / (1 + t))",
        "(widen(w) * (1 - t))",
        "a gradient step for a proximal one",
    ),
    Mutant(
        "proximal/elementwise.py",
        "cut = 2 * jnp.sqrt(t / 2)",
        "cut = jnp.sqrt(t)",
        "missing factor",
    ),
    Mutant(
        "proximal/elementwise.py",
        "and not low <= high:",
        "and not low < high:",
        "an error check with a wrong bound",
    ),
    Mutant("proximal/elementwise.py", "wide - t * _sign(wide)", "wide + t * _sign(wide)", "sign"),
    Mutant(
        "proximal/elementwise.py",
        "(soft(widen(w), cut) / (1 + shrink))",
        "(soft(widen(w), cut) / (1 + cut))",
        "shrinks by the wrong strength",
    ),
    Mutant(
        "proximal/groups.py",
        "math.sqrt(math.prod(wide.shape[a] for a in axes)) / scale",
        "math.sqrt(math.prod(wide.shape[a] for a in axes))",
        "threshold not scaled",
    ),
    Mutant(
        "proximal/groups.py",
        "(v.conj() * by_w).real - square(v) * by_cut",
        "(v.conj() * by_w).real + square(v) * by_cut",
        "sign in a hand-written derivative",
    ),
    Mutant(
        "proximal/groups.py",
        "_shrink(thinned, times(t, 1 - share), axes)",
        "_shrink(thinned, times(t, share), axes)",
        "share for its rest",
    ),
    Mutant(
        "proximal/groups.py",
        "axes = tuple(range(w.ndim - 1)) if axis is None",
        "axes = tuple(range(1, w.ndim)) if axis is None",
        "wrong axis by default",
    ),
    Mutant(
        "proximal/matrices.py",
        "restore(soften(matrix, t))",
        "restore(soften(matrix, t / 2))",
        "half the threshold",
    ),
    Mutant(
        "projections.py",
        "jnp.where(outside, bound, jnp.zeros_like(norm)) * (1 - margin)",
        "jnp.where(outside, bound, jnp.zeros_like(norm))",
        "outside by a rounding",
    ),
    Mutant(
        "projections.py",
        "(1 - r) * norm + r * jnp.minimum",
        "r * norm + (1 - r) * jnp.minimum",
        "rate the other way round",
    ),
    Mutant(
        "projections.py",
        "jnp.max(levels, axis=-1)",
        "jnp.min(levels, axis=-1)",
        "the wrong level of the simplex",
    ),
    Mutant(
        "projections.py",
        "tuple(range(w.ndim - 1)) if axis is None",
        "tuple(range(w.ndim)) if axis is None",
        "wrong axis by default",
    ),
    Mutant(
        "projections.py",
        "jnp.where(jnp.sign(w) < 0, jnp.zeros_like(w), w)",
        "jnp.abs(w)",
        "mirrors negative weights",
    ),
    Mutant(
        "projections.py",
        "kept = jax.lax.stop_gradient(w) - (jax.lax.stop_gradient(direction) - direction)",
        "kept = w",
        "the gradient leaves the sphere",
    ),
    Mutant(
        "projections.py",
        "is_static(high) and low > high:",
        "is_static(high) and low >= high:",
        "an error check with a wrong bound",
    ),
    Mutant("projections.py", "surplus / jnp.maximum(count, 1)", "surplus", "missing factor"),
    Mutant("masks.py", "jnp.ndim(leaf) >= 2", "jnp.ndim(leaf) > 2", "matrices are left out"),
    Mutant("masks.py", '"scale", "offset", "mean"', '"scale", "mean"', "offsets count as weights"),
    Mutant(
        "masks.py",
        "for i, pattern in enumerate(patterns):",
        "for i, pattern in enumerate(patterns, 1):",
        "off by one",
    ),
    Mutant("masks.py", "(?:^|(?<=/))(?:", "(?:", "matches the end of a name"),
    Mutant(
        "transforms/_steps.py",
        "return StepState(jnp.asarray(optax.safe_increment(state.count)))",
        "return StepState(state.count)",
        "a state field not updated",
    ),
    Mutant(
        "transforms/_steps.py",
        "value(state.count) if callable(value) else value",
        "value(state.count + 1) if callable(value) else value",
        "a schedule off by one step",
    ),
    Mutant(
        "transforms/averaging.py",
        "total = kept * total + (1 - kept)",
        "total = kept * total + 1",
        "bias correction wrong",
    ),
    Mutant(
        "transforms/averaging.py",
        "since = count + 1 - _integer(start)",
        "since = count - _integer(start)",
        "off by one step",
    ),
    Mutant(
        "transforms/averaging.py",
        "back = count % _integer(period, least=1) == 0",
        "back = state.count % _integer(period, least=1) == 0",
        "off by one step",
    ),
    Mutant(
        "transforms/averaging.py",
        "return jnp.asarray(w + u).astype",
        "return jnp.asarray(w).astype",
        "averages the old parameters",
    ),
    Mutant(
        "transforms/averaging.py",
        "return AverageState(jnp.zeros((), jnp.int32), total, jax.tree.map(_wide_copy, params))",
        "return AverageState(jnp.zeros((), jnp.int32), total, params)",
        "averages in low precision",
    ),
    Mutant(
        "transforms/centralization.py",
        "tuple(range(g.ndim - 1)) if axis is None",
        "tuple(range(1, g.ndim)) if axis is None",
        "wrong axis by default",
    ),
    Mutant(
        "transforms/decay.py",
        "u - factor.astype(w.real.dtype) * part(w, u)",
        "u + factor.astype(w.real.dtype) * part(w, u)",
        "sign: weights grow",
    ),
    Mutant(
        "transforms/decay.py",
        ".conj()).real > 0",
        ".conj()).real >= 0",
        "no decay where the update is zero",
    ),
    Mutant(
        "transforms/layerwise.py", "scale ** (deepest - d)", "scale ** d", "the wrong end moves"
    ),
    Mutant(
        "transforms/lifts.py",
        "prox(w + u, threshold=threshold) - w",
        "prox(w, threshold=threshold) + u - w",
        "order of step and operator",
    ),
    Mutant(
        "transforms/lifts.py",
        "return jnp.where(jnp.abs(landed) > jnp.abs(goal), inward, step)",
        "return step",
        "outside by a rounding",
    ),
    Mutant(
        "transforms/lifts.py",
        "u + factor.astype(w.real.dtype) * gradient.conj()",
        "u + factor.astype(w.real.dtype) * gradient",
        "wrong for complex weights",
    ),
    Mutant(
        "transforms/metrics.py",
        "jnp.sqrt(v + strength(eps_root, v)) + strength(eps, v)",
        "jnp.sqrt(v + strength(eps_root, v) + strength(eps, v))",
        "eps inside of the root",
    ),
    Mutant(
        "transforms/metrics.py",
        "v - square(_corrected(first, decay, count))",
        "v + square(_corrected(first, decay, count))",
        "sign of the centering",
    ),
    Mutant(
        "transforms/metrics.py",
        "quotient = factor / jnp.asarray(d, factor.dtype)",
        "quotient = factor * jnp.asarray(d, factor.dtype)",
        "metric inverted",
    ),
    Mutant(
        "transforms/rounding.py",
        "return update, goal - _landing(w, here + update.astype(jnp.float32))",
        "return update, lost",
        "a state field not updated",
    ),
    Mutant(
        "transforms/sharpness.py",
        "[unit(x, axis=None) * s.astype(x.dtype) for",
        "[unit(x, axis=None) for",
        "every leaf normalized by itself",
    ),
    Mutant(
        "transforms/sharpness.py", "(size * s * direction)", "(size * direction)", "missing factor"
    ),
    Mutant(
        "transforms/sharpness.py", "_choose(size == 0,", "_choose(size != 0,", "gradients swapped"
    ),
)
