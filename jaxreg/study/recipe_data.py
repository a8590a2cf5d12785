"""The loader of the program that a study hands over: data that looks like the study's."""

from __future__ import annotations

from jaxreg.study.recipe_parts import Parts


def loader(parts: Parts) -> str:
    """Writes the function that loads the data."""
    stops = "early_stopping" in parts.on
    said = "Training, validation and test rows" if stops else "Training and test rows"
    made = {"circles": _circles, "text": _text}
    lines = made.get(parts.data, _sklearn)(parts)
    return "\n    ".join(
        ("def load_data():", f'"""{said}; put your own data here."""', *lines),
    )


def names(parts: Parts) -> str:
    """Writes what the function returns."""
    held_out = "validation_x, validation_labels, " * ("early_stopping" in parts.on)
    return f"x, labels, {held_out}test_x, test_labels" + ", mean, deviation" * parts.scaled


def _circles(parts: Parts) -> list[str]:
    ends = [("", f":{parts.train_size}"), ("test_", "1000:")]
    if "early_stopping" in parts.on:
        ends[1:] = [("validation_", "1000:2000"), ("test_", "2000:")]
    sets = [f"x[{rows}], labels[{rows}]" for _, rows in ends]
    return [
        f"x = np.random.RandomState(42).rand({1000 * len(ends)}, 2) * 4 - 2",
        "labels = jnp.asarray((np.square(x).sum(axis=1) > 5).astype(np.int32))",
        "x = jnp.asarray(x, jnp.float32)",
        f"return {', '.join(sets)}",
    ]


def _sklearn(parts: Parts) -> list[str]:
    shape = ", ".join(map(str, parts.task.shape))
    sets = _sets(parts)
    scaled = "jnp.asarray(scaler.transform(rows), jnp.float32)"
    scaled += f".reshape(-1, {shape})" * parts.shaped
    lines = [
        f"x, labels = load_{parts.source}(return_X_y=True)",
        *_split(parts),
        "scaler = StandardScaler().fit(x)",
        *_each(sets, scaled, "rows", sets),
        *_arrays(sets.replace("x", "labels")),
    ]
    if parts.scaled:
        scale = f"jnp.asarray(numbers, jnp.float32).reshape({shape})"
        lines += _each("mean, deviation", scale, "numbers", "scaler.mean_, scaler.scale_")
    return [*lines, f"return {names(parts)}"]


def _text(parts: Parts) -> list[str]:
    sets = _sets(parts)
    return [
        "x, labels = sentences(2000, seed=0, noise=0.1)",
        *_split(parts),
        *_arrays(sets),
        *_arrays(sets.replace("x", "labels")),
        f"return {names(parts)}",
    ]


def _sets(parts: Parts) -> str:
    return "x, validation_x, test_x" if "early_stopping" in parts.on else "x, test_x"


def _split(parts: Parts) -> list[str]:
    lines = [
        "x, test_x, labels, test_labels = train_test_split(",
        f"    x, labels, train_size={parts.train_size}, stratify=labels, random_state=0",
        ")",
    ]
    if "early_stopping" in parts.on:
        lines += [
            "validation_x, test_x, validation_labels, test_labels = train_test_split(",
            f"    test_x, test_labels, train_size={parts.validation_size}, "
            "stratify=test_labels, random_state=0",
            ")",
        ]
    return lines


def _arrays(sets: str) -> list[str]:
    return _each(sets, "jnp.asarray(column)", "column", sets)


def _each(results: str, value: str, name: str, arguments: str) -> list[str]:
    """Writes the same expression of several things."""
    line = f"{results} = ({value} for {name} in ({arguments}))"
    if len(line) <= 96:
        return [line]
    return [f"{results} = (", f"    {value}", f"    for {name} in ({arguments})", ")"]
