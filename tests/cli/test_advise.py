"""The advice as text and as JSON."""

import json

import pytest

from jaxreg.cli.main import main
from tests.cli.helpers import run_command

RESULTS = """\
arm,code,metric,strength,difference,difference_low,difference_high,verdict,chosen,recipe
baseline,,accuracy,,0.0,0.0,0.0,reference,False,{}
dropout,jaxreg.linen.Dropout,accuracy,0.16,0.02,0.01,0.03,better,True,"{""dropout"": 0.16}"
"""


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


def test_advise_takes_the_folder_of_a_study(capsys, folder):
    (folder / "results.csv").write_text(RESULTS)
    first = run_command(capsys, "advise", "--study", folder).split("\n\n")[0]
    assert first.startswith("dropout: jaxreg.linen.Dropout, rate 0.16\n  your study: dropout 0.16")
    found = json.loads(run_command(capsys, "advise", "--study", folder, "--json"))
    assert found[0]["measured"]["difference"] == 0.02


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_folder_without_a_study_is_named(capsys, folder, name):
    assert main(["advise", "--study", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxreg: `--study` must be the folder of a study with results.csv, got")
    assert error.count("\n") == 1
