"""Rows of docs/coming_from/keras.md against figures of Keras."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import (
    augment,
    dropout,
    linen,
    noise,
    normalization,
    penalties,
    projections,
    reparam,
    targets,
    transforms,
)
from tests.exhaustive.docs.coming_from.figures import array, close, load

KERAS = load("keras")
X = array(KERAS["x"])
W = array(KERAS["w"])
IMAGE = array(KERAS["image"])
KEY = jax.random.key(0)


def test_regularizers():
    figures = KERAS["weights"]
    close(0.1 * penalties.l1(W), figures["L1"])
    close(2 * 0.1 * penalties.l2(W), figures["L2"])
    close(penalties.elastic_net(W, l1=0.1, l2=2 * 0.2), figures["L1L2"])


def test_the_orthogonal_regularizer_is_another_one():
    columns = W / np.linalg.norm(W, axis=0)
    cosines = np.abs(columns.T @ columns)[np.triu_indices(3, 1)]
    close(0.1 * cosines.mean(), KERAS["weights"]["OrthogonalRegularizer"])
    gram = W.T @ W - np.eye(3)
    close(penalties.orthogonality(W), (gram**2).sum(), rtol=1e-4)


def test_constraints():
    figures = KERAS["weights"]
    # Keras adds 1e-7 to the norm.
    close(projections.max_norm(W, radius=1.0), figures["MaxNorm"])
    close(projections.unit_norm(W), figures["UnitNorm"])
    bounded = projections.min_max_norm(W, low=0.5, high=1.0, relaxation=0.5)
    close(bounded, figures["MinMaxNorm"])
    close(projections.non_negative(W), figures["NonNeg"])


def test_penalties_of_activations_are_means_over_examples():
    ours = 0.1 * penalties.per_example(penalties.l1)(X)
    close(ours, KERAS["activations"]["ActivityRegularization"])


def test_noise():
    """Standard deviations within five standard errors of 160000 numbers."""
    figures = KERAS["noise"]
    rate = figures["rate"]
    ones = jnp.ones((400, 400))
    limit = {"rtol": 5 / np.sqrt(2 * 160_000)}
    close(figures["GaussianDropout"], np.sqrt(rate / (1 - rate)), **limit)
    dropped = dropout.gaussian_dropout(KEY, ones, rate=rate)
    close(np.std(dropped), np.sqrt(rate / (1 - rate)), **limit)
    close(figures["GaussianNoise"], rate, **limit)
    close(np.std(noise.gaussian_noise(KEY, ones, stddev=rate)), rate, **limit)


def test_defaults():
    defaults = KERAS["defaults"]
    assert defaults["BatchNormalization"]["momentum"] == linen.BatchNorm().momentum
    assert defaults["BatchNormalization"]["epsilon"] == 1e-3
    assert linen.BatchNorm().epsilon == 1e-5


def test_norms():
    figures, defaults = KERAS["activations"], KERAS["defaults"]
    assert defaults["LayerNormalization"]["epsilon"] == 1e-3
    assert defaults["GroupNormalization"]["epsilon"] == 1e-3
    assert defaults["RMSNormalization"]["epsilon"] == linen.RMSNorm().epsilon
    close(normalization.layer_norm(X, eps=1e-3), figures["LayerNormalization"])
    close(normalization.group_norm(X, groups=2, eps=1e-3), figures["GroupNormalization"])
    close(normalization.rms_norm(X), figures["RMSNormalization"])
    close(normalization.l2_normalize(X), figures["UnitNormalization"])


def test_spectral_normalization():
    normalized, _ = reparam.spectral_norm(W, reparam.spectral_norm_vector(KEY, W))
    close(X @ normalized, KERAS["activations"]["SpectralNormalization"], rtol=1e-3, atol=1e-3)


def test_label_smoothing():
    labels = np.array(KERAS["losses"]["labels"])
    ours = targets.smoothed_cross_entropy(X, labels, alpha=0.1)
    close(ours, KERAS["losses"]["CategoricalCrossentropy"])


def test_clipping():
    gradients = [array([3.0, 4.0]), array([3.0, 4.0])]

    def step(clip):
        return clip.update(gradients, clip.init(gradients))[0]

    together = step(optax.clip_by_global_norm(1.0))
    close(together, -array(KERAS["clipped"]["global_clipnorm"]))
    alone = [step(optax.clip_by_global_norm(1.0))[0] for _ in range(1)]
    assert np.abs(alone[0] + array(KERAS["clipped"]["clipnorm"])[0]).max() > 0.1
    close(np.linalg.norm(array(KERAS["clipped"]["clipnorm"]), axis=1), [1, 1])


def test_averages():
    tx = transforms.exponential_average(lambda t: jnp.where(t == 0, 0.0, 0.9))
    old = array([1.0, 0.0])
    state = tx.init(old)
    for row in KERAS["averages"]:
        new = array(row["w"])
        _, state = tx.update(new - old, state, old)
        close(transforms.read_average(state, new), row["average"])
        old = new


def test_brightness_is_added():
    theirs = array(KERAS["images"]["RandomBrightness"])
    close(np.clip(IMAGE + 0.2, 0, 1), theirs)
    assert np.abs(augment.brightness(IMAGE, factor=1.2) - theirs).max() > 0.1


def test_contrast():
    theirs = array(KERAS["images"]["RandomContrast"])
    mean = IMAGE.mean(axis=(0, 1))
    factors = (theirs - mean)[3, 4] / (IMAGE - mean)[3, 4]
    close(factors, np.full(3, factors[0]), rtol=1e-3)
    ours = augment.contrast(IMAGE, factor=float(factors[0]))
    assert np.abs(ours - theirs).max() > 1e-3


def test_solarization():
    """Keras draws a threshold from ``low`` to ``255 * high``, even if both are the same."""
    theirs = array(KERAS["images"]["Solarization"])
    inverted = np.abs(theirs - IMAGE) > 1e-4
    threshold = IMAGE[inverted & (IMAGE != 0.5)].min()
    assert threshold < 0.49 or IMAGE[~inverted].max() > 0.51
    close(augment.solarize(IMAGE, threshold=float(threshold)), theirs)


def test_center_crop():
    close(augment.center_crop(IMAGE, size=(4, 4)), KERAS["images"]["CenterCrop"])


def test_geometry():
    """The pixels in the middle, which no filling reaches."""
    figures = {name: array(values) for name, values in KERAS["images"].items()}
    middle = np.s_[2:4, 3:5]
    turned = augment.rotate(IMAGE, degrees=36.0)
    close(turned[middle], figures["RandomRotation"][middle], atol=2e-3)
    moved = augment.translate(IMAGE, x=2.0, y=3.0)
    close(moved, figures["RandomTranslation"], atol=1e-3)
    scale = partial(augment.scale, IMAGE)
    close(scale(x=4 / 3, y=4 / 3)[middle], figures["RandomZoom"][middle], atol=2e-3)
