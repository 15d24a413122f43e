"""Words that must not be in the tree: unfinished business, foreign locks, paths of one machine.

The words are written in pieces here, so that this file does not find itself.
"""

import pathlib
import re

from tree import CPP_SUFFIXES, TEXT_SUFFIXES, Problem, files, lines


def _rule(pattern, want, suffixes=TEXT_SUFFIXES, except_under=()):
    return re.compile(pattern), want, suffixes, except_under


RULES = [
    _rule(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", "do it, or say in prose what the limit is"),
    _rule(r"\bDIS" r"ABLED_\w", "repair the test or remove it"),
    _rule(r"\bstd::((recursive_|timed_|shared_)?mutex|lock_guard|unique_lock|scoped_lock"
          r"|shared_lock|condition_variable\w*)\b",
          "Mutex, MutexLock and CondVar of trainer/base/mutex.h, which TSan and clang understand",
          CPP_SUFFIXES),
    _rule(r"\babsl::((\w*Mutex\w*)|CondVar|Condition|BlockingCounter|Barrier)\b",
          "Mutex, MutexLock and CondVar of trainer/base/mutex.h, which TSan and clang understand",
          CPP_SUFFIXES, ("trainer/base/",)),
    # Tests of services link gRPC, so TSan never sees them: they may wait for a Notification.
    _rule(r"\babsl::Notification\b",
          "Mutex and CondVar of trainer/base/mutex.h, which TSan understands",
          CPP_SUFFIXES, ("services/",)),
    _rule(r"(?<![\w./$}~-])/(home|root|work|Users|mnt|opt)/\w",
          "a path given by the caller, a flag or the environment"),
    _rule(r"(?<![\w./$}])/tmp/", "::testing::TempDir() or a folder given by the caller",
          CPP_SUFFIXES),
]


def check_line(path, line):
    """Returns a message for every rule that the line breaks."""
    suffix = pathlib.PurePath(path).suffix
    messages = []
    for pattern, want, suffixes, except_under in RULES:
        match = pattern.search(line)
        if match and suffix in suffixes and not path.startswith(except_under):
            messages.append(f'got "{match.group(0)}", want {want}')
    return messages


def check(root):
    return [Problem(path, number, message)
            for path in files(root, TEXT_SUFFIXES)
            for number, line in lines(root, path)
            for message in check_line(path, line)]
