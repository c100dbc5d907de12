"""What a run leaves behind, read back: the trace by Python's JSON, the page by a headless browser.

report_test.py PROGRAM MPIRUN [unittest arguments]
"""
import collections
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN = sys.argv[1:3]
BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)
JOB = """
[train]
directory = "{0}/run"
max_steps = 12
log_every = 2
[model]
type = "mlp"
hidden = [64, 32]
[data]
batch = 16
[data.train]
reader = "synthetic"
samples = 96
[data.validation]
reader = "synthetic"
samples = 40
first = 96
[exchange]
first_bucket_mib = 0.01
bucket_mib = 0.05
[trace]
record = true
first_step = 3
last_step = 10
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def train(folder, ranks, *settings):
    job = pathlib.Path(folder) / "job.toml"
    job.write_text(JOB.format(folder))
    options = [word for setting in settings for word in ("--set", setting)]
    return run(MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(ranks), PROGRAM, "train", str(job), *options)


class Trace(unittest.TestCase):
    RANKS = 3

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.output = train(cls.folder.name, cls.RANKS, "train.epochs=9")
        cls.trace = json.loads((pathlib.Path(cls.folder.name) / "run" / "trace.json").read_text())
        cls.events = cls.trace["traceEvents"]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def spans(self, rank):
        """(begin, end, name, step) of the rank's main thread, in whole nanoseconds."""
        return [(round(e["ts"] * 1000), round(e["ts"] * 1000) + round(e["dur"] * 1000), e["name"], e.get("args", {}).get("step", -1))
                for e in self.events if e["ph"] == "X" and (e["pid"], e["tid"]) == (rank, rank)]

    def test_every_rank_is_there_once_and_in_order(self):
        names = [e for e in self.events if e["name"] == "process_name"]
        self.assertEqual([e["pid"] for e in names], list(range(self.RANKS)))
        for rank, event in enumerate(names):
            self.assertRegex(event["args"]["name"], rf"^rank {rank} on \S+$")
        pids = [e["pid"] for e in self.events]
        self.assertEqual(pids, sorted(pids))
        order = [e["args"]["sort_index"] for e in self.events if e["name"] == "process_sort_index"]
        self.assertEqual(order, list(range(self.RANKS)))

    def traced(self, ranks):
        """The events of a run of so many ranks."""
        if ranks == self.RANKS:
            return self.events
        with tempfile.TemporaryDirectory() as folder:
            train(folder, ranks)
            return json.loads((pathlib.Path(folder) / "run" / "trace.json").read_text())["traceEvents"]

    def test_each_event_is_shown_with_its_rank(self):
        """Perfetto knows a thread by its number alone, whatever its process, and the last name that it hears counts; a thread with the
        number of a process is that one's main thread. An asynchronous event with a global `id` belongs to no process."""
        for ranks in (1, 2, self.RANKS):
            events, threads = self.traced(ranks), {}
            for e in events:
                self.assertEqual(threads.setdefault(e["tid"], [e["pid"], ""])[0], e["pid"], f"{ranks} ranks: two have thread {e['tid']}")
                if e["name"] == "thread_name":
                    threads[e["tid"]][1] = e["args"]["name"]
            lanes = collections.defaultdict(set)
            for tid, (rank, name) in threads.items():
                self.assertTrue(name.startswith(f"rank {rank} "), f"{ranks} ranks: thread {tid} of rank {rank} is called {name!r}")
                lanes[rank].add(name.removeprefix(f"rank {rank} "))
                if tid < ranks:
                    self.assertEqual((tid, name), (rank, f"rank {rank} main"))
            self.assertEqual(dict(lanes), {rank: {"main", "exchange"} for rank in range(ranks)})
            for e in events:
                self.assertNotIn("id", e, "an id of the whole trace")
                self.assertEqual(e["ph"] in "be", "local" in e.get("id2", {}))

    def test_it_has_the_steps_that_were_asked_for(self):
        for rank in range(self.RANKS):
            steps = [step for _, _, name, step in self.spans(rank) if name == "step"]
            self.assertEqual(steps, list(range(3, 11)))
        self.assertEqual([r["steps"] for r in self.trace["otherData"]["ranks"]], [8] * self.RANKS)
        self.assertEqual([r["dropped_events"] for r in self.trace["otherData"]["ranks"]], [0] * self.RANKS)

    def test_time_goes_forward_and_spans_nest(self):
        for rank in range(self.RANKS):
            spans = self.spans(rank)
            self.assertEqual(spans, sorted(spans, key=lambda s: s[0]))
            open_spans = []
            for begin, end, name, _ in spans:
                self.assertGreaterEqual(end, begin)
                self.assertGreaterEqual(begin, 0)
                while open_spans and open_spans[-1][1] <= begin:
                    open_spans.pop()
                if open_spans:
                    self.assertLessEqual(end, open_spans[-1][1], f"{name} sticks out of {open_spans[-1]}")
                open_spans.append((begin, end, name))

    def test_a_step_holds_what_it_consists_of(self):
        for rank in range(self.RANKS):
            spans = self.spans(rank)
            for begin, end, _, step in (s for s in spans if s[2] == "step"):
                inside = [s for s in spans if begin <= s[0] and s[1] <= end and s[2] != "step"]
                names = [s[2] for s in inside]
                for name in ("waiting for data", "forward", "backward", "optimizer", "exposed communication", "waiting for the slowest rank"):
                    self.assertIn(name, names, f"rank {rank}, step {step}")
                self.assertTrue(any("hidden_1/dense" in name for name in names), names)
                forward, backward = (next(s for s in inside if s[2] == name) for name in ("forward", "backward"))
                self.assertLessEqual(forward[1], backward[0])
                kernels = [s for s in inside if "dense" in s[2] or "matmul" in s[2].lower()]
                for kernel in kernels:
                    self.assertTrue(any(part[0] <= kernel[0] and kernel[1] <= part[1] for part in (forward, backward)), kernel)

    def test_buckets_begin_and_end_in_their_step_on_all_ranks(self):
        for rank in range(self.RANKS):
            steps = {step: (begin, end) for begin, end, name, step in self.spans(rank) if name == "step"}
            open_buckets, seen = {}, collections.Counter()
            for e in self.events:
                if e["pid"] != rank or e["ph"] not in "be":
                    continue
                key = (e["id2"]["local"], e["name"])
                if e["ph"] == "b":
                    self.assertNotIn(key, open_buckets)
                    open_buckets[key] = e["ts"]
                    if e["name"].startswith("bucket "):
                        seen[e["args"]["step"]] += 1
                    begin, end = steps[e["args"]["step"]]
                    self.assertTrue(begin <= round(e["ts"] * 1000) <= end, e)
                else:
                    self.assertLessEqual(open_buckets.pop(key), e["ts"])
            self.assertEqual(open_buckets, {})
            self.assertEqual(set(seen), set(range(3, 11)))
            self.assertEqual(len(set(seen.values())), 1)
            self.assertGreater(seen[3], 1)

    def test_clocks_are_aligned(self):
        """No rank can finish a step's sums before every rank has begun its step."""
        for fact in self.trace["otherData"]["ranks"]:
            for when in ("begin", "end"):
                self.assertLessEqual(abs(fact[f"offset_{when}_us"]), fact[f"uncertainty_{when}_us"] + 1, "one machine has one clock")
        begins, ends = collections.defaultdict(list), collections.defaultdict(list)
        for rank in range(self.RANKS):
            for begin, end, name, step in self.spans(rank):
                if name == "step":
                    begins[step].append(begin)
                    ends[step].append(end)
        slack = 2000 * max(f["uncertainty_begin_us"] + f["uncertainty_end_us"] for f in self.trace["otherData"]["ranks"])
        for step, ended in ends.items():
            self.assertGreaterEqual(min(ended) + slack, max(begins[step]))

    def test_the_table_has_a_line_per_rank_and_its_shares_add_up(self):
        lines = self.output[self.output.index("where the time went"):].splitlines()
        rows = [line for line in lines if re.match(r"  \d \S+ +\d+\.\d+ s", line)]
        self.assertEqual([int(row.split()[0]) for row in rows], list(range(self.RANKS)))
        for row in rows:
            self.assertAlmostEqual(sum(float(x) for x in re.findall(r"([\d.]+) %", row)), 100, delta=1)


class Dom(html.parser.HTMLParser):
    """The elements of a page: (tag, attributes, text)."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), "", [e[1].get("id") for e in self.open]])
        if tag not in ("meta", "link", "br"):
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def of(self, tag, inside=None):
        return [e for e in self.elements if e[0] == tag and (inside is None or inside in e[3])]


class Page(unittest.TestCase):
    RANKS = 2

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.run_folder = pathlib.Path(cls.folder.name) / "run"
        train(cls.folder.name, cls.RANKS, "train.epochs=9", "trace.record=false")
        cls.file = pathlib.Path(run(PROGRAM, "report", str(cls.run_folder)).strip())
        cls.metrics = [json.loads(line) for line in (cls.run_folder / "metrics.jsonl").read_text().splitlines()]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def drawn(self, file, width=1280):
        if BROWSER is None:
            self.skipTest("no chromium here: apt-get install chromium-headless-shell")
        done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
                               "--user-data-dir=" + self.folder.name + "/browser", f"--window-size={width},1000", "--dump-dom", file.as_uri()],
                              capture_output=True, text=True, timeout=HUNG, check=False)
        complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        self.assertEqual(complaints, [], "the page's script complains")
        return Dom(done.stdout)

    def written(self, name, metrics, configuration=""):
        """The page of a run that has logged this, drawn."""
        folder = pathlib.Path(self.folder.name) / name
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        (folder / "configuration.toml").write_text(configuration)
        run(PROGRAM, "report", str(folder))
        return self.drawn(folder / "report.html")

    @staticmethod
    def rows(dom, table):
        """The cells of a table's rows, as text."""
        result = []
        for tag, _, text, inside in dom.elements:
            if table in inside and tag == "tr":
                result.append([])
            elif table in inside and tag in ("td", "th"):
                result[-1].append(text)
        return result

    def test_it_needs_nothing_from_anywhere(self):
        page = self.file.read_text()
        self.assertNotRegex(page, r"https?:|//[a-z]")
        self.assertNotRegex(page, r'(?i)<(?:img|iframe|object|embed|link rel="stylesheet")')
        self.assertNotRegex(page, r"@import|url\(|fetch\(|XMLHttpRequest|import\(")
        self.assertIn("default-src 'none'", page)
        self.assertIn("prefers-color-scheme: dark", page)

    def test_curves_have_a_point_for_every_logged_value(self):
        dom = self.drawn(self.file)
        values = collections.defaultdict(list)
        for line in self.metrics:
            for key, value in line.items():
                values[key].append(value)
        expected = {key: len(all_) for key, all_ in values.items() if key not in ("step", "time", "epoch") and ("/" in key or len(set(all_)) > 1)}
        self.assertLessEqual({"train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "samples_per_second"}, set(expected))
        self.assertLessEqual({"learning_rate", "replicas", "batch"}, set(values) - set(expected), "constants")
        curves = {e[1]["data-key"]: e[1] for e in dom.of("path") if "data-key" in e[1]}
        self.assertEqual({key: int(e["data-points"]) for key, e in curves.items()}, expected)
        sizes = {(float(e[1]["width"]), float(e[1]["height"])) for e in dom.of("svg") if "role" in e[1]}
        self.assertEqual(len(sizes), 1)
        width, height = sizes.pop()
        for key, curve in curves.items():
            points = [tuple(map(float, p.split())) for p in re.split("[ML]", curve["d"])[1:]]
            self.assertEqual(len(points), expected[key])
            self.assertEqual([p[0] for p in points], sorted(p[0] for p in points))
            for x, y in points:
                self.assertTrue(0 < x < width and 0 < y < height, (key, x, y))
        losses = [line["train/loss"] for line in self.metrics if "train/loss" in line]
        heights = [float(p.split()[1]) for p in re.split("[ML]", curves["train/loss"]["d"])[1:]]
        self.assertEqual(losses.index(max(losses)), heights.index(min(heights)), "a greater loss is drawn higher")
        for figure in (e for e in dom.of("figure")):
            self.assertIn("step", figure[2])                      # the axis has its name

    def test_pictures_are_as_wide_as_the_page_and_their_text_is_not_scaled(self):
        for width in (390, 1280):
            pictures = [e[1] for e in self.drawn(self.file, width).of("svg") if "role" in e[1]]
            self.assertGreater(len(pictures), 4)
            for picture in pictures:
                self.assertNotIn("viewbox", {name.lower() for name in picture}, "it would scale the text")
                self.assertTrue(0.7 * min(width, 650) < float(picture["width"]) < min(width, 650), picture)

    def test_constants_are_facts_and_buckets_one_table(self):
        lines = [{"step": step, "time": step, "train/loss": 1 / step, "replicas": 3, "batch": 48, "learning_rate": 0.25, "gradient_norm": step}
                 for step in range(1, 5)]
        for step, line in enumerate(lines, 1):
            for bucket in range(2):
                line.update({f"exchange/bucket_{bucket}/bytes": 2048 * (bucket + 1), f"exchange/bucket_{bucket}/ratio": 0.25,
                             f"exchange/bucket_{bucket}/relative_error": 0.01 * step, f"exchange/bucket_{bucket}/residual_ratio": 0.5})
            line.update({f"workers/{worker}/applied": 10 * step + worker for worker in range(12)})
        dom = self.written("many", lines, "[model]\ntype = \"mlp\"\n[train]\nepochs = 7\n[optimizer]\ntype = \"sgd\"  # plain\n")
        self.assertEqual({e[1]["data-name"] for e in dom.of("figure")}, {"loss", "gradient_norm"})
        self.assertEqual(self.rows(dom, "facts"), [["Model", "mlp"], ["Optimizer", "sgd"], ["Epochs", "7"], ["Learning rate", "0.25"], ["Replicas", "3"],
                                                   ["Samples per step", "48"]])
        self.assertEqual(self.rows(dom, "bucket"), [["bucket", "sent per step", "error", "residual"],
                                                    ["0", "2.0 KiB25.0 % of float32", "4.0 %1.0 – 4.0 %", "50.0 %"],
                                                    ["1", "4.0 KiB25.0 % of float32", "4.0 %1.0 – 4.0 %", "50.0 %"], ["all", "6.0 KiB", "", ""]])
        self.assertEqual(self.rows(dom, "workers"), [["worker", "applied"], *([str(w), str(40 + w)] for w in range(12))])

    def test_the_best_epoch_is_marked(self):
        losses, accuracies = [0.9, 0.4, 0.5, 0.3], [0.5, 0.8, 0.8, 0.7]
        lines = [{"step": 10 * n, "time": n, "train/loss": 1 / n, "validation/loss": losses[n - 1], "validation/accuracy": accuracies[n - 1], "epoch": n}
                 for n in range(1, 5)]
        for name, epoch, value, drop in (("by accuracy", 2, "0.8", ()), ("by loss", 4, "0.3", ("validation/accuracy",))):
            dom = self.written(name, [{key: value for key, value in line.items() if key not in drop} for line in lines])
            marks = {e[1]["data-best"]: float(e[1]["cx"]) for e in dom.of("circle") if "data-best" in e[1]}
            self.assertEqual(set(marks), {"validation/loss", "validation/accuracy"} - set(drop))
            for key, x in marks.items():
                curve = next(e[1]["d"] for e in dom.of("path") if e[1].get("data-key") == key)
                self.assertAlmostEqual(x, [float(p.split()[0]) for p in re.split("[ML]", curve)[1:]][epoch - 1], delta=0.1)
            self.assertTrue(any(f"best: epoch {epoch}, {value}" == e[2] for e in dom.of("li")), [e[2] for e in dom.of("li")])
        epochs = [line["epoch"] for line in self.metrics if "validation/loss" in line and "epoch" in line]
        self.assertEqual(epochs, [1, 2, 3, 4], "of a real run")

    def test_the_configuration_is_folded(self):
        folded = [e for e in self.drawn(self.file).of("details")]
        self.assertEqual([e[1].get("id") for e in folded], ["settings"])
        self.assertNotIn("open", folded[0][1])
        self.assertIn("hidden = [64, 32]", folded[0][2])

    def test_tables_have_a_row_per_rank(self):
        dom = self.drawn(self.file)
        for table in ("times", "bytes"):
            rows = [e for e in dom.of("tr", table)]
            self.assertEqual(len(rows), 1 + self.RANKS, table)
            self.assertEqual([row[2].split()[0][0] for row in rows[1:]], [str(r) for r in range(self.RANKS)])
        bars = [e[1]["data-rank"] for e in dom.of("div") if e[1].get("class") == "bar"]
        self.assertEqual(bars, ["0", "1", "0", "1"])
        widths = [float(re.match(r"width:([\d.e-]+)%", e[1]["style"])[1]) for e in dom.of("span", None) if e[1].get("style", "").startswith("width")]
        self.assertTrue(all(0 <= w <= 100 for w in widths))
        self.assertGreaterEqual(len(widths), 2 * self.RANKS * 5)

    def test_a_run_that_goes_on_has_curves_but_no_table(self):
        going_on = pathlib.Path(self.folder.name) / "a <b> & \"c\" <!-- <script>"
        going_on.mkdir()
        lines = (self.run_folder / "metrics.jsonl").read_text()
        (going_on / "metrics.jsonl").write_text(lines.replace(":0.", ":null,\"x</script>\":0.", 1) + '{"step":99,"train/lo')
        run(PROGRAM, "report", str(going_on))
        dom = self.drawn(going_on / "report.html")
        self.assertEqual(next(e for e in dom.of("h1"))[2], going_on.name)
        self.assertEqual([e[1]["id"] for e in dom.of("table")], ["facts"])
        self.assertGreater(len([e for e in dom.of("path") if "data-key" in e[1]]), 5)

    def test_what_is_no_run_is_refused(self):
        for words, text in ((("report", self.folder.name), "is no run's folder"), (("report",), "needs a run's folder"),
                            (("report", str(self.run_folder), "--set", "output=" + self.folder.name), "cannot write")):
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=HUNG, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
