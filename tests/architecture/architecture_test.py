"""Checks that the layers of docs/architecture.md are what the #include lines say, and a few habits that hold them.

architecture_test.py SOURCE_FOLDER [unittest arguments]
"""
import ast
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(sys.argv[1]).resolve()

# Who may include whom: what stands directly below each layer. Everything below that is allowed as well.
BELOW = {
    "base": [],
    "tensor": ["base"],
    "hdf5": ["tensor"],
    "graph": ["tensor"],
    "watch": ["base"],
    "comm": ["tensor", "watch"],
    "faults": ["comm"],
    "exec": ["graph"],
    "data": ["exec", "hdf5"],
    "input": ["data"],
    "cluster": ["exec", "comm"],
    "params": ["exec", "comm"],
    "report": ["comm"],
    "exchange": ["params"],
    "checkpoint": ["params", "hdf5"],
    "updaters": ["exchange"],
    "run": ["updaters", "checkpoint", "report", "input", "cluster"],
    "tasks": ["run"],
    "train": ["tasks"],
    "job": ["train", "faults"],
    "debug": ["exec"],   # a device, loaded as a library: nobody includes it
    # Plug-ins: one file, one thing.
    "ops": ["exec", "data"],
    "optimizers": ["params"],
    "collectives": ["comm"],
    "jobs": ["job"],
}
# Plug-ins see what a plug-in outside the tree sees: public headers, and headers of their own folder.
PLUGINS = ["debug", "ops", "optimizers", "collectives", "jobs"]
# Models are jobs' plug-ins: they describe a graph, and know nothing of ranks.
MODELS_MAY_SEE = {"base", "tensor", "graph"}

# Which layer owns which library.
OWNERS = {
    r"mpi\.h": ["comm"],
    r"hdf5\.h|hdf5/.*": ["hdf5"],
    r"oneapi/.*|dnnl.*|Eigen/.*|omp\.h": ["ops"],
    r"zlib\.h|png\.h|turbojpeg\.h": ["data"],
    r"toml\+\+/.*": ["job"],
    r"CLI/.*": ["job"],
    r"cuda.*|cudnn.*|cublas.*|nccl\.h": ["cuda"],
}
MOST_LINES = 500
MOST_COLUMNS = 170   # the aim is 125; a line may overrun it where a break would hurt
DOCUMENT_COLUMNS = 125


def layer_of(path):
    """The layer of a source file, by its path from the root: include/cohort/comm/x.hpp and src/comm/x.cpp are of comm."""
    parts = path.parts
    if parts[:2] == ("include", "cohort"):
        return parts[2] if len(parts) > 3 else "cohort"
    return parts[1] if parts[0] == "src" else parts[0]


def closure(layer):
    found, new = {layer}, [layer]
    while new:
        for below in BELOW[new.pop()]:
            if below not in found:
                found.add(below)
                new.append(below)
    return found


def sources():
    for top in ("include", "src", "optimizers", "collectives", "jobs"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".hpp", ".cpp", ".cu", ".cuh"):
                yield path.relative_to(ROOT)


def includes(path):
    """(line number, name, quoted) of every #include."""
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found.group(2), found.group(1) == '"'


class Layers(unittest.TestCase):
    def test_every_folder_is_a_known_layer(self):
        self.assertEqual({layer_of(path) for path in sources()} - set(BELOW) - {"cohort"}, set())

    def test_a_layer_includes_only_layers_below_it(self):
        wrong = []
        for path in sources():
            if layer_of(path) == "cohort":   # cohort.hpp: everything
                continue
            allowed = closure(layer_of(path))
            for number, name, quoted in includes(path):
                if not quoted or "/" not in name:   # a neighbour in the same folder
                    continue
                layer = name.removeprefix("cohort/").split("/")[0]
                if layer not in allowed and name != "cohort/cohort.hpp":
                    wrong.append(f"{path}:{number}: {layer_of(path)} includes {name}")
        self.assertEqual(wrong, [])

    def test_plugins_include_public_headers_and_their_own_only(self):
        wrong = []
        for path in sources():
            if layer_of(path) not in PLUGINS:
                continue
            for number, name, quoted in includes(path):
                if quoted and "/" in name and not name.startswith(("cohort/", layer_of(path) + "/")):
                    wrong.append(f"{path}:{number}: {name}")
                if quoted and path.parts[:2] == ("jobs", "models") and name != "cohort/graph/model.hpp":
                    if name.split("/")[1] not in MODELS_MAY_SEE:
                        wrong.append(f"{path}:{number}: a model includes {name}")
        self.assertEqual(wrong, [])

    def test_each_library_has_one_layer_that_knows_it(self):
        wrong = []
        for path in sources():
            for number, name, quoted in includes(path):
                for pattern, owners in OWNERS.items():
                    if quoted or not re.fullmatch(pattern, name):
                        continue
                    mine = layer_of(path) in owners and path.parts[0] == "src"
                    if not mine and not (owners == ["cuda"] and path.name == "nccl.cpp"):
                        wrong.append(f"{path}:{number}: <{name}> belongs to src/{owners[0]}")
        self.assertEqual(wrong, [])

    def test_public_headers_need_nothing_but_the_language(self):
        wrong = []
        for path in sources():
            if path.parts[0] != "include":
                continue
            for number, name, quoted in includes(path):
                ours = quoted and name.startswith("cohort/")
                standard = not quoted and re.fullmatch(r"[a-z_]+", name)
                if not ours and not standard:
                    wrong.append(f"{path}:{number}: {name}")
        self.assertEqual(wrong, [])

    def test_no_environment_variables_below_the_programs(self):
        wrong = [str(path) for path in sources() if layer_of(path) not in ("job", "jobs")
                 and re.search(r"\b(secure_)?getenv\b", (ROOT / path).read_text(encoding="utf-8"))]
        self.assertEqual(wrong, [])

    def test_backends_are_chosen_by_files_not_by_the_preprocessor(self):
        wrong = []
        for path in sources():
            for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
                allowed = path.name == "portable.hpp" or "__has_include" in line
                if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line) and not allowed:
                    wrong.append(f"{path}:{number}: {line.strip()}")
        self.assertEqual(wrong, [])


class Plugins(unittest.TestCase):
    """One file = one thing, named like the file."""

    KINDS = {"optimizers": "OptimizerType", "collectives": "CollectiveType", "collectives/codecs": "CodecType",
             "jobs": "JobType", "jobs/models": "ModelType"}

    def test_the_file_of_a_plugin_has_its_name(self):
        wrong = []
        for folder, kind in self.KINDS.items():
            for path in sorted((ROOT / folder).glob("*.cpp")):
                names = re.findall(rf'Registered<{kind}>\s+\w+\{{\s*"([^"]+)"', path.read_text(encoding="utf-8"))
                others = [name for name in names if not name.startswith(path.stem)]
                if path.stem not in names or others:
                    wrong.append(f"{path.relative_to(ROOT)} registers {names}")
        self.assertEqual(wrong, [])


class Habits(unittest.TestCase):
    def files(self):
        yield from sources()
        for path in sorted((ROOT / "tests").rglob("*")):
            if path.suffix in (".hpp", ".cpp", ".py"):
                yield path.relative_to(ROOT)

    def test_files_are_short(self):
        wrong = []
        for path in self.files():
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            if len(lines) > MOST_LINES:
                wrong.append(f"{path} has {len(lines)} lines")
            for number, line in enumerate(lines, 1):
                if len(line) > MOST_COLUMNS:
                    wrong.append(f"{path}:{number} has {len(line)} columns")
        self.assertEqual(wrong, [])

    def test_documents_are_wrapped(self):
        """Tables and code may be wider."""
        wrong = []
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
            code = False
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if line.lstrip().startswith("```"):
                    code = not code
                if not code and not line.startswith("|") and len(line) > DOCUMENT_COLUMNS:
                    wrong.append(f"{path.relative_to(ROOT)}:{number} has {len(line)} columns")
        self.assertEqual(wrong, [])

    def test_no_test_is_forgotten(self):
        """Where CTest runs the classes of a Python test one by one, it runs all of them."""
        forgotten = []
        for path in sorted((ROOT / "tests").rglob("*_test.py")):
            lists = (path.parent / "CMakeLists.txt").read_text(encoding="utf-8")
            groups = re.findall(r"foreach\(group ([^)]*)\)", lists)
            classes = ast.parse(path.read_text(encoding="utf-8")).body
            tests = {c.name for c in classes if isinstance(c, ast.ClassDef)
                     and any(getattr(f, "name", "").startswith("test_") for f in c.body)}
            if groups and tests & set(" ".join(groups).split()):
                forgotten += [f"{path.relative_to(ROOT)}: {name}" for name in tests if not re.search(rf"\b{name}\b", lists)]
        self.assertEqual(forgotten, [])

    def test_headers_are_guarded(self):
        wrong = [str(path) for path in self.files()
                 if path.suffix == ".hpp" and "#pragma once" not in (ROOT / path).read_text(encoding="utf-8")]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
