"""A whole training step, exported for accelerators."""

import re

import jax
import pytest
from jax import export

from benchmarks import programs

INNERMOST = re.compile(
    r'"stablehlo\.case"\(%\w+\) \(\{\n((?:(?!"stablehlo\.case").)*?)\}\) :', re.DOTALL
)


def branches_of_cases(text):
    """The branches of every case of a program, those inside of others first."""
    while found := INNERMOST.findall(text):
        yield from (case.split("}, {") for case in found)
        text = INNERMOST.sub("chosen", text)


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
    branches = list(branches_of_cases(text))
    assert branches
    for regions in branches:
        assert len(regions) == 1 or all(region.count("=") == 0 for region in regions)
