"""Rows of docs/coming_from/haiku.md against figures of Haiku."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import dropout, masks, normalization, reparam, transforms
from tests.exhaustive.docs.coming_from.figures import array, close, load

HAIKU = load("haiku")
X = array(HAIKU["x"])
KEY = jax.random.key(0)


def follow(transformation):
    """Averages along the walk of a number, which starts with the first one."""
    walk = array(HAIKU["walk"])[:, None]
    state = transformation.init(walk[0])
    path = []
    for old, new in itertools.pairwise(walk):
        _, state = transformation.update(new - old, state, old)
        path.append(float(transforms.read_average(state, new)[0]))
    return path


def test_dropout():
    y = dropout.dropout(KEY, jnp.ones(1000), rate=0.25)
    close(np.unique(y), HAIKU["dropout"])
    assert (dropout.dropout(KEY, jnp.ones(3), rate=1.0) == 0).all()


def test_running_statistics():
    """Haiku divides its averages by the sum of their weights."""
    stats = normalization.init_stats(6)
    for number, (batch, row) in enumerate(zip(X, HAIKU["running"], strict=True), start=1):
        _, stats = normalization.batch_norm(batch, stats, momentum=0.9)
        weight = 1 - 0.9**number
        close(stats.mean / weight, np.ravel(row["mean"]), rtol=1e-4)
        corrected = (stats.var - 0.9**number) / weight
        close(corrected, np.ravel(row["var"]), rtol=1e-4, atol=1e-4)


def test_layer_norm():
    close(normalization.layer_norm(X[0], eps=1e-5), HAIKU["layer_norm"])


def test_defaults():
    defaults = HAIKU["defaults"]
    for name in ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"):
        assert defaults[name]["eps"] == 1e-5, name
    assert "groups" not in defaults["GroupNorm"]
    assert inspect.signature(normalization.group_norm).parameters["groups"].default == 32


def test_spectral_norm():
    w = X[0]
    normalized, _ = reparam.spectral_norm(w, reparam.spectral_norm_vector(KEY, w))
    close(normalized, HAIKU["spectral"], rtol=1e-2, atol=1e-3)


def test_averages():
    close(follow(transforms.exponential_average(0.9)), HAIKU["averages"]["zero_debias"])
    assert HAIKU["defaults"]["EMAParamsTree"]["zero_debias"] is True


def test_averages_without_the_correction():
    """Haiku's first value is a tenth of the first number."""
    plain = HAIKU["averages"]["plain"]
    close(plain[0], 0.1 * HAIKU["walk"][1])
    ours = follow(transforms.exponential_average(0.9, initial_weight=1.0))
    close(ours[0], 0.9 * HAIKU["walk"][0] + 0.1 * HAIKU["walk"][1])


def params():
    return {
        module: {name: jnp.zeros(shape) for name, shape in leaves.items()}
        for module, leaves in HAIKU["names"].items()
    }


def test_masks_of_parameters():
    selected = masks.kernels(params())
    for module, leaves in selected.items():
        for name, chosen in leaves.items():
            assert chosen == (name in ("w", "embeddings")), (module, name)


def test_masks_by_name():
    selected = masks.match("multi_head_attention/query")(params())
    assert any(
        chosen
        for module, leaves in selected.items()
        for chosen in leaves.values()
        if "query" in module
    )
    rest = masks.all_of(masks.kernels, masks.negate(masks.match("embed")))(params())
    assert rest["embed"] == {"embeddings": False}
