"""Made-up results of finished studies, and readers of what reports print."""

import dataclasses
import io
import math
from html.parser import HTMLParser

import numpy as np
from rich.console import Console

from jaxreg.study.data import DATA_SETS
from jaxreg.study.objectives import CLASSIFICATION, REGRESSION
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Ablation, ArmResult, Interval, Study
from jaxreg.study.reports import print_table
from jaxreg.study.reports.summary import summarize

SEEDS, EPOCHS = 6, 5
ALL_ON = Recipe(
    {
        "l1": 0.03, "l2": 0.5, "dropout": 0.25, "label_smoothing": 0.1, "max_norm": 2.0,
        "early_stopping": 3.0, "batch_norm": True,
    }
)  # fmt: skip


def make_arm(name, gain, interval, *, recipe=None, strengths=(), seed=0, seeds=SEEDS):
    """An arm with scores about 0.9 and losses that hardly change."""
    rng = np.random.default_rng(seed)
    score = 0.9 + gain + rng.normal(0, 0.01, (3, seeds))
    loss = rng.lognormal(-1, 0.1, (2, EPOCHS, seeds)).astype(np.float32)
    grid = 0.9 + rng.normal(0, 0.01, (2, len(strengths), seeds))
    return ArmResult(
        name=name,
        recipe=Recipe() if recipe is None else recipe,
        strength=strengths[0] if strengths else None,
        train=np.minimum(score[0] + 0.1, 1),
        validation=score[1],
        test=score[2],
        train_loss=loss[0],
        validation_loss=loss[1],
        strengths=strengths,
        grid_validation=grid[0],
        grid_test=grid[1],
        difference=Interval(*interval),
        others={"balanced_accuracy": score[2].mean() - 0.002, "macro_f1": score[2].mean() - 0.004},
    )


ABLATION = (
    Ablation("l1", 0.03, Interval(-0.01, -0.02, -0.001)),
    Ablation("dropout", 0.25, Interval(0.001, -0.01, 0.012)),
    Ablation("batch_norm", None, Interval(0.01, 0.002, 0.02)),
)


def make_study(data="digits", command="jaxreg study --seeds 4", name="l1", seeds=SEEDS, **changes):
    """A study with a better, an unclear and a worse arm, and a combination that was chosen."""
    arms = (
        make_arm("baseline", 0, (0, 0, 0), seeds=seeds),
        make_arm(name, 0.01, (0.01, 0.004, 0.016), recipe=Recipe({"l1": 0.1}), strengths=(0.1, 1.0),
                 seed=1, seeds=seeds),
        make_arm("max_norm", 0.0, (0.001, -0.01, 0.012), recipe=Recipe({"max_norm": 2.0}),
                 strengths=(2.0, math.inf), seed=2, seeds=seeds),
        make_arm("batch_norm", -0.02, (-0.02, -0.03, -0.01), recipe=Recipe({"batch_norm": True}),
                 seed=3, seeds=seeds),
        make_arm("combined", 0.02, (0.02, 0.01, 0.03), recipe=ALL_ON, seed=4, seeds=seeds),
    )  # fmt: skip
    fields = {
        "arms": arms,
        "chosen": "combined",
        "notes": ("A remark on the way.",),
        "ablation": ABLATION,
        "objective": CLASSIFICATION,
        "data": data,
        "sizes": (300, 300, 1197),
        "command": command,
        "environment": {"python": "3.11", "jaxreg": "1.0", "device": "1 x cpu"},
    }
    return Study(**(fields | changes))


def with_metric(study, name):
    """The study as a regression whose scores are of another metric; smaller may be better."""
    objective = REGRESSION.with_metric(name)
    others = {metric.name: 0.5 for metric in objective.metrics[1:]}
    arms = tuple(dataclasses.replace(arm, others=others) for arm in study.arms)
    return dataclasses.replace(study, objective=objective, arms=arms)


def with_arms(study, *arms, **changes):
    """The study with other arms, of which the last one was chosen."""
    return dataclasses.replace(study, arms=arms, **{"chosen": arms[-1].name} | changes)


def printed(study, **options):
    console = Console(file=io.StringIO(), **options)
    print_table(summarize(study), console)
    return console.file.getvalue()


def table_rows(text):
    """The lines of the printed table by their first word."""
    table, *_ = text.split("\n\n")
    return {line.split()[0]: line for line in table.splitlines()}


VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks the nesting of tags and collects tags and text for the tests."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.tags = []
        self.text = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, *names):
        return [(attributes, inside) for tag, attributes, inside in self.tags if tag in names]


def circles_as_published(*, strength=0.01, epochs=None, **changes):
    """A study of the circles with the published settings, unless they are changed."""
    data_set = DATA_SETS["circles"]
    fields = {"sizes": (data_set.train_size, 1000, 1000)} | changes
    study = make_study("circles", **fields)
    loss = np.ones((data_set.epochs if epochs is None else epochs, SEEDS), np.float32)
    arms = [dataclasses.replace(arm, train_loss=loss, validation_loss=loss) for arm in study.arms]
    arms[1] = dataclasses.replace(arms[1], strength=strength)
    return dataclasses.replace(study, arms=tuple(arms))
