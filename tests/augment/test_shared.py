"""What augmentations of images share: numbers for each example, draws, choices and checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import _shared
from tests.augment.helpers import IMAGE, KEY, assert_distribution, assert_rounded_once
from tests.helpers import assert_rate

IMAGES = np.zeros((4000, 1, 1, 1), np.float32)
NESTED = np.zeros((2, 3, 4, 5, 1), np.float32)


def test_numbers_are_aligned_with_the_last_leading_axes():
    @jax.jit
    def run(x, inner, all_of, one):
        values = (inner, all_of, one)
        return [_shared.per_example(value, "v", x) for value in values]

    inner = np.arange(3, dtype=np.float32)
    all_of = np.arange(6, dtype=np.float32).reshape(2, 3)
    shaped, full, single = run(NESTED, inner, all_of, 7.0)
    np.testing.assert_array_equal(shaped, inner.reshape(1, 3, 1, 1, 1))
    np.testing.assert_array_equal(full, all_of.reshape(2, 3, 1, 1, 1))
    assert single.shape == ()
    column = jax.eval_shape(lambda x: _shared.per_example(np.ones((2, 1)), "v", x), NESTED)
    assert column.shape == (2, 1, 1, 1, 1)


def test_draws_are_uniform_between_their_limits():
    @jax.jit
    def run(x):
        plain = _shared.uniform(KEY, x)
        between = _shared.between(KEY, x, -1.0, 3.0)
        symmetric = _shared.symmetric(KEY, x, jnp.float32(2.5))
        return plain, between, symmetric, _shared.chosen(KEY, x, 0.3)

    plain, between, symmetric, chosen = run(IMAGES)
    assert plain.shape == (4000,)
    assert_distribution(plain, stats.uniform)
    assert_distribution(between, stats.uniform(-1, 4))
    assert_distribution(symmetric, stats.uniform(-2.5, 5))
    assert chosen.shape == IMAGES.shape
    assert_rate(np.mean(chosen), 0.3, 4000)


def test_choices_and_averages_are_by_example():
    @jax.jit
    def run(x, condition, share):
        picked = _shared.select(_shared.spread(condition), x, -x)
        return picked, _shared.averaged(x, -x, _shared.spread(share))

    images = np.stack([IMAGE] * 3)
    condition = np.array([True, False, True])
    share = np.float32([0, 0.25, 1])
    picked, averaged = run(images, condition, share)
    np.testing.assert_array_equal(picked, np.stack([IMAGE, -IMAGE, IMAGE]))
    np.testing.assert_allclose(averaged, np.stack([-IMAGE, -0.5 * IMAGE, IMAGE]), atol=1e-6)
    assert_rounded_once(lambda x, y: _shared.averaged(x, y, jnp.float32(0.3)), IMAGE, 1 - IMAGE)


def test_limits_that_are_traced_are_at_least_0():
    limit = jax.jit(lambda value, x: _shared.limit(value, "v", x))
    assert limit(-3.0, IMAGE) == 0
    assert limit(3.0, IMAGE) == 3
    assert limit(3.0, IMAGE).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (TypeError, lambda: _shared.checked(np.uint8(IMAGE)), r"augment\.to_float\(image\)"),
        (TypeError, lambda: _shared.checked(np.int32(IMAGE), "x"), r"`x` must have a floating-poi"),
        (ValueError, lambda: _shared.checked(IMAGE[0]), r"\[..., height, width, channels\], got"),
        (ValueError, lambda: _shared.check_size((2,)), r"`size` must be a pair"),
        (ValueError, lambda: _shared.check_size((2, 0)), r"`size` must be positive"),
        (TypeError, lambda: _shared.check_size((2, 1.5)), r"`size` must be an integer"),
        (ValueError, lambda: _shared.check_fits((10, 12), IMAGE), r"at most the 9 x 12 pixels"),
        (ValueError, lambda: _shared.check_fits((9, 13), IMAGE), r"at most the 9 x 12 pixels"),
        (ValueError, lambda: _shared.per_example(np.ones(2), "v", NESTED), r"`v` must broadcast"),
        (ValueError, lambda: _shared.limit(np.ones(2), "v", IMAGE), r"`v` must be a single number"),
        (ValueError, lambda: _shared.limit(-1.0, "v", IMAGE), r"`v` must be zero or positive"),
        (ValueError, lambda: _shared.check_partner(IMAGE, IMAGE[:3], "o"), r"`o` must have the sh"),
        (
            ValueError,
            lambda: _shared.check_partner(IMAGE, np.float64(IMAGE), "o"),
            r"`o` must have the shape and dtype of its partner",
        ),
        (ValueError, lambda: _shared.kept_shape(IMAGE[:3], IMAGE), r"keep the shape and dtype"),
        (ValueError, lambda: _shared.kept_shape(np.float64(IMAGE), IMAGE), r"keep the shape"),
    ],
)
def test_wrong_arguments_are_named(kind, call, message):
    with pytest.raises(kind, match=message):
        call()


def test_an_image_just_fits():
    _shared.check_fits((9, 12), IMAGE)
    assert _shared.check_size([3, 4]) == (3, 4)
    assert _shared.kept_shape(IMAGE, IMAGE) is IMAGE
