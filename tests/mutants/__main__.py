"""Seeds the faults one at a time into a copy of the project and runs the tests of their module.

python -m tests.mutants                 all faults
python -m tests.mutants --shard 3/8     every eighth fault from the third on, a sample of all tables
python -m tests.mutants --only dropout  faults whose path or description contains a text
"""

import argparse
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from tests.conftest import shard
from tests.mutants import MUTANTS, ROOT, check
from tests.mutants.row import Mutant
from tests.mutants.trial import ERROR, SURVIVED, Bench, Verdict

PRINTING = threading.Lock()


def main() -> int:
    options = parse()
    chosen = choose(options.only, options.shard)
    if options.list:
        print("\n".join(describe(mutant) for mutant in chosen))
        return 0
    if problems := check():
        print("\n".join(problems), file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = by_package(chosen)
        parts = pool.map(work, [waiting] * options.jobs)
        verdicts = [verdict for part in parts for verdict in part]
    return conclude(verdicts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="every N-th fault, from the I-th"
    )
    parser.add_argument(
        "--only", metavar="TEXT", help="faults whose path or description contains it"
    )
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser.parse_args()


def choose(only: str | None, part: tuple[int, int] | None) -> list[Mutant]:
    index, number = part or (1, 1)
    return [m for m in MUTANTS[index - 1 :: number] if only is None or only in describe(m)]


def describe(mutant: Mutant) -> str:
    source = (ROOT / "jaxreg" / mutant.path).read_text()
    line = source[: source.find(mutant.old)].count("\n") + 1
    return f"{mutant.path}:{line}: {mutant.why}"


def by_package(mutants: list[Mutant]) -> SimpleQueue[list[Mutant]]:
    """Puts the faults of a package together, since they share tests; the longest lists lead."""
    packages = defaultdict(list)
    for mutant in mutants:
        packages[Path(mutant.path).parent].append(mutant)
    queue = SimpleQueue()
    for package in sorted(packages.values(), key=len, reverse=True):
        queue.put(package)
    return queue


def work(waiting: SimpleQueue[list[Mutant]]) -> list[Verdict]:
    """Tries the faults of one package after the other in one copy of the project."""
    verdicts = []
    with Bench() as bench:
        while True:
            try:
                package = waiting.get_nowait()
            except Empty:
                return verdicts
            for mutant in package:
                verdict = bench.try_out(mutant)
                verdicts.append(verdict)
                with PRINTING:
                    print(line_of(verdict), flush=True)


def line_of(verdict: Verdict) -> str:
    text = f"{verdict.word:16} {verdict.seconds:6.1f} s  {describe(verdict.mutant)}"
    return f"{text}  [{verdict.seen_by}]" if verdict.seen_by else text


def conclude(verdicts: list[Verdict]) -> int:
    """Prints the totals; the status is 1 if a fault survived without a reason, or on an error."""
    words = Counter(verdict.word for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    print(", ".join(f"{number} {word}" for word, number in words.items()), end="")
    print(f"; {len(verdicts)} faults in {seconds:.0f} s")
    return int(words[SURVIVED] > 0 or words[ERROR] > 0)


if __name__ == "__main__":
    sys.exit(main())
