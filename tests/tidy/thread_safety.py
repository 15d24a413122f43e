"""Lock annotations, checked by clang's -Wthread-safety (g++ ignores them).

Every source that reaches trainer/base/mutex.h through our own includes is parsed by clang++ with
that warning as an error and all others off. Generated message headers are made by protoc in a
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

MUTEX_HEADER = "trainer/base/mutex.h"
INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
COMPLAINT = re.compile(r"(.+?):(\d+):\d+: (?:fatal )?error: (.*)")


def _ours(root, path):
    return [match.group(1) for _, line in lines(root, path) for match in [INCLUDE.match(line)]
            if match and (pathlib.Path(root) / match.group(1)).is_file()]


def sources_with_locks(root):
    """The .cc files from which MUTEX_HEADER is reached."""
    includes = {path: _ours(root, path) for path in files(root, (".h", ".cc"))}
    reaches = {MUTEX_HEADER}
    grew = True
    while grew:
        grew = False
        for path, headers in includes.items():
            if path not in reaches and any(header in reaches for header in headers):
                reaches.add(path)
                grew = True
    return sorted(path for path in reaches if path.endswith(".cc"))


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
    with tempfile.TemporaryDirectory() as generated:
        _generate_messages(root, generated)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda path: _check_source(root, path, generated),
                             sources_with_locks(root))
            # A header's problem is seen from every source that includes it.
            return sorted({problem for problems in found for problem in problems})
