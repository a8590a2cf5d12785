"""Augmentation of embeddings: noise and interpolation."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_between,
    check_broadcasts,
    check_finite,
    check_key,
    check_nonnegative,
    check_rate,
    check_real,
    check_scalar,
)
from jaxreg._labels import check_where
from jaxreg._numerics import align, as_strength
from jaxreg._scopes import mark
from jaxreg._sharding import place_like, whole_along
from jaxreg.augment._mixing import average, check_partner
from jaxreg.noise import uniform_noise


@mark("alpha")
def embedding_noise(
    key: jax.Array,
    x: jax.Array,
    *,
    alpha: ArrayLike,
    where: jax.Array | None = None,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Adds uniform noise to embeddings, smaller for longer sequences (NEFTune).

    .. math::

      y_{ij} = x_{ij} + \frac{\alpha}{\sqrt{l \, d}} \, u_{ij}, \qquad
      u_{ij} \sim \mathrm{U}(-1, 1)

    The norm of the noise over the :math:`l` tokens of :math:`d` numbers is about
    :math:`\alpha / \sqrt 3`. It comes from :func:`jaxreg.noise.uniform_noise`. For noise that does
    not depend on the length, call that function or :func:`jaxreg.noise.gaussian_noise`.

    Args:
      key: PRNG key.
      x: Real floating-point array ``[..., length, dim]``.
      alpha: Size :math:`\alpha` of the noise, zero or positive; Jain et al. use 5 to 15.
      where: Booleans ``[..., length]`` that mark the tokens that count for :math:`l` and get noise;
        all by default.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``alpha`` is negative, infinite or not a single number, or the shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> y = text.embedding_noise(jax.random.key(0), jnp.zeros((300, 200)), alpha=5.0)
      >>> print(jnp.round(jnp.linalg.norm(y) * 3**0.5, 1))
      5.0

    References:
      Jain et al., `NEFTune: Noisy Embeddings Improve Instruction Finetuning
      <https://arxiv.org/abs/2310.05914>`_, 2023
    """
    check_key(key)
    x = _as_embeddings(x, where)
    check_scalar(alpha, "alpha")
    check_nonnegative(alpha, "alpha")
    check_finite(alpha, "alpha")
    size = jnp.maximum(as_strength(alpha, x), 0)
    length, dim = x.shape[-2:]
    if where is None:
        return uniform_noise(key, x, limit=size / max(length * dim, 1) ** 0.5, bits=bits)
    real = whole_along(jnp.asarray(where).astype(bool), [x.ndim - 2])
    count = jnp.maximum(jnp.sum(real, -1, keepdims=True) * dim, 1).astype(size.dtype)
    limit = jnp.where(real, size / jnp.sqrt(count), jnp.zeros_like(size))
    return uniform_noise(key, x, limit=limit[..., None], bits=bits)


@mark("share")
def embedding_interpolation(
    x: jax.Array, other: jax.Array, *, share: ArrayLike, where: jax.Array | None = None
) -> jax.Array:
    r"""Interpolates between the embeddings ``x`` and ``other``, such as embeddings of synonyms.

    .. math::

      y_i = \lambda_i x_i + (1 - \lambda_i) x'_i

    For neighbors, embed the result of :func:`synonym_replacement` with ``rate=1.0``. With partners
    of another class the labels must be mixed too: :func:`jaxreg.augment.random_mixup` mixes
    embeddings and labels (wordMixup).

    Args:
      x: Real floating-point array ``[..., length, dim]``.
      other: Embeddings to mix in, :math:`x'`, with the shape and dtype of ``x``.
      share: Share :math:`\lambda` in ``[0, 1]`` of ``x``: a number, or an array that broadcasts to
        ``[..., length]``; 1 is exactly the identity.
      where: Booleans ``[..., length]`` that mark the tokens to mix; all by default. If the partners
        have other lengths, mark the tokens that are real in both.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: The shapes do not fit, or ``share`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> x = jnp.ones((2, 3))
      >>> real = jnp.array([True, False])
      >>> print(text.embedding_interpolation(x, 5 * x, share=0.75, where=real))
      [[2. 2. 2.]
       [1. 1. 1.]]

    References:
      DeVries and Taylor, `Dataset Augmentation in Feature Space
      <https://arxiv.org/abs/1702.05538>`_, 2017
      Guo, Mao and Zhang, `Augmenting Data with Mixup for Sentence Classification
      <https://arxiv.org/abs/1905.08941>`_, 2019
    """
    x = _as_embeddings(x, where)
    other = jnp.asarray(other)
    check_partner(x, other, "other")
    check_broadcasts(share, "share", x.shape[:-1])
    if jnp.ndim(share) == 0:
        check_rate(share, "share")
    own = jnp.clip(as_strength(share, x), 0, 1)
    own = jnp.broadcast_to(own, x.shape[:-1])
    if where is not None:
        own = jnp.where(jnp.asarray(where).astype(bool), own, jnp.ones_like(own))
    own = align(own[..., None], x)
    return jnp.where(own == 1, x, average(x, place_like(other, x), own))


@mark("amount")
def random_embedding_interpolation(
    key: jax.Array,
    x: jax.Array,
    other: jax.Array,
    *,
    amount: ArrayLike,
    where: jax.Array | None = None,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Interpolates between the embeddings ``x`` and ``other``, by a random share per token.

    .. math::

      y_i = (1 - a \, u_i) \, x_i + a \, u_i \, x'_i, \qquad u_i \sim \mathrm{U}(0, 1)

    Args:
      key: PRNG key.
      x: Real floating-point array ``[..., length, dim]``.
      other: Embeddings to mix in, :math:`x'`, with the shape and dtype of ``x``, see
        :func:`embedding_interpolation`.
      amount: Largest share :math:`a` of ``other``, in ``[0, 1]``; 0 is exactly the identity.
      where: Booleans ``[..., length]`` that mark the tokens to mix; all by default.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: The shapes do not fit, or ``amount`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> x = jnp.zeros((500, 40, 2))
      >>> y = text.random_embedding_interpolation(jax.random.key(0), x, x + 1, amount=0.5)
      >>> print(jnp.round(y.mean(), 2), y.max() < 0.5, jnp.all(y[..., 0] == y[..., 1]))
      0.25 True True

    References:
      DeVries and Taylor, `Dataset Augmentation in Feature Space
      <https://arxiv.org/abs/1702.05538>`_, 2017
    """
    check_key(key)
    x = _as_embeddings(x, where)
    check_between(amount, "amount", 0, 1)
    drawn = _bits.uniform(key, (*x.shape[:-1], 1), like=x, bits=bits)[..., 0]
    share = 1 - jnp.clip(as_strength(amount, x), 0, 1) * drawn.astype(as_strength(0, x).dtype)
    return embedding_interpolation(x, other, share=share, where=where)


def _as_embeddings(x: jax.Array, where: jax.Array | None) -> jax.Array:
    """Checks embeddings and their mask, and returns the embeddings as a JAX array."""
    check_real(x, "x")
    if x.ndim < 2:
        raise ValueError(f"`x` must have shape [..., length, dim], got {x.shape}.")
    check_where(where, x.shape[:-1], "x[..., 0]")
    return jnp.asarray(x)
