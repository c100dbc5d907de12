"""What `cmake --install` copies is built by whoever builds what ./quickstart does, without the tests.

install_test.py SOURCE_FOLDER BUILD_FOLDER
"""
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE, BUILD = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def built_and_installed():
    """The files of the build folder that the install scripts copy, but for links that come with them."""
    files = set()
    for script in BUILD.rglob("cmake_install.cmake"):
        text = script.read_text(encoding="utf-8")
        for command in re.findall(r"file\(INSTALL .*?\)\n", text, re.DOTALL):
            files |= set(re.findall(rf'"({re.escape(str(BUILD))}/[^"]+)"', command))
    return {file for file in files if pathlib.Path(file).suffix not in (".cmake", "")} | {f"{BUILD}/cohort"}


class Install(unittest.TestCase):
    def test_quickstart_builds_all_that_is_installed(self):
        target = re.search(r"cmake --build .*--target (\w+)", (SOURCE / "quickstart").read_text(encoding="utf-8")).group(1)
        # What ninja would have to make if nothing were there.
        plan = subprocess.run(["ninja", "-C", str(BUILD), "-t", "commands", target], capture_output=True, text=True, check=True).stdout
        made = set(re.findall(r" -o (\S+)", plan))
        for links in re.findall(r"cmake_symlink_library (.*) &&", plan):
            made |= set(links.split())
        files = built_and_installed()
        self.assertIn(f"{BUILD}/src/debug/cohort_debug.so", files)
        self.assertGreaterEqual(len(files), 3)
        for file in files:
            name = file.removeprefix(f"{BUILD}/")
            self.assertTrue(name in made, f"{target} does not build {name}, which is installed")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
