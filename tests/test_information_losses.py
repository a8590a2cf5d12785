"""Losses of latent codes: the papers' equations, masks, edges and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxreg import information, targets

bottleneck_loss = jax.jit(information.bottleneck_loss)
beta_vae_loss = jax.jit(information.beta_vae_loss)


def value_and_grad(function, argnums=0):
    return jax.jit(jax.value_and_grad(function, argnums))


def normals(shape, *, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape)


def single(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


def probabilities(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), -1)


def latents(batch=8, size=3):
    return single(normals((batch, size)), normals((batch, size), seed=1))


def rates(mean, log_var):
    mean, log_var = np.asarray(mean, np.float64), np.asarray(log_var, np.float64)
    return (mean**2 + np.exp(log_var) - 1 - log_var).sum(-1) / 2


def labelled(batch=8, classes=5):
    return jnp.asarray(normals((batch, classes), seed=2), jnp.float32), jnp.arange(batch) % classes


@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.0, 4.0])
def test_losses_are_distortion_and_weighted_rate(beta):
    mean, log_var = latents()
    logits, labels = labelled()
    distortion = -np.log(probabilities(logits))[np.arange(8), labels]
    want = np.mean(distortion + beta * rates(mean, log_var))
    given = jnp.asarray(distortion, jnp.float32)
    for value in (
        beta_vae_loss(given, mean, log_var, beta=beta),
        bottleneck_loss(logits, labels, mean, log_var, beta=beta),
    ):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, want, rtol=1e-5)


def test_a_linear_vae_has_the_evidence_of_its_model():
    """With the exact posterior the bound is the log likelihood: x = a z + e, in one dimension."""
    a, spread, x = 1.5, 0.8, np.array([-2.0, 0.3, 1.0])
    variance = 1 / (1 + a**2 / spread**2)
    mean = variance * a * x / spread**2
    likelihood = -scipy.stats.norm(0, np.hypot(a, spread)).logpdf(x)
    # The expected distortion of a normal code, in closed form.
    missed = (x - a * mean) ** 2 + a**2 * variance
    distortion = np.log(spread * np.sqrt(2 * np.pi)) + missed / (2 * spread**2)
    loss = beta_vae_loss(*single(distortion, mean[:, None]), float(np.log(variance)), beta=1.0)
    np.testing.assert_allclose(loss, likelihood.mean(), rtol=1e-6)


def test_no_weight_is_the_distortion_even_of_an_infinite_rate():
    logits, labels = labelled()
    mean = jnp.zeros((8, 3)).at[0, 0].set(1e30)
    log_var = jnp.zeros((8, 3)).at[1].set(-jnp.inf)
    want = targets.smoothed_cross_entropy(logits, labels, alpha=0.0)
    for beta in (0.0, jnp.float32(0), jnp.float32(-1)):
        loss, gradients = value_and_grad(
            lambda z, m, v: bottleneck_loss(z, labels, m, v, beta=beta),  # noqa: B023
            argnums=(0, 1, 2),
        )(logits, mean, log_var)
        np.testing.assert_allclose(loss, want, rtol=1e-6)
        for gradient in gradients[1:]:
            np.testing.assert_array_equal(gradient, np.zeros((8, 3)))
    given = jnp.arange(8.0)
    assert beta_vae_loss(given, mean, log_var, beta=0.0) == 3.5
    slope = jax.grad(lambda b: beta_vae_loss(given, *latents(), beta=b))(1e-9)
    np.testing.assert_allclose(slope, rates(*latents()).mean(), rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_examples_that_do_not_count_may_hold_anything(garbage):
    """Rows 50 and 51: ignored labels and masked examples, for all three losses."""
    mean, log_var = latents()
    logits, labels = labelled()
    distortion = jnp.arange(8.0)
    counted = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)
    dirty = [a.at[~counted].set(garbage) for a in (distortion, logits, mean, log_var)]
    labels_of = {"where": labels, "labels": labels.at[~counted].set(jnp.array([-1, 5]))}
    where = jnp.asarray(counted, jnp.float32)

    def check(function, clean, given):
        want, want_gradients = value_and_grad(function, argnums=range(len(clean)))(*clean)
        value, gradients = value_and_grad(function, argnums=range(len(given)))(*given)
        np.testing.assert_allclose(value, want, rtol=1e-6)
        for gradient, want in zip(gradients, want_gradients, strict=True):
            np.testing.assert_array_equal(gradient[~counted], np.zeros_like(gradient[~counted]))
            np.testing.assert_allclose(gradient[counted], want[counted], rtol=1e-5, atol=1e-8)

    def vae(d, m, v):
        return beta_vae_loss(d, m, v, beta=0.5, where=where)

    check(vae, (distortion, mean, log_var), (dirty[0], *dirty[2:]))
    for kind, y in labels_of.items():

        def bottleneck(z, m, v, y=y, kind=kind):
            mask = where if kind == "where" else None
            return bottleneck_loss(z, y, m, v, beta=0.5, where=mask)

        check(bottleneck, (logits, mean, log_var), dirty[1:])
    check(
        lambda kl: information.free_bits(kl, level=0.1, where=where), (logits**2,), (dirty[1] ** 2,)
    )
    want = np.mean(np.asarray(distortion)[counted] + 0.5 * rates(mean, log_var)[counted])
    np.testing.assert_allclose(vae(dirty[0], *dirty[2:]), want, rtol=1e-6)


@pytest.mark.parametrize("how", ["where", "labels", "empty"])
def test_nothing_counted_is_zero_with_a_zero_gradient(how):
    batch = 0 if how == "empty" else 4
    mean, log_var = latents(batch)
    logits, labels = labelled(batch)
    where = jnp.zeros(batch) if how == "where" else None
    labels = labels - 100 if how == "labels" else labels
    value, gradients = value_and_grad(
        lambda z, m, v: bottleneck_loss(z, labels, m, v, beta=1.0, where=where),
        argnums=(0, 1, 2),
    )(logits, mean, log_var)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)
    if how != "labels":
        value, gradient = value_and_grad(
            lambda m: beta_vae_loss(m[:, 0], m, log_var, beta=1.0, where=where)
        )(mean)
        assert value == 0
        assert not gradient.any()
        value, gradient = value_and_grad(
            lambda kl: information.free_bits(kl, level=0.5, where=where)
        )(mean)
        assert value == 1.5  # Three groups of no mean divergence at their level.
        assert not gradient.any()


def test_bottleneck_of_one_class_and_one_example():
    value = bottleneck_loss(jnp.ones((1, 1)), jnp.array([0]), jnp.ones((1, 2)), 0.0, beta=1.0)
    assert value == 1
    value = bottleneck_loss(jnp.ones(3), jnp.array(0), jnp.zeros(2), 0.0, beta=1.0)
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)


def test_free_bits_is_the_equation_of_the_paper():
    kl = np.abs(normals((6, 2, 4)))
    kl[..., 0] *= 0.01
    for level in (0.0, 0.3, 0.8, 100.0):
        want = sum(max(level, kl[..., g].mean()) for g in range(4))
        found = information.free_bits(jnp.asarray(kl, jnp.float32), level=level)
        np.testing.assert_allclose(found, want, rtol=1e-6)
    gradient = jax.grad(lambda kl: information.free_bits(kl, level=0.3))(
        jnp.asarray(kl, jnp.float32)
    )
    want = np.where(kl.mean((0, 1)) > 0.3, 1 / 12, 0)
    assert 0 < np.count_nonzero(want) < 4
    np.testing.assert_allclose(gradient, np.broadcast_to(want, kl.shape), rtol=1e-6)


def test_free_bits_at_the_level_has_no_gradient_and_hides_no_nan():
    value, gradient = value_and_grad(lambda kl: information.free_bits(kl, level=0.5))(
        jnp.full((2, 3), 0.5)
    )
    assert value == 1.5
    assert not gradient.any()
    assert np.isnan(information.free_bits(jnp.array([[jnp.nan, 1.0]]), level=0.5))


def test_the_compiled_bottleneck_holds_no_array_of_labels():
    batch, classes = 128, 4096
    logits = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    mean = jax.ShapeDtypeStruct((batch, 4), jnp.float32)

    def loss(z, y, m, v):
        return bottleneck_loss(z, y, m, v, beta=0.1)

    compiled = jax.jit(jax.grad(loss)).lower(logits, labels, mean, mean).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * batch * classes / 50


def test_wrong_arguments_raise():
    mean = jnp.zeros((2, 3))
    with pytest.raises(ValueError, match=r"`logits` must have .* got shape \(3, 0\)"):
        information.confidence_penalty(jnp.zeros((3, 0)))
    for function in (
        information.gaussian_kl,
        lambda m, v: information.sample_gaussian(jax.random.key(0), m, v),
    ):
        with pytest.raises(ValueError, match=r"`log_var` must be a number, got nan; 0 is"):
            function(mean, float("nan"))
        with pytest.raises(ValueError, match=r"`log_var` must broadcast to shape \(2, 3\)"):
            function(mean, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"`mean` must have the axes \[\.\.\., latent\], got a"):
        information.gaussian_kl(jnp.float32(0), 0.0)
    with pytest.raises(ValueError, match=r"`kl` must have the axes \[\.\.\., groups\], got a"):
        information.free_bits(jnp.float32(0), level=0.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key"):
        information.sample_gaussian(0, mean, 0.0)
    image = jnp.zeros((2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"`mean` .* of `distortion` and .* one row"):
        information.beta_vae_loss(jnp.zeros(2), image, 0.0, beta=1.0)
    with pytest.raises(ValueError, match=r"`mean` .* of `labels` and a last axis"):
        information.bottleneck_loss(mean, jnp.zeros(2, int), image, 0.0, beta=1.0)
    with pytest.raises(ValueError, match=r"`labels` must have the shape of `logits` without"):
        information.bottleneck_loss(mean, jnp.zeros(3, int), mean, 0.0, beta=1.0)
    with pytest.raises(TypeError, match=r"`labels` must hold integer class ids"):
        information.bottleneck_loss(mean, jnp.zeros(2), mean, 0.0, beta=1.0)
