"""Who may include whom.

services -> {scheduler, trainer} -> proto; scheduler and trainer never include each other, except
that trainer/base is for everybody. The scheduler's core sees messages only, and no thread, clock,
file or socket. The trainer has heard of neither proto, gRPC nor Prometheus. A service reaches
another through services/clients. CUDA stays in its folders, gRPC in the thin outer classes.
"""

import posixpath
import re

from tree import CPP_SUFFIXES, Problem, files, lines

TOP_FOLDERS = ("proto", "scheduler", "trainer", "services", "tests", "bazel", "deploy")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')

CUDA_HEADER = re.compile(r"(cuda|cublas|cudnn|curand|cusparse|nccl|nvtx|nvml|nvrtc|nv/)\w*")
CUDA_PLACE = re.compile(r"trainer/(backend/cuda/|comm/nccl_)|tests/gpu/")

GRPC_HEADER = re.compile(r"(grpcpp/|grpc\+\+/|grpc/|.*\.grpc\.pb\.h$)")
GRPC_PLACE = re.compile(
    r"services/(clients/|base/|.*_(service|server)\.(h|cc)$|.*_test\.cc$|(.*/)?(main|.*_main)\.cc$)"
    r"|tests/")
# Classes that a server is made of; nobody else's business.
GRPC_CLASS = re.compile(r"(services/\w+)/.*_(service|server)\.h$")

TRAINER_STRANGER = re.compile(r"(google/protobuf/|prometheus/|.*\.pb\.h$)")
# What a pure core has no use for: time, files, threads and sockets are arguments or events.
IMPURE_HEADER = re.compile(
    r"(thread|mutex|shared_mutex|condition_variable|future|fstream|filesystem|chrono|ctime|random"
    r"|time\.h|unistd\.h|fcntl\.h|pthread\.h|sys/.*|netinet/.*|sqlite3\.h|prometheus/.*"
    r"|absl/time/clock\.h|absl/synchronization/.*|trainer/base/(mutex|file)\.h)$")


def _layer_problem(path, header):
    """What is wrong with a file of `path` including our own `header`, or None."""
    source, target = path.split("/")[0], header.split("/")[0]
    if source == "trainer" and target in ("scheduler", "services", "proto"):
        return f'"{header}"; trainer/ gets what it needs as arguments of its own types'
    if source == "scheduler" and target == "services":
        return f'"{header}"; scheduler/ gets what it needs as events and arguments'
    if source == "scheduler" and target == "trainer" and not header.startswith("trainer/base/"):
        return f'"{header}"; of trainer/, scheduler/ may use trainer/base only'
    if target == "tests" and source != "tests":
        return f'"{header}"; move it out of tests/ if {source}/ needs it'
    if source == "services" and target == "services":
        mine, other = path.split("/")[1], header.split("/")[1]
        if mine == "base" and other != "base":
            return f'"{header}"; services/base/ is what all others build on'
        if other not in (mine, "base", "clients"):
            return f'"{header}"; go through its typed client in services/clients/'
    return None


def check_include(path, quote, header):
    """What is wrong with one include line, or None."""
    ours = header.split("/")[0] in TOP_FOLDERS and "/" in header
    if quote == '"' and "/" not in header:
        return f'"{header}"; write the path from the root of the tree'
    if quote == '"' and (header.startswith(".") or posixpath.normpath(header) != header):
        return f'"{header}"; write the path from the root of the tree'
    if quote == "<" and ours:
        return f"<{header}>; write it in quotes"
    if CUDA_HEADER.match(header) and not ours and not CUDA_PLACE.match(path):
        return (f"{header} outside of trainer/backend/cuda/, trainer/comm/nccl_* and tests/gpu/; "
                "use trainer/backend/backend.h")
    if GRPC_HEADER.match(header) and not GRPC_PLACE.match(path):
        return (f"{header}; gRPC belongs in *_service.{{h,cc}}, *_server.{{h,cc}}, main.cc, "
                "services/clients/ and services/base/: include the messages (.pb.h)")
    outer = GRPC_CLASS.match(header)
    if outer and not path.startswith((outer.group(1) + "/", "tests/")):
        return (f"{header} belongs to {outer.group(1)}/ alone; go through its typed client in "
                "services/clients/")
    if path.startswith("trainer/") and TRAINER_STRANGER.match(header):
        return f"{header} in trainer/; messages and metrics are the business of services/"
    for_tests = path.endswith("_test.cc") or path.startswith("scheduler/testing/")
    if path.startswith("scheduler/") and not for_tests and IMPURE_HEADER.match(header):
        return f"{header} in scheduler/; time, files, threads and chance come in as arguments"
    return _layer_problem(path, header) if ours else None


def check(root):
    problems = []
    for path in files(root, CPP_SUFFIXES):
        for number, line in lines(root, path):
            match = INCLUDE.match(line)
            message = match and check_include(path, match.group(1), match.group(2))
            if message:
                problems.append(Problem(path, number, f"includes {message}"))
    return problems
