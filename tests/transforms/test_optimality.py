"""Problems with a known solution, by every optimizer: the same coefficients and the same zeros."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

from jaxreg import penalties, proximal, transforms
from tests.helpers import few
from tests.transforms.helpers import descend

STEPS = 4000
WEIGHTS = {"lasso": 0.05, "elastic_net": 0.1, "group_lasso": 0.12, "logistic": 0.03}
some_problems = few("name", WEIGHTS)


def load():
    """Standardized features and target in float64."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


class Problem(NamedTuple):
    """Loss of float32 weights, their operator, and the solution of float64."""

    loss: Callable[[jax.Array], jax.Array]
    prox: Callable[..., jax.Array]
    weight: float
    solution: np.ndarray


def group_descent(x, y, weight, sweeps=300):
    """Group lasso of neighbors in pairs, by steps on one pair after another."""
    w = np.zeros((5, 2))
    left = y.copy()
    for _ in range(sweeps):
        for block, pair in zip(w, np.split(x, 5, axis=1), strict=True):
            curvature = np.linalg.eigvalsh(pair.T @ pair / len(y))[-1]
            target = block + pair.T @ left / (len(y) * curvature)
            cut = weight * np.sqrt(2) / curvature
            moved = target * max(0, 1 - cut / np.linalg.norm(target))
            left -= pair @ (moved - block)
            block[:] = moved
    return w.T


def solve(name, x, y):
    """Solution in float64 by coordinate descent, and for the logistic loss by SAGA."""
    exact = {"fit_intercept": False, "tol": 1e-10, "max_iter": 100_000}
    weight = WEIGHTS[name]
    if name == "lasso":
        return Lasso(weight, **exact).fit(x, y).coef_
    if name == "elastic_net":
        return ElasticNet(weight, l1_ratio=0.5, **exact).fit(x, y).coef_
    if name == "group_lasso":
        return group_descent(x, y, weight)
    model = LogisticRegression(C=1 / (len(y) * weight), l1_ratio=1, solver="saga", **exact)
    return model.fit(x, y > 0).coef_[0]


@lru_cache
def problem_of(name):
    x, y = load()
    narrow = np.float32(x)
    target = np.float32(y)

    def squares(w):
        return jnp.mean(jnp.square(narrow @ w.astype(jnp.float32).T.ravel() - target)) / 2

    def logistic(w):
        return jnp.mean(jax.nn.softplus(-np.where(target > 0, 1, -1) * (narrow @ w)))

    operators = {
        "lasso": proximal.l1,
        "elastic_net": partial(proximal.elastic_net, l1=0.5, l2=0.5),
        "group_lasso": proximal.group_lasso,
        "logistic": proximal.l1,
    }
    loss = logistic if name == "logistic" else squares
    return Problem(loss, operators[name], WEIGHTS[name], solve(name, x, y))


def fit(tx, problem, dtype=jnp.float32):
    """Weights after descent from zero."""
    w = descend(tx, jax.grad(problem.loss), np.zeros(problem.solution.shape, dtype), STEPS)
    return np.asarray(w, np.float64)


def largest_error(w, problem):
    """Relative to the largest weight of the solution."""
    return np.abs(w - problem.solution).max() / np.abs(problem.solution).max()


def euclidean(inner: Any, rate: Any, wrap: Callable[[float], Any] = float) -> Callable[..., Any]:
    """The step of ``transforms.proximal`` after an optimizer, as a function of the problem."""
    return lambda p: optax.chain(inner, transforms.proximal(p.prox, wrap(p.weight), rate))


def preconditioned(make: Callable[..., Any], rate: Any, metric: Any) -> Callable[..., Any]:
    """The step in the metric of an optimizer, as a function of the problem."""
    return lambda p: transforms.preconditioned_proximal(
        make(rate), p.prox, p.weight, rate, metric=metric
    )


FALLING = optax.cosine_decay_schedule(0.01, STEPS)
STEPWISE = optax.piecewise_constant_schedule(0.3, {1000: 1 / 3})
# At rest the buffer of momentum is the gradient divided by 1 - 0.9.
OPTIMIZERS = {
    "sgd": euclidean(optax.sgd(0.2), 0.2),
    "sgd, schedule": euclidean(optax.sgd(STEPWISE), STEPWISE),
    "sgd, array": euclidean(optax.sgd(0.1), 0.1, jnp.float32),
    "momentum": euclidean(optax.sgd(0.05, momentum=0.9), 0.5),
    "nesterov": euclidean(optax.sgd(0.02, momentum=0.9, nesterov=True), 0.2),
    "adam": preconditioned(optax.adam, 0.005, transforms.adam_metric()),
    "adam, schedule": preconditioned(optax.adam, FALLING, transforms.adam_metric()),
    "nadam": preconditioned(optax.nadam, 0.005, transforms.adam_metric()),
    "rmsprop": preconditioned(optax.rmsprop, FALLING, transforms.rmsprop_metric()),
    "adagrad": preconditioned(optax.adagrad, 0.3, transforms.adagrad_metric()),
}


@some_problems
@few("optimizer", OPTIMIZERS)
def test_the_solution_and_its_zeros(name, optimizer):
    problem = problem_of(name)
    zeros = problem.solution == 0
    assert 0 < zeros.sum() < 10
    w = fit(OPTIMIZERS[optimizer](problem), problem)
    assert largest_error(w, problem) < 2e-5
    np.testing.assert_array_equal(w == 0, zeros)


@some_problems
@few(
    ("make", "rate"),
    [(optax.adam, 0.005), (optax.rmsprop, 0.005), (optax.adagrad, 0.3)],
    ids=["adam", "rmsprop", "adagrad"],
)
def test_a_euclidean_step_after_an_adaptive_one_solves_another_problem(name, make, rate):
    w = fit(euclidean(make(rate), rate)(problem_of(name)), problem_of(name))
    assert largest_error(w, problem_of(name)) > 0.1


@some_problems
@few("optimizer", ["adam", "sgd"])
def test_narrow_weights_have_the_exact_zeros_too(name, optimizer):
    problem = problem_of(name)
    tx = transforms.compensate_rounding(OPTIMIZERS[optimizer](problem))
    w = fit(tx, problem, jnp.bfloat16)
    assert largest_error(w, problem) < 0.005
    np.testing.assert_array_equal(w == 0, problem.solution == 0)


def test_narrow_weights_alone_have_the_exact_zeros_too():
    w = fit(OPTIMIZERS["sgd"](problem_of("lasso")), problem_of("lasso"), jnp.bfloat16)
    assert largest_error(w, problem_of("lasso")) < 0.02
    np.testing.assert_array_equal(w == 0, problem_of("lasso").solution == 0)


@some_problems
def test_the_penalty_in_the_loss_gives_no_zeros(name):
    problem = problem_of(name)
    penalty = {
        "lasso": penalties.l1,
        "elastic_net": partial(penalties.elastic_net, l1=0.5, l2=0.5),
        "group_lasso": penalties.group_lasso,
        "logistic": penalties.l1,
    }[name]
    gradient = transforms.add_penalty_gradient(penalty, problem.weight)
    for inner in (optax.sgd(0.1), optax.adam(0.01)):
        w = fit(optax.chain(gradient, inner), problem)
        assert (w != 0).all()
        assert largest_error(w, problem) < 0.3  # It is near the solution all the same.
