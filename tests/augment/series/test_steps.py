"""Steps of series: NumPy's interpolation, and which steps count."""

import jax
import numpy as np
import pytest

from jaxreg._checks import check_at_least
from jaxreg.augment.series import _steps
from tests.augment.helpers import assert_rounded_once
from tests.augment.series.helpers import LENGTHS, X, resampled

PLACES = np.random.default_rng(2).uniform(-2, 15, (3, 20)).astype(np.float32)


def test_reading_is_numpys_interpolation():
    places = PLACES.copy()
    places[:, :4] = [0, 5, 12, 11.5]
    y = jax.jit(_steps.read)(X, places)
    for one, x, position in zip(y, X, places, strict=True):
        np.testing.assert_allclose(one, resampled(x, position), atol=1e-5)
    np.testing.assert_array_equal(y[:, :3], X[:, [0, 5, 12]])
    shared = jax.jit(_steps.read)(X, places[:1])
    np.testing.assert_allclose(shared[2], resampled(X[2], places[0]), atol=1e-5)
    assert_rounded_once(lambda x: _steps.read(x, PLACES), X)


def test_steps_that_count_are_cut_off_at_the_ends():
    steps = jax.jit(lambda x, length: _steps.count_steps(length, x))
    np.testing.assert_array_equal(steps(X, LENGTHS), LENGTHS[:, None])
    np.testing.assert_array_equal(steps(X, np.int32([-1, 99, 3])), [[0], [13], [3]])
    assert jax.jit(lambda x: _steps.count_steps(None, x))(X) == 13
    assert steps(X, 5) == 5


def test_padding_and_what_stands_still_is_kept():
    still = np.array([[False], [False], [True]])
    replace = jax.jit(lambda x, y, n, s: _steps.replace_steps(x, y, n, s))
    y = replace(X, X + 1, np.float32([[13], [7], [5]]), still)
    expected = X.copy()
    expected[0] += 1
    expected[1, :7] += 1
    np.testing.assert_array_equal(y, expected)


def test_places_end_at_the_last_step_that_counts():
    line = np.linspace(0, 20, 13, dtype=np.float32)[None] * np.ones((3, 1), np.float32)
    last = np.float32([[12], [6], [1]])
    ended = np.asarray(jax.jit(_steps.end_at)(last, line, X))
    for one, end in zip(ended, last[:, 0], strict=True):
        expected = np.where(np.arange(13) >= end, end, np.minimum(line[0], end))
        np.testing.assert_array_equal(one, expected)


def test_steps_are_taken_and_have_times():
    index = np.array([[0, 12, 99]] * 3, np.int32)
    taken = jax.jit(_steps.take)(X, index)
    np.testing.assert_array_equal(taken, X[:, [0, 12, 12]])

    np.testing.assert_array_equal(jax.jit(_steps.times)(X), np.arange(13.0)[None])


def test_numbers_for_each_example():
    value = np.float32([1, 2, 3])
    each = jax.jit(lambda value, x: _steps.per_example(value, "v", x))
    np.testing.assert_array_equal(each(value, X), value[:, None])
    nested = np.zeros((2, 3, 5, 1), np.float32)
    np.testing.assert_array_equal(each(value, nested), np.stack([value[:, None]] * 2))


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (ValueError, lambda: _steps.as_series(X[0, 0]), r"\[..., time, channels\], got \(2,\)"),
        (TypeError, lambda: _steps.as_series(np.int32(X)), r"`x` must have a floating-point dtype"),
        (
            TypeError,
            lambda: _steps.count_steps(2.0, X),
            r"`length` must be an integer, got",
        ),
        (
            ValueError,
            lambda: _steps.count_steps(-1, X),
            r"`length` must be zero or positive, ",
        ),
        (
            ValueError,
            lambda: _steps.count_steps(LENGTHS[:2], X),
            r"`length` must broadcast to",
        ),
        (ValueError, lambda: check_at_least(0, "n", 1), r"`n` must be at least 1, got 0"),
        (TypeError, lambda: check_at_least(1.5, "n", 1), r"`n` must be an integer"),
    ],
)
def test_wrong_arguments_are_named(kind, call, message):
    with pytest.raises(kind, match=message):
        jax.eval_shape(call)
