"""Mixing of batches that lie on eight devices: the same numbers, and what is sent for them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import augment
from tests.augment.helpers import KEY

X = jnp.sin(jnp.arange(1.0, 16 * 3 * 5 * 2 + 1)).reshape(16, 3, 5, 2)
LABELS = jnp.arange(16) % 5
KINDS = {"mixup": augment.random_mixup, "cutmix": augment.random_cutmix}
COLLECTIVES = r"\b(all-gather|all-to-all|all-reduce|collective-permute)(?:-start)?\("


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("partners", "sends_nothing"),
    [
        (augment.partners.reverse_within(2), True),
        (augment.partners.shuffle, False),
        (augment.partners.reverse, False),
    ],
    ids=["reverse_within", "shuffle", "reverse"],
)
def test_groups_that_lie_on_one_device_send_nothing(kind, partners, sends_nothing):
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Auto,))
    options = {"alpha": 1.0, "num_classes": 5, "partners": partners}

    @jax.jit
    def mix(x, labels):
        return KINDS[kind](KEY, x, labels, **options)

    expected = mix(X, LABELS)
    sharded = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("device"))) for a in (X, LABELS)]
    for a, b in zip(mix(*sharded), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    if sends_nothing:
        program = mix.lower(*sharded).compile().as_text()
        sent = [line for line in program.splitlines() if re.search(COLLECTIVES, line)]
        # The loop that draws from the distribution ends when all devices have found their shares.
        assert all("= pred[] all-reduce(" in line for line in sent), sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "partners", [augment.partners.reverse_within(2), augment.partners.reverse], ids=["in", "across"]
)
def test_partners_on_an_explicit_mesh(kind, partners):
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Explicit,))
    options = {"alpha": 1.0, "num_classes": 5, "partners": partners}
    expected = jax.jit(lambda x, y: KINDS[kind](KEY, x, y, **options))(X, LABELS)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("device"))
        x, labels = jax.device_put((X, LABELS), sharding)
        mixed = jax.jit(lambda x, y: KINDS[kind](KEY, x, y, **options))(x, labels)
    for a, b in zip(mixed, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
