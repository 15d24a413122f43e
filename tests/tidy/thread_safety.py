"""Lock annotations, checked by clang's -Wthread-safety (g++ ignores them).

Every source that speaks of locks, and for every header that does one source that includes it, is
parsed by clang++ with that warning as an error and all others off. Guarded members of a header are
private (their names end in "_"), so other sources cannot reach them; one that is not is reported,
and so is a header that no source includes. Generated message headers are made by protoc in a
temporary folder, so no build is needed first.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from tree import Problem, files, lines

LOCKS = re.compile(r"\b(Mutex|MutexLock|CondVar|ABSL_\w*(GUARDED|LOCK)\w*)\b")
INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
GUARDED = re.compile(r"(\w+)(?:\[\w*\])?\s+ABSL_(?:PT_)?GUARDED_BY\(")
COMPLAINT = re.compile(r"(.+?):(\d+):\d+: (?:fatal )?error: (.*)")


def _speaks_of_locks(root, path):
    return any(LOCKS.search(line) for _, line in lines(root, path))


def _first_includer(root, header, sources):
    """The source of the header's own name, or else the first that includes it."""
    own = header.removesuffix(".h") + ".cc"
    if own in sources:
        return own
    return next((source for source in sources if any(
        match and match.group(1) == header
        for _, line in lines(root, source) for match in [INCLUDE.match(line)])), None)


def _public_members(root, header):
    text = (pathlib.Path(root) / header).read_text(encoding="utf-8")
    return [Problem(header, text.count("\n", 0, match.start()) + 1,
                    f"{match[1]} is guarded and public, want it private and named {match[1]}_")
            for match in GUARDED.finditer(text) if not match[1].endswith("_")]


def sources_with_locks(root):
    """The sources to parse, sorted, and the problems of headers that parsing would not show."""
    sources = files(root, (".cc",))
    chosen = {path for path in sources if _speaks_of_locks(root, path)}
    problems = []
    for header in files(root, (".h",)):
        if not _speaks_of_locks(root, header):
            continue
        problems += _public_members(root, header)
        includer = _first_includer(root, header, sources)
        if includer is None:
            problems.append(Problem(header, 1, "has locks and no source includes it, so nobody "
                                    "checks them; want one that does, or the header gone"))
        else:
            chosen.add(includer)
    return sorted(chosen), problems


def _generate_messages(root, folder):
    protos = files(root, (".proto",))
    if not protos:
        return
    command = ["protoc", "-I.", f"--cpp_out={folder}", *protos]
    plugin = shutil.which("grpc_cpp_plugin")
    if plugin:
        command += [f"--grpc_out={folder}", f"--plugin=protoc-gen-grpc={plugin}"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def _check_source(root, path, generated):
    result = subprocess.run(
        ["clang++", "-std=c++20", "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror",
         "-I.", f"-I{generated}", path], cwd=root, capture_output=True, text=True)
    found = [Problem(os.path.relpath(os.path.join(root, p), root), int(line), message)
             for p, line, message in COMPLAINT.findall(result.stderr)]
    if result.returncode != 0 and not found:
        raise RuntimeError(f"clang++ failed on {path}: {result.stderr[-2000:]}")
    return found


def check(root):
    sources, problems = sources_with_locks(root)
    with tempfile.TemporaryDirectory() as generated:
        _generate_messages(root, generated)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            # A header's problem is seen from every source that includes it.
            for found in pool.map(lambda path: _check_source(root, path, generated), sources):
                problems += found
    return sorted(set(problems))
