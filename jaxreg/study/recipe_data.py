"""Generates the data loader of ``recipe.py``."""

from __future__ import annotations

from jaxreg.study.recipe_parts import Parts


def loader(parts: Parts) -> str:
    """Returns the source of the function ``load_data``."""
    stops = "early_stopping" in parts.on
    sets = "training, validation and test rows" if stops else "training and test rows"
    writers = {"circles": _circles, "text": _text}
    lines = writers.get(parts.data, _sklearn)(parts)
    doc = f'"""Returns {sets}; put your own data here."""'
    return "\n    ".join(("def load_data():", doc, *lines))


def names(parts: Parts) -> str:
    """Returns the names of the values that ``load_data`` returns, separated by commas."""
    text = "x, labels, "
    if "early_stopping" in parts.on:
        text += "validation_x, validation_labels, "
    text += "test_x, test_labels"
    if parts.needs_scale:
        text += ", mean, stddev"
    return text


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
    array = "jnp.asarray(scaler.transform(rows), jnp.float32)"
    if parts.needs_shape:
        array += f".reshape(-1, {shape})"
    lines = [
        f"x, labels = load_{parts.source}(return_X_y=True)",
        *_split_lines(parts),
        "scaler = StandardScaler().fit(x)",
        *_each(sets, array, "rows", sets),
        *_arrays(sets.replace("x", "labels")),
    ]
    if parts.needs_scale:
        scale = f"jnp.asarray(numbers, jnp.float32).reshape({shape})"
        lines += _each("mean, stddev", scale, "numbers", "scaler.mean_, scaler.scale_")
    return [*lines, f"return {names(parts)}"]


def _text(parts: Parts) -> list[str]:
    sets = _sets(parts)
    return [
        "x, labels = sentences(2000, seed=0, noise=0.1)",
        *_split_lines(parts),
        *_arrays(sets),
        *_arrays(sets.replace("x", "labels")),
        f"return {names(parts)}",
    ]


def _sets(parts: Parts) -> str:
    return "x, validation_x, test_x" if "early_stopping" in parts.on else "x, test_x"


def _split_lines(parts: Parts) -> list[str]:
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
    """Returns lines that evaluate ``value`` for each argument and assign to ``results``."""
    line = f"{results} = ({value} for {name} in ({arguments}))"
    if len(line) <= 96:
        return [line]
    return [f"{results} = (", f"    {value}", f"    for {name} in ({arguments})", ")"]
