r"""Ensembles: mean and uncertainty of predictions, and the benefit of more members.

The members of an ensemble are networks that were trained separately, or passes of one network with
different dropout masks (MC dropout); their predictions are stacked along the first axis. The
average of :math:`k` of them has the mean squared error

.. math::

  \frac{V}{k} + \frac{k - 1}{k} \, C, \qquad
  V = \mathrm{E}[\epsilon_i^2], \quad C = \mathrm{E}[\epsilon_i \epsilon_j], \; i \neq j

where :math:`\epsilon_i` is the error of one member. The only assumption is that members are
exchangeable: a bias is a part of :math:`V` and of :math:`C`, and so is the noise of the targets.
Averaging gains at most :math:`V - C`, the variance of the members.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jaxreg import dropout
  >>> from jaxreg.training import ensembles
  >>> x, targets = jnp.linspace(-1.0, 1.0, 20), jnp.zeros(20)
  >>> apply = lambda key: dropout.dropout(key, x, rate=0.5)
  >>> predictions = jax.vmap(apply)(jax.random.split(jax.random.key(0), 1000))
  >>> errors = ensembles.predicted_mse(predictions, targets, members=jnp.array([1, 2, 8]))
  >>> print(errors.value[0] > errors.value[1] > errors.value[2])
  True

References:
  Gal and Ghahramani, `Dropout as a Bayesian Approximation <https://arxiv.org/abs/1506.02142>`_,
  2016; Goodfellow, Bengio and Courville, `Deep Learning
  <https://www.deeplearningbook.org/contents/regularization.html>`_, 2016, section 7.11; Krogh and
  Vedelsby, `Neural Network Ensembles, Cross Validation, and Active Learning
  <https://proceedings.neurips.cc/paper/1994/hash/b8c37e33defde51cf91e1e03e51657da-Abstract.html>`_,
  1994
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._checks import check_floating, check_real, is_static
from jaxreg._labels import check_logits
from jaxreg._numerics import as_strength, safe_norm, widen
from jaxreg._sharding import place_like
from jaxreg.information import categorical_kl, confidence_penalty

__all__ = [
    "ClassUncertainty",
    "ErrorMoments",
    "Estimate",
    "Prediction",
    "class_uncertainty",
    "ensemble_mse",
    "error_moments",
    "monte_carlo",
    "predicted_mse",
]


class Prediction(NamedTuple):
    """Mean and variance over predictions, in float32 or wider.

    Both have the structure of one prediction.

    Attributes:
      mean: Mean over the predictions.
      variance: Unbiased variance of the predictions around their mean.
    """

    mean: Any
    variance: Any


class ClassUncertainty(NamedTuple):
    """Class probabilities of an ensemble, and the two parts of their entropy, in nats.

    Attributes:
      log_probabilities: Logarithms of the mean probabilities, ``[..., classes]``.
      entropy: Entropy of the mean probabilities, ``[...]``: the whole uncertainty.
      expected_entropy: Mean over members of their entropies, ``[...]``: the part that remains with
        more data.
      mutual_information: Difference of the two, ``[...]``: the disagreement of the members.
    """

    log_probabilities: jax.Array
    entropy: jax.Array
    expected_entropy: jax.Array
    mutual_information: jax.Array


class Estimate(NamedTuple):
    """An estimate and its standard error.

    Attributes:
      value: The estimate.
      standard_error: Its standard error.
    """

    value: jax.Array
    standard_error: jax.Array


class ErrorMoments(NamedTuple):
    """Mean square of one member's error, and mean product of two members' errors.

    Attributes:
      variance: :class:`Estimate` of the mean square of one member's error.
      covariance: :class:`Estimate` of the mean product of the errors of two different members.
    """

    variance: Estimate
    covariance: Estimate


def monte_carlo(apply: Callable[[jax.Array], Any], keys: jax.Array) -> Prediction:
    r"""Returns the mean and variance of predictions over random keys, as in MC dropout.

    .. math::

      \mu = \frac{1}{n} \sum_i y_i, \qquad \sigma^2 = \frac{1}{n - 1} \sum_i (y_i - \mu)^2

    This is the variance of the network's output. The predictive variance in Gal and Ghahramani adds
    the noise of the targets, :math:`\tau^{-1}`. The standard error of the mean is
    :math:`\sigma / \sqrt{n}`. For class probabilities, use :func:`class_uncertainty`.

    Args:
      apply: Function from a key to floating-point predictions, an array or a pytree of arrays, such
        as ``lambda key: model.apply(variables, x, rngs={"dropout": key})`` of a Linen model. It is
        called once, under ``jax.vmap``.
      keys: At least 2 keys along the first axis, from ``jax.random.split``.

    Returns:
      Mean and variance, each with the structure and the shapes of one prediction.

    Raises:
      TypeError: ``apply`` returns an array that is not floating-point.
      ValueError: There are fewer than 2 keys.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> from jaxreg.training import ensembles
      >>> x, w = jnp.ones(50), jnp.full(50, 0.1)
      >>> apply = lambda key: w @ dropout.dropout(key, x, rate=0.2)
      >>> mean, variance = ensembles.monte_carlo(apply, jax.random.split(jax.random.key(0), 4000))
      >>> print(jnp.allclose(mean, 5, atol=0.05), jnp.allclose(variance, 0.125, rtol=0.1))
      True True

    References:
      Gal and Ghahramani, `Dropout as a Bayesian Approximation
      <https://arxiv.org/abs/1506.02142>`_, 2016
    """
    shape = jnp.shape(keys)[: None if _is_typed(keys) else -1]
    if not shape or shape[0] < 2:
        raise ValueError(
            f"`keys` must contain at least 2 keys along axis 0, got shape {jnp.shape(keys)}; "
            "make them with jax.random.split(key, number)."
        )
    samples = jax.vmap(apply)(keys)
    for leaf in jax.tree.leaves(samples):
        check_floating(leaf, "apply(key)")
    # Differences from the first sample give variance 0 and an exact mean if nothing varies.
    first = jax.tree.map(lambda y: _finite(widen(y[0])), samples)
    differences = jax.tree.map(lambda y, start: widen(y) - start[None], samples, first)
    return Prediction(
        mean=jax.tree.map(lambda d, start: start + jnp.mean(d, axis=0), differences, first),
        variance=jax.tree.map(lambda d: jnp.var(d, axis=0, ddof=1), differences),
    )


def class_uncertainty(logits: jax.Array) -> ClassUncertainty:
    r"""Splits the predictive entropy of an ensemble of classifiers into two parts.

    .. math::

      \bar p = \frac{1}{n} \sum_i p_i, \qquad
      H(\bar p) = \frac{1}{n} \sum_i H(p_i) + \frac{1}{n} \sum_i \mathrm{KL}(p_i \,\|\, \bar p)

    The first part remains if all members agree that an example is ambiguous. The second is the
    mutual information of label and member (BALD): if it is large, more data like this example would
    help. It is computed as a sum of divergences, which avoids the cancellation in a difference of
    two entropies.

    Args:
      logits: Unnormalized log probabilities of the members, ``[members, ..., num_classes]``, such
        as ``jax.vmap(apply)(keys)``; minus infinity excludes a class.

    Returns:
      Log probabilities ``[..., num_classes]`` of the mean :math:`\bar p`, and for each example its
      entropy, the mean of the entropies and the mutual information; in float32 or wider.

    Raises:
      TypeError: ``logits`` are not real floating-point.
      ValueError: ``logits`` have fewer than 2 axes, no member or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import ensembles
      >>> agree, disagree = jnp.zeros((2, 2)), jnp.array([[50.0, -50.0], [-50.0, 50.0]])
      >>> result = ensembles.class_uncertainty(jnp.stack([agree, disagree], axis=1))
      >>> print(jnp.allclose(result.entropy, jnp.log(2)))
      True
      >>> print(jnp.allclose(result.mutual_information, jnp.array([0, jnp.log(2)]), atol=1e-6))
      True

    References:
      Houlsby et al., `Bayesian Active Learning for Classification and Preference Learning
      <https://arxiv.org/abs/1112.5745>`_, 2011; Depeweg et al., `Decomposition of Uncertainty in
      Bayesian Deep Learning <https://arxiv.org/abs/1710.07283>`_, 2018
    """
    check_logits(logits, "logits")
    if logits.ndim < 2 or not logits.shape[0]:
        raise ValueError(
            "`logits` must have shape [members, ..., num_classes] with at least one member, got "
            f"{logits.shape}; stack the members along the first axis."
        )
    log_p = jax.nn.log_softmax(widen(logits))
    # If all members exclude a class, the gradient of the logarithm of a sum of zeros is NaN.
    excluded = jnp.all(log_p == -jnp.inf, axis=0, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(excluded, jnp.zeros_like(log_p), log_p), axis=0)
    log_mean = total - jnp.log(jnp.asarray(logits.shape[0], total.dtype))
    log_mean = jnp.where(excluded[0], jnp.full_like(log_mean, -jnp.inf), log_mean)
    log_means = jnp.broadcast_to(log_mean[None], log_p.shape)
    return ClassUncertainty(
        log_probabilities=log_mean,
        entropy=-confidence_penalty(log_mean),
        expected_entropy=-jnp.mean(confidence_penalty(logits), axis=0),
        mutual_information=jnp.mean(categorical_kl(logits, log_means), axis=0),
    )


def ensemble_mse(variance: ArrayLike, covariance: ArrayLike, *, members: ArrayLike) -> jax.Array:
    r"""Returns the mean squared error of an ensemble's average from the errors of its members.

    .. math::

      \mathrm{MSE}_k = \frac{V}{k} + \frac{k - 1}{k} \, C

    If errors are perfectly correlated, :math:`C = V`, averaging gains nothing; if they are
    uncorrelated the error falls as :math:`1 / k`.

    Args:
      variance: Mean square :math:`V` of the error of one member.
      covariance: Mean product :math:`C` of the errors of two members; broadcasts with ``variance``.
      members: Number :math:`k` of members, at least 1, or an array of such numbers that broadcasts
        with the other arguments; infinity gives the limit :math:`C`.

    Returns:
      The error, in the dtype of ``variance``.

    Raises:
      TypeError: ``variance`` or ``covariance`` is not floating-point.
      ValueError: ``members`` is a number less than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import ensembles
      >>> print(ensembles.ensemble_mse(4.0, 1.0, members=jnp.array([1, 3, jnp.inf])))
      [4. 2. 1.]

    References:
      Goodfellow, Bengio and Courville, `Deep Learning
      <https://www.deeplearningbook.org/contents/regularization.html>`_, 2016, section 7.11
    """
    _check_members(members)
    v = jnp.asarray(variance)
    c = jnp.asarray(covariance)
    check_floating(v, "variance")
    check_floating(c, "covariance")
    wide = widen(v)
    share = 1 / jnp.maximum(as_strength(members, wide), 1)
    mse = (wide * share + (1 - share) * c.astype(wide.dtype)).astype(v.dtype)
    # A single member has the error V, even if the covariance is infinite.
    return jnp.where(members == 1, jnp.broadcast_to(v, mse.shape), mse)


def error_moments(predictions: jax.Array, targets: jax.Array) -> ErrorMoments:
    r"""Returns unbiased estimates of :math:`V` and :math:`C` in :func:`ensemble_mse`.

    .. math::

      \hat V = \frac{1}{n} \sum_i \langle \epsilon_i^2 \rangle, \qquad
      \hat C = \frac{1}{n (n - 1)} \sum_{i \neq j} \langle \epsilon_i \epsilon_j \rangle

    where :math:`\langle \cdot \rangle` is the mean over examples and outputs. The standard errors
    are estimated by the jackknife over members: they show how much the estimates would differ with
    other members on the same examples, not with other examples.

    Args:
      predictions: Real array ``[members, ...]`` with at least 3 members.
      targets: Array ``[...]`` with the shape of one prediction.

    Returns:
      Estimates of the variance and the covariance with their standard errors, scalars in float32
      or wider.

    Raises:
      TypeError: ``predictions`` or ``targets`` are not real floating-point.
      ValueError: There are fewer than 3 members or no examples, or ``targets`` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import ensembles
      >>> predictions = jnp.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
      >>> moments = ensembles.error_moments(predictions, jnp.array([0.0, 0.0]))
      >>> print(moments.variance.value, moments.covariance.value, moments.covariance.standard_error)
      2.5 2.5 0.0

    References:
      Efron and Stein, `The Jackknife Estimate of Variance
      <https://doi.org/10.1214/aos/1176345462>`_, 1981
    """
    squares, products = _by_member(predictions, targets)
    return ErrorMoments(
        variance=Estimate(jnp.mean(squares), _jackknife(_leave_one_out(squares, 1))),
        covariance=Estimate(jnp.mean(products), _jackknife(_leave_one_out(products, 2))),
    )


def predicted_mse(predictions: jax.Array, targets: jax.Array, *, members: ArrayLike) -> Estimate:
    r"""Predicts the mean squared error of an ensemble with a given number of members.

    .. math::

      \frac{\hat V}{k} + \frac{k - 1}{k} \, \hat C

    The number of members may exceed the number of predictions. Otherwise the estimate is the mean
    error over all subsets of :math:`k` predictions.

    Args:
      predictions: Real array ``[members, ...]`` with at least 3 members.
      targets: Array ``[...]`` with the shape of one prediction.
      members: Number :math:`k` of members to average, at least 1, or an array of such numbers.

    Returns:
      The mean squared error and its jackknife standard error over members, each with the shape of
      ``members``, in float32 or wider.

    Raises:
      TypeError: ``predictions`` or ``targets`` are not real floating-point.
      ValueError: There are fewer than 3 members or no examples, ``targets`` has another shape, or
        ``members`` is a number less than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import ensembles
      >>> predictions, targets = jnp.array([[3.0], [1.0], [-1.0]]), jnp.zeros(1)
      >>> mse = ensembles.predicted_mse(predictions, targets, members=3)
      >>> print(jnp.allclose(mse.value, predictions.mean() ** 2))
      True

    References:
      Krogh and Vedelsby, `Neural Network Ensembles, Cross Validation, and Active Learning
      <https://proceedings.neurips.cc/paper/1994/hash/b8c37e33defde51cf91e1e03e51657da-Abstract.html>`_,
      1994; Efron and Stein, `The Jackknife Estimate of Variance
      <https://doi.org/10.1214/aos/1176345462>`_, 1981
    """
    _check_members(members)
    squares, products = _by_member(predictions, targets)
    value = ensemble_mse(jnp.mean(squares), jnp.mean(products), members=members)
    share = jnp.expand_dims(1 / jnp.maximum(as_strength(members, squares), 1), -1)
    lead = (1,) * (share.ndim - 1)
    alone = _leave_one_out(squares, 1).reshape(*lead, -1)
    paired = _leave_one_out(products, 2).reshape(*lead, -1)
    return Estimate(value, _jackknife(share * alone + (1 - share) * paired))


def _by_member(predictions: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each member's mean squared error, and its mean product with the others' errors."""
    check_real(predictions, "predictions")
    check_real(targets, "targets")
    if predictions.ndim < 1 or predictions.shape[0] < 3 or not predictions.size:
        raise ValueError(
            "`predictions` must have shape [members, ...] with at least 3 members and 1 example, "
            f"got {predictions.shape}; stack the members along the first axis."
        )
    if targets.shape != predictions.shape[1:]:
        raise ValueError(
            f"`targets` must have the shape of one prediction, {predictions.shape[1:]}, got "
            f"{targets.shape}."
        )
    y = widen(predictions)
    errors = y - place_like(jnp.broadcast_to(targets.astype(y.dtype)[None], y.shape), y)
    others = jnp.sum(errors, axis=0, keepdims=True) - errors
    examples = tuple(range(1, errors.ndim))
    products = jnp.mean(errors * others, axis=examples) / (errors.shape[0] - 1)
    return jnp.mean(errors * errors, axis=examples), products


def _leave_one_out(by_member: jax.Array, order: int) -> jax.Array:
    """Returns how a mean over sets of ``order`` members changes when each member is left out."""
    return order * (jnp.mean(by_member) - by_member) / (by_member.shape[0] - order)


def _jackknife(changes: jax.Array) -> jax.Array:
    """Returns the jackknife standard error from the leave-one-out changes along the last axis."""
    number = changes.shape[-1]
    return jnp.sqrt((number - 1) / number) * safe_norm(changes, axis=-1)[..., 0]


def _finite(x: jax.Array) -> jax.Array:
    """Replaces infinity and NaN with zero, because their differences are NaN."""
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def _is_typed(keys: jax.Array) -> bool:
    """Returns whether ``keys`` are typed PRNG keys and not raw ``uint32`` words."""
    return jnp.issubdtype(jnp.result_type(keys), jax.dtypes.prng_key)


def _check_members(members: ArrayLike) -> None:
    """Raises if ``members`` is a Python or NumPy number below 1."""
    if is_static(members) and not float(members) >= 1:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`members` must be at least 1, got {members}.")


_signatures.show(__name__)
