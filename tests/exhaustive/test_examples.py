"""Every example runs to its end, in a process of its own and without a warning."""

import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_channels_that_structured_sparsity_cuts_out_change_no_output():
    example = runpy.run_path(str(EXAMPLES[0].with_name("structured_sparsity.py")))
    network = example["Network"]
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    params = network((4, 6)).init(jax.random.key(1), x)["params"]
    for number, name in enumerate(("conv_0", "conv_1")):
        width = len(params[name]["bias"])
        params[name]["bias"] = jnp.linspace(-1.0, 1.0, width)
        dead = jnp.arange(width) % 2 == number
        params[name]["kernel"] = jnp.where(dead, 0, params[name]["kernel"])
    small = example["remove_channels"](params)
    assert [small[name]["kernel"].shape[2:] for name in ("conv_0", "conv_1")] == [(1, 2), (2, 3)]
    expected = network((4, 6)).apply({"params": params}, x)
    actual = network((2, 3)).apply({"params": small}, x)
    np.testing.assert_allclose(actual, expected, atol=2e-6)
