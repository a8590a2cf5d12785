"""Terms of the loss, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.study import arms
from jaxreg.study.arms.row import Term, call

TERMS = {arm.name: arm.acts.function for arm in arms.acting(Term)}
KERNEL = np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4)
X = np.cos(np.arange(15.0, dtype=np.float32)).reshape(5, 3)
KEY = jax.random.wrap_key_data(np.zeros(2, np.uint32))
# For the terms that draw a direction.
WIDE = np.tile(X, (200, 1))


def view(kernel, x, key):
    params = {"kernel": kernel, "bias": jnp.ones(4)}
    start = jax.tree.map(lambda w: w / 2, params)

    def predict(x):
        return x @ params["kernel"] + params["bias"]

    return {
        "params": params,
        "start": start,
        "x": x,
        "logits": predict(x),
        "predict": predict,
        "again": predict(2 * x),
        "key": key,
    }


@pytest.fixture(scope="module")
def found():
    """Every term, by one program."""

    @jax.jit
    def compute(kernel, x, wide, key):
        values = {name: call(term, view(kernel, x, key)) for name, term in TERMS.items()}
        values["jacobian"] = call(TERMS["jacobian"], view(kernel, wide, key))
        return values

    return jax.tree.map(np.asarray, compute(KERNEL, X, WIDE, KEY))


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def by_numpy():
    """The kernel alone has a weight; the bias too may not move from its start."""
    kernel = np.float64(KERNEL)
    x = np.float64(X)
    singular = np.linalg.svd(kernel, compute_uv=False)
    p = softmax(x @ kernel + 1)
    q = softmax(2 * x @ kernel + 1)
    affinity = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / (2 * (2 * 3) / 9))
    spread = ((p[:, None] - p) ** 2).sum(axis=2)
    # The kernel has fewer rows than columns, so its rows are to be orthonormal.
    gram = kernel @ kernel.T
    return {
        "elastic_net": 0.5 * abs(kernel).sum() + 0.25 * (kernel**2).sum(),
        "group_lasso": np.sqrt(3) * np.sqrt((kernel**2).sum(axis=0)).sum(),
        "orthogonality": ((gram - np.eye(3)) ** 2).sum(),
        "spectral": singular[0],
        "nuclear": singular.sum(),
        "distance": 0.5 * ((kernel / 2) ** 2).sum() + 0.5 * 4 * 0.25,
        "confidence_penalty": (p * np.log(p)).sum(axis=1).mean(),
        "r_drop": 0.5 * ((p - q) * np.log(p / q)).sum(axis=1).mean(),
        "graph_laplacian": (affinity * spread).sum() / 25,
    }


@pytest.mark.parametrize("name", by_numpy())
def test_a_term_is_the_one_of_numpy(name, found):
    assert found[name].shape == ()
    np.testing.assert_allclose(found[name], by_numpy()[name], rtol=1e-5)


def test_terms_that_draw_a_direction_are_of_its_size(found):
    """The Jacobian is the kernel; a step of length 1 changes no logit by more than its norm."""
    assert set(found) == {*by_numpy(), "jacobian", "virtual_adversarial"}
    squared = (np.float64(KERNEL) ** 2).sum()
    spread = np.sqrt(2 * (np.linalg.svd(KERNEL, compute_uv=False) ** 4).sum() / len(WIDE))
    np.testing.assert_allclose(found["jacobian"], squared, atol=5 * spread)
    p = softmax(np.float64(X) @ KERNEL + 1)
    largest = np.linalg.svd(KERNEL, compute_uv=False)[0]
    # The divergence at distance 1 is about half of the Fisher information in that direction.
    worst = []
    for row in p:
        fisher = np.float64(KERNEL) @ (np.diag(row) - np.outer(row, row)) @ np.float64(KERNEL).T
        worst.append(np.linalg.eigvalsh(fisher)[-1] / 2)
    assert 0.3 * np.mean(worst) < found["virtual_adversarial"] < 1.5 * np.mean(worst)
    assert found["virtual_adversarial"] < largest**2 / 2


def test_label_smoothing_and_flooding_are_those_of_numpy():
    logits = np.float64(X) @ KERNEL
    labels = np.array([0, 3, 1, 2, 1])
    mixed = 0.25 * np.eye(4)[labels] + 0.75 * np.eye(4)[labels[::-1]]

    @jax.jit
    def compute(logits, mixed, alpha, level):
        smooth = arms.ARMS["label_smoothing"].acts.function
        flood = arms.ARMS["flood"].acts.function
        values = [smooth(logits, target, alpha) for target in (labels, mixed)]
        return values, [flood(jnp.float32(value), level) for value in (0.25, 1.5)]

    log_p = np.log(softmax(logits))
    for alpha in (0.0, 0.25):
        values, flooded = compute(np.float32(logits), np.float32(mixed), np.float32(alpha), 0.5)
        for value, target in zip(values, (np.eye(4)[labels], mixed), strict=True):
            smooth = (1 - alpha) * target + alpha / 4
            np.testing.assert_allclose(value, -(smooth * log_p).sum(axis=1).mean(), rtol=1e-5)
        np.testing.assert_allclose(flooded, [0.75, 1.5])
