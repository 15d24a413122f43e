"""Every C++ file is as clang-format, with the tree's .clang-format, would write it."""

import re
import subprocess

from tree import CPP_SUFFIXES, Problem, files

FILES_PER_CALL = 100
COMPLAINT = re.compile(r"(.+?):(\d+):\d+: (?:error|warning): .*\[-Wclang-format-violations\]")


def check(root):
    paths = files(root, CPP_SUFFIXES)
    problems = {}
    for begin in range(0, len(paths), FILES_PER_CALL):
        result = subprocess.run(
            ["clang-format", "--dry-run", "-Werror", *paths[begin:begin + FILES_PER_CALL]],
            cwd=root, capture_output=True, text=True)
        found = COMPLAINT.findall(result.stderr)
        if result.returncode != 0 and not found:
            raise RuntimeError(f"clang-format failed: {result.stderr[-2000:]}")
        for path, line in found:  # The first complaint of each file is enough.
            problems.setdefault(path, Problem(
                path, int(line), f"another layout, want that of: clang-format -i {path}"))
    return list(problems.values())
