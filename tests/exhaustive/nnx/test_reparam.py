"""What Flax's own wrappers do to the kernels of their layers, and ours do not."""

import flax
import jax
import numpy as np
from flax import nnx as fnx

from jaxreg import nnx

SERIES = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)


def params_of(module):
    return jax.tree.map(np.asarray, fnx.to_pure_dict(fnx.state(module, fnx.Param)))


def test_flax_overwrites_the_kernel_and_does_not_train_the_scale():
    """Flax 0.12.8 and 0.12.12, flax#5576 and flax#5577."""
    norm = fnx.WeightNorm(fnx.Linear(8, 3, rngs=fnx.Rngs(0)), rngs=fnx.Rngs(1))
    before = params_of(norm)
    if flax.__version__ == "0.12.8":  # Mended in 0.12.12.
        assert "scales" not in before
    norm(SERIES)
    after = params_of(norm)
    assert np.any(after["layer_instance"]["kernel"] != before["layer_instance"]["kernel"])


def test_spectral_norm_of_flax_overwrites_the_kernel_and_ours_does_not():
    kernel = 5 * np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    theirs = fnx.Linear(8, 5, rngs=fnx.Rngs(0))
    theirs.kernel[...] = kernel
    ours = fnx.clone(theirs)
    wrappers = [
        fnx.SpectralNorm(theirs, rngs=fnx.Rngs(1)),
        nnx.SpectralNorm(ours, rngs=fnx.Rngs(1)),
    ]
    for wrapper in wrappers:
        call = fnx.jit(lambda layer: layer(SERIES))
        for _ in range(50):
            call(wrapper)
    np.testing.assert_allclose(np.linalg.norm(theirs.kernel[...], ord=2), 1, rtol=1e-3)
    np.testing.assert_array_equal(ours.kernel[...], kernel)
