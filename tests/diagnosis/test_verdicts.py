"""The diagnosis of histories whose verdicts are known, and of histories that say nothing."""

import math
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from jaxreg.diagnosis import Evidence, Thresholds, Verdict, diagnose, diagnose_better, verdicts
from tests.diagnosis.histories import (
    FAMILIES,
    burdened,
    decay,
    drifting,
    hard,
    healthy,
    low_plateau,
    nearly_done,
    oscillating,
    overtaken,
    plateau,
    rattling,
    stuck,
    turning,
)

NAN, INF = math.nan, math.inf


# Epochs, loss at the start, noise.
LOOKS = ((12, 2.3, 0.0), (60, 1.0, 0.01), (60, 1e4, 0.02), (200, 1e-6, 0.01), (500, 0.69, 0.005))


def noisy(curve, amount, seed):
    return curve + amount * np.random.default_rng(seed).normal(size=curve.size)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_verdicts_on_curves_of_every_kind(family, look):
    epochs, scale, amount = look
    train, validation = family(epochs)
    history = {
        "train_loss": scale * noisy(train, amount, 0),
        "validation_loss": scale * noisy(validation, amount, 1),
    }
    found = diagnose(history)
    assert found.verdict == FAMILIES[family], found
    assert any(character.isdigit() for reason in found.reasons for character in reason)
    assert found.changes


# Losses below the floor have no level and no scale: poor or scattered ones look like any others.
LEVELS = (stuck, burdened, overtaken, oscillating, hard, nearly_done, rattling)


@pytest.mark.parametrize("shift", [-0.5, -5.0, -1e3])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in LEVELS],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_verdicts_on_negative_losses(family, shift):
    train, validation = family(80)
    train = noisy(train, 0.003, 0)
    validation = noisy(validation, 0.003, 1)
    found = diagnose({"train_loss": train + shift, "validation_loss": validation + shift})
    assert found.verdict == FAMILIES[family], found
    same = diagnose({"train_loss": train + shift, "validation_loss": validation + shift},
                    floor=shift)  # fmt: skip
    assert same.verdict == FAMILIES[family], same


def test_a_small_rise_is_no_overfitting():
    history = as_history(drifting(100))
    found = diagnose(history)
    assert found.verdict == Verdict.HEALTHY, found
    assert found.evidence.rise > 0.9 * Thresholds().rise
    strict = Thresholds(rise=0.015, relative_rise=0.0)
    assert diagnose(history, thresholds=strict).verdict == Verdict.OVERFITTING


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_no_overfitting(seed):
    train, validation = healthy(60)
    history = as_history((noisy(train, 0.01, seed), noisy(validation, 0.04, 100 + seed)))
    assert diagnose(history).verdict == Verdict.HEALTHY, diagnose(history)


@pytest.mark.parametrize(
    ("history", "epochs"),
    [
        ({}, 0),
        ({"train_loss": []}, 0),
        ({"train_loss": [], "validation_loss": []}, 0),
        ({"train_loss": [NAN] * 9, "validation_loss": [NAN] * 9}, 0),
        ({"train_loss": [1.0], "validation_loss": [1.0]}, 1),
        ({"train_loss": [1.0, 0.5, 0.4, 0.3], "validation_loss": [1.0, 0.5, 0.4, 0.3]}, 4),
        ({"train_loss": np.linspace(1, 0.1, 20)}, 20),
        ({"train_loss": np.linspace(1, 0.1, 8), "validation_loss": [NAN] * 8}, 8),
        ({"train_loss": np.zeros((0, 3)), "validation_loss": np.zeros((0, 3))}, 0),
        ({"train_loss": np.zeros((4, 0))}, 0),
    ],
)
def test_too_little_to_say_is_answered(history, epochs):
    found = diagnose(history)
    assert found.verdict == Verdict.NOT_ENOUGH
    assert found.evidence.epochs == epochs
    assert str(epochs) in found.reasons[0]
    assert "epoch" in str(found)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-30, 1e30])
def test_constant_curves_are_answered(value):
    found = diagnose({"train_loss": [value] * 9, "validation_loss": [value] * 9})
    perfect = {0.0: Verdict.HEALTHY}
    assert found.verdict == perfect.get(value, Verdict.UNDERFITTING)
    assert "nan" not in str(found)


@pytest.mark.parametrize("tail", [[INF], [-INF], [NAN], [INF, NAN, NAN]])
@pytest.mark.parametrize("head", [1, 3, 8])
def test_a_run_that_breaks_is_unstable_however_short(head, tail):
    losses = [*np.linspace(1, 0.5, head), *tail]
    found = diagnose({"train_loss": losses, "validation_loss": losses})
    assert found.verdict == Verdict.UNSTABLE
    assert f"from epoch {head + 1} on" in found.reasons[0]


def test_what_was_measured_now_and_then_is_no_break():
    train, validation = healthy(43)
    sparse = np.where(np.arange(43) % 5 == 0, validation, NAN)
    found = diagnose({"train_loss": train, "validation_loss": sparse})
    assert found.verdict == Verdict.HEALTHY
    train, validation = turning(43)
    sparse = np.where(np.arange(43) % 5 == 0, validation, NAN)
    found = diagnose({"train_loss": train, "validation_loss": sparse})
    assert found.verdict == Verdict.OVERFITTING
    assert found.evidence.best_epoch % 5 == 1


def test_kinds_of_histories_agree():
    train, validation = turning(40)
    mapping = {"train_loss": train, "validation_loss": validation, "epoch": range(40)}
    want = diagnose(mapping)
    runs = SimpleNamespace(
        train_loss=np.stack([train - 0.2, train + 0.2], axis=1),
        validation_loss=np.stack([validation + 0.3, validation - 0.3], axis=1),
    )
    lists = {"train_loss": train.tolist(), "validation_loss": validation.tolist()}
    narrow = {"train_loss": train.astype(ml_dtypes.bfloat16),
              "validation_loss": np.float32(validation)}  # fmt: skip
    for history in (runs, lists, narrow):
        found = diagnose(history)
        assert (found.verdict, found.changes) == (want.verdict, want.changes)
        assert found.evidence.gap == pytest.approx(want.evidence.gap, abs=0.01)


def test_numbers_of_the_evidence():
    """The definitions of the module, written out for one curve."""
    train = np.array([4.0, 2.0, 1.0, 0.8, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4])
    validation = np.array([4.2, 2.4, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.0, 3.0])
    found = diagnose({"train_loss": train, "validation_loss": validation}).evidence
    assert (found.epochs, found.initial, found.train, found.validation) == (10, 4.0, 0.4, 3.0)
    assert found.level == pytest.approx(0.1)
    assert found.gap == pytest.approx(2.6 / 4)
    assert found.excess == pytest.approx(2.6 / 3)
    # The median of 2.4, 2.0 and 2.2 is 2.2.
    assert (found.best_epoch, found.rise) == (3, pytest.approx(0.8 / 4))
    assert found.relative_rise == pytest.approx(0.8 / 2.2)
    raised = diagnose({"train_loss": train + 1, "validation_loss": validation + 1}, floor=1.0)
    assert raised.evidence.level == pytest.approx(found.level)
    assert raised.evidence.relative_rise == pytest.approx(found.relative_rise)


def test_numbers_of_a_rough_curve():
    """The other definitions, written out as well."""
    train = np.array([2.0, 1.0, 0.5, 1.25, 0.75, 0.5, 0.25, 0.5, 0.75, 1.0])
    accuracy = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, NAN, 0.8, 0.9])
    found = diagnose({"train_loss": train, "train_accuracy": accuracy}).evidence
    # Medians of three: 2, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.5, 0.75, 1; the end has 0.75.
    assert (found.initial, found.train, found.level) == (2.0, 0.75, 0.375)
    assert found.train_rise == pytest.approx(0.25 / 2)
    assert found.jump == pytest.approx(0.75 / 2)
    assert found.train_accuracy == pytest.approx(0.8)
    # The last three rise by 0.25 an epoch; the whole fall is 1.5.
    assert found.falling == pytest.approx(-0.75 / 1.5)
    second = np.diff(train, 2)
    deviation = np.median(abs(second - np.median(second)))
    assert found.noise == pytest.approx(1.4826 * deviation / math.sqrt(6) / 2)
    assert found.falls == (5 * 2 * found.noise < 1.5)
    assert math.isnan(found.gap)
    assert math.isnan(found.cost)


def test_a_tenth_of_a_long_run_is_smoothed_together():
    loss = np.linspace(1, 0.1, 40)
    loss[20] = 0.0
    history = {"train_loss": loss, "validation_loss": loss}
    found = diagnose(history).evidence
    # Medians over 5 epochs; the end is the median of 8.
    smoothed = [np.median(np.pad(loss, 2, mode="edge")[i : i + 5]) for i in range(40)]
    assert found.best_epoch == np.argmin(smoothed) + 1
    assert found.rise == 0
    assert found.validation == pytest.approx(np.median(loss[-8:]))


def test_a_baseline_is_measured_in_its_own_units():
    train = np.array([4.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    base = np.array([8.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    validation = np.array([8.0, 4.0, 1.5, 2.0, 2.5, 2.5])
    found = diagnose(
        {"train_loss": train, "validation_loss": train + 1},
        baseline={"train_loss": base, "validation_loss": validation},
    ).evidence
    assert found.cost == pytest.approx((2.0 - 1.0) / 8)
    # Medians of three of the baseline: 8, 4, 2, 2, 2.5, 2.5.
    assert found.gain == pytest.approx((2.0 - 3.0) / 8)
    raised = diagnose(
        {"train_loss": train + 1, "validation_loss": train + 2},
        baseline={"train_loss": base + 1, "validation_loss": validation + 1},
        floor=1.0,
    ).evidence
    assert (raised.cost, raised.gain) == pytest.approx((found.cost, found.gain))


GOOD = Evidence(
    epochs=20, initial=1.0, train=0.1, validation=0.12, level=0.1, gap=0.02, excess=0.2,
    best_epoch=18, rise=0.0, relative_rise=0.0, train_rise=0.0, falling=0.0, noise=0.0, jump=0.0,
)  # fmt: skip
WORSE = {"gap": 0.1, "excess": 0.2}
TINY = 1e-9
EDGES = [
    # What is changed, the field that decides, its last value without the verdict, the verdict.
    ({}, "epochs", (5, 4), Verdict.NOT_ENOUGH),
    ({}, "noise", (0.1 - TINY, 0.1), Verdict.UNSTABLE),
    ({}, "jump", (0.5 - TINY, 0.5), Verdict.UNSTABLE),
    ({}, "train_rise", (0.25 - TINY, 0.25), Verdict.UNSTABLE),
    ({"gain": -0.02}, "cost", (0.1 - TINY, 0.1), Verdict.TOO_MUCH),
    ({"cost": 0.1}, "gain", (-0.02 + TINY, -0.02), Verdict.TOO_MUCH),
    ({"rise": 0.05}, "train_rise", (0.05 - TINY, 0.05), Verdict.TOO_MUCH),
    ({"train_rise": 0.05}, "rise", (0.05 - TINY, 0.05), Verdict.TOO_MUCH),
    ({"train_rise": 0.2, "rise": 0.2}, "noise", (0.1, 0.1 - TINY), Verdict.TOO_MUCH),
    ({"level": 0.5}, "gap", (-0.05 + TINY, -0.05), Verdict.TOO_MUCH),
    ({"level": 0.25}, "gap", (-0.1 + TINY, -0.1), Verdict.TOO_MUCH),
    ({"gap": -0.1}, "level", (0.25 - TINY, 0.25), Verdict.TOO_MUCH),
    ({}, "level", (0.5 - TINY, 0.5), Verdict.UNDERFITTING),
    ({"level": NAN}, "falls", (True, False), Verdict.UNDERFITTING),
    ({"relative_rise": 0.05}, "rise", (0.02 - TINY, 0.02), Verdict.OVERFITTING),
    ({"rise": 0.02}, "relative_rise", (0.05 - TINY, 0.05), Verdict.OVERFITTING),
    ({"rise": 0.04, "relative_rise": 0.05}, "noise", (0.02 + TINY, 0.02), Verdict.OVERFITTING),
    ({"rise": 0.04, "relative_rise": 0.05}, "gap", (0.0, TINY), Verdict.OVERFITTING),
    ({"validation_accuracy": 0.9}, "train_accuracy", (0.99 - TINY, 0.99), Verdict.OVERFITTING),
    ({"train_accuracy": 1.0}, "validation_accuracy", (0.95 + TINY, 0.95), Verdict.OVERFITTING),
    ({"excess": 0.5}, "gap", (0.05 - TINY, 0.05), Verdict.TOO_LITTLE),
    ({"gap": 0.1}, "excess", (0.5 - TINY, 0.5), Verdict.TOO_LITTLE),
    ({"excess": NAN}, "gap", (0.1 - TINY, 0.1), Verdict.TOO_LITTLE),
    ({"excess": 0.1}, "gap", (0.2 - TINY, 0.2), Verdict.TOO_LITTLE),
    ({"level": 0.25}, "falling", (0.1 - TINY, 0.1), Verdict.UNDERFITTING),
    ({"falling": 0.1}, "level", (0.25 - TINY, 0.25), Verdict.UNDERFITTING),
]


@pytest.mark.parametrize(("changes", "field", "values", "verdict"), EDGES, ids=str)
def test_each_verdict_begins_where_the_thresholds_say(changes, field, values, verdict):
    """Healthy evidence but for a few numbers, one of which crosses its threshold."""
    found = [
        verdicts._judge(GOOD._replace(**changes | {field: value}), Thresholds())[0]
        for value in values
    ]
    assert found[0] != verdict
    assert found[1] == verdict


def test_the_earlier_rule_decides():
    """Noise spoils everything; a gap counts less than a turn, and haste least."""
    turned = {"rise": 0.1, "relative_rise": 0.5, "gap": 0.3, "excess": 0.8}
    for changes, verdict in (
        ({**turned, "noise": 0.5}, Verdict.UNSTABLE),
        (turned, Verdict.OVERFITTING),
        ({**turned, "cost": 0.0}, Verdict.TOO_LITTLE),
        ({**turned, "cost": 0.2, "gain": -0.1}, Verdict.TOO_LITTLE),
        ({**turned, "level": 0.6}, Verdict.OVERFITTING),
        ({"gap": 0.3, "level": 0.6}, Verdict.TOO_LITTLE),
        ({"gap": 0.3, "level": 0.4, "falling": 0.5}, Verdict.TOO_LITTLE),
        ({"broke_at": 3, "epochs": 2}, Verdict.UNSTABLE),
        ({"broke_at": 1, "epochs": 0}, Verdict.NOT_ENOUGH),
        ({"epochs": 4, "noise": 1.0, "jump": 1.0, "train_rise": 1.0}, Verdict.NOT_ENOUGH),
    ):
        assert verdicts._judge(GOOD._replace(**changes), Thresholds())[0] == verdict, changes


def test_noise_is_measured_about_the_trend():
    values = 3 + 10 * np.exp(-np.arange(2000) / 300) + np.random.default_rng(0).normal(0, 0.1, 2000)
    found = diagnose({"train_loss": values, "validation_loss": values}).evidence
    # The standard error of a deviation by medians from 2000 second differences is near 3%.
    assert found.noise * found.initial == pytest.approx(0.1, rel=0.1)


def test_perfect_training_accuracy_tells_what_the_losses_hide():
    train, validation = healthy(30)
    history = {"train_loss": train, "validation_loss": validation}
    accuracies = {"train_accuracy": np.full(30, 1.0), "validation_accuracy": np.full(30, 0.9)}
    assert diagnose(history).verdict == Verdict.HEALTHY
    found = diagnose({**history, **accuracies})
    assert found.verdict == Verdict.OVERFITTING
    assert "1.000" in found.reasons[0]
    assert "0.900" in found.reasons[0]
    accuracies["validation_accuracy"] = np.full(30, 0.97)
    assert diagnose({**history, **accuracies}).verdict == Verdict.HEALTHY


def as_history(curves):
    return dict(zip(("train_loss", "validation_loss"), curves, strict=True))


def test_a_baseline_tells_whose_fault_a_poor_training_loss_is():
    poor = as_history(stuck(60))
    good = as_history(healthy(60))
    assert diagnose(poor).verdict == Verdict.UNDERFITTING
    assert diagnose(poor, baseline=poor).verdict == Verdict.UNDERFITTING
    found = diagnose(poor, baseline=good)
    assert found.verdict == Verdict.TOO_MUCH
    assert found.evidence.cost == pytest.approx(0.7, abs=0.02)
    # What costs training and pays in validation is what regularization is for.
    paid = as_history((decay(60, 1, 0.25, 0.15), decay(60, 1, 0.28, 0.15)))
    assert diagnose(paid, baseline=as_history(plateau(60))).verdict == Verdict.HEALTHY


def test_overfitting_beside_a_baseline_is_too_little_regularization():
    curves = as_history(turning(60))
    assert diagnose(curves).verdict == Verdict.OVERFITTING
    assert diagnose(curves, baseline=curves).verdict == Verdict.TOO_LITTLE
    assert diagnose(curves, baseline={}).verdict == Verdict.OVERFITTING
    # Neither a dearer training loss nor the best loss of the baseline makes it too much.
    dear = as_history([curve + 0.1 for curve in turning(60)])
    found = diagnose(dear, baseline=curves)
    assert (found.evidence.cost >= 0.1, found.evidence.gain <= -0.02) == (True, True)
    assert found.verdict == Verdict.TOO_LITTLE


def test_a_run_that_scores_better_never_has_too_much():
    good = as_history(healthy(60))
    lossy = as_history([curve + 0.15 for curve in healthy(60)])
    assert diagnose(lossy, baseline=good).verdict == Verdict.TOO_MUCH
    assert diagnose_better(lossy, baseline=good).verdict == Verdict.HEALTHY
    rising = as_history(overtaken(60))
    assert diagnose(rising).verdict == Verdict.TOO_MUCH
    found = diagnose_better(rising, baseline=good)
    assert found.verdict == Verdict.UNDECIDED
    assert found.reasons[-1].endswith("but its score is as good as the baseline's or better")
    assert diagnose_better(rising).reasons[-1].endswith("but this is the baseline, which has none")
    worse = as_history(turning(60))
    assert diagnose_better(worse, baseline=good) == diagnose(worse, baseline=good)


@pytest.mark.parametrize(
    ("curves", "parts", "change"),
    [
        (burdened, {"l2": 0.5, "batch_norm": True}, "make weaker: l2 (now 0.5), batch_norm"),
        (burdened, None, "a third of the weight of every penalty and decay"),
        (plateau, {"dropout": 0.25}, "make stronger: dropout (now 0.25)"),
        (plateau, {}, "stop at the best validation loss"),
        (turning, {"dropout": 0.25}, "stop at the best validation loss"),
    ],
)
def test_changes_name_what_the_run_has(curves, parts, change):
    assert diagnose(as_history(curves(60)), parts=parts).changes[0].what == change


def test_epochs_are_numbered_as_in_the_history():
    history = as_history(turning(40))
    first = diagnose(history).evidence
    found = diagnose({**history, "epoch": np.arange(0, 400, 10), "counter": "step"})
    assert found.evidence.best_epoch == 10 * (first.best_epoch - 1)
    assert f"minimum of step {found.evidence.best_epoch}, at step 390" in found.reasons[0]
    fine = diagnose({**history, "epoch": np.arange(40) / 4}).evidence
    assert fine.best_epoch == (first.best_epoch - 1) / 4


def test_thresholds_are_arguments():
    history = as_history(low_plateau(60))
    assert diagnose(history).verdict == Verdict.TOO_LITTLE
    assert diagnose(history, thresholds=Thresholds(gap=0.3)).verdict == Verdict.HEALTHY
    assert diagnose(history, thresholds=Thresholds(epochs=61)).verdict == Verdict.NOT_ENOUGH


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ({"loss": [1.0]}, ValueError, r"`history` must have a `train_loss`, .* got \['loss'\]"),
        ([1.0, 0.5], ValueError, r"`history` must have a `train_loss`, .* got list"),
        ({"train_loss": ["low"]}, TypeError, "`train_loss` must hold numbers"),
        ({"train_loss": [1.0], "epoch": [1, 2]}, ValueError, "`epoch` must have one number per"),
        ({"train_loss": np.ones((2, 2, 2))}, ValueError, r"\[epochs, runs\], got \(2, 2, 2\)"),
        (
            {"train_loss": [1.0, 0.5], "validation_loss": [1.0]},
            ValueError,
            "`validation_loss` must have one number per epoch .* got 1 and 2; put None",
        ),
    ],
)
def test_what_is_no_history_is_refused(history, error, message):
    with pytest.raises(error, match=message):
        diagnose(history)


def test_text_has_verdict_numbers_and_changes():
    first, *rest = str(diagnose(as_history(turning(60)))).splitlines()
    assert first == "overfitting"
    assert rest[0].startswith("  because the validation loss ends 0.")
    assert "  try: stop at the best validation loss (jaxreg.training.early_stopping)" in rest
