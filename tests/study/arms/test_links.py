"""Links before and after Adam, against NumPy."""

import jax
import numpy as np
import pytest

from jaxreg.study import arms
from jaxreg.study.arms.row import GradientLink, UpdateLink, call

RATE, STRENGTH = 0.1, 0.5
KERNEL = np.sin(np.arange(1.0, 13.0, dtype=np.float32)).reshape(3, 4)
BIAS = np.linspace(-1, 1, 4, dtype=np.float32)
UPDATES = np.cos(np.arange(12.0, dtype=np.float32)).reshape(3, 4) / 5
LINKS = arms.acting(GradientLink, UpdateLink)


@pytest.fixture(scope="module")
def moved():
    """What every link makes of the same updates, by one program."""

    @jax.jit
    def compute(params, updates, strength):
        found = {}
        for arm in LINKS:
            link = call(arm.acts.function, {"strength": strength, "learning_rate": RATE})
            found[arm.name] = link.update(updates, link.init(params), params)[0]
        return found

    params = {"kernel": KERNEL, "bias": BIAS}
    return jax.device_get(compute(params, {"kernel": UPDATES, "bias": BIAS / 9}, STRENGTH))


def by_numpy(name):
    """The new updates of the kernel."""
    w = np.float64(KERNEL)
    u = np.float64(UPDATES)
    new = w + u
    norms = np.sqrt((new**2).sum(axis=0))
    grouped = np.maximum(0, 1 - RATE * STRENGTH * np.sqrt(3) / norms)
    whole = np.sqrt((u**2).sum() + (np.float64(BIAS / 9) ** 2).sum())
    return {
        "gradient_clipping": u * min(1, STRENGTH / whole),
        "centralize": u - u.mean(axis=0),
        "cautious_decay": u - RATE * STRENGTH * w * (u * w <= 0),
        "l2": u - RATE * STRENGTH * w,
        "independent_decay": u - STRENGTH * w,
        "l1": np.sign(new) * np.maximum(abs(new) - RATE * STRENGTH, 0) - w,
        "sparse_units": new * grouped - w,
        "max_norm": new * np.minimum(1, STRENGTH / norms) - w,
    }[name]


@pytest.mark.parametrize("name", [arm.name for arm in LINKS])
def test_a_link_is_the_one_of_numpy(name, moved):
    """All but the clipping of the whole gradient leave the bias alone."""
    np.testing.assert_allclose(moved[name]["kernel"], by_numpy(name), rtol=1e-4, atol=1e-6)
    assert abs(by_numpy(name) - UPDATES).max() > 5e-3
    factor = 1.0
    if name == "gradient_clipping":
        factor = by_numpy(name)[0, 0] / UPDATES[0, 0]
        assert factor < 0.99
    np.testing.assert_allclose(moved[name]["bias"], factor * BIAS / 9, rtol=1e-4)
