"""The checks of arguments that every family shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _checks

STATIC = [1, 1.0, True, np.float64(1), np.array(1.0), np.int32(1)]
NOT_STATIC = [jnp.float32(1), np.array([1.0]), "1", None, 1j]


@pytest.mark.parametrize("value", STATIC, ids=repr)
def test_numbers_on_the_host_are_static(value):
    assert _checks.is_static(value)
    assert not _checks.is_static_zero(value)
    assert _checks.is_static_zero(value - value if not isinstance(value, bool) else False)


@pytest.mark.parametrize("value", NOT_STATIC, ids=repr)
def test_arrays_are_not_static(value):
    assert not _checks.is_static(value)


def test_a_zero_on_the_device_is_not_read():
    assert not _checks.is_static_zero(jnp.float32(0))


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(1), True, np.array(0.0)])
def test_rates_in_range_pass(value):
    _checks.check_rate(value)


@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, float("nan"), float("inf"), 2, np.float64(-1)])
def test_rates_out_of_range_raise(value):
    with pytest.raises(ValueError, match=r"`p` must be a probability in \[0, 1\], got .*"):
        _checks.check_rate(value, "p")


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), -float("inf")])
def test_negative_strengths_raise(value):
    with pytest.raises(ValueError, match=rf"`weight` must be zero or positive, got {value}\."):
        _checks.check_nonnegative(value, "weight")


@pytest.mark.parametrize("value", [0, -1, float("nan"), (1.0, 0.0)])
def test_numbers_that_must_be_positive(value):
    with pytest.raises(ValueError, match=r"`ratio` must be positive, got"):
        _checks.check_positive(value, "ratio")
    _checks.check_positive(jnp.zeros(2), "ratio")
    _checks.check_positive((1, 2), "ratio")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), (0.0, -np.inf)])
def test_numbers_that_must_be_finite(value):
    with pytest.raises(ValueError, match=r"`ratio` must be finite, got"):
        _checks.check_finite(value, "ratio")
    _checks.check_finite(jnp.float32(jnp.inf), "ratio")
    _checks.check_finite((-1, 2), "ratio")


def test_integers_have_a_least_value():
    _checks.check_at_least(2, "knots", 2)
    with pytest.raises(ValueError, match=r"`knots` must be at least 2, got 1\."):
        _checks.check_at_least(1, "knots", 2)
    with pytest.raises(TypeError, match=r"`knots` must be an integer, got float 2\.0"):
        _checks.check_at_least(2.0, "knots", 2)


def test_an_infinite_strength_passes():
    _checks.check_nonnegative(float("inf"), "weight")


@pytest.mark.parametrize("value", [jnp.float32(-1), jnp.float32(jnp.nan)])
def test_checks_do_not_read_arrays(value):
    _checks.check_rate(value)
    _checks.check_nonnegative(value, "weight")


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 1, 4), (4, 1)])
def test_strengths_that_would_enlarge_the_result_raise(shape):
    message = r"`threshold` must broadcast to shape \(2, 4\), got shape"
    with pytest.raises(ValueError, match=message):
        _checks.check_broadcasts(np.ones(shape), "threshold", (2, 4))


def test_several_rates_raise():
    with pytest.raises(ValueError, match=r"`rate` must be a single number, got shape \(2,\)"):
        _checks.check_rate(np.ones(2))


def test_the_ends_of_a_range_pass():
    for value in (0, 1):
        _checks.check_between(value, "share", 0, 1)
    with pytest.raises(ValueError, match=r"`share` must be a number in \[0, 1\], got -0\.1\."):
        _checks.check_between(-0.1, "share", 0, 1)
    with pytest.raises(ValueError, match=r"`share` must be a single number, got shape \(2,\)"):
        _checks.check_between(np.ones(2), "share", 0, 1)


def test_too_few_axes_are_named():
    for x, least in ((np.ones(2), 2), (np.ones(()), 1)):
        with pytest.raises(ValueError, match=r"`w` must have axes \[in, out\], got shape"):
            _checks.check_axes(x, least, "[in, out]", "w")
    _checks.check_axes(np.ones(2), 1, "[in]")


def test_checks_do_not_read_tracers():
    jax.eval_shape(_checks.check_rate, jnp.float32(7))


@pytest.mark.parametrize("check", [_checks.check_floating, _checks.check_integer])
def test_a_list_is_not_an_array(check):
    with pytest.raises(TypeError, match=r"`w` must be an array, got list; pass jnp\.asarray"):
        check([1.0], "w")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bool_])
def test_class_ids_must_be_integers(dtype):
    with pytest.raises(TypeError, match="`labels` must be integer class ids, got dtype"):
        _checks.check_integer(np.ones(2, dtype), "labels")


def test_numpy_arrays_pass_the_dtype_checks():
    _checks.check_floating(np.ones(2), "x")
    _checks.check_integer(np.arange(2), "labels")


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, (0,)), (-1, (2,)), ((2, 0), (0, 2)), ((-1, -3), (0, 2)), ((), ())]
)
def test_axes_become_sorted_and_positive(axis, expected):
    assert _checks.canonical_axes(axis, 3) == expected


@pytest.mark.parametrize(
    ("axis", "message"),
    [(3, r"`axis` must lie in \[-3, 3\), got 3"), (-4, "got -4"), ((0, -3), "each axis once")],
)
def test_wrong_axes_raise(axis, message):
    with pytest.raises(ValueError, match=message):
        _checks.canonical_axes(axis, 3)


def test_rates_between_other_ends():
    _checks.check_between(1, "x", 1, 2)
    _checks.check_between(2, "x", 1, 2)
    for value in (0.99, 2.01):
        with pytest.raises(ValueError, match=rf"`x` must be a number in \[1, 2\], got {value}\."):
            _checks.check_between(value, "x", 1, 2)


def test_complex_numbers_are_floating_and_not_real():
    x = np.ones(2, np.complex64)
    _checks.check_floating(x, "x")
    assert _checks.is_floating(x)
    assert not _checks.is_floating(np.ones(2, int))
    with pytest.raises(TypeError, match="`x` must have a real dtype, got complex64"):
        _checks.check_real(x, "x")
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32; convert"):
        _checks.check_real(np.ones(2, np.int32), "x")


@pytest.mark.parametrize("value", [1.0, np.float32(1), jnp.int32(1), None, np.ones(1, int)])
def test_what_shapes_a_program_is_an_integer_of_the_host(value):
    with pytest.raises(TypeError, match=r"`n` must be an integer, got \w+"):
        _checks.check_static_integer(value, "n")


@pytest.mark.parametrize("value", [1, np.int64(1), True])
def test_integers_of_the_host_pass(value):
    _checks.check_static_integer(value, "n")


KEY = jax.random.key(0)
OLD = np.zeros(2, np.uint32)
NO_KEYS = {
    "number": (0, r"`key` must be a PRNG key, got int 0; make one with jax\.random\.key"),
    "keys": (jnp.stack([KEY, KEY]), r"`key` must be a single PRNG key, got keys of shape \(2,\)"),
    "old keys": (np.zeros((3, 2), np.uint32), r"a single PRNG key, got a uint32 array of shape"),
    "floats": (np.zeros(2, np.float32), r"a PRNG key, got float32 of shape \(2,\)"),
    "one word": (np.zeros((), np.uint32), r"a PRNG key, got uint32 of shape \(\)"),
}


@pytest.mark.parametrize(("key", "message"), NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_named(key, message):
    with pytest.raises(TypeError, match=message):
        _checks.check_key(key)


@pytest.mark.parametrize("key", [KEY, OLD], ids=["typed", "uint32"])
def test_typed_and_old_keys_pass(key):
    _checks.check_key(key)


def test_groups_of_channels():
    assert _checks.group_count(3, None, 6) == 3
    assert _checks.group_count(None, 3, 6) == 2
    assert _checks.group_count(None, 6, 6) == 1
    for number, size in ((2, 3), (None, None)):
        with pytest.raises(ValueError, match="Exactly one of `num_groups` and `group_size` "):
            _checks.group_count(number, size, 6)
    for size in (4, 0, -1):
        with pytest.raises(
            ValueError, match=f"`group_size` must divide the 6 channels, got {size}"
        ):
            _checks.group_count(None, size, 6)
    with pytest.raises(TypeError, match="`group_size` must be an integer, got float"):
        _checks.group_count(None, 2.0, 6)


def test_eps_is_one_number_that_is_not_negative():
    with pytest.raises(ValueError, match="`eps` must be a single number"):
        _checks.check_eps(np.ones(2))
    with pytest.raises(ValueError, match="`eps` must be zero or positive, got -1"):
        _checks.check_eps(-1)
    _checks.check_eps(0)


def test_parameters_have_the_shape_of_the_feature_axes():
    _checks.check_shapes([3], a=None, b=np.ones(3))
    message = r"`b` must have the same shape as the feature axes, \(3,\), got \(2,\)"
    with pytest.raises(ValueError, match=message):
        _checks.check_shapes([3], a=None, b=np.ones(2))
