"""The effect of Flax's own wrappers on kernels; other kinds of variables; Orbax."""

import flax
import jax
import numpy as np
import orbax.checkpoint
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx

SERIES = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)


def params_of(module):
    return jax.tree.map(np.asarray, flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.Param)))


def test_flax_overwrites_the_kernel_and_does_not_train_the_scale():
    """Flax 0.12.8 and 0.12.12, flax#5576 and flax#5577."""
    norm = flax_nnx.WeightNorm(flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0)), rngs=flax_nnx.Rngs(1))
    before = params_of(norm)
    if flax.__version__ == "0.12.8":  # Mended in 0.12.12.
        assert "scales" not in before
    norm(SERIES)
    after = params_of(norm)
    assert np.any(after["layer_instance"]["kernel"] != before["layer_instance"]["kernel"])


def test_spectral_norm_of_flax_overwrites_the_kernel_and_ours_does_not():
    kernel = 5 * np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    theirs = flax_nnx.Linear(8, 5, rngs=flax_nnx.Rngs(0))
    theirs.kernel[...] = kernel
    ours = flax_nnx.clone(theirs)
    wrappers = [
        flax_nnx.SpectralNorm(theirs, rngs=flax_nnx.Rngs(1)),
        nnx.SpectralNorm(ours, rngs=flax_nnx.Rngs(1)),
    ]
    for wrapper in wrappers:
        call = flax_nnx.jit(lambda layer: layer(SERIES))
        for _ in range(50):
            call(wrapper)
    np.testing.assert_allclose(np.linalg.norm(theirs.kernel[...], ord=2), 1, rtol=1e-3)
    np.testing.assert_array_equal(ours.kernel[...], kernel)


def linear():
    return flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0))


WRAPPERS = {
    "weight_norm": lambda: nnx.WeightNorm(linear()),
    "spectral_norm": lambda: nnx.SpectralNorm(linear(), rngs=flax_nnx.Rngs(0)),
    "weight_standardization": lambda: nnx.WeightStandardization(linear(), use_scale=True),
}


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_hijax_variables(make):
    """Read under ``jax.jit``, where Flax's wrappers fail; the newest Flax refuses updates there."""
    expected = make()(SERIES)
    with flax_nnx.var_defaults(hijax=True):
        module = make()
        module.eval()
        found = jax.jit(lambda layer, x: layer(x))(module, SERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_orbax_keeps_the_variables(make, tmp_path):
    """Their keys are tuples, as Flax's are."""
    layer = make()
    other = make()
    layer(SERIES)
    state = jax.tree.map(lambda a: a + 1, flax_nnx.state(layer))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", state)
        checkpointer.wait_until_finished()
        flax_nnx.update(other, checkpointer.restore(tmp_path / "nnx", flax_nnx.state(other)))
    jax.tree.map(np.testing.assert_array_equal, flax_nnx.state(other), state)
