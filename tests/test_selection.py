"""Masks where they are taken: trees, prefixes, functions, arrays, and what is none of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.core import FrozenDict

from jaxreg import _selection, masks, penalties, proximal, transforms

ONES = np.ones(2, np.float32)
PARAMS = {"a": {"b": ONES, "c": ONES}, "d": ONES}


@jax.tree_util.register_pytree_with_keys_class
class Layer:
    """A tree that can be called, as modules of Equinox are."""

    def __init__(self, kernel, act):
        self.kernel = kernel
        self.act = act

    def __call__(self, x):
        raise AssertionError("a mask was called")

    def tree_flatten_with_keys(self):
        key = jax.tree_util.GetAttrKey
        return ((key("kernel"), self.kernel), (key("act"), self.act)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_a_single_value_is_no_mask():
    for mask in ({"w": True}, None, lambda params: True):
        _selection.check_mask(mask)
    for mask in (True, False, np.bool_(True), jnp.asarray(np.array(True)), 1, 0.5):
        with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans.*static_args"):
            _selection.check_mask(mask)
    with pytest.raises(TypeError, match=r"`stacked` must be .*got 'kernel'; .*masks.match\('ker"):
        _selection.check_mask("kernel", "stacked")


def test_a_mask_is_a_tree_a_prefix_a_function_or_nothing():
    everything = {"a": {"b": True, "c": True}, "d": True}
    part = {"a": {"b": True, "c": True}, "d": False}
    assert _selection.select(None, PARAMS) == everything
    assert _selection.select({"a": True, "d": False}, PARAMS) == part
    assert (
        _selection.select({"a": {"b": True, "c": np.True_}, "d": np.array(False)}, PARAMS) == part
    )
    assert _selection.select(lambda p: {"a": p is PARAMS, "d": False}, PARAMS) == part
    assert _selection.select(jax.tree_util.Partial(masks.match("a")), PARAMS) == part
    for mask in ({"a": True}, [True, False], lambda p: {"x": True, "d": True}, {**part, "e": True}):
        with pytest.raises(ValueError, match=r"`mask` must have the tree structure of the .*, or"):
            _selection.select(mask, PARAMS)


def test_a_tree_that_can_be_called_is_a_tree():
    params = Layer(ONES, jnp.tanh)
    for mask in (
        Layer(True, False),
        Layer(True, jnp.tanh),
        Layer(True, None),
        Layer(np.True_, "a"),
    ):
        assert _selection.select(mask, params).kernel is True
    empty = Layer(None, None)
    assert isinstance(_selection.select(empty, empty), Layer)
    # All leaves of the mask are functions, like the leaves of the parameters.
    assert _selection.select(Layer(None, jnp.tanh), Layer(None, jnp.tanh)).act is False


@pytest.mark.parametrize("label", ["decay", 0.1, 1, np.int32(1), ONES, np.ones(3), bool])
def test_leaves_that_are_no_booleans_are_named(label):
    mask = {"a": {"b": label, "c": True}, "d": False}
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans, got .* for a/b; comp"):
        _selection.select(mask, PARAMS)
    with pytest.raises(TypeError, match=r"`stacked` must be a tree of booleans, got .* for a/b"):
        _selection.select_stacked(mask, PARAMS)


def test_what_is_no_array_passes_by():
    params = {
        "w": ONES,
        "n": np.arange(3),
        "act": jnp.tanh,
        "name": "float32",
        "dtype": jnp.float32,
    }
    params |= {"none": None, "hidden": optax.MaskedNode(), "key": jax.random.key(0)}
    for label in (None, "relu", 3, np.ones(4, bool)):
        mask = {**dict.fromkeys(params, label), "w": True, "none": None}
        found = _selection.select(mask, params)
        assert found["w"] is True
        assert not any(found[name] for name in ("n", "act", "name", "dtype", "key"))
    assert _selection.select({**params, "w": True}, params)["w"] is True


def test_arrays_of_booleans_are_for_parts_of_a_parameter():
    w = np.ones((3, 2), np.float32)
    for shape in ((3, 1), (3, 2), (2,), (1, 2)):
        mask = {"w": np.ones(shape, bool)}
        assert _selection.select(mask, {"w": w})["w"].shape == shape
    for shape in ((1,), (1, 1), ()):
        assert _selection.select({"w": np.zeros(shape, bool)}, {"w": w})["w"] is False
        assert _selection.select({"w": jnp.asarray(np.ones(shape, bool))}, {"w": w})["w"] is True
    for shape in ((3,), (2, 3), (1, 3, 2)):
        with pytest.raises(ValueError, match=r"`mask` must give a boolean for w, or .* \(3, 2\), "):
            _selection.select({"w": np.ones(shape, bool)}, {"w": w})
    with pytest.raises(TypeError, match=r"`stacked` must give one static boolean .* for w"):
        _selection.select_stacked({"w": np.ones((3, 1), bool)}, {"w": w})
    with pytest.raises(ValueError, match=r"`stacked` must select arrays with an axis .* w is a"):
        _selection.select_stacked({"w": True}, {"w": np.float32(1)})


def test_a_mask_in_other_containers_is_matched_by_names():
    mask = {"a": {"b": True, "c": False}, "d": False}
    boxed = jax.tree.map(lambda w: linen.Partitioned(w, names=("x",)), PARAMS)
    state = nnx.State({"a": {"b": nnx.Param(ONES), "c": nnx.Param(ONES)}, "d": nnx.Param(ONES)})
    trees = (PARAMS, FrozenDict(PARAMS), boxed, state, nnx.as_pure(state), nnx.to_pure_dict(state))
    find = masks.match("b")
    for params in trees:
        assert jax.tree.leaves(_selection.select(mask, params)) == [True, False, False]
        assert jax.tree.leaves(_selection.select({"a": True, "d": False}, params))[1:] == [
            True,
            False,
        ]
        for other in trees:
            flags = _selection.select(find(other), params)
            assert jax.tree.structure(flags) == jax.tree.structure(params)
            assert jax.tree.leaves(flags) == [True, False, False]
    # What optax.masked hides has no place among the parameters.
    hidden = FrozenDict({"a": optax.MaskedNode(), "d": ONES})
    assert jax.tree.leaves(_selection.select(mask, hidden)) == [False]


# Everything that takes a mask.

EMBEDDING = {"table": np.ones((3, 2), np.float32), "bias": ONES}
ROWS = np.array([[True], [False], [True]])


def taking(mask):
    """Each transformation with a mask, what it subtracts from ones, and its other updates."""
    adam = optax.adam(0.0)
    metric = transforms.adam_metric()
    shrink = partial(transforms.preconditioned_proximal, adam, proximal.l1, 0.5, 1.0, metric=metric)
    return [
        (transforms.decoupled_decay(0.5, learning_rate=0.5, mask=mask), 0.25, -1.0),
        (transforms.independent_decay(0.5, mask=mask), 0.5, -1.0),
        (transforms.cautious_decay(0.5, learning_rate=0.5, mask=mask), 0.25, -1.0),
        (shrink(mask=mask), 0.5, 0.0),
    ]


def test_masks_of_rows_are_for_those_rows():
    """Frozen rows of an embedding table do not decay."""
    mask = {"table": ROWS, "bias": False}

    @jax.jit
    def steps(params, traced):
        updates = jax.tree.map(lambda w: -jnp.ones_like(w), params)
        chains = [row[0] for rows in (mask, traced) for row in taking(rows)]
        return [tx.update(updates, tx.init(params), params)[0] for tx in chains]

    found = steps(EMBEDDING, mask)
    for updates, (_, shrink, base) in zip(found, [*taking(mask), *taking(mask)], strict=True):
        want = np.broadcast_to(np.where(ROWS, base - shrink, base), (3, 2))
        np.testing.assert_allclose(updates["table"], want, atol=1e-5)
        np.testing.assert_allclose(updates["bias"], base, atol=1e-6)


def test_no_mask_of_labels_or_names_passes_anywhere():
    labels = {"table": "decay", "bias": "no_decay"}
    for tx, *_ in taking(labels):
        with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans, got .no_decay. f"):
            jax.eval_shape(lambda p, tx=tx: tx.update(p, tx.init(p), p), EMBEDDING)
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans, got 'no_decay. for b"):
        penalties.total(EMBEDDING, penalties.l1, labels)
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans, got .table. for b"):
        penalties.total(EMBEDDING, penalties.l1, "table")
    for combine in (masks.all_of, masks.any_of, masks.negate):
        with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans, got .no_decay. f"):
            combine(labels)(EMBEDDING)
    for take in (taking, masks.all_of, masks.any_of, masks.negate):
        with pytest.raises(TypeError, match=r"`mask` must be .*pass masks.match\('table'\)"):
            take("table")


def test_sums_of_penalties_take_masks_of_whole_leaves():
    total = partial(penalties.total, EMBEDDING, penalties.l1)
    assert total({"table": True, "bias": np.False_}) == 6
    assert total(True) == 8
    traced = jax.jit(lambda on: total({"table": on, "bias": True}))
    assert (traced(np.array(True)), traced(np.array(False))) == (8, 2)
    with pytest.raises(ValueError, match=r"`mask` must give one boolean per leaf"):
        total({"table": ROWS, "bias": True})


def test_a_mask_of_the_state_of_a_model_in_its_nnx_optimizer():
    """The optimizer shows transformations pure values, and a mask is often made of variables."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    model.kernel[...] = np.ones((2, 3), np.float32)
    concrete = (masks.kernels(state), masks.kernels(nnx.to_pure_dict(state)))
    for mask in (*concrete, {"kernel": np.array([[True], [True]]), "bias": False}):
        optimizer = nnx.Optimizer(
            model, transforms.independent_decay(0.5, mask=mask), wrt=nnx.Param
        )
        before = np.asarray(model.kernel[...])
        nnx.jit(lambda m, o: o.update(m, jax.tree.map(jnp.zeros_like, nnx.state(m, nnx.Param))))(
            model, optimizer
        )
        np.testing.assert_allclose(model.kernel[...], before / 2)
        np.testing.assert_array_equal(model.bias[...], np.zeros(3))
