"""Graph Laplacians against loops in float64 and scikit-learn; ties, identical points, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import kneighbors_graph

from jaxreg import smoothness
from tests.test_smoothness import draw


def naive_laplacian(f, w):
    """The double sum as it is written."""
    f = np.asarray(f, np.float64).reshape(len(f), -1)
    return sum(
        float(w[i, j]) * np.sum((f[i] - f[j]) ** 2) for i in range(len(f)) for j in range(len(f))
    )


@pytest.mark.parametrize("shape", [(1, 3), (6,), (6, 3), (6, 2, 2)], ids=str)
def test_laplacian_is_the_double_sum(shape):
    f, w = draw(*shape), abs(draw(shape[0], shape[0], seed=1))
    value = smoothness.graph_laplacian(jnp.float32(f), jnp.float32(w))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, naive_laplacian(f, w), rtol=1e-5)


def test_laplacian_of_a_symmetric_graph_is_twice_the_trace():
    f, w = draw(7, 3), abs(draw(7, 7, seed=1))
    w = w + w.T
    laplacian = np.diag(w.sum(axis=1)) - w
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(smoothness.graph_laplacian)(jnp.array(f), jnp.array(w))
    np.testing.assert_allclose(value, 2 * np.trace(f.T @ laplacian @ f), rtol=1e-12)
    np.testing.assert_allclose(gradient, 4 * laplacian @ f, rtol=1e-12)


def test_neighbors_are_the_dense_graph_with_zeros_elsewhere():
    x, f = jnp.float32(draw(12, 2)), jnp.float32(draw(12, 3, seed=1))
    found = smoothness.knn_affinity(x, neighbors=4, length_scale=0.8)
    dense = np.zeros((12, 12))
    np.put_along_axis(dense, np.asarray(found.indices), np.asarray(found.weights), axis=1)
    for graph in (found, jnp.float32(dense)):
        value = smoothness.graph_laplacian(f, graph)
        np.testing.assert_allclose(value, naive_laplacian(f, dense), rtol=1e-5)
    gradients = [jax.grad(smoothness.graph_laplacian)(f, w) for w in (found, jnp.float32(dense))]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_equal_predictions_cost_nothing_whatever_their_size(offset):
    """Expanded squares would leave the roundings of the offset."""
    f = jnp.full((9, 4), offset + 0.1)
    w = jnp.ones((9, 9))
    assert smoothness.graph_laplacian(f, w) == 0
    assert np.array_equal(jax.grad(smoothness.graph_laplacian)(f, w), np.zeros((9, 4)))
    near = f.at[0, 0].add(0.25)
    np.testing.assert_allclose(smoothness.graph_laplacian(near, w), 16 * 0.0625, rtol=2e-3)


def test_narrow_predictions_sum_wide():
    f = jnp.concatenate([jnp.zeros((200, 1)), jnp.ones((200, 1))]).astype(jnp.bfloat16)
    assert smoothness.graph_laplacian(f, jnp.ones((400, 400))) == 2 * 200 * 200


def test_rbf_affinity_is_the_kernel_of_scikit_learn():
    x = draw(10, 4)
    ours = smoothness.rbf_affinity(jnp.float32(x).reshape(10, 2, 2), length_scale=1.5)
    np.testing.assert_allclose(ours, rbf_kernel(x, gamma=1 / (2 * 1.5**2)), rtol=1e-5)


def test_neighbors_are_those_of_scikit_learn():
    x = draw(40, 3)
    found = smoothness.knn_affinity(jnp.float32(x), neighbors=5, length_scale=jnp.inf)
    ours = np.zeros((40, 40))
    np.put_along_axis(ours, np.asarray(found.indices), np.asarray(found.weights), axis=1)
    np.testing.assert_array_equal(ours, kneighbors_graph(x, 5).toarray())
    assert found.indices.dtype == jnp.int32
    scaled = smoothness.knn_affinity(jnp.float32(x), neighbors=5, length_scale=1.5)
    everything = np.asarray(smoothness.rbf_affinity(jnp.float32(x), length_scale=1.5))
    expected = np.take_along_axis(everything, np.asarray(scaled.indices), axis=1)
    np.testing.assert_allclose(scaled.weights, expected, rtol=1e-6)
    assert (np.diff(scaled.weights, axis=1) <= 0).all()


def test_far_offsets_do_not_blur_neighbors():
    """Distances from expanded squares would be lost at an offset of 3000 in float32."""
    x = (3000 + draw(30, 3)).astype(np.float32)
    found = smoothness.knn_affinity(jnp.asarray(x), neighbors=3, length_scale=1.0)
    expected = kneighbors_graph(x.astype(np.float64), 3).toarray()
    for row, indices in zip(expected, np.asarray(found.indices), strict=True):
        assert set(np.flatnonzero(row)) == set(indices)


def test_blocks_of_rows_find_the_same_neighbors(monkeypatch):
    from jaxreg.smoothness import graphs

    x = jnp.float32(draw(13, 3))
    whole = smoothness.knn_affinity(x, neighbors=3, length_scale=1.0)
    monkeypatch.setattr(graphs, "_BLOCK", 5 * 13 * 3)  # Blocks of 5, 5 and 3 rows.
    blocks = smoothness.knn_affinity(x, neighbors=3, length_scale=1.0)
    np.testing.assert_array_equal(blocks.indices, whole.indices)
    np.testing.assert_array_equal(blocks.weights, whole.weights)


def test_ties_and_identical_points():
    """Nobody is its own neighbor, the identical are, and the first of a tie come first."""
    same = smoothness.knn_affinity(jnp.ones((5, 2)), neighbors=2, length_scale=1.0)
    np.testing.assert_array_equal(same.indices, [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_array_equal(same.weights, np.ones((5, 2)))
    line = smoothness.knn_affinity(jnp.arange(5.0)[:, None], neighbors=1, length_scale=jnp.inf)
    np.testing.assert_array_equal(line.indices.ravel(), [1, 0, 1, 2, 3])
    everybody = smoothness.knn_affinity(jnp.arange(3.0), neighbors=2, length_scale=1.0)
    np.testing.assert_array_equal(everybody.indices, [[1, 2], [0, 2], [1, 0]])


@pytest.mark.parametrize("length_scale", [0.0, 1e-30, 1e30, np.inf])
def test_any_traced_length_is_finite(length_scale):
    """Rows 1 and 2 of the failure modes: identical points, and lengths at the ends of the range."""
    x = jnp.array([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]])
    call = jax.jit(jax.value_and_grad(_total, (0, 1)))
    value, (of_x, of_length) = call(x, jnp.float32(length_scale))
    assert value == (9 if length_scale > 1 else 5)
    assert np.isfinite(np.asarray(of_x)).all()
    assert np.isfinite(of_length)


def _total(x, length_scale):
    return smoothness.rbf_affinity(x, length_scale=length_scale).sum()


def test_differences_are_not_held():
    """The bytes that the compiled programs hold, of some 8 million that the differences have."""
    n, d = 256, 32
    x, f = jnp.ones((n, d)), jnp.ones((n, d))
    differences = n * n * d * 4

    def held(function, *inputs):
        return jax.jit(function).lower(*inputs).compile().memory_analysis().temp_size_in_bytes

    def affinity(x):
        return smoothness.rbf_affinity(x, length_scale=1.0)

    assert held(affinity, x) < differences / 16
    assert held(smoothness.graph_laplacian, f, jnp.ones((n, n))) < differences / 16
    assert held(jax.grad(smoothness.graph_laplacian), f, jnp.ones((n, n))) < differences / 8
    # What the forward pass leaves for the backward pass where they are compiled by themselves.
    _, pull_back = jax.vjp(smoothness.graph_laplacian, f, jnp.ones((n, n)))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(pull_back)) < differences / 8


def test_errors_name_the_argument():
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match=r"`affinity` must have shape \(4, 4\).*got \(4, 2\)"):
        smoothness.graph_laplacian(x, jnp.ones((4, 2)))
    wrong = smoothness.Neighbors(jnp.zeros((4, 1), jnp.int32), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match=r"`affinity` must hold two arrays \[4, neighbors\]"):
        smoothness.graph_laplacian(x, wrong)
    with pytest.raises(ValueError, match=r"`neighbors` must be in \[1, 3\] for 4.*got 4"):
        smoothness.knn_affinity(x, neighbors=4, length_scale=1.0)
    with pytest.raises(ValueError, match=r"`neighbors` must be in \[1, 0\] for 1 examples, got 1"):
        smoothness.knn_affinity(x[:1], neighbors=1, length_scale=1.0)
    with pytest.raises(ValueError, match=r"`length_scale` must be .*got nan"):
        smoothness.rbf_affinity(x, length_scale=float("nan"))
