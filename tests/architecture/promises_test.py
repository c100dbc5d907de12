"""Each promise of docs/reliability.md names its test, and each name is one that there is.

promises_test.py SOURCE_FOLDER [unittest arguments]
"""
import ast
import fnmatch
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(sys.argv[1]).resolve()
TESTS = ROOT / "tests"
COLUMN = "how it is tested"
GTEST = re.compile(r"^\s*(TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+),\s*(\w+)", re.M)
INSTANTIATED = re.compile(r"INSTANTIATE_T\w+_SUITE_P\(\s*(\w+),\s*(\w+)")


class Lists:
    """What the CMakeLists.txt below tests/ make known: the tests of CTest, and the programs behind them, each with its sources."""

    def __init__(self):
        self.sources = {}   # by name
        for file in sorted(TESTS.rglob("CMakeLists.txt")):
            self.read(file.parent, re.sub(r"#.*", "", file.read_text(encoding="utf-8")))

    def read(self, folder, text):
        variables = {"prefix": "", "CMAKE_CURRENT_SOURCE_DIR": str(folder), "PROJECT_SOURCE_DIR": str(ROOT)}
        for name, pattern in re.findall(r"file\(GLOB (\w+) CONFIGURE_DEPENDS ([^)]*)\)", text):
            variables[name] = " ".join(map(str, sorted(folder.glob(pattern))))
        for name, value in re.findall(r"\bset\((\w+) ([^)]*)\)", text):
            variables[name] = value
        for name, items, body in re.findall(r"foreach\((\w+) ([^)]*)\)(.*?)endforeach\(\)", text, re.S):
            for item in items.split():
                self.take(folder, body.replace("${" + name + "}", item), variables)
        self.take(folder, re.sub(r"foreach\((\w+) ([^)]*)\)(.*?)endforeach\(\)", "", text, flags=re.S), variables)

    def take(self, folder, text, variables):
        for kind, words in re.findall(r"\b(cohort_test|cohort_mpi_test|add_test)\(([^)]*)\)", text):
            for _ in range(3):   # variables in variables
                words = re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), words)
            words = words.split()
            name = words[1] if kind == "add_test" else words[0]
            files = [folder / word for word in words if word.endswith((".cpp", ".py", ".sh"))]
            self.sources.setdefault(name, []).extend(file for file in files if file.is_file())
            if kind == "cohort_mpi_test":
                ranks = words[words.index("RANKS") + 1:]
                self.sources.update({f"{name}.np{n}": self.sources[name] for n in ranks if n.isdigit()})

    def find(self, pattern):
        """The sources of all tests and programs that a name, or a pattern as `fault.*`, means; None where there are none."""
        found = [files for name, files in self.sources.items() if fnmatch.fnmatchcase(name, pattern)]
        return [file for files in found for file in files] if found else None


def tests_in(file):
    """The names that GoogleTest (of each parameter or type the first) or unittest know the tests of a source by."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        for c in ast.parse(text).body:
            if isinstance(c, ast.ClassDef):
                yield c.name
                yield from (f"{c.name}.{f.name}" for f in c.body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_"))
        return
    instances = INSTANTIATED.findall(text)
    for kind, suite, test in GTEST.findall(text):
        if kind == "TEST_P":
            yield from (f"{prefix}/{suite}.{test}/0" for prefix, of in instances if of == suite)
        else:
            yield f"{suite}/0.{test}" if kind == "TYPED_TEST" else f"{suite}.{test}"


def is_file(name):
    return "/" in name and any(ROOT.glob(name)) or any(TESTS.glob(name))


def mistakes(cell, lists):
    """What is wrong with what stands in the column of one row."""
    wrong, sources, tested = [], None, False
    for name in re.findall(r"`([^`]+)`", cell):
        name = name.replace("…", "*")
        found = lists.find(name)
        if found is not None or is_file(name):
            sources, tested = found, True
        elif sources is None:
            wrong.append(f"`{name}` is no test of CTest and no file in tests/")
        elif not any(fnmatch.fnmatchcase(test, name) for file in sources for test in tests_in(file)):
            wrong.append(f"`{name}` is none of the tests of the one that is named before it")
    return wrong if wrong or tested else ["it names no test"]


def rows(text):
    """(line number, promise, how it is tested) of each row of each table."""
    column = None
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells:
            column = None
        elif column is None:
            column = cells.index(COLUMN) if COLUMN in cells else -1
            if column < 0:
                yield number, cells[0], ""
        elif not set(line) <= set("|- :"):
            yield number, cells[0], cells[column] if column < len(cells) else ""


class Promises(unittest.TestCase):
    LISTS = Lists()

    def test_each_names_tests_that_there_are(self):
        text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
        self.assertGreater(len(list(rows(text))), 20, "the tables were not found")
        wrong = [f"docs/reliability.md:{number}: \"{promise[:60]}\": {mistake}"
                 for number, promise, cell in rows(text) for mistake in mistakes(cell, self.LISTS)]
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_a_name_that_is_none_is_found(self):
        for right in ("`ops_test`", "`ops_test` (`*LargeMeans.*`), *soak*: more", "`training_mpi_test.np3`", "`fault.*`", "`report.Trace`",
                      "`report.Trace` (`Trace.test_clocks_are_aligned`)", "`data_test` (`PendingTakes/*`)", "by hand in `tests/support/patience.*`",
                      "`watch_test` (`Detector.AWait…`)"):
            self.assertEqual(mistakes(right, self.LISTS), [], right)
        for wrong in ("", "by thought", "`opstest`", "`ops_test` (`LargeMeans.*`)", "`ops_test` (`Detector.*`)", "`LargeMeans.*`", "`fault.Nothing`",
                      "`report.Trace` (`Tracks`)", "`training_mpi_test.np9`", "`train.check_replicas`", "`tests/support/impatience.py`"):
            self.assertNotEqual(mistakes(wrong, self.LISTS), [], wrong)

    def test_a_table_without_the_column_is_found(self):
        table = "| promise | not promised |\n|---|---|\n| all is well | |\n"
        self.assertEqual([cell for _, _, cell in rows(table)][0], "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
