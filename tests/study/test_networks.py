"""Built-in networks, against NumPy, with the layers of a recipe in their places."""

import jax
import numpy as np
import pytest

from jaxreg.study import Recipe, conv_net, mlp, transformer
from jaxreg.study.models import from_linen
from jaxreg.study.networks import PLACES, Layers, layers_of
from tests.study.rows import random_like

X = np.sin(np.arange(18.0, dtype=np.float32)).reshape(6, 3)
KEY = jax.random.wrap_key_data(np.array([0, 1], np.uint32))


def made(network, x):
    """Random variables of a network, and its predictions by one program."""
    model = from_linen(network)
    variables = random_like(jax.eval_shape(model.init, KEY, x))
    return variables["params"], jax.jit(model.predict)(variables, x), model


def dense(params, name, x):
    return x @ np.float64(params[name]["kernel"]) + params[name]["bias"]


def relu(x):
    return np.maximum(x, 0)


def test_a_perceptron_is_dense_layers_with_relus():
    params, found, _ = made(mlp((4, 5), 2)(Recipe()), X)
    hidden = relu(dense(params, "Dense_1", relu(dense(params, "Dense_0", X))))
    np.testing.assert_allclose(found, dense(params, "Dense_2", hidden), rtol=1e-4, atol=1e-4)


def test_rows_of_any_shape_and_words_become_numbers():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2) / 24
    params, found, _ = made(mlp((4,), 2)(Recipe()), x)
    hidden = relu(dense(params, "Dense_0", x.reshape(2, -1)))
    np.testing.assert_allclose(found, dense(params, "Dense_1", hidden), rtol=1e-4, atol=1e-4)
    words = np.array([[1, 2, 0], [4, 4, 3]], np.int32)
    params, found, _ = made(mlp((4,), 2, vocabulary=5)(Recipe()), words)
    table = params["Embed_0"]["embedding"]
    assert table.shape == (5, 16)
    hidden = relu(dense(params, "Dense_0", np.float64(table)[words].reshape(2, -1)))
    np.testing.assert_allclose(found, dense(params, "Dense_1", hidden), rtol=1e-4, atol=1e-4)


def convolve(params, name, x):
    """A convolution of 3 x 3 with a border of zeros."""
    kernel = np.asarray(params[name]["kernel"], np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(3):
        for j in range(3):
            out += padded[:, i : i + height, j : j + width] @ kernel[i, j]
    return out + params[name]["bias"]


def test_a_stage_of_a_conv_net_is_a_residual_branch_and_a_halving():
    x = np.sin(np.arange(96.0, dtype=np.float32)).reshape(2, 4, 6, 2)
    params, found, _ = made(conv_net((3, 4), 5)(Recipe()), x)
    h = np.float64(x)
    for stage in range(2):
        h = relu(convolve(params, f"Conv_{2 * stage}", h))
        h = h + relu(convolve(params, f"Conv_{2 * stage + 1}", h))
        height, width = h.shape[1] // 2, h.shape[2] // 2
        h = h[:, : 2 * height, : 2 * width]
        h = h.reshape(len(h), height, 2, width, 2, -1).mean(axis=(2, 4))
    want = dense(params, "Dense_0", h.mean(axis=(1, 2)))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def normalize(params, name, x):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return x * params[name]["scale"] + params[name]["bias"]


def attend(params, x, kept):
    """Attention of four heads over the words that count."""
    own = params["MultiHeadDotProductAttention_0"]

    def heads(name):
        return np.einsum("btd,dhk->bthk", x, np.float64(own[name]["kernel"])) + own[name]["bias"]

    query = heads("query")
    key = heads("key")
    value = heads("value")
    scores = np.einsum("bqhk,bthk->bhqt", query, key) / np.sqrt(query.shape[-1])
    scores = np.where(kept[:, None, None, :], scores, -1e30)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = np.einsum("bhqt,bthk->bqhk", weights, value)
    return np.einsum("bqhk,hkd->bqd", mixed, np.float64(own["out"]["kernel"])) + own["out"]["bias"]


@pytest.mark.parametrize("kind", ["series", "text"])
def test_a_block_of_a_transformer_is_attention_and_a_perceptron(kind):
    """The mean over time at its end is over the words that count."""
    if kind == "text":
        x = np.array([[1, 2, 0, 0], [4, 4, 3, 1]], np.int32)
        params, found, _ = made(transformer(8, 1, 3, vocabulary=5)(Recipe()), x)
        h = np.float64(params["Embed_0"]["embedding"])[x]
        kept = x > 0
        first = 0
    else:
        x = np.sin(np.arange(24.0, dtype=np.float32)).reshape(2, 4, 3)
        params, found, _ = made(transformer(8, 1, 3)(Recipe()), x)
        h = dense(params, "Dense_0", x)
        kept = np.ones((2, 4), bool)
        first = 1
    h = h + params["position"]
    h = h + attend(params, normalize(params, "LayerNorm_0", h), kept)
    inner = dense(params, f"Dense_{first}", normalize(params, "LayerNorm_1", h))
    gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    h = h + dense(params, f"Dense_{first + 1}", gelu)
    mean = (h * kept[..., None]).sum(axis=1) / kept.sum(axis=1)[:, None]
    want = dense(params, f"Dense_{first + 2}", mean)
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3)


def test_padding_of_a_text_is_ignored():
    """Whatever the padding is embedded as, and wherever it stands in the table of positions."""
    x = np.array([[1, 2, 0, 0], [3, 4, 4, 0], [0, 0, 0, 0]], np.int32)
    params, found, model = made(transformer(8, 1, 3, vocabulary=5)(Recipe()), x)
    embedding = params["Embed_0"]["embedding"].copy()
    embedding[0] += 9
    position = params["position"].copy()
    position[3] += 5
    changed = {**params, "Embed_0": {"embedding": embedding}, "position": position}
    again = jax.jit(model.predict)({"params": changed}, x)
    np.testing.assert_allclose(again[:2], found[:2], rtol=1e-4, atol=1e-4)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[2], params["Dense_2"]["bias"], atol=1e-5)


@pytest.mark.parametrize(
    ("network", "x", "used"),
    [
        ("mlp", X, {"normalization", "units", "last"}),
        ("conv_net", np.zeros((2, 4, 4, 1), np.float32), set(PLACES)),
        ("transformer", np.zeros((2, 4, 3), np.float32), set(PLACES)),
    ],
)
def test_a_network_has_these_places(network, x, used):
    """Each place is called with its own layers, in their order, and told the mode."""
    calls = []

    def record(place):
        def layer(x, strength, train):
            calls.append((place, strength, train))
            return x

        return layer

    layers = Layers({place: ((record(place), 1), (record(place), 2)) for place in PLACES})
    make = {"mlp": mlp((4,), 2), "conv_net": conv_net((4,), 2), "transformer": transformer(4, 1, 2)}
    module = make[network](Recipe()).clone(layers=layers)
    jax.eval_shape(lambda key: module.init(key, x, train=True), KEY)
    assert {place for place, *_ in calls} == used
    assert {train for *_, train in calls} == {True}
    assert [strength for _, strength, _ in calls] == [1, 2] * (len(calls) // 2)


def test_layers_of_a_recipe_are_what_is_on():
    layers = layers_of(Recipe({"dropout": 0.5, "activity_l1": 0.1, "batch_norm": True, "l2": 1}))
    names = {
        place: [(function.__name__, strength) for function, strength in own]
        for place, own in layers.by_place.items()
    }
    assert names == {
        "normalization": [("normalize_batch", True)],
        "units": [("penalize_activity", 0.1), ("drop_units", 0.5)],
        "maps": [], "branch": [], "last": [],
    }  # fmt: skip


def test_layers_are_told_what_they_ask_for():
    layers = Layers(
        {
            "units": (
                (lambda x: x + 1, None),
                (lambda x, strength: x * strength, 3),
                (lambda x, *, train: x if train else -x, None),
            )
        }
    )
    assert layers.units(1, train=True) == 6
    assert layers.units(1, train=False) == -6
