"""Prints ``smote_imblearn.json``: neighbors, counts and moments of imbalanced-learn's SMOTE.

Run as ``python tests/references/smote_imblearn.py > tests/references/smote_imblearn.json`` where
imbalanced-learn is installed.
"""

import json

NEIGHBORS = 3
NEW = 200_000


def examples():
    """Three classes of 12, 7 and 5 examples in random order, rounded for JSON."""
    import numpy as np

    rng = np.random.default_rng(7)
    labels = rng.permutation(np.repeat([0, 1, 2], [12, 7, 5]))
    x = rng.normal(size=(24, 3)) * [1.0, 3.0, 0.5] + labels[:, None]
    return np.round(x, 4), labels


def main():
    """Prints the figures."""
    import imblearn
    import numpy as np
    from imblearn.over_sampling import SMOTE

    x, labels = examples()
    balanced = SMOTE(k_neighbors=NEIGHBORS, random_state=0).fit_resample(x, labels)[1]
    sampler = SMOTE(sampling_strategy={1: 7 + NEW}, k_neighbors=NEIGHBORS, random_state=0)
    new, new_labels = [part[24:] for part in sampler.fit_resample(x, labels)]
    members = x[labels == 1]
    nearest = sampler.nn_k_.fit(members).kneighbors(members, return_distance=False)[:, 1:]
    figures = {
        "made_with": {
            "script": "tests/references/smote_imblearn.py",
            "imbalanced-learn": imblearn.__version__,
        },
        "x": x.tolist(),
        "labels": labels.tolist(),
        "neighbors": NEIGHBORS,
        "added": (np.bincount(balanced) - np.bincount(labels)).tolist(),
        "nearest_of_class_1": nearest.tolist(),
        "new": NEW,
        "labels_of_new": np.unique(new_labels).tolist(),
        "mean": new.mean(axis=0).tolist(),
        "second_moment": (new.T @ new / NEW).tolist(),
        "fourth_moment": (new**4).mean(axis=0).tolist(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
