"""The diagnosis of real trainings."""

from jaxreg.diagnosis import Verdict, diagnose
from jaxreg.study import Recipe, mlp, run
from jaxreg.study.data import DATA_SETS


def test_verdicts_on_real_training():
    """Small networks on the handwritten digits: memorizing, decayed, dropped, healthy, slow."""

    def train(rows, learning_rate, epochs, *recipes):
        split = DATA_SETS["digits"].load(train_size=rows)
        runs = run(mlp((64,), 10), split, recipes, seeds=2, epochs=epochs,
                   learning_rate=learning_rate)  # fmt: skip
        return [
            {"train_loss": runs.train_loss[i], "validation_loss": runs.validation_loss[i]}
            for i in range(len(recipes))
        ]

    memorizing, decayed, dropped = train(
        100, 1e-2, 60, Recipe(), Recipe({"l2": 30.0}), Recipe({"dropout": 0.9})
    )
    assert diagnose(memorizing).verdict in (Verdict.TOO_LITTLE, Verdict.OVERFITTING)
    assert diagnose(decayed, baseline=memorizing).verdict == Verdict.TOO_MUCH
    assert diagnose(decayed).verdict == Verdict.UNDERFITTING
    assert diagnose(dropped, baseline=memorizing).verdict == Verdict.TOO_MUCH
    faster = train(100, 0.3, 30, Recipe())[0]
    assert diagnose(faster).verdict == Verdict.OVERFITTING, diagnose(faster)
    assert diagnose(train(1200, 1e-3, 15, Recipe())[0]).verdict == Verdict.HEALTHY
    assert diagnose(train(300, 1e-5, 15, Recipe())[0]).verdict == Verdict.UNDERFITTING
