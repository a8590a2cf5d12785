"""Operations of a policy on the examples of a batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment
from jaxreg.study import Policy, Recipe, apply_policy, operations
from jaxreg.study.arms import ARMS
from jaxreg.study.arms.row import BatchChange
from jaxreg.study.batch import Batch, change
from jaxreg.study.operations import OPERATIONS, check_suited
from tests.helpers import few

KEY = jax.random.wrap_key_data(np.array([0, 1], np.uint32))
ROWS = {
    "table": np.sin(np.arange(400.0, dtype=np.float32)).reshape(100, 4),
    "series": np.sin(np.arange(1800.0, dtype=np.float32)).reshape(100, 9, 2),
    "image": np.sin(np.arange(6300.0, dtype=np.float32)).reshape(100, 7, 9, 1),
    "text": np.arange(1200, dtype=np.int32).reshape(100, 12) % 7,
}


@few("name", ["jitter", *(name for name in OPERATIONS if name != "jitter")])
def test_a_probability_is_the_share_of_the_examples_that_change(name):
    operation = OPERATIONS[name]
    x = ROWS[operation.kinds[0]]

    @jax.jit
    def changed(size, probability):
        policy = Policy((name,), (size,), (probability,))
        moved = apply_policy(KEY, policy, x)
        assert (moved.shape, moved.dtype) == (x.shape, x.dtype)
        return (moved != x).any(axis=tuple(range(1, x.ndim))).mean()

    assert changed(operation.high, 0.0) == 0
    assert changed(0.0, 1.0) == 0
    always = changed(operation.high, 1.0)
    half = changed(operation.high, 0.5)
    assert always > 0.9
    assert abs(half - 0.5 * always) < 5 * math.sqrt(0.25 / len(x))


def test_operations_draw_by_themselves_and_in_their_order():
    x = ROWS["image"]

    @jax.jit
    def both(x):
        policy = Policy(("cutout", "jitter"), (0.5, 0.1), (0.5, 0.5))
        first = Policy(("cutout",), (0.5,), (0.5,))
        return apply_policy(KEY, policy, x), apply_policy(KEY, first, x)

    moved, first = jax.device_get(both(x))
    cut = (first != x).any(axis=(1, 2, 3))
    noisy = (moved != first).any(axis=(1, 2, 3))
    shares = [float((a & b).mean()) for a in (cut, ~cut) for b in (noisy, ~noisy)]
    np.testing.assert_allclose(shares, 0.25, atol=5 * math.sqrt(0.25 * 0.75 / len(x)))


@pytest.mark.parametrize(
    ("name", "function", "want"),
    [
        ("rotate", "random_rotate", {"degrees": 9.0}),
        ("translate", "random_translate", {"x": 0.9, "y": 0.7}),
        ("scale", "random_affine", {"scale": 0.1}),
        ("shear", "random_shear", {"x": 0.1, "y": 0.0}),
    ],
)
def test_magnitudes_are_shares(name, function, want, monkeypatch):
    """Of 90 degrees, of the sides, of the size, on images as they were before standardizing."""
    given = {}

    def record(key, image, **options):
        given.update(options, image=image)
        return image + 6

    monkeypatch.setattr(augment, function, record)
    batch = Batch(ROWS["image"], np.arange(100), np.float32(5), np.float32(2), 1)
    moved = change(OPERATIONS[name].acts, KEY, batch, 0.1)
    assert given.pop("image").tolist() == (ROWS["image"] * np.float32(2) + np.float32(5)).tolist()
    assert given == pytest.approx(want)
    np.testing.assert_allclose(moved.x, ROWS["image"] + 3, rtol=1e-5)
    np.testing.assert_array_equal(moved.labels, batch.labels)


def test_a_policy_hands_the_scale_and_the_magnitude_on(monkeypatch):
    given = []

    def function(key, x, strength, mean, stddev):
        given.append((mean, stddev, strength, jax.random.key_data(key)))
        return x + strength

    fake = operations.Operation(BatchChange(function), ("table",), 0.1, 1.0)
    monkeypatch.setattr(operations, "OPERATIONS", {"first": fake, "second": fake})

    @jax.jit
    def moved(x):
        policy = Policy(("second", "first"), (1.0, 10.0), (1, 1.0))
        x = apply_policy(KEY, policy, x, mean=3.0, stddev=2.0)
        return x, given

    x, calls = moved(ROWS["table"])
    np.testing.assert_allclose(x, ROWS["table"] + 11, rtol=1e-6)
    assert [tuple(map(float, call[:3])) for call in calls] == [(3.0, 2.0, 1.0), (3.0, 2.0, 10.0)]
    assert len({tuple(np.asarray(call[3]).tolist()) for call in calls}) == 2


def test_operations_are_for_these_rows_and_magnitudes():
    found = {name: (each.kinds, each.low, each.high) for name, each in OPERATIONS.items()}
    image = ("image",)
    assert found == {
        "rotate": (image, 0.01, 0.3),
        "translate": (image, 0.01, 0.3),
        "scale": (image, 0.01, 0.3),
        "shear": (image, 0.01, 0.3),
        "cutout": (image, 0.1, 0.6),
        "magnitude_warp": (("series",), 0.05, 0.5),
        "time_warp": (("series",), 0.05, 0.5),
        "jitter": (("table", "series", "image"), 0.05, 1.0),
        "token_dropout": (("text",), 0.05, 0.5),
    }
    measured = {name for name, each in OPERATIONS.items() if each.is_measured}
    assert measured == set(OPERATIONS) - {"cutout", "jitter", "token_dropout"}
    for name in ("cutout", "magnitude_warp", "time_warp", "jitter", "token_dropout"):
        assert OPERATIONS[name].acts is ARMS[name].acts


def test_recipes_must_suit_the_rows_and_the_task():
    policy = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
    recipe = Recipe({"l2": 0.5, "policy": policy})
    with pytest.raises(ValueError, match=r"table .*, but rotate is for image .*; cutout is"):
        check_suited([recipe], ROWS["table"], "classification")
    with pytest.raises(ValueError, match=r"series of shape \(9, 2\)\), but cutmix is for image"):
        check_suited([Recipe(), Recipe({"cutmix": 0.5})], ROWS["series"], "classification")
    with pytest.raises(ValueError, match=r"suit the task .regression.; leave out r_drop"):
        check_suited([Recipe({"r_drop": 0.5, "l1": 0.1})], ROWS["table"], "regression")
    check_suited([recipe, Recipe({"jitter": 0.1})], ROWS["image"], "regression")
    check_suited([Recipe({"jitter": 0.1}), Recipe({"r_drop": 1})], ROWS["table"], "classification")


def test_unknown_operations_are_named():
    for names, told in ((("jitter", "warp"), "warp"), ((), "none")):
        policy = Policy(names, (0.1,) * len(names), (0.5,) * len(names))
        with pytest.raises(
            ValueError, match=rf"`operations` must be some of rotate, .*, got {told}"
        ):
            apply_policy(KEY, policy, jnp.ones((2, 2)))
