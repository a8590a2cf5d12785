"""The chains of the pages run: one step of each on a small model."""

# Pyright takes this folder for the package `docs`.
# pyright: reportMissingImports=false
import jax
import jax.numpy as jnp
import optax
import pytest

from docs.site import catalog, pages

CHAINS = [row for row in catalog.TECHNIQUES if row.chain]
PARAMS = {
    "dense": {"kernel": jnp.linspace(-0.5, 0.9, 12).reshape(4, 3), "bias": jnp.zeros(3)},
    "head": {"kernel": jnp.linspace(-0.7, 0.8, 6).reshape(3, 2), "bias": jnp.zeros(2)},
}


@pytest.mark.parametrize("row", CHAINS, ids=lambda row: row.page)
def test_chains_take_a_step(row):
    names: dict = {}
    exec(pages.chain_code(row), names)
    optimizer = optax.with_extra_args_support(names["optimizer"])

    def gradients(params):
        return jax.tree.map(lambda w: 0.3 * w + 0.1, params)

    updates, _ = optimizer.update(
        gradients(PARAMS), optimizer.init(PARAMS), PARAMS, grad_fn=gradients
    )
    moved = optax.apply_updates(PARAMS, updates)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
    assert (moved["dense"]["kernel"] != PARAMS["dense"]["kernel"]).any()
