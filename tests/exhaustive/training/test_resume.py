"""Training loops that are killed or find damaged checkpoints, and go on to the same bits."""

import json

import pytest

from tests.exhaustive.training import kills

every_example = pytest.mark.parametrize("example", kills.EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def compiled_once(tmp_path_factory, monkeypatch):
    """For all processes of a test: what is tested is what happens to their checkpoints."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@every_example
def test_loops_that_are_killed_at_random_moments_end_in_the_same_state(example):
    figures = kills.kill_often(example, 3, steps=30, seed=0)
    assert figures.kills == 3
    assert figures.saving >= 1
    assert figures.resumes >= 1
    assert (figures.lost, figures.unusable, figures.leftovers) == (0, 0, 0)
    assert figures.identical == figures.runs >= 1


def change_a_digest(checkpoint):
    """Makes one leaf differ from its digest; that flipped bits do so is seen in test_digests.py."""
    path = checkpoint / "digests" / "metadata"
    taken = json.loads(path.read_text())
    name = next(iter(taken))
    path.write_text(json.dumps(taken | {name: taken[name][:-1] + "x"}))


def lose_a_file(checkpoint):
    (checkpoint / "state" / "_METADATA").unlink()


@every_example
def test_a_damaged_checkpoint_gives_way_to_the_one_before(example, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def train(steps):  # In a process of its own, for the reason that flips.py gives.
        process = kills.start(example, folder, steps)
        return (*process.communicate(timeout=kills.PATIENCE), process.returncode)

    _, errors, code = train(6)
    assert code == 0, errors
    assert kills.complete(folder) == {4, 5, 6}
    change_a_digest(folder / "6")
    lose_a_file(folder / "5")
    told, errors, code = train(8)
    assert code == 0, errors
    assert "checkpoint 6 cannot be used: `tree` must match its saved digests, but `" in told
    assert "checkpoint 5 cannot be used: " in told
    assert "resumed after step 4" in told
    expected = kills.uninterrupted(example, 8)
    assert kills.final_state(told) == expected
    assert kills.complete(folder) == {6, 7, 8}
    for step in ("7", "8"):
        change_a_digest(folder / step)
    told, errors, code = train(8)
    assert code == 0, errors
    assert "resumed after step 6" in told  # What was damaged was written again.
    assert kills.final_state(told) == expected
    assert kills.complete(folder) == {6, 7, 8}
    for step in ("6", "7", "8"):
        change_a_digest(folder / step)
    _, errors, code = train(8)
    assert code == 1
    assert "none of the checkpoints [8, 7, 6] can be used; nothing was changed" in errors
    assert kills.complete(folder) == {6, 7, 8}
