"""What the scripts of this folder share: common flags, training data, rounds in which every side runs
in turn, and one table of what is wanted beside what was measured.

A side is a command whose last line on stdout is a JSON object. A ratio is taken within each round, so
that a drift of the machine hits both of its sides; the table has its median, and in brackets the
lowest and the highest.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests/bench"
# As in tests/run.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
MODELS = pathlib.Path(os.environ.get("DELTAWORKS_MODELS") or CACHE / "deltaworks/models")
EXAMPLES = 64
OURS, PEER = "Deltaworks", "PEFT"


def flags(text):
    parser = argparse.ArgumentParser(description=text,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="has torch, transformers and peft")
    parser.add_argument("--f32", default=MODELS / "smollm2-f32", help="import of the model in f32")
    parser.add_argument("--bf16", default=MODELS / "smollm2-bf16", help="and in bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default=str(len(os.sched_getaffinity(0))))
    return parser


def build(program):
    subprocess.run(["bazel", "build", f"//tests/bench:{program}"], cwd=ROOT, check=True)
    # Resolved now: a build of another kind points bazel-bin elsewhere.
    return (ROOT / "bazel-bin/tests/bench" / program).resolve()


def write_data(path, shortest, longest, prompt_share):
    """Random token ids: what is learnt does not matter, only how many rows and labels there are.
    Lengths are drawn evenly; the first `prompt_share` of each example carries no label."""
    chance = random.Random(7)
    data = []
    for _ in range(EXAMPLES):
        tokens = chance.randint(shortest, longest)
        data.append({"ids": [chance.randrange(100, 40000) for _ in range(tokens)],
                     "prompt_tokens": int(tokens * prompt_share)})
    path.write_text(json.dumps(data))


def run(command):
    """The command's object, and `began_at`, when it was started, on CLOCK_MONOTONIC."""
    command = [str(word) for word in command]
    began_at = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "began_at": began_at}


def measure(title, sides, rounds, key="tokens_per_second", unit="tokens/s"):
    """{name: [result of each round]} of {name: command}; every other round in the other order.
    Prints each number as it comes, then the medians."""
    print(f"{title}, {unit}")
    results = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            results[name].append(run(sides[name]))
            print(f"  round {number + 1}  {name:24} {results[name][-1][key]:9.2f}", flush=True)
    for name, values in results.items():
        print(f"  median   {name:24} {statistics.median(v[key] for v in values):9.2f}", flush=True)
    return results


def best(results, prefix, key="tokens_per_second"):
    """The side of a name with this prefix whose median is the largest."""
    names = [name for name in results if name.startswith(prefix)]
    return max(names, key=lambda name: statistics.median(v[key] for v in results[name]))


def ratios(results, above, below, key="tokens_per_second"):
    return [a[key] / b[key] for a, b in zip(results[above], results[below])]


@dataclasses.dataclass
class Row:
    """One line of the table."""

    what: str
    wanted: str
    values: list  # One for each round.
    floor: float = float("-inf")  # Below it the status is 1.


def report(rows):
    """Prints the table; returns the script's status."""
    width = max(len(row.what) for row in rows)
    print(f"\n{'':{width}}  {'wanted':>10}  measured (lowest..highest of the rounds)")
    for row in rows:
        low = statistics.median(row.values) < row.floor
        print(f"{row.what:{width}}  {row.wanted:>10}  {statistics.median(row.values):8.2f} "
              f"({min(row.values):.2f}..{max(row.values):.2f})"
              f"{f'  below {row.floor:g}' if low else ''}")
    return int(any(statistics.median(row.values) < row.floor for row in rows))
