"""Studies of noise: nothing helps, so hardly any arm may be called better."""

from functools import partial

import numpy as np

from jaxreg.study import Trainer, compare, grid, mlp, stratified_split
from jaxreg.study.reports.judgments import BETTER
from jaxreg.study.reports.summary import summarize

STUDIES = 100
ARMS = ("baseline", "l2", "dropout")
make_model = mlp((8,), 2)


def finds_a_better_arm(index):
    """Whether a study of shuffled labels calls any arm better than the baseline."""
    rng = np.random.default_rng(index)
    x = rng.normal(size=(240, 5))
    labels = rng.permutation(np.arange(240) % 2)
    trainer = Trainer(
        make_model,
        stratified_split(x, labels, train_size=60),
        seeds=8,
        epochs=8,
        batch_size=20,
        learning_rate=0.01,
    )
    found = compare(partial(trainer), [grid(name, count=3) for name in ARMS])
    return any(row.mark == BETTER for row in summarize(found).rows)


def test_hardly_any_study_of_shuffled_labels_finds_a_better_arm():
    wrong = sum(finds_a_better_arm(index) for index in range(STUDIES))
    assert wrong <= 5, wrong
