"""Files as people bring them, from the file to a score of a plain model of scikit-learn."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from jaxreg.study.data import load
from jaxreg.study.data.splits import stratified_split
from tests.exhaustive.study.files import FILES, digit_arrays, digit_images, patients

LOGISTIC = LogisticRegression(max_iter=2000)
WANT = {
    "wine": ("table", "classification", ("1", "2", "3"), (106, 36, 36), LOGISTIC, 0.94),
    "breast_cancer": ("table", "classification", ("B", "M"), (341, 114, 114), LOGISTIC, 0.92),
    "diabetes": ("table", "regression", (), (265, 88, 89), Ridge(10), 0.25),
    "digit_arrays": (
        "image", "classification", tuple("0123456789"), (1078, 359, 360), LOGISTIC, 0.95
    ),
    "digit_images": (
        "image", "classification", tuple("0123456789"), (1078, 359, 360), LOGISTIC, 0.95
    ),
    "reviews": ("text", "classification", ("bad", "good"), (600, 200, 200), LOGISTIC, 0.53),
    "gestures": (
        "series", "classification", ("saw", "sine", "square"), (360, 120, 120),
        RandomForestClassifier(random_state=0), 0.8,
    ),
}  # fmt: skip


def flat(x, vocabulary):
    """Rows of features; a text becomes the counts of its words."""
    if vocabulary:
        return np.stack([np.bincount(row, minlength=vocabulary)[1:] for row in x])
    return x.reshape(len(x), -1)


def score(found, model, seed=0):
    split = found.split(seed)
    model.fit(flat(split.train_x, found.vocabulary), split.train_y)
    return model.score(flat(split.test_x, found.vocabulary), split.test_y)


@pytest.mark.parametrize("name", WANT)
def test_a_file_is_read_as_it_is_and_can_be_learned(name, tmp_path):
    write, options = FILES[name]
    kind, task, classes, sizes, model, least = WANT[name]
    found = load(str(write(tmp_path)), **options)
    assert (found.kind, found.task, found.classes) == (kind, task, classes)
    splits = [found.split(seed) for seed in range(4)]
    assert {split.sizes for split in splits} == {sizes}
    assert len({split.train_x.shape for split in splits}) == 1
    for split in splits:
        for rows in (split.train_x, split.validation_x, split.test_x):
            assert np.isfinite(rows).all()
    scores = [score(found, model, seed) for seed in range(4)]
    assert np.mean(scores) > least, scores


def test_what_was_read_is_said(tmp_path):
    def said(name):
        write, options = FILES[name]
        return " ".join(load(str(write(tmp_path)), **options).notes)

    for text in ("separated by ;", "decimal comma", "alcohol (", "category of their own: region"):
        assert text in said("wine")
    for text in ("different in every row: id", "Heavy tails", "mean texture ("):
        assert text in said("breast_cancer")
    for text in ("numbers of the rows: column 1", "Assumed regression", "214 different whole"):
        assert text in said("diabetes")
    assert "80 groups" in said("patients")


def test_equal_rows_leak_unless_groups_are_given(tmp_path):
    path = str(patients(tmp_path))
    nearest = KNeighborsClassifier(1)
    leaking = load(path, target="outcome")
    assert any(note.startswith("Repeated rows: 320 rows") for note in leaking.notes)
    assert score(leaking, nearest) > 0.9
    for folds in (1, 5):
        grouped = load(path, target="outcome", groups="patient", folds=folds)
        scores = [score(grouped, nearest, seed) for seed in range(5)]
        assert 0.25 < np.mean(scores) < 0.75, scores


def test_digits_are_the_same_from_arrays_images_and_python(tmp_path):
    arrays = load(str(digit_arrays(tmp_path)))
    images = load(str(digit_images(tmp_path)))
    with np.load(tmp_path / "digits.npz") as saved:
        python = stratified_split(saved["x"][..., None], saved["y"], train_size=300)(0)
    rows = [
        np.sort((s.train_x * s.stddev + s.mean).mean(axis=(1, 2, 3)))
        for s in (arrays.split(0), images.split(0), python)
    ]
    np.testing.assert_allclose(rows[0].mean(), rows[1].mean(), rtol=0.01)
    np.testing.assert_allclose(rows[0].mean(), rows[2].mean(), rtol=0.02)
