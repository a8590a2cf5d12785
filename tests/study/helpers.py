"""Small data that train fast, and made-up results of finished studies."""

import dataclasses
import io
import math
from html.parser import HTMLParser

import numpy as np
from rich.console import Console

from jaxreg.study import data, report
from jaxreg.study.data import TASKS
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Arm, Interval, Study

SEEDS, EPOCHS = 6, 5
ALL_ON = Recipe(
    l1=0.03, l2=0.5, dropout=0.25, label_smoothing=0.1, max_norm=2.0, patience=3.0, batch_norm=True
)


def blobs(seed):
    """Two overlapping clouds, drawn anew for every seed."""
    rng = np.random.default_rng(seed)

    def rows(count):
        y = rng.integers(0, 2, count)
        x = rng.normal(size=(count, 3)) + y[:, None]
        return x.astype(np.float32), y.astype(np.int32)

    return data.Split(*rows(50), *rows(30), *rows(40))


def shaped(*shape):
    """The clouds as rows of another shape, with a mean and a deviation."""

    def split(seed):
        found = blobs(seed)
        row = np.linspace(0.5, 1.5, math.prod(shape), dtype=np.float32).reshape(shape)
        rows = [
            part[:, :1].reshape(-1, *(1,) * len(shape)) * row if part.ndim == 2 else part
            for part in found[:6]
        ]
        return data.Split(*rows, mean=row, stddev=2 * row)

    return split


def words(seed):
    """Texts of five words, one of which determines the label; ids 0 and 1 are no words."""
    rng = np.random.default_rng(seed)

    def rows(count):
        y = rng.integers(0, 2, count)
        x = rng.integers(4, 7, (count, 5))
        x[:, 1] = 2 + y
        x[:, 3:] = 0
        return x.astype(np.int32), y.astype(np.int32)

    return data.Split(*rows(50), *rows(30), *rows(40))


# Data for every kind of row, with the size of its vocabulary.
KINDS = {
    "table": (blobs, 0),
    "series": (shaped(4, 2), 0),
    "image": (shaped(4, 5, 2), 0),
    "text": (words, 7),
}


def make_arm(name, gain, interval, *, recipe=None, strengths=(), seed=0):
    rng = np.random.default_rng(seed)
    accuracy = 0.9 + gain + rng.normal(0, 0.01, (3, SEEDS))
    loss = rng.lognormal(-1, 0.1, (2, EPOCHS, SEEDS)).astype(np.float32)
    grid = 0.9 + rng.normal(0, 0.01, (2, len(strengths), SEEDS))
    return Arm(
        name=name,
        recipe=recipe or Recipe(),
        strength=strengths[0] if strengths else None,
        train=np.minimum(accuracy[0] + 0.1, 1),
        validation=accuracy[1],
        test=accuracy[2],
        train_loss=loss[0],
        validation_loss=loss[1],
        strengths=strengths,
        grid_validation=grid[0],
        grid_test=grid[1],
        difference=Interval(*interval),
    )


def make_study(data="digits", command="jaxreg study --seeds 4", name="l1", **changes):
    arms = (
        make_arm("baseline", 0, (0, 0, 0)),
        make_arm(name, 0.01, (0.01, 0.004, 0.016), recipe=Recipe(l1=0.1), strengths=(0.1, 1.0),
                 seed=1),
        make_arm("max_norm", 0.0, (0.001, -0.01, 0.012), recipe=Recipe(max_norm=2.0),
                 strengths=(2.0, math.inf), seed=2),
        make_arm("batch_norm", -0.02, (-0.02, -0.03, -0.01), recipe=Recipe(batch_norm=True),
                 seed=3),
        make_arm("combined", 0.02, (0.02, 0.01, 0.03), recipe=ALL_ON, seed=4),
    )  # fmt: skip
    environment = {"python": "3.11", "jaxreg": "1.0", "device": "1 x cpu"}
    fields = {
        "chosen": "combined", "notes": ("A remark on the way.",), "seeds": SEEDS, "epochs": EPOCHS,
        "sizes": (300, 300, 1197),
    } | changes  # fmt: skip
    return Study(data=data, arms=arms, command=command, environment=environment, **fields)


def with_recipe(recipe, data="digits"):
    study = make_study(data)
    chosen = dataclasses.replace(study.arms[-1], recipe=recipe)
    return dataclasses.replace(study, arms=(*study.arms[:-1], chosen))


def printed(study, **options):
    console = Console(file=io.StringIO(), **options)
    report.print_table(study, console)
    return console.file.getvalue()


def table_rows(text):
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


def with_curves(**curves):
    """A study whose first arms have the given curves, the same for every seed."""
    study = make_study()
    arms = list(study.arms)
    for index, (train, validation) in enumerate(curves.values()):
        losses = {"train_loss": train, "validation_loss": validation}
        columns = {
            key: np.repeat(np.array(loss, np.float32)[:, None], SEEDS, axis=1)
            for key, loss in losses.items()
        }
        arms[index] = dataclasses.replace(arms[index], **columns)
    return dataclasses.replace(study, arms=tuple(arms))


def circles_as_published(*, strength=0.01, **changes):
    task = TASKS["circles"]
    fields = {"epochs": task.epochs, "sizes": (task.train_size, 1000, 1000)} | changes
    study = make_study("circles", **fields)
    arms = list(study.arms)
    arms[1] = dataclasses.replace(arms[1], strength=strength)
    return dataclasses.replace(study, arms=tuple(arms))
