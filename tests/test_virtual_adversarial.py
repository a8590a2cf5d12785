"""Virtual adversarial training against an eigenvector in float64, and where nothing changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from jaxreg import smoothness, testing
from tests import cases
from tests.test_smoothness import draw

KEY = jax.random.key(5)
penalty = jax.jit(smoothness.virtual_adversarial, static_argnames=("logits_fn", "steps"))


def divergence(w, x, moved):
    return rel_entr(softmax(x @ w, axis=-1), softmax(moved @ w, axis=-1)).sum()


def worst(w, x, radius):
    """The divergences of one example toward both ends of the first eigenvector."""
    p = softmax(x @ w)
    _, vectors = np.linalg.eigh(w @ (np.diag(p) - np.outer(p, p)) @ w.T)
    return [divergence(w, x, x + sign * radius * vectors[:, -1]) for sign in (-1, 1)]


@pytest.mark.parametrize("radius", [0.0, 0.1, 2.0])
@pytest.mark.slow
def test_many_steps_reach_the_first_eigenvector(radius):
    w, rows = draw(4, 3), draw(6, 4, seed=1)
    with jax.enable_x64(True):
        for x in rows:
            got = penalty(
                lambda x: x @ jnp.asarray(w),
                jnp.asarray(x)[None],
                key=KEY,
                radius=radius,
                steps=300,
            )
            assert got.dtype == jnp.float64
            assert min(abs(got - both) for both in worst(w, x, radius)) < 1e-9


def test_one_step_is_one_product_with_the_curvature():
    """From a direction that is known: with no steps, the divergence tells which it was."""
    w, x = draw(2, 3), draw(1, 2, seed=1)

    def at(steps):
        value = penalty(
            lambda x: x @ jnp.asarray(w), jnp.asarray(x), key=KEY, radius=0.5, steps=steps
        )
        return float(value)

    angles = np.linspace(0, 2 * np.pi, 200_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    p, log_p = softmax(x @ w), log_softmax(x @ w)
    values = np.sum(p * (log_p - log_softmax((x + 0.5 * circle) @ w, axis=-1)), axis=-1)
    with jax.enable_x64(True):
        start, after = at(0), at(1)
    hessian = w @ (np.diag(p[0]) - np.outer(p[0], p[0])) @ w.T
    crossings = np.flatnonzero(np.diff(np.sign(values - start)))
    stepped = circle[crossings] @ hessian
    stepped /= np.linalg.norm(stepped, axis=1, keepdims=True)
    moved = [divergence(w, x, x + 0.5 * d) for d in stepped]
    assert min(abs(after - m) for m in moved) < 1e-3 * after
    assert after > start


def test_more_steps_find_worse_directions():
    w, x = jnp.float32(draw(20, 5)), jnp.float32(draw(64, 20, seed=1))
    values = [penalty(lambda x: x @ w, x, key=KEY, radius=0.3, steps=n) for n in (0, 1, 3)]
    assert 0 < values[0] < values[1] < values[2]


def test_gradient_is_that_with_the_direction_and_the_left_side_fixed():
    w, x = draw(4, 3), draw(1, 4, seed=1)
    with jax.enable_x64(True):

        def value(w):
            return penalty(lambda x: x @ w, jnp.asarray(x), key=KEY, radius=0.5, steps=300)

        gradient = np.asarray(jax.jit(jax.grad(value))(jnp.asarray(w)))
    p = softmax(x @ w, axis=-1)
    _, vectors = np.linalg.eigh(w @ (np.diag(p[0]) - np.outer(p[0], p[0])) @ w.T)
    candidates = []
    for sign in (-1, 1):
        moved = x + sign * 0.5 * vectors[:, -1]
        candidates.append(moved.T @ (softmax(moved @ w, axis=-1) - p))
    assert min(abs(gradient - c).max() for c in candidates) < 1e-7


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__
)
def test_a_head_of_zeros_is_finite(dtype):
    """Rows 1 and 6 of the failure modes: the product with the curvature is zero."""
    x = jnp.ones((3, 4), dtype)

    def value(w):
        return penalty(lambda x: x @ w, x, key=KEY, radius=1.0, steps=2)

    w = jnp.zeros((4, 2), dtype)
    assert value(w) == 0
    assert value(w).dtype == jnp.float32
    assert np.array_equal(jax.grad(value)(w), np.zeros((4, 2)))


def test_the_direction_stays_where_the_curvature_is_zero():
    """Saturated in float32, the classifier is still asked far away."""
    x = jnp.full((20, 2), 200.0)
    far = penalty(lambda x: x * jnp.array([1.0, -1.0]), x, key=KEY, radius=500.0)
    assert np.isfinite(far)
    assert far > 1


def test_one_class_and_a_batch_of_one_and_none():
    x = jnp.ones((1, 3))
    assert penalty(lambda x: x[:, :1], x, key=KEY, radius=1.0) == 0
    assert penalty(lambda x: x, x[:0], key=KEY, radius=1.0) == 0


def test_excluded_classes_contribute_nothing():
    """Row 52 of the failure modes: a logit of minus infinity has no share on both sides."""
    w, x = jnp.float32(draw(4, 3)), jnp.float32(draw(5, 4, seed=1))

    def excluded(x):
        return jnp.concatenate([x @ w, jnp.full((len(x), 1), -jnp.inf)], axis=1)

    def of_x(f, x):
        return penalty(f, x, key=KEY, radius=0.5)

    np.testing.assert_allclose(of_x(excluded, x), of_x(lambda x: x @ w, x), rtol=1e-5)
    gradient = jax.grad(lambda x: of_x(excluded, x))(x)
    np.testing.assert_allclose(
        gradient, jax.grad(lambda x: of_x(lambda x: x @ w, x))(x), rtol=1e-3, atol=1e-6
    )


def test_positions_count_like_examples():
    w, x = jnp.float32(draw(4, 3)), jnp.float32(draw(2, 5, 4, seed=1))
    value = penalty(lambda x: x @ w, x, key=KEY, radius=0.5)
    one = penalty(lambda x: jnp.repeat((x @ w)[:, None], 2, axis=1), x, key=KEY, radius=0.5)
    np.testing.assert_allclose(one, value, rtol=1e-5)


def _of_x(key, x, *, radius):
    return penalty(lambda x: jnp.tanh(x @ cases.KERNEL.astype(x.dtype)), x, key=key, radius=radius)


# The gradient is not that of the value, since what the paper holds fixed moves with ``x``.
CELLS = {
    name: check
    for name, check in testing.contract(
        _of_x, (cases.KEY, cases.X), strengths={"radius": 0.5}
    ).items()
    if name != "gradient"
}


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(c, marks=pytest.mark.slow) if c.endswith(("[bfloat16]", "[float16]")) else c
        for c in CELLS
    ],
)
def test_contract(cell):
    CELLS[cell]()


def test_errors_name_the_argument():
    x = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"`radius` must be a number in \[0, inf\], got -1"):
        smoothness.virtual_adversarial(jnp.sin, x, key=KEY, radius=-1.0)
    with pytest.raises(ValueError, match=r"`steps` must be at least 0, got -1"):
        smoothness.virtual_adversarial(jnp.sin, x, key=KEY, radius=1.0, steps=-1)
    with pytest.raises(TypeError, match=r"`steps` must be an integer, got float 1\.0"):
        smoothness.virtual_adversarial(jnp.sin, x, key=KEY, radius=1.0, steps=1.0)
    with pytest.raises(ValueError, match=r"`logits_fn` must return \[batch, \.\.\., classes\]"):
        smoothness.virtual_adversarial(lambda x: x.sum(axis=1), x, key=KEY, radius=1.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key"):
        smoothness.virtual_adversarial(jnp.sin, x, key=0, radius=1.0)
    with pytest.raises(TypeError, match=r"floating-point dtype, got int32"):
        smoothness.virtual_adversarial(jnp.sin, x.astype(jnp.int32), key=KEY, radius=1.0)
