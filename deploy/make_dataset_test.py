#!/usr/bin/env python3
"""The dataset maker on small lists of its own: what it reads, whom it leaves out, same bytes."""

import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
PROGRAM = pathlib.Path(__file__).resolve().parent / "make_dataset"
LOADER = importlib.machinery.SourceFileLoader("make_dataset", str(PROGRAM))
SPEC = importlib.util.spec_from_loader("make_dataset", LOADER)
make_dataset = importlib.util.module_from_spec(SPEC)
LOADER.exec_module(make_dataset)

WANTED = sum(count for _, count in make_dataset.SPLITS)


def stanza(package, synopsis, text):
    """As apt writes it: lines of the long text after one space each, "." for an empty one."""
    lines = "".join(f" {line or '.'}\n" for line in text.split("\n"))
    return f"Package: {package}\nDescription-md5: 00\nDescription-en: {synopsis}\n{lines}\n"


def padded(text):
    """`text`, made long enough to fit."""
    words = "and it goes on for a while "
    return text + words * ((make_dataset.TEXT_MIN + 20 - len(text)) // len(words) + 1)


def good(number):
    """A stanza that fits, with a text and a synopsis of its own."""
    return stanza(f"package-{number}", f"thing that does task number {number}",
                  padded(f"Package {number} does a task of its own. "))


def many(count):
    return "".join(good(number) for number in range(count))


class ParseTest(unittest.TestCase):
    def test_wrapped_lines_are_joined_and_verbatim_lines_kept(self):
        text = "One sentence\nover two lines.\n\nA list:\n  * first\n  * second\nAnd after it."
        self.assertEqual(
            list(make_dataset.parse(stanza("p", "synopsis", text))),
            [("p", "synopsis",
              "One sentence over two lines.\n\nA list:\n* first\n* second\nAnd after it.")])

    def test_a_package_without_a_long_text_is_passed_over(self):
        text = "Package: a\nDescription-en: only a synopsis\n\n" + good(1)
        self.assertEqual([package for package, _, _ in make_dataset.parse(text)], ["package-1"])


class ChooseTest(unittest.TestCase):
    def chosen(self, text):
        return [synopsis for synopsis, _ in make_dataset.choose(text)]

    def test_what_fits_is_taken(self):
        self.assertEqual(len(self.chosen(many(30))), 30)

    def test_short_long_foreign_and_transitional_ones_are_left_out(self):
        body = padded("")
        for synopsis, text in [
                ("a synopsis of fair length", "Too short."),
                ("a synopsis of fair length", body * 3),
                ("too short", body),
                ("s" * 71, body),
                ("a synopsis of fair length", body + "caf\u00e9"),
                ("a synopsis of fair l\u00e9ngth", body),
                ("a synopsis of fair length", "This is a transitional package. " + body)]:
            with self.subTest(synopsis=synopsis, text=text[:30]):
                self.assertEqual(self.chosen(stanza("p", synopsis, text)), [])

    def test_packages_that_share_a_first_paragraph_are_left_out_even_if_one_does_not_fit(self):
        first = "The same first paragraph of two packages."
        self.assertEqual(self.chosen(
            stanza("lib", "library for something", padded(f"{first}\n\nLibrary. "))
            + stanza("doc", "documentation of something", f"{first}\n\nManual.")), [])

    def test_a_synopsis_is_taken_once(self):
        self.assertEqual(len(self.chosen(
            stanza("a", "library for something", padded("One. "))
            + stanza("b", "Library for something", padded("Two. ")))), 1)

    def test_the_order_does_not_depend_on_the_list_s(self):
        stanzas = [good(number) for number in range(20)]
        self.assertEqual(self.chosen("".join(stanzas)), self.chosen("".join(reversed(stanzas))))


class ProgramTest(unittest.TestCase):
    def run_program(self, text):
        """Returns (exit code, standard error, files by name)."""
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "Translation-en"
            source.write_text(text, encoding="utf-8")
            output = pathlib.Path(folder) / "dataset"
            result = subprocess.run(
                [sys.executable, str(PROGRAM), str(output), "--translation", str(source)],
                capture_output=True, text=True, check=False)
            files = {path.name: path.read_text() for path in output.glob("*")}
            return result.returncode, result.stderr, files

    def test_three_files_of_chats_without_overlap(self):
        code, error, files = self.run_program(many(WANTED + 10))
        self.assertEqual(code, 0, error)
        seen = set()
        for name, count in make_dataset.SPLITS:
            examples = [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()]
            self.assertEqual(len(examples), count)
            for example in examples:
                user, assistant = example["messages"]
                self.assertEqual((user["role"], assistant["role"]), ("user", "assistant"))
                self.assertTrue(user["content"].startswith("Write the one-line synopsis"))
                self.assertTrue(assistant["content"].startswith("thing that does"))
                seen.add(user["content"])
        self.assertEqual(len(seen), WANTED)
        self.assertEqual(len(files), len(make_dataset.SPLITS))

    def test_the_same_list_gives_the_same_bytes(self):
        text = many(WANTED + 10)
        self.assertEqual(self.run_program(text)[2], self.run_program(text)[2])

    def test_too_short_a_list_says_how_many_fit_and_writes_nothing(self):
        code, error, files = self.run_program(many(10))
        self.assertEqual(code, 1)
        self.assertIn(f"10 descriptions fit, want at least {WANTED}", error)
        self.assertEqual(files, {})

    def test_a_missing_list_is_named(self):
        result = subprocess.run([sys.executable, str(PROGRAM), "x", "--translation", "/absent"],
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("/absent: no such file", result.stderr)


if __name__ == "__main__":
    unittest.main()
