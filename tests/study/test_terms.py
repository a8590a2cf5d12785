"""Terms of the loss, in the study and in the program that it hands over."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import information, masks, penalties, smoothness
from jaxreg.study import Recipe, terms

MODULES = {"information": information, "masks": masks, "penalties": penalties}
NAMES = {**MODULES, "smoothness": smoothness, "jax": jax, "partial": partial}
KERNEL = np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4)
X = np.cos(np.arange(15.0, dtype=np.float32)).reshape(5, 3)
KEY = jax.random.wrap_key_data(np.zeros(2, np.uint32))
STRENGTHS = {name: 0.1 * (place + 1) for place, name in enumerate(terms.TERMS)}


def some_view(kernel, x):
    params = {"kernel": kernel, "bias": jnp.ones(4)}
    start = jax.tree.map(lambda w: w / 2, params)

    def predict(x):
        return jnp.tanh(x @ params["kernel"] + params["bias"])

    return terms.View(params, start, x, predict(x), predict, predict(2 * x), KEY)


@pytest.fixture(scope="module")
def values():
    """Every term by the study and by the program, and what a recipe of all of them adds."""

    @jax.jit
    def compute(kernel, x):
        view = some_view(kernel, x)
        by_study = {name: term.penalty(view) for name, term in terms.TERMS.items()}
        by_program = {
            name: eval(f"({term.code})", {**NAMES, **view._asdict()})
            for name, term in terms.TERMS.items()
        }
        recipe = Recipe(**STRENGTHS)
        added = terms.add_terms(jnp.float32(1.5), recipe, recipe.structure, view)
        some = terms.add_terms(jnp.float32(1.5), recipe, ("dropout", "nuclear"), view)
        return by_study, by_program, added, some

    return jax.tree.map(np.asarray, compute(KERNEL, X))


@pytest.mark.parametrize("name", terms.TERMS)
def test_a_term_of_the_program_is_the_one_of_the_study(name, values):
    by_study, by_program, _, _ = values
    assert by_study[name].shape == ()
    assert by_study[name] != 0
    np.testing.assert_allclose(by_program[name], by_study[name], rtol=1e-6)


def test_terms_are_added_with_their_strengths(values):
    by_study, _, added, some = values
    want = 1.5 + sum(STRENGTHS[name] * float(value) for name, value in by_study.items())
    np.testing.assert_allclose(added, want, rtol=1e-5)
    want = 1.5 + STRENGTHS["nuclear"] * by_study["nuclear"]
    np.testing.assert_allclose(some, want, rtol=1e-6)


def test_simple_terms_are_those_of_numpy(values):
    """The kernel alone has a weight; the bias is among what may move from the start."""
    by_study, *_ = values
    kernel = np.float64(KERNEL)
    singular = np.linalg.svd(kernel, compute_uv=False)
    logits = np.tanh(np.float64(X) @ kernel + 1)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    again = np.tanh(2 * np.float64(X) @ kernel + 1)
    q = np.exp(again) / np.exp(again).sum(axis=1, keepdims=True)
    distances = ((np.float64(X)[:, None] - np.float64(X)) ** 2).sum(axis=2)
    affinity = np.exp(-distances / (2 * (2 * 3) / 9))
    spread = ((p[:, None] - p) ** 2).sum(axis=2)
    want = {
        "elastic_net": 0.5 * abs(kernel).sum() + 0.25 * (kernel**2).sum(),
        "nuclear": singular.sum(),
        "distance": 0.5 * ((kernel / 2) ** 2).sum() + 0.5 * 4 * 0.25,
        "confidence_penalty": (p * np.log(p)).sum(axis=1).mean(),
        "r_drop": 0.5 * ((p - q) * np.log(p / q)).sum(axis=1).mean(),
        "graph_laplacian": (affinity * spread).sum() / 25,
        "group_lasso": np.sqrt(3) * np.sqrt((kernel**2).sum(axis=0)).sum(),
    }
    for name, value in want.items():
        np.testing.assert_allclose(by_study[name], value, rtol=1e-5, err_msg=name)
