"""Rows of docs/coming_from/timm.md against figures of timm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import augment, dropout, information, normalization, reparam, targets, transforms
from tests.exhaustive.docs.coming_from.figures import array, average_along, close, load

TIMM = load("timm")
X = array(TIMM["x"])
LABELS = np.array(TIMM["labels"])
KEY = jax.random.key(0)


def test_drop_path():
    assert TIMM["dropped"]["drop_path decides for examples"]
    y = dropout.drop_path(KEY, jnp.ones((64, 2, 2, 3)), rate=0.25)
    assert (y == y[:, :1, :1, :1]).all()
    close(np.unique(y), TIMM["dropped"]["drop_path"])


def test_rates_of_drop_path():
    close(dropout.drop_path_rates(0.2, 5), TIMM["rates"])


def test_drop_block_meets_its_rate():
    """timm draws the centers of blocks everywhere, with a probability for the inner part."""
    shares = TIMM["dropped"]["drop_block"]
    assert shares["3 of 12"] > 0.11
    assert shares["7 of 12"] > 0.2
    assert shares["7 of 7"] > 0.9
    for name in shares:
        block, size = map(int, name.split(" of "))
        ones = jnp.ones((1000, size, size, 1))
        y = dropout.drop_block(KEY, ones, rate=0.1, block_size=block)
        close(jnp.mean(y == 0), 0.1, atol=0.05 if block == size else 0.02)


def test_patch_dropout():
    for length, kept in TIMM["dropped"]["patch_dropout"].items():
        tokens, _ = dropout.patch_dropout(KEY, jnp.ones((1, 1 + int(length), 2)), rate=0.25)
        assert tokens.shape[1] == kept


def test_standardized_convolutions():
    """Kernels are ``[out, in, height, width]`` in torch; ours have the outputs last."""
    figures = TIMM["standardized"]
    w = np.moveaxis(array(figures["kernel"]), 0, -1)
    plain = reparam.weight_standardization(w, eps=1e-6)
    close(np.moveaxis(plain, -1, 0), figures["StdConv2d"])
    scaled = reparam.weight_standardization(w, scale=12**-0.5, eps=1e-6)
    close(np.moveaxis(scaled, -1, 0), figures["ScaledStdConv2d"])
    close(reparam.weight_standardization_scale(w), np.full(4, 12**-0.5))


def test_filter_response_norm():
    figures = TIMM["response"]
    x = np.moveaxis(array(figures["x"]), 1, -1)
    y = normalization.filter_response_norm(
        x,
        scale=array([1.0, 2.0, 0.5]),
        bias=array([0.0, -1.0, 0.5]),
        threshold=array([0.0, -0.5, 0.25]),
        eps=1e-5,
    )
    close(np.moveaxis(y, -1, 1), figures["y"])


def test_norms_of_channels_last():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("f4")
    whole = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    close(normalization.group_norm(x, groups=1), whole, atol=1e-4)
    channels = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    close(normalization.layer_norm(x), channels, atol=1e-3)


def test_losses():
    figures = TIMM["losses"]
    smoothed = targets.smoothed_cross_entropy(X, LABELS, alpha=0.1)
    close(smoothed, figures["LabelSmoothingCrossEntropy"])
    rows = targets.smooth_labels(LABELS, alpha=0.1, num_classes=4)
    mixed = augment.mixup(X, rows, X[::-1], rows[::-1], share=0.3).labels
    close(mixed, figures["mixup_target"])
    close(targets.smoothed_cross_entropy(X, mixed, alpha=0.0), figures["SoftTargetCrossEntropy"])
    views = jnp.stack([X, X[::-1], 2 * X])
    divergence = 12 * information.jensen_shannon(views).mean()
    close(smoothed + divergence, figures["JsdCrossEntropy"], rtol=1e-4)


def test_averages():
    """timm takes the first parameters whole."""
    moving = transforms.exponential_average(
        lambda t: jnp.where(t == 0, 0.0, 0.9), initial_weight=1.0
    )
    close(average_along(TIMM["walk"], moving), TIMM["averages"]["plain"])


def test_adaptive_clipping():
    """The rows of torch's matrix are the columns of ours."""
    figures = TIMM["clipped"]
    w = array(figures["w"]).T
    gradient = array([[1.0, 0.0], [0.01, 0.0]]).T
    clip = optax.adaptive_grad_clip(0.1)
    clipped, _ = clip.update(gradient, clip.init(w), w)
    close(clipped.T, figures["gradient"], rtol=1e-4)


def test_magnitudes_go_to_ten():
    settings = TIMM["settings"]
    assert settings["levels"] == 10
    shear = augment.operations.SHEAR_X.high * 27 / 30
    close(shear, abs(settings["shear at 9"]))


def test_random_erasing():
    options = TIMM["settings"]["RandomErasing"]
    assert (options["min_area"], options["max_area"]) == (0.02, 1 / 3)
    assert options["min_aspect"] == 0.3


def test_settings():
    assert TIMM["settings"]["Lookahead"] == {"alpha": 0.5, "k": 6}
    assert TIMM["settings"]["Mixup"]["switch_prob"] == 0.5
