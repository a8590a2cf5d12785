"""Alpha dropout: its figures beside torch's, the moments it keeps, and the edges."""

import jax
import numpy as np
import pytest

from jaxreg import dropout
from tests.dropout import helpers
from tests.dropout.helpers import ALL, KEY, NONE, TORCH, Member, every
from tests.helpers import few

SATURATION = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


def slope(p):
    return ((1 - p) * (1 + p * SATURATION**2)) ** -0.5


MEMBERS = {
    "alpha_dropout": Member(dropout.alpha_dropout, (256, 512), (), slope, SATURATION),
    "feature_alpha_dropout": Member(
        dropout.feature_alpha_dropout, (256, 2, 2, 512), (1, 2), slope, SATURATION
    ),
}
CHANNELS = [figures for figures in TORCH["channels"] if "alpha" in figures["function"]]


@every(MEMBERS)
def test_the_rate_is_met_and_decisions_are_shared(member):
    helpers.assert_decisions(member)


@every(MEMBERS)
def test_the_mean_over_masks_is_the_input_scaled(member):
    helpers.assert_mean(member)


@every(MEMBERS)
def test_the_ends_of_the_rate(member):
    helpers.assert_ends(member)


@few("rate", [0.3, 0.05, 0.8])
@pytest.mark.parametrize(
    ("function", "shape"),
    [(dropout.alpha_dropout, (2**20,)), (dropout.feature_alpha_dropout, (2**14, 2, 64))],
    ids=["elements", "channels"],
)
def test_mean_and_variance_are_kept(function, shape, rate):
    x = helpers.normal(shape, seed=3)
    y = jax.jit(lambda x, rate: function(KEY, x, rate=rate))(x, rate)
    y = np.asarray(y, np.float64)
    assert abs(y.mean()) <= 1e-2
    assert abs(y.var() - 1) <= 1e-2


@few("row", [2, 0, 1, 3, 4, 5])
def test_kept_and_dropped_elements_are_those_of_torch(row):
    helpers.assert_torch_elements("alpha_dropout", row)


@few("figures", CHANNELS, ids=lambda f: f["torch"] + str(np.ndim(f["x"])))
def test_channels_are_those_of_torch(figures):
    helpers.assert_torch_channels(figures)


@pytest.mark.parametrize("rate", [0.3, 0.999999])
def test_values_and_derivatives_are_those_of_the_equation(rate):
    """In float64, close to a rate of 1 too, where a difference would lose its digits."""
    x = helpers.normal(16)

    @jax.jit
    def call(x, rate):
        def draw(x, rate, bits):
            return dropout.alpha_dropout(KEY, x, rate=rate, bits=bits)

        def moved(bits):
            tangents = (np.zeros(16, np.float32), np.float32(1))
            return jax.jvp(lambda x, rate: draw(x, rate, bits), (x, rate), tangents)

        return moved(NONE), moved(ALL)

    def exact(p):
        kept = slope(p) * (x.astype(np.float64) - p * SATURATION)
        return kept, np.full(16, slope(p) * (1 - p) * SATURATION)

    p = np.float64(np.float32(rate))
    step = 1e-4 * (1 - p)
    for actual, at, above, below in zip(
        call(x, np.float32(rate)), exact(p), exact(p + step), exact(p - step), strict=True
    ):
        np.testing.assert_allclose(actual[0], at, rtol=1e-5)
        np.testing.assert_allclose(actual[1], (above - below) / (2 * step), rtol=1e-3)


@few("dtype", ["bfloat16", "float16"])
@every(MEMBERS)
def test_low_precision_is_float32_rounded_once(member, dtype):
    helpers.assert_rounded_once(member.function, member.shape, np.dtype(dtype))


@every(MEMBERS)
def test_the_backward_pass_holds_the_key_only(member):
    helpers.assert_residuals(member.function, member.shape)


@every(MEMBERS)
def test_wrong_bits_keys_and_data_raise(member):
    helpers.assert_refusals(member.function, member.shape)


@few("member", MEMBERS.values(), ids=list(MEMBERS))
def test_empty_arrays(member):
    helpers.assert_empty(member.function, member.shape)


def test_too_few_axes_raise():
    with pytest.raises(ValueError, match=r"`x` .* \[batch, \*spatial, channels\], .*\(3,\)"):
        dropout.feature_alpha_dropout(KEY, np.ones(3, np.float32), rate=0.5)
