"""A whole training step, exported for accelerators."""

import re

import jax
import pytest
from jax import export

from benchmarks import programs


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("donated", [(), (0, 1)], ids=["kept", "donated"])
def test_a_training_step_is_plain_stablehlo(platform, donated):
    """Without calls to the host or to a library, and without the branch of another platform."""
    function, arguments = programs.step("jaxreg", 2)
    step = jax.jit(function, donate_argnums=donated)
    text = export.export(step, platforms=(platform,))(*arguments).mlir_module()
    assert "custom_call" not in text
    assert "callback" not in text
    assert text.count("stablehlo.if") == 0
    # A case chooses among constants, and a second one among the branches of this platform: one.
    branches = re.findall(r'"stablehlo\.case"\(%\w+\) \(\{\n(.*?)\}\) :', text, re.DOTALL)
    assert branches
    for branch in branches:
        regions = branch.split("}, {")
        assert len(regions) == 1 or all(region.count("=") == 0 for region in regions)
