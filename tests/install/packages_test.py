"""Every file outside the repository that the project uses belongs to a package of cmake/packages.sh, or to one that those
need: nothing works only because a machine happens to have it.

packages_test.py SOURCE_FOLDER [unittest arguments]

Looked for are absolute paths in any file; programs, where a script, a test or a document calls one; modules that Python
files import; and headers. Whose they are dpkg knows of what is installed, as it is where the tests run. Exit code 77
where there is no dpkg.
"""
import ast
import functools
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(sys.argv[1]).resolve()
PYTHON = "/usr/bin/python3"      # Debian's: another one may have modules of its own
OURS = ("*.py", "*.sh", "*.toml", "*.md", "*.txt", "*.cmake", "*.cpp", "*.hpp", "check", "quickstart")
# The one makes the bare system that all others run in, and so runs before anything is installed. The others are run by hand,
# to make the reference values that lie beside them.
OUTSIDE = {"tests/install/bare_root.sh", "tests/ops/make_op_values.py", "tests/train/make_trajectories.py",
           "tests/params/torch_values.py"}
# Runs without any of TEST_PACKAGES.
USERS = ("jobs/", "src/", "include/", "optimizers/", "collectives/", "quickstart")


def output(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, check=False, **more).stdout


def listed(*names):
    """The packages in these arrays of cmake/packages.sh."""
    words = " ".join(f'"${{{name}[@]}}"' for name in names)
    return set(output("bash", "-c", f'. cmake/packages.sh; printf "%s\\n" {words}', cwd=SOURCE).split())


@functools.cache
def installed():
    """Package → [priority, what it depends on: lists of alternatives, what it provides]."""
    fields = "${Package}\t${Priority}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    found = {}
    for line in output("dpkg-query", "-W", "-f", fields).splitlines():
        name, priority, needs, provides = line.split("\t")
        alternatives = [[re.split(r"[\s:(]", choice.strip())[0] for choice in need.split("|")]
                        for need in needs.split(",") if need.strip()]
        found[name] = (priority, alternatives, {re.split(r"[\s(]", word.strip())[0] for word in provides.split(",")})
    return found


def closure(packages):
    """These packages, all that they depend on, and what every Debian has. Of alternatives the first counts, which apt-get
    takes; where nobody is called so, all that provide it."""
    everything = installed()
    todo = set(packages) | {"apt"} | {name for name, (priority, _, _) in everything.items() if priority == "required"}
    done = set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        if name in everything:
            todo |= {choices[0] for choices in everything[name][1]}
        else:
            todo |= {other for other, (_, _, provides) in everything.items() if name in provides}
    return done


@functools.cache
def contents():
    """File → packages, as dpkg knows it."""
    found = {}
    for file in pathlib.Path("/var/lib/dpkg/info").glob("*.list"):
        package = file.stem.split(":")[0]
        for path in file.read_text(encoding="utf-8").splitlines():
            found.setdefault(path, set()).add(package)
    return found


def owners(path):
    """Packages with this file: by its name, by the one before /usr was merged, or by what links lead to."""
    path = pathlib.Path(path)
    for one in (path, path.parent.resolve() / path.name, path.resolve()):
        for name in (str(one), str(one).removeprefix("/usr")):
            if name in contents():
                return contents()[name]
    return set()


# --- What files use.

def files():
    for pattern in OURS:
        for path in SOURCE.rglob(pattern):
            name = path.relative_to(SOURCE).as_posix()
            if not name.startswith(("build", "runs", "shared")) and name not in OUTSIDE and path.stat().st_size < 200_000:
                yield name, path.read_text(encoding="utf-8")
    yield ".ci/run", (SOURCE / ".ci" / "run").read_text(encoding="utf-8")


def paths(text):
    """What lies where packages put things. Of a pattern its folder."""
    for found in re.findall(r"(?<![\w.$})\]>])/usr/(?:share|lib|bin|sbin|include|games)/[\w./+-]*", text):
        if not found.endswith("/cohort"):      # the project itself, where somebody installed it
            yield found.rstrip("./")


WORDS_BEFORE = r"(?:(?:sudo|exec|env|time|nice|then|do|else|if|while|until|!|as_root|[A-Za-z_]\w*=\S*)\s+)*"


def shell_programs(text):
    """First words of commands."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in re.split(r"\|\||&&|[|;{(`]|\$\(|--(?= )", re.sub(r"(^|\s)#.*", "", line)):
            found = re.match(r"\s*" + WORDS_BEFORE + r"([a-z][\w+.-]*)(?=\s|$|\))", part)
            if found:
                yield found[1]


def python_uses(name, text):
    """(programs, modules): the first words of lists and of calls may be programs, and what `sh -c` gets has some."""
    programs, modules = set(), set()
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
        elements = node.elts if isinstance(node, (ast.List, ast.Tuple)) else node.args if isinstance(node, ast.Call) else []
        words = [element.value for element in elements if isinstance(element, ast.Constant) and isinstance(element.value, str)]
        programs |= set(words[:1])
        if isinstance(node, ast.Call) and any(getattr(part, "attr", "") == "which" for part in (node.func, *node.args)):
            programs |= {word.value for word in ast.walk(node) if isinstance(word, ast.Constant) and isinstance(word.value, str)}
        if "-c" in words:
            for word in words[words.index("-c") + 1:]:
                programs |= set(shell_programs(word))
        if "-t" in words and "--" in words:          # nsenter, and what it runs
            programs |= set(words)
    return programs, modules


def programs_and_modules(name, text):
    if name.endswith(".py"):
        return python_uses(name, text)
    if name.endswith(".sh") or name in ("check", "quickstart", ".ci/run"):
        return set(shell_programs(text)), set()
    if name.endswith(".md"):
        return set(shell_programs("\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)))), set()
    if name.endswith((".txt", ".cmake")):
        return set(re.findall(r"(?:find_program\(\w+|COMMAND) (?:NAMES )?([a-z][\w+-]*)", text)), set()
    if name.endswith(".cpp"):
        return set(re.findall(r'(?:on_path|execvp|system|popen)\("([\w+-]+)', text)), set()
    if name.endswith(".toml"):
        return set(re.findall(r"^#\s+(?:\$ )?([a-z][\w-]+) ", text, re.MULTILINE)) & {"cohort"}, set()
    return set(), set()


@functools.cache
def shells_own():
    return set(output("bash", "-c", "compgen -bk").split())


@functools.cache
def module_file(module):
    """Where Debian's Python has it; "" if it is part of the interpreter."""
    find = f"import importlib.util as u; s = u.find_spec({module!r}); print(s.origin if s else 'missing')"
    origin = output(PYTHON, "-c", find, cwd="/").strip()
    return "" if origin in ("built-in", "frozen") else origin


@functools.cache
def uses():
    """All (file of the project, file outside)."""
    return frozenset(each_use())


def each_use():
    local = {path.stem for path in SOURCE.rglob("*.py")}
    for name, text in files():
        for path in paths(text):
            yield name, path
        programs, modules = programs_and_modules(name, text)
        for program in programs - shells_own():
            found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/games") if "/" not in program else None
            if found:
                yield name, found
        for module in modules - local:
            if module_file(module):
                yield name, module_file(module)


@functools.cache
def headers():
    """Every file that the compiler reads for all headers of others that the project includes, by any way."""
    include = re.compile(r"^\s*#\s*include <((?!cohort/)[^>]+)>", re.MULTILINE)
    names = {found for name, text in files() if name.endswith((".cpp", ".hpp")) for found in include.findall(text)}
    folders = output("mpicc", "--showme:incdirs").split() + ["/usr/include/hdf5/serial"]
    text = "".join(f"#include <{name}>\n" for name in sorted(names))
    command = ["g++", "-std=c++20", "-march=haswell", "-M", "-x", "c++", "-", *[f"-I{folder}" for folder in folders]]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return sorted(set(done.stdout.replace("\\\n", " ").split()[2:])), done.stderr


def foreign(packages, wanted=lambda name: True):
    """What is used, but belongs to none of them."""
    allowed = closure(packages)
    return sorted({f"{name} uses {path} of {', '.join(sorted(owners(path))) or 'no package'}" for name, path in uses()
                   if wanted(name) and not owners(path) & allowed})


class Packages(unittest.TestCase):
    EVERYTHING = listed("BUILD_PACKAGES", "TEST_PACKAGES", "DATA_PACKAGES")

    def test_all_are_installed(self):
        self.assertEqual(self.EVERYTHING - set(installed()), set())

    def test_files_programs_and_modules_are_theirs(self):
        self.assertEqual(foreign(self.EVERYTHING), [])

    def test_what_users_run_needs_no_package_of_the_tests(self):
        def theirs(name):
            return name.startswith(USERS) and name != "jobs/doctor.cpp"      # that one asks what there is
        self.assertEqual(foreign(listed("BUILD_PACKAGES", "DATA_PACKAGES"), theirs), [])

    def test_headers_are_theirs(self):
        found, errors = headers()
        self.assertEqual(errors, "")
        self.assertGreater(len(found), 500)
        allowed = closure(self.EVERYTHING)
        self.assertEqual([path for path in found if not owners(str(pathlib.Path(path).resolve())) & allowed], [])

    def test_one_that_is_taken_off_the_list_is_missed(self):
        users = {"fortunes": "jobs/gpt.toml", "dataset-fashion-mnist": "jobs/lenet.toml", "iproute2": "tests/network/network.py",
                 "python3-h5py": "tests/checkpoint/read_checkpoint.py", "slurm-wlm": "tests/slurm/slurm.py",
                 "hdf5-tools": "jobs/doctor.cpp", "chromium-headless-shell": "tests/job/report_test.py",
                 "ccache": "cmake/Dependencies.cmake"}
        for package, name in users.items():
            with self.subTest(package):
                self.assertIn(name, {line.split()[0] for line in foreign(self.EVERYTHING - {package})})


if __name__ == "__main__":
    if shutil.which("dpkg") is None:
        print("not possible here: no dpkg")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
