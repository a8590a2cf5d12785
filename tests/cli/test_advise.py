"""The advice as text and as JSON."""

import json

from tests.cli.helpers import run_command


def test_advise_prints_ranked_techniques_and_json(capsys):
    arguments = ("advise", "--task", "classification", "--architecture", "cnn", "--rows", 5000,
                 "--batch-size", 8, "--needs", "calibration,robustness")  # fmt: skip
    text = run_command(capsys, *arguments)
    heads = [block.splitlines()[0] for block in text.split("\n\n")]
    assert heads[0].startswith("augment_images: jaxreg.augment.")
    assert "label_smoothing: jaxreg.targets.smoothed_cross_entropy, alpha 0.05 to 0.2" in heads
    assert heads[-2:] == ["avoid batch_norm", "avoid instance_norm"]
    found = json.loads(run_command(capsys, *arguments, "--json"))
    assert [row["technique"] for row in found if row["avoid"]] == ["batch_norm", "instance_norm"]
    assert all(row["sources"] for row in found)
