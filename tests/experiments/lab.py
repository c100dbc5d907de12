"""What experiments share: starting the programs, their data, statistics over seeds, and results with accept bands."""
import gzip
import json
import math
import pathlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
FORTUNES = pathlib.Path("/usr/share/games/fortunes")
RUN_LIMIT = 600          # seconds
BRIEF_SAMPLES = 25_600   # of training, in short forms: 200 steps

MLP = {"model.type": "mlp", "model.hidden": [128]}
LENET = {"model.type": "lenet"}
# So that nothing is measured at the start: what `auto` chooses then, and how many bytes it takes, depends on how busy the machine is.
KNOWN_NETWORK = {f"exchange.network.{key}": value for key, value in
                 {"latency_us": 50.0, "bandwidth_gbs": 1.0, "node_latency_us": 1.0, "node_bandwidth_gbs": 5.0, "sum_gbs": 5.0}.items()}
# The codec from the first step on; within one machine it must be asked for by naming an algorithm. Small tensors (biases, and
# weights of less than 4096 elements) travel in bf16, as they do unless somebody decides otherwise.
CODED = {"exchange.algorithm": "direct", "exchange.dense_steps": 0}


@dataclass
class Check:
    what: str
    value: str
    band: str
    ok: bool


@dataclass
class Result:
    header: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    checks: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)      # file name → SVG text
    notes: list = field(default_factory=list)

    def check(self, what, value, band, ok):
        self.checks.append(Check(what, value, band, bool(ok)))


def mean(values):
    return sum(values) / len(values)


def error_of_mean(values):
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(sum((v - middle) ** 2 for v in values) / (len(values) - 1) / len(values))


def text_of(values, digits=2, signed=False):
    sign = "+" if signed else ""
    text = f"{mean(values):{sign}.{digits}f}"
    return text + (f" ± {error_of_mean(values):.{digits}f}" if len(values) > 1 else "")


def differences(values, base):
    """Paired by seed."""
    return [a - b for a, b in zip(values, base)]


def slope(points):
    """Of log y over log x, by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mx, my = mean([x for x, _ in logs]), mean([y for _, y in logs])
    return sum((x - mx) * (y - my) for x, y in logs) / sum((x - mx) ** 2 for x, _ in logs)


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def replay(updater, learners, seed, jitter=0.2, **more):
    """Settings of learners in virtual time; `more`: options of [updater.replay]."""
    settings = {"train.updater": updater, "updater.schedule": "replay", "updater.replay.learners": learners, "updater.replay.seed": seed, "updater.replay.jitter": jitter}
    return settings | {f"updater.replay.{key}": value for key, value in more.items()}


def last(result, metric):
    """The last value of a metric."""
    return next(row[metric] for row in reversed(result["metrics"]) if metric in row)


def staleness(result):
    """How many gradients were how stale."""
    counts = next(row for row in reversed(result["metrics"]) if "staleness/mean" in row and any(k[10:].isdigit() for k in row if k.startswith("staleness/")))
    return {int(key[10:]): int(value) for key, value in counts.items() if key.startswith("staleness/") and key[10:].isdigit()}


class Lab:
    def __init__(self, build, brief):
        self.brief = brief
        self.ranks = 4 if brief else 8       # a busy machine takes long over steps of many ranks
        folder = pathlib.Path(build) / "tests" / "experiments"
        self.program, self.plugin = folder / "experiment", folder / "libexperiment_plugin.so"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cohort-experiment-"))
        self.runs = 0

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def seeds(self, full=5, brief=1):
        return list(range(1, 1 + (brief if self.brief else full)))

    def run(self, mode, *words):
        done = subprocess.run([str(self.program), mode, "--plugin", str(self.plugin), *map(str, words)], capture_output=True, text=True,
                              timeout=RUN_LIMIT, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(f"experiment {mode} {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def _fashion(self, name):
        """Unpacked once: every rank reads it."""
        plain = self.folder / name
        if not plain.exists():
            with gzip.open(FASHION / (name + ".gz")) as packed, open(plain, "wb") as to:
                shutil.copyfileobj(packed, to)
        return str(plain)

    def images(self):
        settings = {}
        for part, name in (("train", "train"), ("validation", "t10k")):
            settings |= {f"data.{part}.reader": "idx", f"data.{part}.images": self._fashion(f"{name}-images-idx3-ubyte"),
                         f"data.{part}.labels": self._fashion(f"{name}-labels-idx1-ubyte"), f"data.{part}.mean": 0.286, f"data.{part}.std": 0.353}
        return settings

    @staticmethod
    def prose(context):
        settings = {}
        for part in ("train", "validation"):
            settings |= {f"data.{part}.reader": "text", f"data.{part}.part": part, f"data.{part}.context": context,
                         f"data.{part}.files": [str(FORTUNES / "*")], f"data.{part}.exclude": ["*.dat", "*.u8", "*art", "translate-me"]}
        return settings

    def train(self, settings, ranks=1, seed=1, nodes="apart", parameters=None, job=""):
        """One training run with thread ranks; what the program says, and accuracy in per cent. `job`: TOML for what settings cannot say."""
        self.runs += 1
        directory = self.folder / f"run-{self.runs}"
        data = {} if "data.train.reader" in settings else self.images()
        if data and self.brief:
            data["data.train.limit"] = BRIEF_SAMPLES
        everything = data | KNOWN_NETWORK | {"train.directory": str(directory), "train.seed": seed, "data.seed": seed, "train.threads": 1,
                             "data.threads": 0, "exchange.thread": "off", "train.validate_every": 0, "train.log_every": 10_000, "checkpoint.every_epochs": 0,
                             "optimizer.type": "sgd", "schedule.type": "constant"} | settings
        if everything["optimizer.type"].startswith("sgd"):
            everything.setdefault("optimizer.momentum", 0.9)
        words = ["--ranks", ranks, "--nodes", nodes] + (["--parameters", parameters] if parameters else [])
        if job:
            (self.folder / "job.toml").write_text(job)
            words += ["--job", self.folder / "job.toml"]
        for key, value in everything.items():
            words += ["--set", f"{key}={_toml(value)}"]
        result = self.run("train", *words)
        if "accuracy" in result:
            result["percent"] = 100 * result["accuracy"]
        with open(directory / "summary.json") as file:
            result["summary"] = json.load(file)
        with open(directory / "metrics.jsonl") as file:
            result["metrics"] = [json.loads(line) for line in file]
        shutil.rmtree(directory, ignore_errors=True)
        return result


def has_data():
    return FASHION.is_dir()


def default_build():
    return str(pathlib.Path(__file__).resolve().parents[2] / "build" / "release")
