"""Rows of docs/coming_from/pytorch.md against figures of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxreg import linen, normalization, projections, targets, transforms
from tests.exhaustive.docs.coming_from.figures import array, average_along, close, load

TORCH = load("torch")
X = array(TORCH["x"])


def test_averaged_models():
    equal = transforms.stochastic_weight_average(start=1, period=1)
    close(average_along(TORCH["walk"], equal), TORCH["averages"]["swa"])
    moving = transforms.exponential_average(lambda t: jnp.where(t == 0, 0.0, 0.9))
    close(average_along(TORCH["walk"], moving), TORCH["averages"]["ema"])
    corrected = average_along(TORCH["walk"], transforms.exponential_average(0.9))
    assert np.abs(corrected - array(TORCH["averages"]["ema"])).max() > 0.1


def test_layer_norm_has_another_eps():
    assert TORCH["defaults"]["LayerNorm"]["eps"] == 1e-5
    close(normalization.layer_norm(X, eps=1e-5), TORCH["layer_norm"])
    assert nn.LayerNorm().epsilon == linen.LayerNorm().epsilon == 1e-6


def test_rms_norm_has_another_eps():
    assert TORCH["defaults"]["RMSNorm"]["eps"] is None
    small = np.float32(1e-4) * X
    expected = TORCH["rms_norm of small numbers"]
    close(normalization.rms_norm(small, eps=np.finfo(np.float32).eps), expected, rtol=1e-4)
    assert np.abs(normalization.rms_norm(small) - array(expected)).max() > 0.1


def test_instance_norm_has_no_parameters_by_default():
    assert TORCH["defaults"]["InstanceNorm2d"]["affine"] is False
    x = jnp.ones((1, 2, 2, 3))
    with_parameters = linen.InstanceNorm().init(jax.random.key(0), x)
    assert set(with_parameters["params"]) == {"scale", "bias"}
    plain = linen.InstanceNorm(use_scale=False, use_bias=False)
    assert "params" not in plain.init(jax.random.key(0), x)


def test_normalize():
    x = X.copy()
    x[1] = 0
    close(normalization.l2_normalize(x, axis=-1), TORCH["normalize"])


def test_max_norm_of_an_embedding():
    """Two of three rows were looked up; the second one is too long and stays in torch."""
    table = array([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]])
    projected = projections.max_norm(table, radius=1.0, axis=-1)
    theirs = array(TORCH["embedding"])
    close(projected[0], theirs[0], atol=1e-4)
    close(projected[2], theirs[2])
    assert np.linalg.norm(theirs[1]) == 5
    close(np.linalg.norm(projected[1]), 1)


def test_fuse_conv_bn_eval():
    """Kernels are ``[out, in, height, width]`` in torch."""
    conv = TORCH["fused"]["conv"]
    norm = TORCH["fused"]["norm"]
    both = TORCH["fused"]["both"]
    kernel = np.moveaxis(array(conv["weight"]), (2, 3, 1, 0), (0, 1, 2, 3))
    stats = normalization.BatchStats(array(norm["running_mean"]), array(norm["running_var"]))
    folded, bias = normalization.fold_batch_norm(
        kernel,
        stats,
        layer_bias=array(conv["bias"]),
        scale=array(norm["weight"]),
        bias=array(norm["bias"]),
    )
    close(np.moveaxis(folded, (0, 1, 2, 3), (2, 3, 1, 0)), both["weight"])
    close(bias, both["bias"])


def test_clip_grad_norm():
    """torch divides by the norm plus 1e-6."""
    clipped, _ = optax.clip_by_global_norm(1.0).update(array([3.0, 4.0]), optax.EmptyState())
    close(clipped, [0.6, 0.8], rtol=1e-7)
    close(TORCH["clipped"], np.array([3.0, 4.0]) / (5 + 1e-6), rtol=1e-6)


def test_weights_of_smoothed_classes_differ():
    labels = np.array(TORCH["labels"])
    where = array(TORCH["weights"])[np.maximum(labels, 0)] * (labels >= 0)
    ours = targets.smoothed_cross_entropy(X[:, :4], labels, alpha=0.1, where=where)
    assert abs(ours - TORCH["smoothed with weights"]) > 0.01


def test_dropout_between_layers_of_an_lstm():
    """A mask is drawn anew for each step, and shared if the cell is wrapped."""
    x = jnp.ones((2, 30, 4))
    key = jax.random.key(0)
    y = linen.Dropout(0.5, deterministic=False).apply({}, x, rngs={"dropout": key})
    assert (y[:, 0] != y[:, 1:].mean(axis=1)).any()
    shared = linen.LockedDropout(0.5, deterministic=False).apply({}, x, rngs={"dropout": key})
    assert (shared == shared[:, :1]).all()
