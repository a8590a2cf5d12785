"""Digests of checkpoints on disk, of which single bits flip."""

import json
import subprocess
import sys
from pathlib import Path

FLIPS = 200
ROOT = Path(__file__).parents[3]


def test_a_flipped_bit_on_disk_is_noticed():
    command = [sys.executable, "-W", "error", "-m", "tests.exhaustive.training.flips", str(FLIPS)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)
    assert not counts["silent"]
    assert not counts["false alarm"]
    assert counts["orbax"] + counts["digest"] == FLIPS
    # Orbax alone does not see them, and what nothing reads harms nothing.
    assert counts["digest"] > FLIPS / 2
    assert counts["harmless"] < FLIPS
