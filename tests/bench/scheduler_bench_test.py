#!/usr/bin/env python3
"""tests/bench/scheduler --quick measures everything that it should, and the numbers can be true.

Arguments: the script, the load's program and the scheduler's.
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest

SCRIPT, LOAD, SCHEDULER = (os.path.abspath(path) for path in sys.argv[1:4])
CORES = os.cpu_count()


class SchedulerBenchTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(os.environ["TEST_TMPDIR"]) / "scheduler_bench"
        done = subprocess.run(
            [SCRIPT, "--quick", "--folder", cls.folder, "--load-program", LOAD,
             "--scheduler-program", SCHEDULER], stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout)
        lines = done.stdout.splitlines()
        cls.results = [json.loads(line) for line in lines if line.startswith("{")]
        cls.table = "\n".join(line for line in lines if not line.startswith("{"))

    def result(self, measured, **fields):
        found = [result for result in self.results if result["measured"] == measured
                 and all(result[name] == value for name, value in fields.items())]
        self.assertEqual(len(found), 1, f"{measured} {fields}: want one line of it")
        return found[0]

    def assert_rising(self, *values):
        self.assertGreater(values[0], 0)
        self.assertEqual(list(values), sorted(values))

    def test_every_measurement_has_its_line_with_what_it_cost(self):
        self.assertEqual(len(self.results), 4)
        for result in self.results:
            self.assertGreater(result["fsyncs_per_second"], 0)
            self.assertGreater(result["commits_per_second"], 0)
            self.assertGreater(result["load_cores"], 0)
            self.assertLessEqual(result["load_cores"], CORES)
            self.assertLessEqual(result["scheduler_cores"], CORES + 1)

    def test_submits_of_one_and_of_many_clients_are_accepted(self):
        for clients in (1, 8):
            result = self.result("submits", clients=clients)
            self.assertGreater(result["submits_per_second"], 0)
            self.assert_rising(result["p50_seconds"], result["p99_seconds"])

    def test_each_submit_of_one_client_waits_for_a_commit(self):
        result = self.result("submits", clients=1)
        # One that was begun in the window may end after it.
        self.assertGreaterEqual(result["commits_per_second"] * result["seconds"] + 1,
                                result["submits"])

    def test_jobs_are_accepted_before_they_are_assigned(self):
        result = self.result("assignment")
        self.assert_rising(result["accept_p50_seconds"], result["p50_seconds"],
                           result["p99_seconds"])

    def test_every_worker_of_the_fleet_trains_and_hears_of_its_checkpoints(self):
        result = self.result("fleet")
        self.assertEqual(result["workers_with_job"], 50)
        self.assertEqual(result["jobs_lost"], 0)
        self.assertEqual(result["errors"], {})
        self.assertGreater(result["answered_at_once"], 0)
        self.assert_rising(result["p50_seconds"], result["p99_seconds"])
        # Held for a second each, and some given up for a checkpoint.
        self.assertGreater(result["syncs_per_second"], 50 / 4)

    def test_the_table_says_what_was_wanted(self):
        for words in ("durable submits, 1 client", "durable submits, 8 clients",
                      "fsyncs of the disk alone", "request to assignment", "20 ms + 1 fsync",
                      "fleet of 50", "0.5 cores", "50 ms"):
            self.assertIn(words, self.table)

    def test_nothing_is_left_in_the_folder(self):
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
