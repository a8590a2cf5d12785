"""Writes the files of a report.

``results.csv`` has the table in full precision, ``history.csv`` the losses of every seed and epoch,
``report.html`` everything as a page, and ``recipe.py`` the chosen recipe as a program. The same
study gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from jaxreg.study.records import Study
from jaxreg.study.reports import csv_files, page
from jaxreg.study.reports.files import PAGE, check_folder, write_all
from jaxreg.study.reports.summary import Summary, summarize


def report(study: Study, folder: str | Path) -> Path:
    """Writes the report of a study to a folder: a page, and its numbers as CSV.

    The page ``report.html`` opens in any browser, without a network. ``results.csv`` has a row per
    arm in full precision, and ``history.csv`` the losses of every seed and epoch. Existing files
    with these names are replaced.

    Args:
      study: The study, as returned by :func:`jaxreg.study.compare`.
      folder: The folder; it is created if it does not exist.

    Returns:
      Path of ``report.html``.

    Raises:
      ValueError: Files cannot be written to the folder.

    Example:
      >>> from functools import partial
      >>> from pathlib import Path
      >>> from tempfile import TemporaryDirectory
      >>> import numpy as np
      >>> from jaxreg.study import compare, grid, mlp, report, run, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> split = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> train = partial(run, mlp((4,), 2), split, seeds=2, epochs=1)
      >>> found = compare(train, [grid("baseline"), grid("l2", count=1)])
      >>> with TemporaryDirectory() as folder:
      ...     page = report(found, Path(folder, "report"))
      ...     page.name, len(list(page.parent.iterdir()))
      ('report.html', 3)
    """
    check_folder(folder, "folder")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(summarize(study), folder)
    return folder / PAGE


def write(summary: Summary, folder: Path, *, program: str = "") -> None:
    """Writes the files of a report, all or none.

    Args:
      summary: The summary of the study.
      folder: An existing folder.
      program: Text of ``recipe.py``, as returned by :func:`jaxreg.study.program.source`. If it is
        empty, no ``recipe.py`` is written, and the page does not show it.
    """
    # All texts are made first, so that an error in one of them leaves no file.
    texts = {
        "results.csv": csv_files.results(summary),
        "history.csv": csv_files.history(summary.study),
        PAGE: page.html(summary, program=program),
    }
    if program:
        texts["recipe.py"] = program
    write_all(Path(folder), texts)
