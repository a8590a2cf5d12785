"""Dropout of whole parts: the rates, what shares a decision, the moments and the edges."""

from functools import partial

import numpy as np
import pytest

from jaxreg import dropout
from tests.dropout import helpers
from tests.dropout.helpers import KEY, TORCH, Member, every
from tests.helpers import few

MEMBERS = {
    "drop_connect": Member(dropout.drop_connect, (256, 512), data="w"),
    "drop_path": Member(dropout.drop_path, (2**17, 2, 2), (1, 2)),
    "drop_path-1d": Member(dropout.drop_path, (2**17,)),
    "embedding_dropout": Member(dropout.embedding_dropout, (2**17, 3), (1,), data="table"),
    "locked_dropout": Member(dropout.locked_dropout, (256, 3, 512), (1,)),
    "locked_dropout-0": Member(partial(dropout.locked_dropout, time_axis=0), (3, 256, 512), (0,)),
    "locked_dropout-last": Member(
        partial(dropout.locked_dropout, time_axis=-1), (256, 512, 3), (2,)
    ),
    "spatial_dropout": Member(dropout.spatial_dropout, (256, 2, 2, 512), (1, 2)),
    "spatial_dropout-1d": Member(dropout.spatial_dropout, (256, 3, 512), (1,)),
    "spatial_dropout-0d": Member(dropout.spatial_dropout, (256, 512)),
}
FUNCTIONS = {name: member for name, member in MEMBERS.items() if "-" not in name}
CHANNELS = [figures for figures in TORCH["channels"] if figures["function"] == "spatial_dropout"]


@every(MEMBERS)
def test_the_rate_is_met_and_decisions_are_shared(member):
    helpers.assert_decisions(member)


@every(FUNCTIONS)
def test_the_mean_over_masks_is_the_input(member):
    helpers.assert_mean(member)


@few("member", MEMBERS.values(), ids=list(MEMBERS))
def test_the_ends_of_the_rate(member):
    helpers.assert_ends(member)


@few("dtype", ["bfloat16", "float16"])
@few("member", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_low_precision_is_float32_rounded_once(member, dtype):
    helpers.assert_rounded_once(member.function, member.shape, np.dtype(dtype))


@few("member", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_the_backward_pass_holds_the_key_only(member):
    helpers.assert_residuals(member.function, member.shape)


@every(FUNCTIONS)
def test_wrong_bits_keys_and_data_raise(member):
    helpers.assert_refusals(member.function, member.shape, member.data)


@few("member", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_empty_arrays(member):
    helpers.assert_empty(member.function, member.shape)


@few("figures", CHANNELS, ids=lambda f: f["torch"])
def test_channels_are_those_of_torch(figures):
    helpers.assert_torch_channels(figures)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (dropout.spatial_dropout, (3,), r"`x` .* \[batch, \*spatial, channels\], got .*\(3,\)"),
        (dropout.drop_path, (), r"`x` must have axes \[batch, \.\.\.\], got shape \(\)"),
        (dropout.embedding_dropout, (), r"`table` must have axes \[vocabulary, \.\.\.\], got"),
        (dropout.locked_dropout, (3,), r"`time_axis` must lie in \[-1, 1\), got 1"),
    ],
)
def test_too_few_axes_raise(function, shape, message):
    with pytest.raises(ValueError, match=message):
        function(KEY, np.ones(shape, np.float32), rate=0.5)
