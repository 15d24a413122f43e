#!/usr/bin/env python3
"""What count_results makes of the events and test.xml files that Bazel and GoogleTest write."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parent / "count_results"

GTEST_XML = """<?xml version="1.0"?><testsuites tests="4" failures="1"><testsuite name="G">
  <testcase name="Passes" status="run" result="completed" classname="G"/>
  <testcase name="Fails" status="run" result="completed" classname="G"><failure message="1"/>
  </testcase>
  <testcase name="Skips" status="run" result="skipped" classname="G"><skipped message=""/></testcase>
  <testcase name="Off" status="notrun" result="suppressed" classname="G"/>
</testsuite></testsuites>"""
PASSED_XML = '<testsuites><testsuite name="t"><testcase name="t"/></testsuite></testsuites>'


class CountResultsTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        self.events = []

    def tearDown(self):
        self.temporary.cleanup()

    def add_result(self, label, status, xml, attempt=1):
        path = self.folder / f"test {len(self.events)}.xml"
        path.write_text(xml)
        self.events.append({
            "id": {"testResult": {"label": label, "run": 1, "shard": 1, "attempt": attempt}},
            "testResult": {"status": status, "testActionOutput": [
                {"name": "test.log", "uri": "file:///absent"},
                {"name": "test.xml", "uri": path.as_uri()}]}})

    def count(self, *options):
        """Returns the status, the lines printed and the line appended."""
        events = self.folder / "events"
        events.write_text("".join(json.dumps(event) + "\n" for event in self.events))
        counts = self.folder / "counts"
        result = subprocess.run([sys.executable, PROGRAM, f"--append={counts}", *options, events],
                                capture_output=True, text=True, check=False)
        return result.returncode, result.stdout.splitlines(), counts.read_text()

    def test_cases_are_counted_not_targets(self):
        self.add_result("//a:g_test", "FAILED", GTEST_XML)
        self.add_result("//a:t_test", "PASSED", PASSED_XML)
        self.assertEqual(self.count(), (1, ["FAILED //a:g_test G.Fails",
                                            "2 passed, 1 failed, 2 skipped"], "2 1 2\n"))

    def test_a_crash_or_timeout_without_a_failed_case_counts_as_one(self):
        self.add_result("//a:slow_test", "TIMEOUT", PASSED_XML)
        self.add_result("//a:dead_test", "FAILED", "")
        status, lines, _ = self.count()
        self.assertEqual((status, lines[-1]), (1, "1 passed, 2 failed, 0 skipped"))

    def test_a_target_that_did_not_build_counts_as_failed(self):
        self.events.append({"id": {"targetCompleted": {"label": "//a:b_test"}},
                            "completed": {}})
        self.assertEqual(self.count()[1], ["FAILED //a:b_test (not built)",
                                           "0 passed, 1 failed, 0 skipped"])

    def test_what_an_interruption_left_no_time_for_failed_unless_a_share_was_asked_for(self):
        self.events.append({"id": {"targetCompleted": {"label": "//a:late_test"}},
                            "aborted": {"reason": "USER_INTERRUPTED"}})
        self.events.append({"id": {"targetCompleted": {"label": "//a:broken_test"}},
                            "completed": {}})
        self.add_result("//a:under_way_test", "INCOMPLETE", PASSED_XML)
        self.add_result("//a:t_test", "PASSED", PASSED_XML)
        self.assertEqual(self.count()[1][-1], "1 passed, 3 failed, 0 skipped")
        self.assertEqual(self.count("--share")[:2], (1, [
            "FAILED //a:broken_test (not built)",
            "skipped //a:late_test: no time was left",
            "skipped //a:under_way_test: no time was left",
            "1 passed, 1 failed, 2 skipped"]))

    def test_of_several_attempts_the_last_one_counts(self):
        self.add_result("//a:t_test", "FAILED", "", attempt=1)
        self.add_result("//a:t_test", "PASSED", PASSED_XML, attempt=2)
        self.assertEqual(self.count()[:2], (0, ["1 passed, 0 failed, 0 skipped"]))

    def test_a_program_without_any_test_case_is_a_failure(self):
        self.add_result("//a:empty_test", "PASSED", "<testsuites/>")
        self.assertEqual(self.count()[1][-1], "0 passed, 1 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main()
