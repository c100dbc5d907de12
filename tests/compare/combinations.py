"""The runs that compare_builds.py makes: every way of updating × how numbers travel × ranks × batches per update.

Each is 20 steps, two epochs and a bit, of a convolutional net with batch normalisation and dropout on synthetic data. The last
batch of an epoch is short, so that a rank may get no sample. Everything that could depend on the machine's speed or size is named:
threads, collective, cost of the network.
"""
import dataclasses

BASE = {
    "train": {"epochs": 4, "max_steps": 20, "seed": 7, "threads": 1, "deterministic": True, "log_every": 1, "clip_norm": 1.5},
    "model": {"type": "cnn", "filters": [4], "hidden": 12, "batch_norm": True, "dropout": 0.2},
    "data": {"global_batch": 12, "threads": 0, "seed": 3},
    "data.train": {"reader": "synthetic", "samples": 100, "shape": [6, 6, 1]},
    "data.validation": {"reader": "synthetic", "samples": 20, "first": 100, "shape": [6, 6, 1]},
    "schedule": {"type": "cosine", "learning_rate": 0.01, "warmup_steps": 3},
    "optimizer": {"type": "adam"},
    "exchange": {"first_bucket_mib": 0.001, "bucket_mib": 0.002, "thread": "off", "dense_steps": 4, "small_elements": 64},
    "exchange.network": {"latency_us": 20.0, "bandwidth_gbs": 1.0, "node_latency_us": 1.0, "node_bandwidth_gbs": 10.0, "sum_gbs": 5.0},
    "checkpoint": {"every_steps": 8},
}

LAMB, LARS = {"optimizer": {"type": "lamb"}}, {"optimizer": {"type": "lars", "trust": 0.02}}
MOMENTUM = {"optimizer": {"type": "sgd", "momentum": 0.9, "nesterov": True}}
DIRECT = {"exchange": {"algorithm": "direct"}}
REPLAY = {"updater": {"schedule": "replay"}, "updater.replay": {"learners": 3, "jitter": 0.4}, "data": {"global_batch": 0, "batch": 6}}
APART, TOGETHER = "apart", "together"     # each rank on a machine of its own; all on one


def merged(*parts):
    """Later ones win, key by key."""
    result = {}
    for part in parts:
        for section, values in part.items():
            result.setdefault(section, {}).update(values)
    return result


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way of updating."""
    settings: dict
    places: str = APART
    ranks: tuple = (1, 2, 3)
    batches: tuple = ("1", "2", "2-first")
    timed: bool = False               # what is sent depends on time, as signs of life do
    tail: str = ""                    # what ends the job file


def sharded(stage):
    return merged({"train": {"updater": "sharded"}, "updater": {"stage": stage}}, DIRECT)


PHASES = """
[[phase]]
epochs = 1
replicas = 1
[[phase]]
epochs = 1
batch = 5
[phase.updater]
type = "sharded"
stage = 2
[[phase]]
[phase.updater]
type = "local_sgd"
average_every = 3
"""

MODES = {
    "replicas": Mode(merged({"exchange": {"shared_parameters": False}}, DIRECT)),
    "shared": Mode(LAMB, TOGETHER),
    "machines": Mode(LARS, "0,0,1,1", (4,)),               # two with two ranks each, which share one copy of the parameters
    "sharded-1": Mode(merged(LAMB, sharded(1))),
    "sharded-2": Mode(merged(MOMENTUM, sharded(2))),
    "sharded-3": Mode(merged(LAMB, sharded(3))),
    "local": Mode(merged({"train": {"updater": "local_sgd"}, "updater": {"average_every": 3}}, MOMENTUM, DIRECT)),
    "async-replay": Mode(merged({"train": {"updater": "async"}, "updater": {"drop_above": 3, "scale_back": "inverse"}}, REPLAY)),
    "backups-replay": Mode(merged({"train": {"updater": "sync_with_backups"}, "updater": {"replicas_to_aggregate": 2}}, REPLAY)),
    # Live, but in an order that does not depend on who comes first, as it would if a rank added up its batches (2-first).
    "tasks": Mode(merged({"train": {"updater": "sync_with_backups"}}, MOMENTUM), batches=("1", "2"), timed=True),
    "one-worker": Mode({"train": {"updater": "async", "deterministic": False}, "cluster": {"ps": 1, "survive": "off"}}, ranks=(2,), timed=True),
    "phases": Mode(DIRECT, timed=True, tail=PHASES),
}

FORMATS = {
    "fp32": {},
    "bf16": {"exchange": {"codec": "bf16"}},
    "int8": {"exchange": {"codec": "int8"}},
    "products": {"train": {"precision": "bf16"}},           # rounded before they are multiplied; they travel as float32
}

BATCHES = {
    "1": {},
    "2": {"train": {"accumulate": 2}},
    "2-first": {"train": {"accumulate": 2, "deterministic": False}},   # a rank adds up its batches before they are exchanged
}


@dataclasses.dataclass(frozen=True)
class Combination:
    name: str
    mode: str
    job: dict
    ranks: int
    mpi: bool                         # processes under mpirun, not threads
    places: str
    tail: str
    timed: bool

    def text(self):
        """The job file, for a run in the folder where it is made: ranks compare their configurations, and a longer path is more bytes."""
        sections = merged(self.job, {"train": {"directory": "run"}})
        return "\n".join(f"[{name}]\n" + "".join(f"{key} = {written(value)}\n" for key, value in values.items())
                         for name, values in sections.items()) + self.tail

    def nodes(self):
        """The machine of each rank."""
        if self.places == APART:
            return ",".join(map(str, range(self.ranks)))
        return ",".join("0" * self.ranks) if self.places == TOGETHER else self.places


def written(value):
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def combination(mode, form, batches, ranks, mpi=False):
    how = MODES[mode]
    parts = [BASE, how.settings, FORMATS[form], BATCHES[batches]]
    if mode == "sharded-3" and form in ("bf16", "int8"):
        parts.append({"updater": {"gather_codec": form}})
    if mode in ("tasks", "one-worker") and form in ("bf16", "int8"):
        parts.append({"cluster": {"pull_codec": form}})
    name = f"{mode}/{form}/{ranks}/{batches}" + ("/mpi" if mpi else "")
    return Combination(name, mode, merged(*parts), ranks, mpi, how.places, how.tail, how.timed)


def all_combinations():
    for mode, how in MODES.items():
        for form in FORMATS:
            for ranks in how.ranks:
                for batches in how.batches if form != "products" else ("2",):
                    yield combination(mode, form, batches, ranks)
    for mode in ("replicas", "shared", "sharded-1", "sharded-3", "local", "async-replay", "tasks"):
        for form in ("fp32", "int8"):
            for ranks in (2, 3):
                yield combination(mode, form, "2", ranks, mpi=True)


def is_quick(one):
    """Whether the table's test makes this run in ./check; the others are of the soak."""
    _, form, ranks, batches = one.name.split("/")[:4]
    if one.mpi:
        return ranks == "2" and one.mode in ("shared", "sharded-3")
    if one.mode.endswith("replay"):
        return ranks == "1" or (batches, form) == ("1", "fp32")
    return (ranks, batches) in (("2", "2"), ("3", "1"), ("4", "2-first")) or (form, ranks, batches) == ("int8", "2", "2-first")
