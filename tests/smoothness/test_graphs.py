"""Graph Laplacians: loops in float64, scikit-learn, ties, identical points, memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import kneighbors_graph

from jaxreg import smoothness
from jaxreg.smoothness import graphs
from tests.arrays import assert_derivatives, float64, normal
from tests.helpers import few

laplacian = jax.jit(jax.value_and_grad(smoothness.graph_laplacian))


@jax.jit
def rbf(x, length_scale):
    return smoothness.rbf_affinity(x, length_scale=length_scale)


@partial(jax.jit, static_argnames="neighbors")
def knn(x, neighbors, length_scale):
    return smoothness.knn_affinity(x, neighbors=neighbors, length_scale=length_scale)


def naive_laplacian(f, w):
    """The double sum, as in the equation."""
    f = float64(f).reshape(len(f), -1)
    return sum(
        float(w[i, j]) * np.sum((f[i] - f[j]) ** 2) for i in range(len(f)) for j in range(len(f))
    )


def dense(found):
    """The affinities to all, of which those to others than neighbors are zero."""
    everything = np.zeros((len(found.indices), len(found.indices)))
    np.put_along_axis(everything, np.asarray(found.indices), np.asarray(found.weights), axis=1)
    return everything


@few("shape", [(6, 2, 2), (1, 3), (6,), (6, 3)], ids=str)
def test_the_laplacian_is_the_double_sum(shape):
    f = normal(*shape)
    w = abs(normal(shape[0], shape[0], seed=1))
    value, _ = laplacian(np.float32(f), np.float32(w))
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, naive_laplacian(f, w), rtol=1e-5)


def test_the_laplacian_of_a_symmetric_graph_is_twice_the_trace():
    f = normal(7, 3)
    w = abs(normal(7, 7, seed=1))
    w = w + w.T
    matrix = np.diag(w.sum(axis=1)) - w
    with jax.enable_x64(True):
        value, gradient = laplacian(f, w)
    np.testing.assert_allclose(value, 2 * np.trace(f.T @ matrix @ f), rtol=1e-12)
    np.testing.assert_allclose(gradient, 4 * matrix @ f, rtol=1e-12)


def test_neighbors_are_the_dense_graph_with_zeros_elsewhere():
    x = np.float32(normal(12, 2))
    f = np.float32(normal(12, 3, seed=1))
    found = knn(x, 4, 0.8)
    w = dense(found)
    one_way = w + w.T
    matrix = np.diag(one_way.sum(axis=1)) - one_way
    for graph in (found, np.float32(w)):
        value, gradient = laplacian(f, graph)
        np.testing.assert_allclose(value, naive_laplacian(f, w), rtol=1e-5)
        np.testing.assert_allclose(gradient, 2 * matrix @ f, rtol=1e-4, atol=1e-5)


def test_equal_predictions_cost_nothing_whatever_their_size():
    """Expanded squares would leave the roundings of the offset."""
    w = np.ones((9, 9), np.float32)
    for offset in (0.0, 3000.0):
        f = np.full((9, 4), offset + 0.1, np.float32)
        value, gradient = laplacian(f, w)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)
        f[0, 0] += 0.25
        np.testing.assert_allclose(laplacian(f, w)[0], 16 * 0.0625, rtol=2e-3)


def test_narrow_predictions_are_summed_wide():
    f = np.repeat([[0.0], [1.0]], 200, axis=0).astype(jnp.bfloat16)
    value, gradient = laplacian(f, np.ones((400, 400), np.float32))
    assert (value, value.dtype) == (2 * 200 * 200, np.float32)
    assert gradient.dtype == jnp.bfloat16


def test_rbf_affinity_is_the_kernel_of_scikit_learn():
    x = normal(10, 4)
    want = rbf_kernel(x, gamma=1 / (2 * 1.5**2))
    traced = rbf(np.float32(x).reshape(10, 2, 2), 1.5)
    np.testing.assert_allclose(traced, want, rtol=1e-5)
    fixed = jax.jit(partial(smoothness.rbf_affinity, length_scale=1.5))
    np.testing.assert_allclose(fixed(np.float32(x)), want, rtol=1e-5)


def test_neighbors_are_those_of_scikit_learn():
    x = normal(40, 3)
    found = knn(np.float32(x), 5, np.inf)
    np.testing.assert_array_equal(dense(found), kneighbors_graph(x, 5).toarray())
    assert found.indices.dtype == np.int32
    scaled = knn(np.float32(x), 5, 1.5)
    everything = rbf_kernel(x, gamma=1 / (2 * 1.5**2))
    expected = np.take_along_axis(everything, np.asarray(scaled.indices), axis=1)
    np.testing.assert_allclose(scaled.weights, expected, rtol=1e-5)
    assert (np.diff(scaled.weights, axis=1) <= 0).all()


def test_affinities_of_neighbors_have_derivatives():
    x = normal(8, 2)

    def weights(x, length_scale):
        found = smoothness.knn_affinity(x, neighbors=3, length_scale=length_scale)
        return found.weights, smoothness.rbf_affinity(x, length_scale=length_scale)

    assert_derivatives(weights, x, np.float64(1.5))


def test_far_offsets_do_not_blur_neighbors():
    """Distances from expanded squares would be lost at an offset of 3000 in float32."""
    x = (3000 + normal(30, 3)).astype(np.float32)
    found = knn(x, 3, 1.0)
    expected = kneighbors_graph(x.astype(np.float64), 3).toarray()
    for row, indices in zip(expected, np.asarray(found.indices), strict=True):
        assert set(np.flatnonzero(row)) == set(indices.tolist())


def test_blocks_of_rows_find_the_same_neighbors(monkeypatch):
    x = np.float32(normal(13, 3))
    monkeypatch.setattr(graphs, "_BLOCK", 5 * 13 * 3)  # Blocks of 5, 5 and 3 rows.
    blocks = jax.jit(partial(smoothness.knn_affinity, neighbors=3, length_scale=np.inf))(x)
    np.testing.assert_array_equal(dense(blocks), kneighbors_graph(float64(x), 3).toarray())


def test_ties_and_identical_points():
    """No row is its own neighbor, identical rows are, and the first of a tie come first."""
    same = knn(np.ones((5, 2), np.float32), 2, 1.0)
    np.testing.assert_array_equal(same.indices, [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_array_equal(same.weights, np.ones((5, 2)))
    line = knn(np.arange(5, dtype=np.float32)[:, None], 1, np.inf)
    np.testing.assert_array_equal(line.indices.ravel(), [1, 0, 1, 2, 3])
    everybody = knn(np.arange(3, dtype=np.float32), 2, 1.0)
    np.testing.assert_array_equal(everybody.indices, [[1, 2], [0, 2], [1, 0]])


def test_any_traced_length_is_finite():
    """Identical points, and lengths at the ends of the range."""
    x = np.array([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], np.float32)
    call = jax.jit(jax.value_and_grad(lambda x, length: rbf(x, length).sum(), (0, 1)))
    for length_scale, want in ((0.0, 5), (1e-30, 5), (-1.0, 5), (1e30, 9), (np.inf, 9)):
        value, (of_x, of_length) = call(x, np.float32(length_scale))
        assert value == want
        assert np.isfinite(of_x).all()
        assert np.isfinite(of_length)


def test_lengths_count_as_the_bounds_they_are_beyond():
    x = np.float32([[0.0], [1e-6]])
    np.testing.assert_allclose(rbf(x, 1e-8)[0, 1], np.exp(-0.5), rtol=1e-4)
    far = np.float32([[0.0], [1e15]])
    np.testing.assert_allclose(rbf(far, 1e18)[0, 1], np.exp(-0.5), rtol=1e-4)


def test_differences_are_not_held():
    """The bytes that the compiled programs hold, of some 8 million that the differences have."""
    n, d = 256, 32
    x = jax.ShapeDtypeStruct((n, d), np.float32)
    w = jax.ShapeDtypeStruct((n, n), np.float32)
    differences = n * n * d * 4

    def held(function, *inputs):
        return jax.jit(function).lower(*inputs).compile().memory_analysis().temp_size_in_bytes

    assert held(rbf, x, 1.0) < differences / 16
    assert held(smoothness.graph_laplacian, x, w) < differences / 16
    assert held(jax.grad(smoothness.graph_laplacian), x, w) < differences / 8
    # What the forward pass leaves for the backward pass where they are compiled by themselves.
    pull_back = jax.eval_shape(lambda x, w: jax.vjp(smoothness.graph_laplacian, x, w)[1], x, w)
    assert sum(leaf.size * 4 for leaf in jax.tree.leaves(pull_back)) < differences / 8


def test_wrong_graphs_are_named():
    x = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"`affinity` must have shape \(4, 4\).*got \(4, 2\)"):
        smoothness.graph_laplacian(x, np.ones((4, 2), np.float32))
    for shapes in (((4, 1), (4, 2)), ((3, 2), (3, 2)), ((4,), (4,))):
        wrong = smoothness.Neighbors(np.zeros(shapes[0], np.int32), np.ones(shapes[1]))
        with pytest.raises(ValueError, match=r"`affinity` must contain two arrays \[4, neighbors"):
            smoothness.graph_laplacian(x, wrong)
    with pytest.raises(TypeError, match=r"`predictions` must have a floating-point dtype"):
        smoothness.graph_laplacian(x.astype(np.int32), np.ones((4, 4)))


def test_wrong_neighbors_and_lengths_are_named():
    x = np.ones((4, 2), np.float32)
    for neighbors in (4, 0):
        with pytest.raises(ValueError, match=rf"`neighbors` must be in \[1, 3\].*got {neighbors}"):
            smoothness.knn_affinity(x, neighbors=neighbors, length_scale=1.0)
    with pytest.raises(ValueError, match=r"`neighbors` must be in \[1, 0\] for 1 examples, got 1"):
        smoothness.knn_affinity(x[:1], neighbors=1, length_scale=1.0)
    with pytest.raises(TypeError, match=r"`neighbors` must be an integer, got float"):
        smoothness.knn_affinity(x, neighbors=1.0, length_scale=1.0)
    for affinity in (smoothness.rbf_affinity, partial(smoothness.knn_affinity, neighbors=1)):
        for length, rule in ((np.nan, "a number in"), (-1.0, "a number in"), (0.0, "positive")):
            with pytest.raises(ValueError, match=rf"`length_scale` must be {rule}.*got"):
                affinity(x, length_scale=length)
        with pytest.raises(ValueError, match=r"`length_scale` must be a single number"):
            affinity(x, length_scale=np.ones(4))
        with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
            affinity(x.astype(np.int32), length_scale=1.0)
