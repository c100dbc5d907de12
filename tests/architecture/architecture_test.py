"""Checks that the layers of docs/architecture.md are what the #include lines say, and a few habits that hold them.

architecture_test.py SOURCE_FOLDER [unittest arguments]
"""
import ast
import pathlib
import re
import sys
import unittest

import members

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
MOST_MEMBERS = 25              # of a class; members.py says what counts
MOST_MEMBERS_OF_EXCHANGE = 20
MOST_CLASS_LINES_OF_EXCHANGE = 250
LARGEST_SHARE = 0.18           # of the lines of src/ that one folder may have, but for ops/, which is many small ones
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


class Sizes(unittest.TestCase):
    """What grows by a little in every change is stopped here. docs/architecture.md lists the classes that are larger, and why."""

    SOURCE = """
        /// A class { with a brace in its comment; and int more;
        template <class T>
        class One final : public std::vector<T> {
         public:
          One() : a_{1}, text_("}") {}
          explicit One(Section& section);
          One(const One&) = delete;
          One& operator=(One&&) noexcept = default;
          ~One() override;
          [[nodiscard]] const std::map<int, T>& get() const noexcept { return map_; }
          [[nodiscard]] static int of(std::function<void(int)> call = {}, int other = 1);
          template <class U> requires std::is_integral_v<U>
          auto add(U u) -> decltype(u) { if (u > 0) { return u; } return {}; }
          friend bool operator==(const One&, const One&) = default;
          bool operator<(const One& other) const;
          using Map = std::map<int, T>;
          static constexpr int kMost = 3;
          struct Inner { int x, y = 2; double z{}; void f(); };
          class Later;
          enum class Kind : int { first, second };
         private:
          int a_ = 0, b_ = a_ < 1 ? 2 : 3;
          std::map<int, T> map_;
          std::function<void(std::size_t, bool)> hook_{};
          std::atomic<bool> on_{false}, off_{true};
          const char* text_ = "a; b { c";
        };
        struct Other::Nested { std::vector<int> v{1, 2}; };
        enum class NotOne { a };
        void f() { int x; }
        """

    def test_members_are_counted_as_they_should_be(self):
        found = members.classes_of(self.SOURCE)
        self.assertEqual(set(found), {"One", "One::Inner", "Other::Nested"})
        one = found["One"]
        self.assertEqual(one.functions, ["get", "of", "add", "operator"])
        self.assertEqual((len(one.fields), one.built, one.from_section), (7, True, True), one.fields)
        self.assertEqual((found["One::Inner"].members, found["Other::Nested"].members), (4, 1))
        known = {each.name: each for each in members.all_classes(ROOT)}
        self.assertEqual((len(known["CancelFlag"].fields), len(known["CancelFlag"].functions)), (3, 5))
        self.assertEqual((len(known["Transfer"].fields), len(known["Transfer"].functions), known["Transfer"].built), (3, 5, True))

    def test_large_classes_are_listed_with_a_reason(self):
        large = set()
        for each in members.all_classes(ROOT):
            exchange = "exchange" in each.path.parts
            most = MOST_MEMBERS_OF_EXCHANGE if exchange else MOST_MEMBERS
            if (each.members > most and not each.plain_options) or (exchange and each.lines > MOST_CLASS_LINES_OF_EXCHANGE):
                large.add(each.name)
        text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
        section = text.partition("## Large classes, and why")[2].partition("\n## ")[0]
        listed = set(re.findall(r"(?m)^\| `([\w:]+)` \|", section))
        self.assertEqual(large - listed, set(), "split it, or say in docs/architecture.md why it is that large")
        self.assertEqual(listed - large, set(), "no longer large: docs/architecture.md must not list it any more")

    def test_no_folder_is_the_whole_product(self):
        lines = members.lines_by_folder(ROOT)
        large = {folder: n for folder, n in lines.items() if folder != "ops" and n > LARGEST_SHARE * sum(lines.values())}
        self.assertEqual(large, {})


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
