"""Tests random bits with dieharder: ``python -m benchmarks.randomness [options] [stream ...]``.

Dieharder is a Debian package: ``apt-get install dieharder``. The complete set of its tests took
25 minutes for one stream on a busy machine. A stream walks through keys and positions in one
direction, so that a pattern along this direction is a pattern in the stream. With ``--one-round``
the words come from the control, which must fail.

Results are appended to ``benchmarks/randomness.csv``, and ``benchmarks/RANDOMNESS.md`` sums it up.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import hashes
from jaxreg import _bits

CSV = Path(__file__).parent / "randomness.csv"
SUMMARY = Path(__file__).parent / "RANDOMNESS.md"
COLUMNS = ("stream", "hash", "test", "ntuple", "tsamples", "psamples", "p", "assessment")
CHUNK = 2**20  # Words made at a time.
PAGE = """\
# Randomness of the bits

Written by `python -m benchmarks.randomness` from `randomness.csv`: the complete set of dieharder,
96 pairs of a test and a tuple size. A stream with fewer tests was stopped early. A p-value within
1e-6 of 0 or 1 fails. One within 0.005 is called weak, as one in a hundred is by chance.

{streams}

The candidates of `hashes.py`. Bias: how far the share of flips is from 1/2 at the worst pair of an
input bit (index, two words of the key) and an output bit, over 2**20 samples; up to 0.002 is noise.
Repeats: number of words of 2**22 indices that came up before; random words give about 2048, a
permutation 0. Times are in `RESULTS.md`.

{candidates}
"""

Stream = Callable[[hashes.Hash, jax.Array], jax.Array]


def indices(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes consecutive elements, with a new key every 2**32."""
    key = _bits.subkeys(jax.random.fold_in(jax.random.key(1), chunk // 2**12))
    return hash_(key, (None, _counter(chunk)))


def rows(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes elements along a column, 4096 apart, of an array ``[2**20, 4096]``."""
    key = _bits.subkeys(jax.random.fold_in(jax.random.key(2), chunk // 2**12))
    row = jnp.arange(CHUNK, dtype=jnp.uint32)
    return hash_(key, (None, row * np.uint32(4096) + chunk % np.uint32(4096)))


def columns(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes consecutive elements, along the rows, of arrays ``[1024, 1024]`` with a key each."""
    key = _bits.subkeys(jax.random.fold_in(jax.random.key(3), chunk))
    return hash_(key, (None, jnp.arange(CHUNK, dtype=jnp.uint32)))


def keys(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes the first elements for consecutive seeds, whose keys differ in a few bits."""

    def first(seed: jax.Array) -> jax.Array:
        return hash_(_bits.subkeys(jnp.stack([jnp.uint32(0), seed])), (None, chunk // 2**12))

    return jax.vmap(first)(_counter(chunk))


def splits(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes the first element for each key of one split."""
    split = jax.random.split(jax.random.fold_in(jax.random.key(4), chunk), CHUNK)
    return jax.vmap(lambda key: hash_(_bits.subkeys(key), (None, jnp.uint32(0))))(split)


def layers(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes the same element of 16 layers, then the next element; each chunk is a step."""
    step = jax.random.fold_in(jax.random.key(5), chunk)
    layer_keys = jax.vmap(partial(jax.random.fold_in, step))(jnp.arange(16))
    subkeys = jax.vmap(_bits.subkeys)(layer_keys)
    element = jnp.arange(CHUNK // 16, dtype=jnp.uint32)[:, None]
    return hash_(subkeys, (None, element)).ravel()


def steps(hash_: hashes.Hash, chunk: jax.Array) -> jax.Array:
    """Hashes the same element for 2**16 consecutive steps, then the next element."""
    first = (chunk // 2**10) * np.uint32(2**16)
    step = first + jnp.arange(2**16, dtype=jnp.uint32)
    step_keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(6)))(step)
    subkeys = jax.vmap(_bits.subkeys)(step_keys)
    element = (chunk % 2**10) * np.uint32(16) + jnp.arange(16, dtype=jnp.uint32)[:, None]
    return hash_(subkeys, (None, element)).ravel()


STREAMS: dict[str, Stream] = {
    f.__name__: f for f in (indices, rows, columns, keys, splits, layers, steps)
}
# The tests of `dieharder -a`: the number of each test and its tuple size.
TESTS = [
    *[(number, 0) for number in range(18)],
    *[(100, 0), (101, 0), (102, 0)],
    *[(200, size) for size in range(1, 13)],
    *[(201, size) for size in range(2, 6)],
    *[(202, size) for size in range(2, 6)],
    *[(203, lag) for lag in range(33)],
    *[(204, 0), (205, 0), (206, 256), (207, 32), (208, 0), (208, 1), (209, 12)],
]


def _counter(chunk: jax.Array) -> jax.Array:
    return chunk * np.uint32(CHUNK) + jnp.arange(CHUNK, dtype=jnp.uint32)


def main() -> None:
    """Runs the complete set on streams and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.randomness", description=__doc__)
    parser.add_argument("streams", nargs="*", help=f"some of {', '.join(STREAMS)}; default: all")
    parser.add_argument("--one-round", action="store_true", help="test the control, not the hash")
    parser.add_argument("--psamples", type=int, help="p-values per test; default: dieharder's")
    parser.add_argument("--jobs", type=int, default=1, help="number of tests to run at a time")
    options = parser.parse_args()
    unknown = [name for name in options.streams if name not in STREAMS]
    if unknown:
        parser.error(f"unknown stream {unknown[0]!r}; use some of {', '.join(STREAMS)}")
    if shutil.which("dieharder") is None:
        parser.error("dieharder is missing; run `apt-get install dieharder`")
    name = "one round" if options.one_round else "two rounds"
    for stream in options.streams or STREAMS:
        with ThreadPoolExecutor(options.jobs) as pool:
            run = partial(dieharder, stream, name, options.psamples)
            for results in pool.map(run, TESTS):
                append(results)
    SUMMARY.write_text(summary(), encoding="utf-8")


def dieharder(
    stream: str, hash_name: str, psamples: int | None, test: tuple[int, int]
) -> list[dict[str, str]]:
    """Runs one test on its own part of a stream and returns a row for each p-value."""
    number, ntuple = test
    command = ["dieharder", "-g", "200", "-d", str(number), "-n", str(ntuple), "-k", "2"]
    command += ["-c", ",", *(["-p", str(psamples)] if psamples else [])]
    for cell in ("test_name", "ntuple", "tsamples", "psamples", "pvalues", "assessment"):
        command += ["-D", cell]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with ThreadPoolExecutor(1) as reader:
        output = reader.submit(process.stdout.read)
        for words in chunks(stream, hash_name, start=TESTS.index(test) * 2**20):
            try:
                process.stdin.write(words.data)
            except BrokenPipeError:
                break
        text = output.result().decode()
    process.wait()
    return list(parse(text, stream, hash_name))


def chunks(stream: str, hash_name: str, *, start: int) -> Iterator[np.ndarray]:
    """Yields the words of a stream, computing the next chunk while the last one is read."""
    make = jax.jit(partial(STREAMS[stream], hashes.CANDIDATES[hash_name]))
    number = start
    coming = make(jnp.uint32(number))
    while True:
        number += 1
        now = coming
        coming = make(jnp.uint32(number))
        yield np.asarray(now)


def parse(text: str, stream: str, hash_name: str) -> Iterator[dict[str, str]]:
    """Yields a row for each p-value that dieharder printed."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if cells[-1] in {"PASSED", "WEAK", "FAILED"}:
            yield dict(zip(COLUMNS, (stream, hash_name, *cells), strict=True))


def append(results: list[dict[str, str]]) -> None:
    """Adds rows to the file of results."""
    new = not CSV.exists()
    with CSV.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(results)
    for row in results:
        print(",".join(row.values()), file=sys.stderr, flush=True)


def summary() -> str:
    """Writes the counts by stream and the candidates in Markdown."""
    with CSV.open(newline="", encoding="utf-8") as file:
        results = list(csv.DictReader(file))
    counted = [counts(results, *pair) for pair in dict.fromkeys(map(pair_of, results))]
    headings = ("stream", "hash", "tests", "p-values", "passed", "weak", "failed", "least p")
    streams = table(*headings, rows=counted)
    candidates = table("hash", "bias", "repeats", rows=hashes.quality())
    return PAGE.format(streams=streams, candidates=candidates)


def pair_of(result: dict[str, str]) -> tuple[str, str]:
    """Returns the stream and the hash of a result."""
    return result["stream"], result["hash"]


def counts(results: list[dict[str, str]], stream: str, hash_name: str) -> tuple[str, ...]:
    """Returns a row of the summary."""
    mine = [row for row in results if pair_of(row) == (stream, hash_name)]
    verdicts = [sum(row["assessment"] == a for row in mine) for a in ("PASSED", "WEAK", "FAILED")]
    least = min(min(float(row["p"]), 1 - float(row["p"])) for row in mine)
    tests = {(row["test"], row["ntuple"]) for row in mine}
    return (stream, hash_name, *map(str, (len(tests), len(mine), *verdicts)), f"{least:.2g}")


def table(*headings: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Writes a Markdown table."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
