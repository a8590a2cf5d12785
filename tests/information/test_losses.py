"""Losses of latent codes: the papers' equations, torch, masks, edges and errors."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxreg import information
from tests.helpers import few
from tests.information.helpers import normals, probabilities, single
from tests.normalization.helpers import assert_all_close, assert_all_finite, refuses, with_gradients

TORCH = json.loads(
    (pathlib.Path(__file__).parents[1] / "references" / "losses_torch.json").read_text()
)
MEAN = single(8, 3)
LOG_VAR = single(8, 3, seed=1)
LOGITS = single(8, 5, seed=2)
LABELS = np.arange(8, dtype=np.int32) % 5
DISTORTION = -np.log(probabilities(LOGITS))[np.arange(8), LABELS]
bottleneck_loss = jax.jit(information.bottleneck_loss)
beta_vae_loss = jax.jit(information.beta_vae_loss)


def rates(mean, log_var):
    mean = np.asarray(mean, np.float64)
    log_var = np.asarray(log_var, np.float64)
    return (mean**2 + np.exp(log_var) - 1 - log_var).sum(-1) / 2


@few("beta", [4.0, 0.0, 1e-3, 1.0])
def test_losses_are_distortion_and_weighted_rate(beta):
    want = np.mean(DISTORTION + beta * rates(MEAN, LOG_VAR))
    given = DISTORTION.astype(np.float32)
    for value in (
        beta_vae_loss(given, MEAN, LOG_VAR, beta=beta),
        bottleneck_loss(LOGITS, LABELS, MEAN, LOG_VAR, beta=beta),
        jax.jit(lambda d: information.beta_vae_loss(d, MEAN, LOG_VAR, beta=beta))(given),
    ):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, want, rtol=1e-5)


@few("dtype", [np.float64, np.float32])
def test_value_and_gradients_equal_those_of_torch(dtype):
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    labels = np.array(next(iter(TORCH["labels"].values())))
    beta = list(TORCH["strengths"].values())[2]
    keys = "z", "mean", "log_var"
    with jax.enable_x64(dtype == np.float64):
        arrays = [np.array(TORCH[key], dtype) for key in keys]

        def loss(z, mean, log_var):
            return information.bottleneck_loss(z, labels, mean, log_var, beta=beta)

        value, gradients = with_gradients(loss, dtype(1), *arrays)
        assert value.dtype == dtype
        row = TORCH["bottleneck_loss"]
        expected = row["value"], *(row[f"d{key}"] for key in keys)
        assert_all_close((value, *gradients), expected, rtol=tolerance, atol=tolerance)


def test_a_linear_vae_has_the_evidence_of_its_model():
    """With the exact posterior the bound is the log likelihood: x = a z + e, in one dimension."""
    a, spread, x = 1.5, 0.8, np.array([-2.0, 0.3, 1.0])
    variance = 1 / (1 + a**2 / spread**2)
    mean = variance * a * x / spread**2
    likelihood = -scipy.stats.norm(0, np.hypot(a, spread)).logpdf(x)
    # The expected distortion of a normal code, in closed form.
    missed = (x - a * mean) ** 2 + a**2 * variance
    distortion = np.log(spread * np.sqrt(2 * np.pi)) + missed / (2 * spread**2)
    given = distortion.astype(np.float32), mean[:, None].astype(np.float32)
    loss = beta_vae_loss(*given, float(np.log(variance)), beta=1.0)
    np.testing.assert_allclose(loss, likelihood.mean(), rtol=1e-6)


def test_no_weight_is_the_distortion_even_of_an_infinite_rate():
    """A traced weight below zero counts as zero."""
    mean = np.zeros((8, 3), np.float32)
    log_var = np.zeros((8, 3), np.float32)
    mean[0, 0] = 1e30
    log_var[1] = -np.inf

    def loss(beta):
        def of(z, m, v):
            return information.bottleneck_loss(z, LABELS, m, v, beta=beta)

        return jax.value_and_grad(of, (0, 1, 2))(LOGITS, mean, log_var)

    traced = jax.jit(loss)
    for value, gradients in (jax.jit(lambda: loss(0.0))(), traced(0.0), traced(-1.0)):
        np.testing.assert_allclose(value, DISTORTION.mean(), rtol=1e-6)
        for gradient in gradients[1:]:
            np.testing.assert_array_equal(gradient, np.zeros((8, 3)))


def test_the_slope_by_the_weight_is_the_rate():
    given = np.arange(8, dtype=np.float32)
    loss = jax.jit(
        jax.value_and_grad(lambda b: information.beta_vae_loss(given, MEAN, LOG_VAR, beta=b))
    )
    value, slope = loss(1e-9)
    np.testing.assert_allclose(value, 3.5, rtol=1e-6)
    np.testing.assert_allclose(slope, rates(MEAN, LOG_VAR).mean(), rtol=1e-5)


@few("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["vae", "bottleneck", "ignored labels", "free bits"])
def test_examples_that_do_not_count_may_hold_anything(name, garbage):
    """Ignored labels and masked examples."""
    counted = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)
    where = counted.astype(np.float32)
    ignored = LABELS.copy()
    ignored[~counted] = [-1, 5]
    function, clean = {
        "vae": (
            lambda d, m, v: information.beta_vae_loss(d, m, v, beta=0.5, where=where),
            (DISTORTION.astype(np.float32), MEAN, LOG_VAR),
        ),
        "bottleneck": (
            lambda z, m, v: information.bottleneck_loss(z, LABELS, m, v, beta=0.5, where=where),
            (LOGITS, MEAN, LOG_VAR),
        ),
        "ignored labels": (
            lambda z, m, v: information.bottleneck_loss(z, ignored, m, v, beta=0.5),
            (LOGITS, MEAN, LOG_VAR),
        ),
        "free bits": (
            lambda kl: information.free_bits(kl, level=0.1, where=where),
            (LOGITS**2,),
        ),
    }[name]
    run = jax.jit(jax.value_and_grad(function, range(len(clean))))
    dirty = [np.where(counted.reshape(-1, *(1,) * (a.ndim - 1)), a, garbage) for a in clean]
    want, want_gradients = run(*clean)
    value, gradients = run(*(a.astype(np.float32) for a in dirty))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    if name == "free bits":
        expected = np.maximum(0.1, np.mean(LOGITS[counted] ** 2, 0)).sum()
    else:
        expected = np.mean(DISTORTION[counted] + 0.5 * rates(MEAN, LOG_VAR)[counted])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for gradient, want in zip(gradients, want_gradients, strict=True):
        gradient = np.asarray(gradient)
        want = np.asarray(want)
        np.testing.assert_array_equal(gradient[~counted], np.zeros_like(gradient[~counted]))
        np.testing.assert_allclose(gradient[counted], want[counted], rtol=1e-5, atol=1e-8)


@few("how", ["labels", "where", "empty"])
def test_nothing_counted_is_zero_with_a_zero_gradient(how):
    batch = 0 if how == "empty" else 8
    mean = MEAN[:batch]
    log_var = LOG_VAR[:batch]
    logits = LOGITS[:batch]
    labels = LABELS[:batch] - 100 if how == "labels" else LABELS[:batch]
    where = np.zeros(batch) if how == "where" else None

    def bottleneck(z, m, v):
        return information.bottleneck_loss(z, labels, m, v, beta=1.0, where=where)

    def vae(m):
        return information.beta_vae_loss(m[:, 0], m, log_var, beta=1.0, where=where)

    def bits(kl):
        return information.free_bits(kl, level=0.5, where=where)

    value, gradients = with_gradients(bottleneck, np.float32(1), logits, mean, log_var)
    assert value == 0
    assert not any(np.asarray(gradient).any() for gradient in gradients)
    if how != "labels":
        # Three groups of no mean divergence at their level.
        for function, expected in ((vae, 0), (bits, 1.5)):
            value, (gradient,) = with_gradients(function, np.float32(1), mean)
            assert value == expected
            assert not np.asarray(gradient).any()


def test_bottleneck_of_one_class_and_one_example():
    one = np.ones((1, 1), "f4"), np.array([0]), np.ones((1, 2), "f4")
    assert bottleneck_loss(*one, 0.0, beta=1.0) == 1
    value = bottleneck_loss(np.ones(3, "f4"), np.array(0), np.zeros(2, "f4"), 0.0, beta=1.0)
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)


def test_free_bits_is_the_equation_of_the_paper():
    kl = np.abs(normals(6, 2, 4))
    kl[..., 0] *= 0.01
    run = jax.jit(jax.value_and_grad(lambda kl, level: information.free_bits(kl, level=level)))
    for level in (0.0, 0.3, 0.8, 100.0):
        value, gradient = run(kl.astype(np.float32), level)
        want = sum(max(level, kl[..., g].mean()) for g in range(4))
        np.testing.assert_allclose(value, want, rtol=1e-6)
        slope = np.where(kl.mean((0, 1)) > level, 1 / 12, 0)
        np.testing.assert_allclose(gradient, np.broadcast_to(slope, kl.shape), rtol=1e-6)


def test_free_bits_at_the_level_has_no_gradient_and_hides_no_nan():
    run = jax.jit(jax.value_and_grad(lambda kl: information.free_bits(kl, level=0.5)))
    value, gradient = run(np.full((2, 3), 0.5, np.float32))
    assert value == 1.5
    assert not np.asarray(gradient).any()
    assert np.isnan(run(np.array([[np.nan, 1.0, 1.0]] * 2, np.float32))[0])


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_codes_are_computed_in_float32(dtype):
    mean = MEAN.astype(dtype)
    log_var = LOG_VAR.astype(dtype)
    loss = bottleneck_loss(LOGITS.astype(dtype), LABELS, mean, log_var, beta=0.5)
    assert loss.dtype == jnp.float32
    narrow = LOGITS.astype(dtype)
    distortion = -np.log(probabilities(narrow))[np.arange(8), LABELS]
    want = np.mean(distortion + 0.5 * rates(mean, log_var))
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    kl = abs(MEAN).astype(dtype)
    value = jax.jit(lambda kl: information.free_bits(kl, level=0.1))(kl)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, np.asarray(kl, "f8").mean(0).sum(), rtol=1e-5)
    assert_all_finite(value)


def test_the_compiled_bottleneck_holds_no_array_of_labels():
    batch, classes = 128, 4096
    logits = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    mean = jax.ShapeDtypeStruct((batch, 4), jnp.float32)

    def loss(z, y, m, v):
        return information.bottleneck_loss(z, y, m, v, beta=0.1)

    compiled = jax.jit(jax.grad(loss)).lower(logits, labels, mean, mean).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * batch * classes / 50


def test_wrong_arguments_raise():
    mean = np.zeros((2, 3), np.float32)
    image = np.zeros((2, 4, 4, 3), np.float32)
    labels = np.zeros(2, np.int32)
    vae, bottleneck = information.beta_vae_loss, information.bottleneck_loss
    free_bits = information.free_bits
    message = r"`kl` must have axes \[\.\.\., groups\], got a"
    refuses(ValueError, message, free_bits, np.float32(0), level=0.0)
    refuses(ValueError, r"`level` must be .* in \[0, inf\], got -1", free_bits, mean, level=-1)
    message = r"`where` must have the same shape as `kl` without its last axis, \(2,\), got \(3,\)"
    refuses(ValueError, message, free_bits, mean, level=0.0, where=np.ones(3))
    refuses(TypeError, "`kl` must have a floating-point", free_bits, labels, level=0.0)
    distortion = np.zeros(2, np.float32)
    message = r"`mean` .* of `distortion`, .* one row"
    refuses(ValueError, message, vae, distortion, image, 0.0, beta=1.0)
    message = r"`where` must have the same shape as `distortion`, \(2,\), got \(3,\)"
    refuses(ValueError, message, vae, distortion, mean, 0.0, beta=1.0, where=np.ones(3))
    message = "`distortion` must have a floating-point"
    refuses(TypeError, message, vae, labels, mean, 0.0, beta=1.0)
    message = r"`mean` .* of `labels`, .* an axis of"
    refuses(ValueError, message, bottleneck, mean, labels, image, 0.0, beta=1.0)
    message = r"`labels` must have the same shape as `logits` without"
    refuses(ValueError, message, bottleneck, mean, np.zeros(3, int), mean, 0.0, beta=1.0)
    message = r"`labels` must be integer class ids"
    refuses(TypeError, message, bottleneck, mean, distortion, mean, 0.0, beta=1.0)
    message = r"`where` must have the same shape as `labels`, \(2,\), got \(3,\)"
    refuses(ValueError, message, bottleneck, mean, labels, mean, 0.0, beta=1.0, where=np.ones(3))
    for beta, reason in ((-1.0, "zero or positive"), (np.ones(2), "a single number")):
        message = f"`beta` must be {reason}"
        refuses(ValueError, message, vae, distortion, mean, 0.0, beta=beta)
        refuses(ValueError, message, bottleneck, mean, labels, mean, 0.0, beta=beta)
