"""The files of the tree, and what a check says about them. Shared by the checks of this folder."""

import collections
import os
import pathlib

# What a check found: `message` says what was got and what is wanted instead.
Problem = collections.namedtuple("Problem", "path line message")

CPP_SUFFIXES = (".h", ".cc", ".cu", ".cuh")
TEXT_SUFFIXES = CPP_SUFFIXES + (".proto", ".py", ".bzl", ".sh", ".yaml", ".yml", ".toml", ".md",
                                 "")
# Written by machines or others.
SKIPPED_FOLDERS = {"testdata", "__pycache__", "node_modules"}
SKIPPED_PATHS = {"tests/golden/llama", "tests/golden/tokenizer", "LICENSE"}


def files(root, suffixes):
    """Paths below `root` (strings with '/', relative) that end in one of `suffixes`, sorted.

    Folders with a leading dot (but .ci) and Bazel's bazel-* links are left out.
    """
    found = []
    for folder, subfolders, names in os.walk(root):
        relative = pathlib.PurePath(os.path.relpath(folder, root))
        subfolders[:] = sorted(
            name for name in subfolders
            if name not in SKIPPED_FOLDERS and (not name.startswith(".") or name == ".ci")
            and not name.startswith("bazel-") and str(relative / name) not in SKIPPED_PATHS)
        found += [str(relative / name) for name in names
                  if pathlib.PurePath(name).suffix in suffixes
                  and str(relative / name) not in SKIPPED_PATHS and not name.startswith(".")]
    return sorted(found)


def lines(root, path):
    """The lines of a file, (number from 1, text). Bytes that are not UTF-8 are replaced."""
    text = (pathlib.Path(root) / path).read_text(encoding="utf-8", errors="replace")
    return enumerate(text.splitlines(), start=1)
