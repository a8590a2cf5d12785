"""The files of a report."""

import pytest

from jaxreg import study as package
from jaxreg.study import reports
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import make_study


def test_the_same_study_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        reports.write(summarize(make_study()), tmp_path / name, program="print(1)\n")
    one = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    two = {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert one == two
    assert set(one) == {"results.csv", "history.csv", "report.html", "recipe.py"}
    assert one["recipe.py"] == b"print(1)\n"


def test_python_users_get_the_page_in_a_new_folder(tmp_path):
    path = package.report(make_study(command=""), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"results.csv", "history.csv", "report.html"}
    # The function stays reachable after its package was imported.
    assert package.report is reports.report
    with pytest.raises(ValueError, match=r"`folder` must be a folder, got .*, but .* is a file"):
        package.report(make_study(), path)
