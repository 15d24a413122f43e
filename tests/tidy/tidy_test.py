#!/usr/bin/env python3
"""Every check of this folder is shown a bad example that it must find, and a good one."""

import pathlib
import sys
import tempfile
import textwrap
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import includes  # noqa: E402
import layout  # noqa: E402
import thread_safety  # noqa: E402
import words  # noqa: E402

MUTEX_H = """
struct __attribute__((capability("mutex"))) Mutex {
  void Lock() __attribute__((acquire_capability()));
  void Unlock() __attribute__((release_capability()));
};
"""
COUNTER_H = """
#include "trainer/base/mutex.h"
struct Counter {
  Mutex mutex;
  int value __attribute__((guarded_by(mutex))) = 0;
};
"""


class Tree:
    """A temporary tree with the given files."""

    def __init__(self, contents):
        self._folder = tempfile.TemporaryDirectory()
        self.root = self._folder.name
        for path, text in contents.items():
            file = pathlib.Path(self.root) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))

    def __enter__(self):
        return self.root

    def __exit__(self, *_):
        self._folder.cleanup()


def find(check, contents):
    with Tree(contents) as root:
        return check(root)


class IncludesTest(unittest.TestCase):
    BAD = [
        ("trainer/a.cc", '"scheduler/lease.h"', "arguments of its own types"),
        ("trainer/a.cc", '"services/base/x.h"', "arguments of its own types"),
        ("trainer/a.cc", '"proto/deltaworks/v1/job.pb.h"', "business of services/"),
        ("trainer/a.cc", "<google/protobuf/message.h>", "business of services/"),
        ("trainer/a.cc", "<prometheus/counter.h>", "business of services/"),
        ("trainer/a.cc", "<grpcpp/grpcpp.h>", "gRPC belongs in"),
        ("trainer/model/a.cc", "<cuda_runtime.h>", "trainer/backend/backend.h"),
        ("trainer/model/a.cc", '"nccl.h"', "from the root"),
        ("services/worker/a.cc", "<cublasLt.h>", "trainer/backend/backend.h"),
        ("scheduler/a.cc", '"trainer/model/llama.h"', "trainer/base only"),
        ("scheduler/a.cc", '"services/base/clock.h"', "events and arguments"),
        ("scheduler/a.cc", '"proto/deltaworks/v1/job.grpc.pb.h"', "include the messages"),
        ("scheduler/a.cc", "<thread>", "come in as arguments"),
        ("scheduler/a.cc", '"absl/time/clock.h"', "come in as arguments"),
        ("scheduler/a.cc", '"trainer/base/file.h"', "come in as arguments"),
        ("services/worker/a.cc", '"services/store/blob.h"', "typed client"),
        ("services/base/a.cc", '"services/clients/store_client.h"', "what all others"),
        ("services/worker/loop.cc", "<grpcpp/grpcpp.h>", "gRPC belongs in"),
        ("services/clients/a.cc", '"services/store/store_service.h"', "belongs to services/store/"),
        ("services/worker/a.cc", '"tests/fake.h"', "move it out of tests/"),
        ("trainer/a.cc", '"tensor.h"', "from the root"),
        ("trainer/a.cc", '"../scheduler/lease.h"', "from the root"),
        ("trainer/a.cc", "<trainer/tensor.h>", "in quotes"),
    ]
    GOOD = [
        ("trainer/a.cc", '"trainer/tensor.h"'),
        ("trainer/a.cc", "<string>"),
        ("trainer/backend/cuda/gemm.cu", "<cublasLt.h>"),
        ("tests/gpu/probe/gpu.h", "<cuda_runtime.h>"),
        ("trainer/comm/nccl_communicator.cc", "<nccl.h>"),
        ("scheduler/a.cc", '"proto/deltaworks/v1/job.pb.h"'),
        ("scheduler/a.cc", '"trainer/base/status_macros.h"'),
        ("scheduler/a.cc", '"absl/time/time.h"'),
        ("scheduler/a_test.cc", "<random>"),
        ("services/worker/a.cc", '"trainer/model/llama.h"'),
        ("services/worker/a.cc", '"services/clients/store_client.h"'),
        ("services/worker/a.cc", '"services/base/clock.h"'),
        ("services/store/store_service.h", "<grpcpp/grpcpp.h>"),
        ("services/store/store_server.cc", '"services/store/store_service.h"'),
        ("services/clients/store_client.cc", '"proto/deltaworks/v1/store_service.grpc.pb.h"'),
        ("tests/e2e/a.cc", '"services/store/store_server.h"'),
    ]

    def test_every_forbidden_include_is_found_and_says_what_instead(self):
        for path, header, message in self.BAD:
            with self.subTest(path=path, header=header):
                found = find(includes.check, {path: f"// About.\n#include {header}\n"})
                self.assertEqual([(p.path, p.line) for p in found], [(path, 2)])
                self.assertIn(message, found[0].message)

    def test_what_the_layers_allow_is_not_reported(self):
        for path, header in self.GOOD:
            with self.subTest(path=path, header=header):
                self.assertEqual(find(includes.check, {path: f"#include {header}\n"}), [])


class WordsTest(unittest.TestCase):
    BAD = [
        ("trainer/a.cc", "// TO" "DO: finish"),
        ("deploy/script", "# FIX" "ME"),
        ("trainer/a_test.cc", "TEST(A, DIS" "ABLED_B) {}"),
        ("services/a.cc", "std::mu" "tex mutex_;"),
        ("services/a.cc", "std::condition_" "variable changed_;"),
        ("services/a.cc", "absl::Mu" "tex mutex_;"),
        ("services/a.cc", "absl::Mutex" "Lock lock(&mutex_);"),
        ("trainer/a.cc", 'Open("/ho' 'me/me/model")'),
        (".ci/run", "cd /wo" "rk/tree"),
        ("trainer/a_test.cc", 'Open("/t' 'mp/x")'),
    ]
    GOOD = [
        ("trainer/base/mutex.h", "absl::Mu" "tex mutex_;"),
        ("services/a.cc", "MutexLock lock(&mutex_);"),
        ("deploy/script", "folder=$HOME/work/model"),
        ("trainer/a.cc", "// see https://example.org/ho" "me/page"),
        ("trainer/a.cc", "auto total_todo = method();"),
    ]

    def test_every_forbidden_word_is_found_at_its_line(self):
        for path, line in self.BAD:
            with self.subTest(path=path, line=line):
                found = find(words.check, {path: f"first\n{line}\n"})
                self.assertEqual([(p.path, p.line) for p in found], [(path, 2)])
                self.assertIn("want ", found[0].message)

    def test_ordinary_words_are_not_reported(self):
        for path, line in self.GOOD:
            with self.subTest(path=path, line=line):
                self.assertEqual(find(words.check, {path: line + "\n"}), [])


class LayoutTest(unittest.TestCase):
    def test_a_file_of_another_layout_is_found_and_the_remedy_named(self):
        found = find(layout.check, {".clang-format": "BasedOnStyle: Google\n",
                                    "trainer/bad.cc": "int  f( ){return 1;}\n",
                                    "trainer/good.cc": "int f() { return 1; }\n"})
        self.assertEqual([p.path for p in found], ["trainer/bad.cc"])
        self.assertIn("clang-format -i trainer/bad.cc", found[0].message)


class ThreadSafetyTest(unittest.TestCase):
    MUTEX = {"trainer/base/mutex.h": MUTEX_H,
             "trainer/base/mutex_test.cc": '#include "trainer/base/mutex.h"\n'}
    HEADERS = {**MUTEX, "trainer/counter.h": COUNTER_H}

    def test_a_member_read_without_its_lock_is_found(self):
        found = find(thread_safety.check, {**self.HEADERS, "trainer/bad.cc": """
            #include "trainer/counter.h"
            int Read(Counter& counter) { return counter.value; }
            """})
        self.assertEqual([(p.path, p.line) for p in found], [("trainer/bad.cc", 3)])
        self.assertIn("requires holding mutex", found[0].message)

    def test_a_lock_that_is_never_released_is_found(self):
        found = find(thread_safety.check, {**self.HEADERS, "trainer/bad.cc": """
            #include "trainer/counter.h"
            void Take(Counter& counter) { counter.mutex.Lock(); }
            """})
        self.assertEqual([p.path for p in found], ["trainer/bad.cc"])

    def test_a_source_that_does_not_parse_is_not_passed_over(self):
        found = find(thread_safety.check, {**self.HEADERS, "trainer/bad.cc": """
            #include "trainer/counter.h"
            int broken( {
            """})
        self.assertTrue(found)

    def test_a_public_guarded_member_is_found_for_only_one_of_two_sources_is_parsed(self):
        sources = {"trainer/a.cc": '#include "trainer/pair.h"\n',
                   "trainer/b.cc": '#include "trainer/pair.h"\n'
                                   "int Read(Pair& pair) { return pair.first; }\n"}
        header = """
            #include "trainer/base/mutex.h"
            #include "absl/base/thread_annotations.h"
            class Pair {
             %s
              Mutex mutex_;
              int first%s ABSL_GUARDED_BY(mutex_) = 0;
              int second_[2] ABSL_GUARDED_BY(mutex_) = {};
            };
            """
        with Tree({**self.MUTEX, **sources, "trainer/pair.h": header % ("public:", "")}) as root:
            self.assertEqual(thread_safety.sources_with_locks(root)[0],
                             ["trainer/a.cc", "trainer/base/mutex_test.cc"])
            found = thread_safety.check(root)
            self.assertEqual([(p.path, p.line) for p in found], [("trainer/pair.h", 7)])
            self.assertIn("first_", found[0].message)
        sources["trainer/b.cc"] = '#include "trainer/pair.h"\n'
        self.assertEqual(find(thread_safety.check, {**self.MUTEX, **sources, "trainer/pair.h":
                                                    header % ("private:", "_")}), [])

    def test_a_header_with_locks_that_no_source_includes_is_found(self):
        found = find(thread_safety.check, {**self.HEADERS, "trainer/a.cc": "int x;\n"})
        self.assertEqual([(p.path, p.line) for p in found], [("trainer/counter.h", 1)])
        self.assertIn("no source includes it", found[0].message)

    def test_good_locking_and_sources_without_locks_are_not_reported(self):
        with Tree({**self.HEADERS, "trainer/other.cc": "int x;\n", "trainer/good.cc": """
            #include "trainer/counter.h"
            int Read(Counter& counter) {
              counter.mutex.Lock();
              const int value = counter.value;
              counter.mutex.Unlock();
              return value;
            }
            """}) as root:
            self.assertEqual(thread_safety.sources_with_locks(root),
                             (["trainer/base/mutex_test.cc", "trainer/good.cc"], []))
            self.assertEqual(thread_safety.check(root), [])


if __name__ == "__main__":
    unittest.main()
