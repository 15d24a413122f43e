#!/usr/bin/env python3
"""Writes rouge.json and bootstrap.json, what rouge_test and bootstrap_test compare with.

Run by hand with rouge-score 0.1.2 and numpy: python3 trainer/metrics/testdata/make_golden.py
rouge.json holds the scores of Google's package. The bootstrap has no package to compare with: this
is a second implementation, in Python, with numpy's percentile.
"""

import json
import pathlib
import random

import numpy as np
from rouge_score import rouge_scorer

HERE = pathlib.Path(__file__).parent
MASK = 2**32 - 1
BOOTSTRAP_SITE = 0xFF000003

PAIRS = [
    ("", ""), ("", "word"), ("word", ""), ("word", "word"), ("one two", "two one"),
    ("...", "!!!"), ("the the the", "the"), ("a b a b a", "a b"), ("A-B_C", "a b c"),
    ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."),
    ("don't stop", "dont stop"), ("3.14 is pi", "pi is 3 14"), ("naïve café", "naive cafe"),
    ("na\u00efve", "na ve"), ("\u212aelvin", "kelvin"), ("\u0130stanbul", "i stanbul"),
    ("\u0130", "i"), ("x\u0130y", "xi y"), ("MIXED Case Text", "mixed cASE tEXT"),
    ("日本語 の テキスト", "日本語"), ("\U0001F600 smile", "smile \U0001F600"),
    ("tab\tand\nnewline\r\nend", "tab and newline end"), ("\u00a0space\u2003kinds", "space kinds"),
    ("under_score", "under score"), ("stra\u00dfe", "strasse"), ("\ufb01ne", "fine"),
    ("\u24b6\uff21 wide", "a wide"), ("1\u00b2\u0661", "1"), ("nul\0byte", "nul byte"),
]
WORDS = "a the of package library tool for with and C++ X11 Unicode file-system it's".split()


def rouge_cases():
    rng = random.Random(1)
    pairs = list(PAIRS)
    for _ in range(60):
        make = lambda: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 30)))
        pairs.append((make(), make()))
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    cases = []
    for reference, answer in pairs:
        scores = scorer.score(reference, answer)
        cases.append({"reference": reference, "answer": answer, **{
            name: list(map(float, scores[name])) for name in ("rouge1", "rouge2", "rougeL")}})
    return cases


def philox(key, counter):
    key0, key1 = key & MASK, key >> 32
    for _ in range(10):
        product0, product1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(product1 >> 32) ^ counter[1] ^ key0, product1 & MASK,
                   (product0 >> 32) ^ counter[3] ^ key1, product0 & MASK]
        key0, key1 = (key0 + 0x9E3779B9) & MASK, (key1 + 0xBB67AE85) & MASK
    return counter


def bootstrap_case(count, resample_count, confidence, seed):
    rng = random.Random(seed)
    base = [round(rng.uniform(0, 0.6), 4) for _ in range(count)]
    other = [round(score + rng.gauss(0.1, 0.2), 4) for score in base]
    differences = [o - b for o, b in zip(other, base)]
    means = []
    for resample in range(resample_count):
        total = 0.0
        for i in range(count):
            if i % 4 == 0:
                words = philox(seed, [resample, BOOTSTRAP_SITE, 0, i // 4])
            total += differences[words[i % 4] * count >> 32]
        means.append(total / count)
    tail = (1 - confidence) / 2
    low, high = np.percentile(means, [100 * tail, 100 * (1 - tail)])
    return {"base": base, "other": other, "resample_count": resample_count,
            "confidence": confidence, "seed": seed, "mean": sum(differences) / count,
            "low": float(low), "high": float(high)}


def main():
    cases = [bootstrap_case(50, 10000, 0.95, 0), bootstrap_case(7, 1000, 0.9, 12345678901),
             bootstrap_case(1, 10, 0.5, 3)]
    for name, value in (("rouge", rouge_cases()), ("bootstrap", cases)):
        (HERE / f"{name}.json").write_text(json.dumps({"cases": value}, indent=0) + "\n")


if __name__ == "__main__":
    main()
