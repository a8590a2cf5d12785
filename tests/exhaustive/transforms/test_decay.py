"""Quantities that each kind of decay keeps constant when the learning rate changes.

For weights that the loss does not see the length of, and for noise, the steps of Adam are random:
the norm grows by them and shrinks by the decay until both are equal (Kosson et al., 2023).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms

SIZE, STEPS = 128, 4000
SHARE = BASE = 0.01  # decay of a step, and the learning rate at which the kinds are one
RATES = BASE * np.array([0.25, 1.0, 4.0])


def independent(rate):
    return optax.chain(optax.adam(rate), transforms.independent_decay(SHARE, mask=None))


def coupled(rate):
    decay = transforms.decoupled_decay(SHARE / BASE, learning_rate=rate, mask=None)
    return optax.chain(optax.adam(rate), decay)


def noise(w, key):
    return jax.random.normal(key, w.shape) @ w


def without_scale(w, key):
    return noise(w / jnp.linalg.norm(w), key)


@partial(jax.jit, static_argnums=(0, 1))
def equilibrium(kind, loss):
    """Norm, and angle between one step and the next, averaged over the second half of a run."""

    def run(rate):
        tx = kind(rate)

        def step(carry, key):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w, key), state, w)
            moved = w + updates
            cosine = w @ moved / jnp.linalg.norm(w) / jnp.linalg.norm(moved)
            return (moved, state), (jnp.linalg.norm(moved), jnp.arccos(jnp.minimum(cosine, 1)))

        w = jnp.full(SIZE, SIZE**-0.5)
        keys = jax.random.split(jax.random.key(0), STEPS)
        norms, angles = jax.lax.scan(step, (w, tx.init(w)), keys)[1]
        return norms[STEPS // 2 :].mean(), angles[STEPS // 2 :].mean()

    return jax.vmap(run)(jnp.asarray(RATES, jnp.float32))


@pytest.mark.parametrize("loss", [noise, without_scale])
def test_an_independent_decay_holds_the_equilibrium_in_units_of_the_step(loss):
    norms, angles = jax.device_get(equilibrium(independent, loss))
    np.testing.assert_allclose(angles, angles[1], rtol=0.03)
    np.testing.assert_allclose(norms / RATES, norms[1] / BASE, rtol=0.05)


@pytest.mark.parametrize("loss", [noise, without_scale])
def test_a_coupled_decay_moves_it_by_the_root_of_the_learning_rate(loss):
    # A factor of 2 for one of 4; momentum makes it 1.8 to 2.3.
    norms, angles = jax.device_get(equilibrium(coupled, loss))
    units = norms / RATES
    for ratios in (angles[1:] / angles[:-1], units[:-1] / units[1:]):
        assert (ratios > 1.7).all()
        assert (ratios < 2.4).all()


@pytest.mark.parametrize("loss", [noise, without_scale])
def test_the_norm_itself_follows_the_learning_rate(loss):
    # In proportion to it for the independent kind, and by its root for the coupled one.
    ratios = {kind: np.diff(np.log(equilibrium(kind, loss)[0])) for kind in (independent, coupled)}
    np.testing.assert_allclose(ratios[independent], np.log(4), rtol=0.05)
    np.testing.assert_allclose(ratios[coupled], np.log(2), rtol=0.2)


def test_at_the_base_rate_the_kinds_are_one():
    for found in zip(equilibrium(coupled, noise), equilibrium(independent, noise), strict=True):
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3)


@pytest.mark.parametrize("kind", [independent, coupled])
def test_norms_and_angles_are_those_of_the_random_walk(kind):
    # Weights are noise behind two filters: momentum, which keeps b, and the decay, which keeps a.
    norms, angles = jax.device_get(equilibrium(kind, noise))
    a = 1 - (np.full(3, SHARE) if kind is independent else SHARE * RATES / BASE)
    b = 0.9
    variance = (1 - b) ** 2 * (1 + a * b) / ((1 - a * b) * (1 - a**2) * (1 - b**2))
    np.testing.assert_allclose(norms, RATES * np.sqrt(SIZE * variance), rtol=0.06)
    np.testing.assert_allclose(angles, np.arccos((a + b) / (1 + a * b)), rtol=0.03)
