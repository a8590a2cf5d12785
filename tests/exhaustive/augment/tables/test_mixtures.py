"""One key is one sample of a table or a mixture on any number of devices."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg.augment import tables
from tests.augment.helpers import KEY

REFERENCES = pathlib.Path(__file__).parents[3] / "references"
FIGURES = json.loads((REFERENCES / "smote_imblearn.json").read_text())
X = np.float32(FIGURES["x"])
LABELS = np.array(FIGURES["labels"])
smote = jax.jit(tables.smote)
fit = partial(jax.jit, static_argnames=("num_classes", "components", "steps"))(tables.fit_mixture)


def test_one_key_is_one_sample_on_any_number_of_devices():
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Explicit,))
    wanted = jnp.arange(16) % 3
    options = {"num_classes": 3, "components": 2, "steps": 3}
    expected = smote(KEY, X, LABELS, wanted=wanted)
    fitted = fit(KEY, X, LABELS, **options)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("device"))
        x, labels, sharded = jax.device_put((X, LABELS, wanted), sharding)
        np.testing.assert_allclose(smote(KEY, x, labels, wanted=sharded), expected, atol=1e-6)
        again = fit(KEY, x, labels, **options)
        for a, b in zip(again, fitted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        new = jax.jit(tables.sample_mixture)(KEY, again, wanted=sharded)
    plain = jax.jit(tables.sample_mixture)(KEY, fitted, wanted=wanted)
    np.testing.assert_allclose(new, plain, atol=1e-3)
