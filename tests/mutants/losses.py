"""Faults in penalties, smoothness, information and targets."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "penalties/_singular.py",
        "return jnp.sum(w * slope), jnp.sum(slope * tangent)",
        "return jnp.sum(w * slope), jnp.sum(w * tangent)",
        "a wrong hand-written derivative",
    ),
    Mutant(
        "penalties/_singular.py",
        "together * (inner - inner.T) / 2",
        "together * (inner + inner.T) / 2",
        "sign in a second derivative",
    ),
    Mutant(
        "penalties/_singular.py",
        "tangent = whole_along(tangent / scale, (0, 1))",
        "tangent = whole_along(tangent, (0, 1))",
        "missing factor of a second derivative",
    ),
    Mutant(
        "penalties/activations.py",
        "covariances = gram(centered) / number",
        "covariances = gram(centered) / (number - 1)",
        "divides by one less",
    ),
    Mutant(
        "penalties/activations.py",
        "jnp.sum(jax.vmap(penalty)(x)) / max(len(x), 1)",
        "jnp.sum(jax.vmap(penalty)(x))",
        "sum for mean",
    ),
    Mutant(
        "penalties/elementwise.py",
        "return jnp.sum(square(widen(w))) / 2",
        "return jnp.sum(square(widen(w)))",
        "missing half",
    ),
    Mutant("penalties/elementwise.py", "jnp.sum(squares) / 2", "jnp.sum(squares)", "missing half"),
    Mutant(
        "penalties/elementwise.py",
        "return jnp.sum(magnitude(w))",
        "return jnp.sum(magnitude(w).astype(w.dtype))",
        "sums in low precision",
    ),
    Mutant(
        "penalties/gates.py",
        "jnp.log(-bottom) - jnp.log(top)",
        "jnp.log(top) - jnp.log(-bottom)",
        "sign of the shift",
    ),
    Mutant("penalties/groups.py", "math.sqrt(size) * jnp.sum", "size * jnp.sum", "root lost"),
    Mutant(
        "penalties/groups.py",
        "jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)",
        "jax.lax.slice_in_dim(x, 0, 1, axis=axis)",
        "wraps around",
    ),
    Mutant(
        "penalties/groups.py",
        "safe_norm(_differences(x, axis), axis=0)",
        "safe_norm(_differences(x, axis), axis=-1)",
        "norm along the wrong axis",
    ),
    Mutant(
        "penalties/matrices.py",
        "gram(matrix) - jnp.eye",
        "gram(matrix) + jnp.eye",
        "sign of the identity",
    ),
    Mutant(
        "penalties/trees.py",
        "if use is not False and is_floating(arrays[0])",
        "if is_floating(arrays[0])",
        "dropped mask",
    ),
    Mutant(
        "penalties/trees.py",
        "terms = per_layer(penalty, in_stack)(w, *rest)",
        "terms = penalty(w, *rest)",
        "a stack is one kernel",
    ),
    Mutant(
        "smoothness/adversarial.py",
        "log_p = jax.lax.stop_gradient(jax.nn.log_softmax(widen(logits)))",
        "log_p = jax.nn.log_softmax(widen(logits))",
        "a stop_gradient lost",
    ),
    Mutant(
        "smoothness/adversarial.py",
        "p * (widen(change) - jnp.sum(p * widen(change), axis=-1, keepdims=True))",
        "p * widen(change)",
        "mean of the logits not subtracted",
    ),
    Mutant(
        "smoothness/critics.py",
        "per_example = real.shape[:1] + (1,) * (real.ndim - 1)",
        "per_example = real.shape",
        "a share per element",
    ),
    Mutant(
        "smoothness/critics.py",
        "norm - as_strength(target, norm)",
        "norm + as_strength(target, norm)",
        "sign of the target",
    ),
    Mutant(
        "smoothness/critics.py",
        "_input_gradient(critic, x)) / max(len(x), 1)",
        "_input_gradient(critic, x))",
        "sum for mean",
    ),
    Mutant(
        "smoothness/graphs.py",
        "-distances / (2 * square(length))",
        "-distances / square(length)",
        "missing factor",
    ),
    Mutant(
        "smoothness/graphs.py",
        "jnp.arange(len(flat)) == own, jnp.inf",
        "jnp.arange(len(flat)) < 0, jnp.inf",
        "an example is its own neighbor",
    ),
    Mutant(
        "smoothness/graphs.py",
        "if not 1 <= neighbors < len(x):",
        "if not 1 <= neighbors <= len(x):",
        "an error check with a wrong bound",
    ),
    Mutant(
        "smoothness/jacobians.py",
        "return _sum_over(term, keys) * outputs / (max",
        "return _sum_over(term, keys) / (max",
        "missing factor",
    ),
    Mutant(
        "smoothness/jacobians.py",
        "return value, 2 * sum(terms",
        "return value, sum(terms",
        "factor 2 of a derivative lost",
    ),
    Mutant(
        "smoothness/jacobians.py",
        "return jax.random.split(key, probes)",
        "return jnp.stack([key] * probes)",
        "one key for all probes",
    ),
    Mutant(
        "smoothness/jacobians.py",
        "return jnp.sum(jax.lax.map(recomputed, items))",
        "return jnp.mean(jax.lax.map(recomputed, items))",
        "the branch of many terms is wrong",
    ),
    Mutant(
        "information/categorical.py",
        "_expectation(p - q,",
        "_expectation(p + q,",
        "sign in the symmetric KL",
    ),
    Mutant(
        "information/categorical.py",
        "return jnp.mean(_expectation(p,",
        "return jnp.sum(_expectation(p,",
        "sum for mean over the views",
    ),
    Mutant(
        "information/categorical.py",
        "return _expectation(p, p > 0, log_p, log_q)",
        "return _expectation(jnp.exp(log_q), p > 0, log_p, log_q)",
        "weighted by the other distribution",
    ),
    Mutant(
        "information/gaussian.py", "jnp.expm1(low) - low", "jnp.expm1(low) + low", "sign in the KL"
    ),
    Mutant(
        "information/gaussian.py",
        "jnp.exp(jnp.minimum(log_var, _LARGEST) / 2)",
        "jnp.exp(jnp.minimum(log_var, _LARGEST))",
        "variance for deviation",
    ),
    Mutant(
        "information/losses.py",
        "beta = jnp.maximum(as_strength(beta, mean), 0)",
        "beta = as_strength(beta, mean)",
        "a clip lost",
    ),
    Mutant(
        "information/losses.py",
        "return distortion.astype(dtype) + rate.astype(dtype)",
        "return distortion.astype(dtype) - rate.astype(dtype)",
        "sign of the rate",
    ),
    Mutant(
        "information/losses.py",
        "jnp.where(means <= level, level, means)",
        "jnp.where(means >= level, level, means)",
        "bounded on the wrong side",
    ),
    Mutant(
        "information/losses.py",
        "weights = example_weights(jnp.ones_like(jnp.sum(kl, -1), bool), where, kl.dtype)",
        "weights = jnp.ones_like(kl[..., 0])",
        "divides by all examples",
    ),
    Mutant(
        "targets.py",
        "_rows(labels, 1 - share + share / num_classes,",
        "_rows(labels, 1 - share,",
        "rows do not add up to 1",
    ),
    Mutant(
        "targets.py", "share / max(num_classes - 1, 1)", "share / num_classes", "off by one class"
    ),
    Mutant(
        "targets.py", "turned = (2 * level - wide)", "turned = (level - wide)", "missing factor"
    ),
    Mutant(
        "targets.py",
        "losses = weigh(first, cross_entropies(wide, labels_a, smoothing))",
        "losses = weigh(second, cross_entropies(wide, labels_a, smoothing))",
        "shares swapped",
    ),
    Mutant(
        "targets.py",
        "weights = example_weights(is_class(labels, logits.shape[-1]), where, wide.dtype)",
        "weights = example_weights(is_class(labels, logits.shape[-1]), None, wide.dtype)",
        "dropped mask",
    ),
    Mutant(
        "targets.py",
        "example_weights((first != 0) | (second != 0), where",
        "example_weights((first != 0) & (second != 0), where",
        "an example needs both labels",
    ),
    Mutant(
        "targets.py",
        "weights = example_weights(jnp.any(rows != 0, axis=-1), where, dtype)",
        "weights = example_weights(jnp.any(rows == rows, axis=-1), where, dtype)",
        "rows without a label count",
    ),
    Mutant(
        "_labels.py",
        "(1 - share) * rows + share * mass / rows.shape[-1]",
        "(1 - share) * rows + share / rows.shape[-1]",
        "a part of a row is smoothed as a whole one",
        ("tests/test_targets.py", "tests/test_labels.py"),
    ),
    Mutant(
        "_labels.py",
        "jnp.where(counted & ~(weights <= 0), weights",
        "jnp.where(counted & ~(weights <= 0), jnp.ones_like(weights)",
        "weights are taken as a mask",
        ("tests/test_targets.py", "tests/test_labels.py"),
    ),
    Mutant(
        "_reductions.py",
        "jnp.sum(weigh(weights, losses)) / max(losses.size, 1)",
        "jnp.sum(weigh(weights, losses)) / jnp.sum(weights)",
        "counts where all count",
        ("tests/test_targets.py", "tests/test_labels.py"),
    ),
)
