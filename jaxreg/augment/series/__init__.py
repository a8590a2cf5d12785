r"""Augmentation of time series: functions ``x -> x`` and ``(key, x) -> x``.

A series is a floating-point array ``[..., time, channels]``: one series or any batch. A strength is
a single number, or an array with the leading axes of the series, one number per example. It may be
traced. ``random_f`` draws the strengths of ``f`` separately for each example, the same on one
device and on many. A strength that means no change is exactly the identity; shape and dtype are
kept. Warps of time move all channels together. Between steps a series is interpolated linearly.

Series of different lengths are padded at the end, and ``length`` gives the number of valid steps.
Warps and cuts apply to those steps only, and the padding is unchanged.

``augment.sequence`` chains these functions. ``augment.with_probability`` and ``one_of`` decide for
each image; pass a series as an image with ``x[..., None, :, :]``.
"""

from jaxreg import _signatures
from jaxreg.augment.series.clocks import (
    random_time_warp,
    random_window_slice,
    random_window_warp,
    time_warp,
    window_slice,
    window_warp,
)
from jaxreg.augment.series.segments import even_cuts, permutation, random_cuts, random_permutation
from jaxreg.augment.series.spectrogram import (
    LIBRISPEECH_BASIC,
    LIBRISPEECH_DOUBLE,
    SWITCHBOARD_MILD,
    SWITCHBOARD_STRONG,
    SpecPolicy,
    random_spec_augment,
)
from jaxreg.augment.series.values import (
    magnitude_warp,
    random_jitter,
    random_magnitude_warp,
    random_scaling,
    scaling,
)

__all__ = [
    "LIBRISPEECH_BASIC",
    "LIBRISPEECH_DOUBLE",
    "SWITCHBOARD_MILD",
    "SWITCHBOARD_STRONG",
    "SpecPolicy",
    "even_cuts",
    "magnitude_warp",
    "permutation",
    "random_cuts",
    "random_jitter",
    "random_magnitude_warp",
    "random_permutation",
    "random_scaling",
    "random_spec_augment",
    "random_time_warp",
    "random_window_slice",
    "random_window_warp",
    "scaling",
    "time_warp",
    "window_slice",
    "window_warp",
]

_signatures.show(__name__)
