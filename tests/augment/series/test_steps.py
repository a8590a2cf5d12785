"""What augmentations of series share: NumPy's interpolation, steps that count, draws."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment.series import _shared
from tests.augment.helpers import KEY, assert_distribution, assert_rounded_once
from tests.augment.series.helpers import LENGTHS, X, ramp, resampled

PLACES = np.random.default_rng(2).uniform(-2, 15, (3, 20)).astype(np.float32)


def test_reading_is_numpys_interpolation():
    places = PLACES.copy()
    places[:, :4] = [0, 5, 12, 11.5]
    y = jax.jit(_shared.read)(X, places)
    for one, x, position in zip(y, X, places, strict=True):
        np.testing.assert_allclose(one, resampled(x, position), atol=1e-5)
    np.testing.assert_array_equal(y[:, :3], X[:, [0, 5, 12]])
    shared = jax.jit(_shared.read)(X, places[:1])
    np.testing.assert_allclose(shared[2], resampled(X[2], places[0]), atol=1e-5)
    assert_rounded_once(lambda x: _shared.read(x, PLACES), X)


def test_steps_that_count_are_cut_off_at_the_ends():
    steps = jax.jit(lambda x, length: _shared.steps(length, x))
    np.testing.assert_array_equal(steps(X, LENGTHS), LENGTHS[:, None])
    np.testing.assert_array_equal(steps(X, np.int32([-1, 99, 3])), [[0], [13], [3]])
    assert jax.jit(lambda x: _shared.steps(None, x))(X) == 13
    assert steps(X, 5) == 5


def test_padding_and_what_stands_still_is_kept():
    still = np.array([[False], [False], [True]])
    kept = jax.jit(lambda x, y, n, s: _shared.kept(x, y, n, s))
    y = kept(X, X + 1, np.float32([[13], [7], [5]]), still)
    expected = X.copy()
    expected[0] += 1
    expected[1, :7] += 1
    np.testing.assert_array_equal(y, expected)


def test_places_end_at_the_last_step_that_counts():
    line = np.linspace(0, 20, 13, dtype=np.float32)[None] * np.ones((3, 1), np.float32)
    last = np.float32([[12], [6], [1]])
    ended = np.asarray(jax.jit(_shared.ended)(line, X, last))
    for one, end in zip(ended, last[:, 0], strict=True):
        expected = np.where(np.arange(13) >= end, end, np.minimum(line[0], end))
        np.testing.assert_array_equal(one, expected)


def test_rows_are_taken_and_draws_have_their_distributions():
    index = np.array([[0, 12, 99]] * 3, np.int32)
    taken = jax.jit(_shared.take)(X, index)
    np.testing.assert_array_equal(taken, X[:, [0, 12, 12]])

    @jax.jit
    def run(x):
        return _shared.uniform(KEY, x, 3), _shared.normal(KEY, x, 3, 2)

    uniform, normal = run(ramp(2000, 4))
    assert uniform.shape == (2000, 3)
    assert normal.shape == (2000, 3, 2)
    assert_distribution(uniform, stats.uniform)
    assert_distribution(normal, stats.norm)
    np.testing.assert_array_equal(jax.jit(_shared.times)(X), np.arange(13.0)[None])


def test_limits_and_numbers_for_each_example():
    limit = jax.jit(lambda value, x: _shared.limit(value, "v", x))
    assert limit(-3.0, X) == 0
    assert limit(3.0, X) == 3
    value = np.float32([1, 2, 3])
    each = jax.jit(lambda value, x: _shared.per_example(value, "v", x))
    np.testing.assert_array_equal(each(value, X), value[:, None])
    nested = np.zeros((2, 3, 5, 1), np.float32)
    np.testing.assert_array_equal(each(value, nested), np.stack([value[:, None]] * 2))


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (ValueError, lambda: _shared.checked(X[0, 0]), r"\[..., time, channels\], got \(2,\)"),
        (TypeError, lambda: _shared.checked(np.int32(X)), r"`x` must have a floating-point dtype"),
        (TypeError, lambda: _shared.steps(2.0, X), r"`length` must count steps, got dtype float"),
        (ValueError, lambda: _shared.steps(-1, X), r"`length` must be zero or positive, got -1"),
        (ValueError, lambda: _shared.steps(LENGTHS[:2], X), r"`length` must broadcast to shape"),
        (ValueError, lambda: _shared.check_number(0, "n", 1), r"`n` must be at least 1, got 0"),
        (TypeError, lambda: _shared.check_number(1.5, "n", 1), r"`n` must be an integer"),
        (ValueError, lambda: _shared.limit(-1.0, "v", X), r"`v` must be zero or positive"),
    ],
)
def test_wrong_arguments_are_named(kind, call, message):
    with pytest.raises(kind, match=message):
        jax.eval_shape(call)
