"""Training loops that are killed or find damaged checkpoints, and go on to the same bits."""

import json
import runpy

import pytest
from flax import nnx

from jaxreg.training import digests
from tests import kills

pytestmark = pytest.mark.slow
every_example = pytest.mark.parametrize("example", kills.EXAMPLES, ids=lambda path: path.stem)


@every_example
def test_row_72_killed_at_random_moments(example, tmp_path, monkeypatch):
    # Compiled once for all processes: what is tested is what happens to their checkpoints.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    figures = kills.kill_often(example, 3, steps=30, seed=0)
    assert figures.kills == 3
    assert figures.saving >= 1
    assert figures.resumes >= 1
    assert (figures.lost, figures.unusable, figures.leftovers) == (0, 0, 0)
    assert figures.identical == figures.runs >= 1


def final(state):
    return digests.digest(nnx.state(state) if isinstance(state, nnx.Module) else state)


def change_a_digest(checkpoint):
    """Makes one leaf differ from its digest; that flipped bits do so is seen in test_digests.py."""
    path = checkpoint / "digests" / "metadata"
    taken = json.loads(path.read_text())
    name = next(iter(taken))
    path.write_text(json.dumps(taken | {name: taken[name][:-1] + "x"}))


def lose_a_file(checkpoint):
    (checkpoint / "state" / "_METADATA").unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@every_example
def test_a_damaged_checkpoint_gives_way_to_the_one_before(example, tmp_path, capsys):
    train = runpy.run_path(str(example))["train"]
    expected = final(train(tmp_path / "uninterrupted", 8, 100))
    train(tmp_path / "damaged", 6, 2)
    assert kills.complete(tmp_path / "damaged") == {2, 4, 6}
    change_a_digest(tmp_path / "damaged" / "6")
    lose_a_file(tmp_path / "damaged" / "4")
    capsys.readouterr()
    assert final(train(tmp_path / "damaged", 8, 2)) == expected
    told = capsys.readouterr().out
    assert "checkpoint 6 cannot be used: `tree` must have the given digests, but `" in told
    assert "checkpoint 4 cannot be used: " in told
    assert "resumed after step 2" in told
    change_a_digest(tmp_path / "damaged" / "8")
    assert final(train(tmp_path / "damaged", 8, 2)) == expected
    assert "resumed after step 6" in capsys.readouterr().out  # What was damaged was written again.
    assert kills.complete(tmp_path / "damaged") == {4, 6, 8}
    for step in ("4", "6", "8"):
        change_a_digest(tmp_path / "damaged" / step)
    with pytest.raises(SystemExit, match=r"none of the checkpoints \[8, 6, 4\] can be used"):
        train(tmp_path / "damaged", 8, 2)
    assert kills.complete(tmp_path / "damaged") == {4, 6, 8}
