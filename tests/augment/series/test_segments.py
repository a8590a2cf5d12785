"""Segments in other orders: NumPy's parts, orders and cuts that are all as likely."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import series
from tests.augment.helpers import assert_as_likely
from tests.augment.series.helpers import (
    KEY,
    X,
    assert_each_has_its_draw_and_padding_counts_for_nothing,
    assert_each_is,
    assert_short_empty_and_narrow_series_are_kept,
    drawn,
    ramp,
)
from tests.helpers import few

RANDOM = {
    "permutation": partial(series.random_permutation, segments=4),
    "random_cuts": partial(series.random_permutation, segments=4, cuts=series.random_cuts),
}


def permutation(x, order):
    parts = np.array_split(x, len(order))
    return np.concatenate([parts[i] for i in order])


def test_segments_are_numpys_parts():
    order = np.array([[2, 0, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3]], np.int32)
    assert_each_is(series.permutation, permutation, {"order": order})


def test_segments_may_be_cut_anywhere():
    @jax.jit
    def run(x):
        order = jnp.array([1, 2, 0])
        cuts = jnp.array([1, 3])
        long = series.permutation(x, order=order, cuts=jnp.array([2, 99]))
        return series.permutation(x, order=order, cuts=cuts), long

    y, long = run(ramp(2, 6))
    np.testing.assert_array_equal(y[..., 0], [[1, 2, 3, 4, 5, 0]] * 2)
    # A cut beyond the end is the end.
    np.testing.assert_array_equal(long[..., 0], [[2, 3, 4, 5, 0, 1]] * 2)


def test_orders_and_cuts_are_as_likely_as_others():
    assert_as_likely(drawn(ramp(6000, 3), name="permutation", segments=3)[..., 0], 6)
    counted = np.full(6000, 5, np.int32)
    cuts = jax.jit(series.random_cuts, static_argnums=2)(KEY, ramp(6000, 7), 3, counted)
    assert_as_likely(cuts, 6)
    assert np.min(cuts) == 1
    assert np.max(cuts) == 4


def test_cuts_of_fewer_steps_than_segments():
    for cut in (series.even_cuts, series.random_cuts):
        cut = jax.jit(cut, static_argnums=2)
        found = np.asarray(cut(KEY, ramp(4, 6), 5, np.array([0, 1, 3, 6], np.int32)))
        np.testing.assert_array_equal(found[:3], [[0] * 4, [1] * 4, [1, 2, 3, 3]])
        assert (np.diff(found[3]) > 0).all()
        assert found.dtype == np.int32


def test_random_segments_are_cut_as_asked():
    """With one order for all cuts are what differs; without padding no step is lost."""
    y = np.asarray(jax.jit(RANDOM["random_cuts"])(KEY, ramp(3000, 6)))[..., 0]
    np.testing.assert_array_equal(np.sort(y, axis=1), np.tile(np.arange(6), (3000, 1)))
    # Of two segments, the first step of the result tells where they were cut: any, or none.
    two = partial(series.random_permutation, segments=2, cuts=series.random_cuts)
    first = np.asarray(jax.jit(two)(KEY, ramp(6000, 6)))[:, 0, 0]
    assert_as_likely(first[first > 0][:, None], 5)
    assert abs((first > 0).mean() - 0.5) < 5 * 0.5 / 6000**0.5
    even = partial(series.random_permutation, segments=2)
    first = np.asarray(jax.jit(even)(KEY, ramp(6000, 6)))[:, 0, 0]
    assert set(first) == {0, 3}


@few("name", RANDOM)
def test_short_empty_and_narrow_series(name):
    assert_short_empty_and_narrow_series_are_kept(RANDOM[name], alone_stays=True)


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own_and_padding_counts_for_nothing(name):
    assert_each_has_its_draw_and_padding_counts_for_nothing(RANDOM[name])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: series.permutation(X, order=2), ValueError, r"`order` must have shape"),
        (lambda: series.permutation(X, order=X[0, 0]), TypeError, r"`order` must contain integers"),
        (
            lambda: series.permutation(X, order=np.arange(0)),
            ValueError,
            r"`order` must have shape",
        ),
        (
            lambda: series.permutation(X, order=np.arange(2), cuts=np.ones(1)),
            TypeError,
            r"`cuts` must contain integers",
        ),
        (
            lambda: series.permutation(X, order=np.arange(3), cuts=np.arange(3)),
            ValueError,
            r"`cuts` must broadcast to shape \(3, 2\)",
        ),
        (
            lambda: series.random_permutation(KEY, X, segments=0),
            ValueError,
            r"`segments` must be at least 1, got 0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        jax.eval_shape(call)
