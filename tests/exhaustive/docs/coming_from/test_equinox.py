"""Rows of docs/coming_from/equinox.md against figures of Equinox."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import dropout, masks, normalization, penalties, projections, reparam, transforms
from tests.exhaustive.docs.coming_from.figures import array, close, load

EQUINOX = load("equinox")
X = array(EQUINOX["x"])
W = array(EQUINOX["w"])
KEY = jax.random.key(0)


def test_dropout():
    close(np.unique(dropout.dropout(KEY, jnp.ones(1000), rate=0.25)), EQUINOX["dropout"])


def test_running_statistics():
    """The first batch is taken whole there."""
    stats = normalization.BatchStats(*(jnp.asarray(v) for v in (X[0].mean(0), X[0].var(0))))
    for number, (batch, row) in enumerate(zip(X, EQUINOX["running"], strict=True)):
        if number:
            _, stats = normalization.batch_norm(batch, stats, momentum=0.9)
        found = [np.asarray(v) for v in row if len(v) == 6]
        assert any(np.allclose(stats.mean, v, atol=1e-4) for v in found)
        assert any(np.allclose(stats.var, v, atol=1e-4) for v in found)


def test_layer_norm():
    close(normalization.layer_norm(X[0], eps=1e-5), EQUINOX["layer_norm"])


def test_defaults():
    defaults = EQUINOX["defaults"]
    for name in ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm"):
        assert defaults[name]["eps"] == 1e-5, name
    assert defaults["BatchNorm"]["momentum"] == 0.99
    assert defaults["WeightNorm"]["axis"] == 0


def test_weight_norm():
    """Outputs come first, and the scale starts at the norm."""
    scale = reparam.weight_norm_scale(W, axis=0)
    close(reparam.weight_norm(W, scale=scale, axis=0), W)
    close(reparam.weight_norm(W, scale=scale, axis=0), EQUINOX["reparametrized"]["weight_norm"])


def test_spectral_norm():
    u = reparam.spectral_norm_vector(KEY, W, axis=0)
    normalized, _ = reparam.spectral_norm(W, u, axis=0)
    close(normalized, EQUINOX["reparametrized"]["spectral_norm"], rtol=1e-2, atol=1e-3)


def params():
    """A tree whose paths hold the same names."""
    tree = {}
    for path, shape in EQUINOX["names"].items():
        *parents, leaf = re.findall(r"\w+", path)
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = jnp.ones(shape)
    return tree


def test_masks_of_parameters():
    """The bias of a convolution has two axes; the weight of a norm has one."""
    selected = masks.kernels(params())
    assert selected == {
        "embed": {"weight": True},
        "norm": {"weight": False, "bias": False},
        "conv": {"weight": True, "bias": False},
        "out": {"weight": True, "bias": False},
    }


def test_units_are_rows():
    rows = np.linalg.norm(W, axis=1)
    projected = projections.max_norm(W, radius=1.0, axis=1)
    close(np.linalg.norm(projected, axis=1), np.minimum(rows, 1))
    close(penalties.group_lasso(W, axis=1), np.sqrt(6) * rows.sum())
    tx = transforms.centralize(axis=1)
    updates, _ = tx.update(W, tx.init(W), W)
    close(updates, W - W.mean(axis=1, keepdims=True))
