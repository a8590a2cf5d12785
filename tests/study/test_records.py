"""Results of a study."""

import jax
import numpy as np

import jaxreg
from jaxreg.study import CLASSIFICATION, Recipe, Study
from jaxreg.study.records import ArmResult, Interval, environment


def arm(name):
    zeros = np.zeros(4)
    curve = np.zeros((7, 4))
    return ArmResult(name, Recipe(), None, zeros, zeros, zeros, curve, curve, (), curve, curve,
                     Interval(0, 0, 0))  # fmt: skip


def test_a_study_knows_its_baseline_its_best_and_its_sizes():
    study = Study((arm("baseline"), arm("l2"), arm("l1")), "l2")
    assert study.baseline is study.arms[0]
    assert study.best is study.arms[1]
    assert (study.seeds, study.epochs) == (4, 7)
    assert study.objective is CLASSIFICATION
    assert study.environment == environment()
    assert (study.notes, study.ablation, study.sizes, study.command) == ((), (), None, "")


def test_the_environment_has_versions_and_devices():
    found = environment()
    assert list(found) == ["python", "jax", "flax", "optax", "jaxreg", "device"]
    assert found["jax"] == jax.__version__
    assert found["jaxreg"] == jaxreg.__version__
    assert found["device"].startswith(f"{jax.device_count()} x ")
