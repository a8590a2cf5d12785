"""Files as people bring them to a study, made from data that scikit-learn ships.

``python -m tests.exhaustive.study.files FOLDER`` writes all of them.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn import datasets

from jaxreg.study.data.sentences import WORDS, sentences


def wine(folder):
    """A table with semicolons, decimal commas, a category, missing cells and classes from 1."""
    frame = datasets.load_wine(as_frame=True).frame
    rng = np.random.default_rng(0)
    frame["region"] = np.where(frame["flavanoids"] > 2, "hills", "plain")
    frame["region"] = frame["region"].where(rng.random(len(frame)) > 0.1)
    frame["alcohol"] = frame["alcohol"].where(rng.random(len(frame)) > 0.1)
    frame["cultivar"] = frame.pop("target") + 1
    path = folder / "wine.csv"
    frame.to_csv(path, sep=";", decimal=",", index=False, na_rep="?")
    return path


def breast_cancer(folder):
    """A table with shuffled ids, diagnoses M and B, a category and missing cells."""
    frame = datasets.load_breast_cancer(as_frame=True).frame
    rng = np.random.default_rng(0)
    frame.insert(0, "id", rng.permutation(len(frame)) + 842_000)
    frame.insert(1, "diagnosis", np.array(["M", "B"])[frame.pop("target")])
    frame["clinic"] = rng.choice(["north", "south", "west"], len(frame))
    frame["mean texture"] = frame["mean texture"].where(rng.random(len(frame)) > 0.2)
    path = folder / "breast_cancer.csv"
    frame.to_csv(path, index=False)
    return path


def diabetes(folder):
    """A table with a number to predict, sex as a word, and the index of the table."""
    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    frame["sex"] = np.where(frame["sex"] > 1, "female", "male")
    frame = frame.rename(columns={"target": "progression"})
    path = folder / "diabetes.csv"
    frame.to_csv(path)
    return path


def digit_arrays(folder):
    """Handwritten digits as arrays of bytes."""
    digits = datasets.load_digits()
    path = folder / "digits.npz"
    np.savez(path, x=(digits.images * 15).astype(np.uint8), y=digits.target)
    return path


def digit_images(folder):
    """The same digits as gray images in a folder for each class."""
    digits = datasets.load_digits()
    path = folder / "digits"
    pixels = (digits.images * 15).astype(np.uint8)
    for i, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
        own = path / str(label)
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(own / f"{i:04}.png")
    return path


def patients(folder):
    """Five equal rows for each of 80 patients, whose outcomes are tossed coins."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 6)), columns=[f"marker {i}" for i in range(6)])
    frame["patient"] = [f"P{i:03}" for i in range(80)]
    frame["outcome"] = rng.permutation(np.repeat(["ill", "well"], 40))
    path = folder / "patients.csv"
    frame.loc[rng.permutation(np.repeat(np.arange(80), 5))].to_csv(path, index=False)
    return path


def reviews(folder):
    """Sentences with stars; one label in twenty is wrong."""
    tokens, labels = sentences(1000, seed=1, noise=0.05)
    texts = [" ".join(WORDS[i] for i in row if i).capitalize() + "." for row in tokens]
    path = folder / "reviews.csv"
    stars = np.where(labels == 1, "good", "bad")
    pd.DataFrame({"review": texts, "verdict": stars}).to_csv(path, index=False)
    return path


def gestures(folder):
    """Series of two channels: smooth, angular or rectangular waves of random phase and speed."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    speed = rng.uniform(1.5, 2.5, (600, 1, 1))
    phase = rng.uniform(0, 1, (600, 1, 1)) + np.array([0, 0.25])
    time = (np.linspace(0, 1, 32)[None, :, None] * speed + phase) % 1
    waves = (np.sin(2 * np.pi * time), 2 * time - 1, np.sign(time - 0.5))
    x = np.choose(y[:, None, None], waves) + 0.3 * rng.normal(size=time.shape)
    path = folder / "gestures.npz"
    np.savez(path, X=x, labels=np.array(["sine", "saw", "square"])[y])
    return path


FILES = {
    "wine": (wine, {"target": "cultivar"}),
    "breast_cancer": (breast_cancer, {"target": "diagnosis"}),
    "diabetes": (diabetes, {"target": "progression"}),
    "digit_arrays": (digit_arrays, {}),
    "digit_images": (digit_images, {}),
    "patients": (patients, {"target": "outcome", "groups": "patient"}),
    "reviews": (reviews, {"target": "verdict"}),
    "gestures": (gestures, {}),
}

if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for write, options in FILES.values():
        words = [f"--{name} {value}" for name, value in options.items()]
        print("--data", write(place), *words)
