"""The advice: its tables are complete, consistent and lead to code, and it says what they say."""

import importlib
import inspect
import itertools
import pathlib
import re

import pytest

from jaxreg.advice.ranking import LARGE_ROWS, SMALL_BATCH, SMALL_ROWS, advise
from jaxreg.advice.rows import ARCHITECTURES, NEEDS, ROWS, TASKS
from jaxreg.advice.starts import STARTS
from jaxreg.diagnosis.changes import CHANGES
from tests.advice import table
from tests.advice.calls import exists

SIZES = {"": None, "small": SMALL_ROWS - 1, "large": LARGE_ROWS}
BATCHES = {"": None, "small": SMALL_BATCH - 1, "large": SMALL_BATCH}


def name_of(row):
    conditions = (*row.tasks, *row.architectures, row.rows, row.batch, row.need)
    return "-".join([row.technique, *filter(None, conditions)])


def test_addresses_in_the_text_lead_to_code():
    texts = [f"{start.note} {start.call}" for start in STARTS.values()]
    texts += [change.address for changes in CHANGES.values() for change in changes]
    addresses = set(re.findall(r"jaxreg(?:\.\w+)+", " ".join(texts)))
    assert len(addresses) > 10
    assert [address for address in addresses if not exists(address)] == []


def test_every_technique_has_a_start_and_every_start_a_row():
    assert {row.technique for row in ROWS} == set(STARTS)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_rows_are_complete(row):
    assert re.search(r"\d{4}, https://", row.source)
    assert row.reason
    assert set(row.tasks) <= set(TASKS)
    assert set(row.architectures) <= set(ARCHITECTURES)
    assert row.rows in SIZES
    assert row.batch in {*BATCHES, "variable"}
    assert row.need in {"", *NEEDS}
    assert row.weight in (1, 2, 3)


def query(row, task, architecture):
    return advise(
        task=task,
        architecture=architecture,
        rows=SIZES[row.rows],
        batch_size=BATCHES.get(row.batch),
        variable_batch=row.batch == "variable",
        needs=[row.need] if row.need else [],
    )


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_every_condition_is_reachable(row):
    """Some question that meets the conditions of a row gets its reason, or what outweighs it."""
    found = [
        advice
        for task, architecture in itertools.product(
            row.tasks or [None], row.architectures or [None]
        )
        for advice in query(row, task, architecture)
        if advice.technique == row.technique and row.reason in advice.reasons
    ]
    assert found
    assert all(advice.avoid == row.avoid for advice in found)
    # Nothing but the conditions brings it.
    nothing = {advice.technique: advice.reasons for advice in advise()}
    conditions = (row.tasks, row.architectures, row.rows, row.batch, row.need)
    assert (row.reason in nothing.get(row.technique, ())) != any(conditions)


def test_every_word_is_used():
    assert {task for row in ROWS for task in row.tasks} == set(TASKS)
    assert {kind for row in ROWS for kind in row.architectures} == set(ARCHITECTURES)
    assert {row.need for row in ROWS} == {"", *NEEDS}


def test_there_is_no_contradiction():
    """Neither between rows of the same conditions nor in any answer."""
    signs = {}
    for row in ROWS:
        for task in row.tasks or (None,):
            for architecture in row.architectures or (None,):
                place = (row.technique, task, architecture, row.rows, row.batch, row.need)
                assert signs.setdefault(place, row.avoid) == row.avoid
    for task, architecture, rows, batch, variable, needs in itertools.product(
        (None, *TASKS), (None, *ARCHITECTURES), SIZES.values(), BATCHES.values(), (False, True),
        ((), NEEDS),
    ):  # fmt: skip
        answer = advise(
            task=task, architecture=architecture, rows=rows, batch_size=batch,
            variable_batch=variable, needs=needs,
        )  # fmt: skip
        names = [advice.technique for advice in answer]
        assert len(set(names)) == len(names)
        avoided = [advice.avoid for advice in answer]
        assert avoided == sorted(avoided)


def names(**question):
    answer = advise(**question)
    return [a.technique for a in answer if not a.avoid], [a.technique for a in answer if a.avoid]


@pytest.mark.parametrize(
    ("question", "norm"),
    [
        ({"task": "classification", "batch_size": 128}, "batch_norm"),
        ({"task": "sequence"}, "layer_norm"),
        ({"task": "style"}, "instance_norm"),
        ({"task": "detection"}, "group_norm"),
        ({"batch_size": 256, "architecture": "cnn"}, "batch_norm"),
        ({"batch_size": 4}, "layer_norm"),
        ({"batch_size": 4, "architecture": "cnn"}, "group_norm"),
        ({"variable_batch": True}, "layer_norm"),
        ({"architecture": "rnn", "batch_size": 128}, "layer_norm"),
        ({"architecture": "transformer", "batch_size": 128}, "layer_norm"),
    ],
)
def test_the_norm_is_the_one_of_the_table(question, norm):
    use, _ = names(**question)
    assert next(name for name in use if name.endswith("_norm") and name != "max_norm") == norm


def test_architectures_get_their_guidelines():
    assert set(names(architecture="cnn", batch_size=64)[0]) >= {
        "batch_norm", "augment_images", "dropout",
    }  # fmt: skip
    assert set(names(architecture="rnn")[0]) >= {"locked_dropout", "clipping", "layer_norm"}
    assert set(names(architecture="transformer")[0]) >= {
        "layer_norm", "attention_dropout", "decay",
    }  # fmt: skip
    assert set(names(architecture="gan")[0]) >= {
        "spectral_norm", "gradient_penalty", "label_smoothing",
    }  # fmt: skip


def test_small_batches_rule_batch_norm_out_of_classification():
    use, avoid = names(task="classification", architecture="cnn", batch_size=2)
    assert "batch_norm" in avoid
    assert "batch_norm" not in use


def test_what_is_said_against_a_technique_holds():
    """Batch norm is for classification with large batches, and not for recurrent networks."""
    use, avoid = names(task="classification", architecture="rnn", batch_size=128)
    assert "batch_norm" in avoid
    assert "batch_norm" not in use


@pytest.mark.parametrize(
    ("question", "size"),
    [
        ({"rows": 9_999}, "small"),
        ({"rows": 10_000}, ""),
        ({"rows": 999_999}, ""),
        ({"rows": 1_000_000}, "large"),
        ({"batch_size": 15}, "small"),
        ({"batch_size": 16}, "large"),
    ],
    ids=str,
)
def test_sizes_have_the_ends_that_the_docstring_names(question, size):
    field = "rows" if "rows" in question else "batch"
    found = {reason for advice in advise(**question) for reason in advice.reasons}
    free = [row for row in ROWS if not (row.tasks or row.architectures or row.need)]
    for name in ("small", "large"):
        sized = {row.reason for row in free if getattr(row, field) == name}
        if sized:
            assert bool(sized & found) == (name == size), name


def test_one_need_may_be_a_word():
    assert advise(needs="sparsity") == advise(needs=["sparsity"])
    assert advise(needs="sparsity") != advise()


def test_an_advice_gathers_its_rows_the_weightiest_first():
    answer = advise(task="classification", architecture="cnn", rows=100, needs=NEEDS)
    gathered = 0
    for advice in answer:
        weights = []
        for reason in advice.reasons:
            found = [r for r in ROWS if (r.technique, r.reason) == (advice.technique, reason)]
            assert len(found) == 1
            weights.append(found[0].weight)
            assert found[0].source in advice.sources
            assert found[0].against in (*advice.against, "")
        assert weights == sorted(weights, reverse=True)
        assert advice.weight == 100 * weights[0] + sum(weights)
        assert len(set(advice.sources)) == len(advice.sources)
        assert "" not in advice.against
        assert advice.start == STARTS[advice.technique]
        gathered += len(weights) > 1
    assert gathered > 3
    order = [(advice.avoid, -advice.weight) for advice in answer]
    assert order == sorted(order)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_strongest_statement_ranks_first(architecture):
    answer = advise(architecture=architecture, task="classification", rows=100, batch_size=64)
    strongest = [
        max(row.weight for row in ROWS if row.technique == a.technique and row.reason in a.reasons)
        for a in answer
        if not a.avoid
    ]
    assert strongest == sorted(strongest, reverse=True)
    assert len(set(strongest)) > 1


def test_text_has_where_how_strong_and_why():
    decay = next(a for a in advise(architecture="transformer") if a.technique == "decay")
    text = str(decay)
    assert text.startswith("decay: jaxreg.transforms.decoupled_decay, weight 0.01 to 0.1\n")
    assert "\n  important for transformers\n" in text
    assert "but: L2 through the gradient of an adaptive optimizer is not decay" in text
    assert "see: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101" in text
    assert "\n  strength: default of torch (0.01); Brown et al. 2020, https://" in text
    avoided = str(next(a for a in advise(batch_size=2) if a.avoid))
    assert avoided.startswith("avoid batch_norm\n")
    assert "mind: " not in avoided
    answer = advise(task="classification", needs=NEEDS, rows=10)
    for advice in answer:
        given = advice.start
        ends = f"{given.low:g}" if given.low == given.high else f"{given.low:g} to {given.high:g}"
        word = given.argument or "factor"
        shown = f"{word} {ends}" if given.high and not advice.avoid else ""
        assert advice.strength == shown
        lines = str(advice).splitlines()
        for mark, text in (("mind", given.note), ("use", given.call.format(f"{given.low:g}"))):
            assert (f"  {mark}: {text}" in lines) == (bool(text) and not advice.avoid)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"task": "poetry"}, "`task` must be one of classification, .*, got poetry"),
        ({"architecture": "tree"}, "`architecture` must be one of mlp, .*, got tree"),
        ({"needs": ["speed"]}, "`needs` must be one of sparsity, .*, got speed"),
        ({"rows": 0}, "`rows` must be at least 1, got 0"),
        ({"batch_size": -4}, "`batch_size` must be at least 1, got -4"),
    ],
)
def test_wrong_words_are_named(question, message):
    with pytest.raises(ValueError, match=message):
        advise(**question)


def test_data_holds_no_code():
    for name in ("rows", "starts", "works"):
        members = vars(importlib.import_module(f"jaxreg.advice.{name}")).items()
        assert not [n for n, v in members if inspect.isfunction(v) and n != "dataclass"]


def test_the_guide_has_the_table_of_the_data():
    guide = (pathlib.Path(__file__).parents[2] / "docs/guides/choosing.md").read_text()
    head = guide.index(table.HEAD[0])
    found = guide[head:].rstrip().partition("\n\n")[0].splitlines()
    assert found == table.table(), "write what `python -m tests.advice.table` prints"
