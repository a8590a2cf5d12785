"""Series, references for warps, and properties of all functions of series."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.augment import series
from tests.augment.helpers import KEY

X = np.random.default_rng(0).normal(size=(3, 13, 2)).astype(np.float32)
LENGTHS = np.array([13, 7, 2], np.int32)
SHAPES = ((2, 0, 3), (2, 1, 3), (2, 2, 2, 3), (0, 5, 3), (2, 5, 0), (7, 1))


def ramp(number, time):
    """Series whose values are their times."""
    return np.tile(np.arange(time, dtype=np.float32)[:, None], (number, 1, 1))


def resampled(x, position):
    return np.stack([np.interp(position, np.arange(len(x)), c) for c in x.T], axis=-1)


@partial(jax.jit, static_argnames=("name", "knots", "policy", "segments"))
def drawn(x, *, name, **options):
    """The result of a function for ``x``, from one program."""
    return getattr(series, f"random_{name}")(KEY, x, **options)


def assert_each_is(function, reference, options):
    """Each example equals the reference for one series, with all steps and with lengths.

    Steps after the length are unchanged, bit for bit.
    """

    @jax.jit
    def run(x, arrays, length):
        return function(x, **arrays), function(x, **arrays, length=length)

    full, cut = jax.device_get(run(X, options, LENGTHS))
    for i, length in enumerate(LENGTHS):
        own = {name: np.asarray(value[i]) for name, value in options.items()}
        own = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in own.items()}
        np.testing.assert_allclose(full[i], reference(X[i], **own), atol=2e-5)
        np.testing.assert_allclose(cut[i, :length], reference(X[i, :length], **own), atol=2e-5)
        np.testing.assert_array_equal(cut[i, length:], X[i, length:])


def assert_short_empty_and_narrow_series_are_kept(function, *, alone_stays):
    """Results keep shape and dtype and are finite; a single step may be unchanged."""
    batches = [jnp.ones(shape, jnp.bfloat16) for shape in SHAPES]
    results = jax.jit(lambda key, xs: [function(key, x) for x in xs])(KEY, batches)
    for x, y in zip(batches, results, strict=True):
        assert (y.shape, y.dtype) == (x.shape, jnp.bfloat16)
        assert np.isfinite(np.asarray(y, np.float32)).all()
    if alone_stays:
        np.testing.assert_array_equal(results[1], batches[1])


def assert_each_has_its_draw_and_padding_counts_for_nothing(function):
    x = np.tile(np.cumsum(X[0], axis=0), (8, 1, 1))
    lengths = np.arange(8, dtype=np.int32) + 6
    padding = np.broadcast_to(np.arange(13)[:, None] >= lengths[:, None, None], x.shape)
    call = jax.jit(lambda x, length: function(KEY, x, length=length))
    y = np.asarray(call(np.where(padding, np.nan, x), lengths))
    assert np.isnan(y[padding]).all()
    assert np.isfinite(y[~padding]).all()
    # Windows and masks may miss the part that two examples share.
    assert len({one[:6].tobytes() for one in y}) >= 5
    again = np.asarray(call(np.where(padding, np.float32(7), x), lengths))
    np.testing.assert_array_equal(again[~padding], y[~padding])
