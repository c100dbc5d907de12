"""Checkpoints that an earlier build has saved, and what it made of them: the runs that save them, and the ways on from there.

  /usr/bin/python3 tests/compare/fixtures.py PROGRAM      # writes tests/compare/fixtures/ anew, with that program

A run is saved after SAVED steps and goes on for MORE. `expected.h5` holds the parameters that each way on has led to, the hashes of
all weights and of all else, and the counters; its attributes say what made it, as the table of compare_builds.py does.
"""
import dataclasses
import pathlib
import shutil
import sys

import h5py
import numpy

from combinations import APART, BASE, DIRECT, Combination, merged
from observe import HERE, Build, hash_of, observe, state_of, temporary_folder, tensors

FOLDER = HERE / "fixtures"
EXPECTED = FOLDER / "expected.h5"
SAVED, MORE = 7, 6            # in the middle of the first epoch, and of the second
ROUNDED = 0.002               # where a last bit decides which way a number of few bits is rounded
COUNTERS = ("train/step", "train/applied", "train/samples", "train/skipped", "data/epoch", "data/sample")
ADAM, LAMB = {"optimizer": {"type": "adam"}}, {"optimizer": {"type": "lamb"}}
MOMENTUM = {"optimizer": {"type": "sgd", "momentum": 0.9}}
SMALL = merged(BASE, {"model": {"filters": [2], "hidden": 6, "dropout": 0.1}, "data.train": {"shape": [4, 4, 1]},
                      "data.validation": {"shape": [4, 4, 1]}, "exchange": {"first_bucket_mib": 0.0005, "bucket_mib": 0.001},
                      "schedule": {"type": "constant", "warmup_steps": 3, "learning_rate": 0.05}, "checkpoint": {"every_steps": 0, "keep": 1}})
SHARDED_3 = merged({"train": {"updater": "sharded"}, "updater": {"stage": 3}}, DIRECT)
INT8 = {"exchange": {"codec": "int8", "dense_steps": 2, "small_elements": 16, "error_feedback": "on"}}
BF16 = {"train": {"precision": "bf16"}}
TASK = {"train": {"updater": "async", "deterministic": False}, "cluster": {"ps": 1, "survive": "off"}}
TASKS = merged(TASK, {"cluster": {"ps": 2}})
STEPS = {"train": {"updater": "sync_with_backups"}}


def job(name, settings, ranks):
    return Combination(name, name, merged(SMALL, settings), ranks, False, APART, "", False)


@dataclasses.dataclass(frozen=True)
class Fixture:
    saving: Combination
    ways: dict                        # name: the run that goes on
    tolerance: float = 1e-5           # of the largest parameter, on another processor


def fixture(name, ranks, settings, ways, tolerance=1e-5):
    return Fixture(job(name, settings, ranks), {way: job(name, changed, n) for way, (n, changed) in ways.items()}, tolerance)


INT8_REPLICAS = merged(ADAM, DIRECT, INT8, {"exchange": {"shared_parameters": False}})
SHARDED_BF16 = merged(LAMB, SHARDED_3, BF16, {"exchange": {"codec": "bf16", "dense_steps": 2, "small_elements": 16}})
FIXTURES = {
    # The residuals of two ranks; other ranks have them dealt out.
    "replicas-int8": fixture("replicas-int8", 2, INT8_REPLICAS, {
        "same": (2, INT8_REPLICAS), "three": (3, INT8_REPLICAS), "one": (1, INT8_REPLICAS),
        "sharded": (2, merged(ADAM, SHARDED_3, INT8))}, tolerance=ROUNDED),
    # Pieces of four ranks.
    "sharded-bf16": fixture("sharded-bf16", 4, SHARDED_BF16, {
        "same": (4, SHARDED_BF16), "three": (3, SHARDED_BF16), "one": (1, SHARDED_BF16),
        "replicas": (2, merged(LAMB, BF16, {"exchange": {"shared_parameters": False}}, DIRECT))}, tolerance=ROUNDED),
    # Pieces of two tasks. What their two workers have made of it depended on chance; what follows does not.
    "tasks": fixture("tasks", 4, merged(MOMENTUM, TASKS), {
        "one-worker": (2, merged(MOMENTUM, TASK)),
        "steps": (3, merged(MOMENTUM, STEPS, {"cluster": {"ps": 1, "survive": "off"}})),
        "colocated": (3, merged(MOMENTUM, STEPS)),
        "replicas": (2, merged(MOMENTUM, {"exchange": {"shared_parameters": False}}, DIRECT)),
        "replay": (1, merged(MOMENTUM, {"train": {"updater": "async"}, "updater": {"schedule": "replay"}, "updater.replay": {"learners": 2}}))}),
}


def until(one, steps):
    return dataclasses.replace(one, job=merged(one.job, {"train": {"max_steps": steps}}))


def save(build, one, folder):
    """The checkpoint of a run, with what it needs beside it."""
    observed(observe(build, until(one, SAVED), folder), one)
    target = FOLDER / one.mode
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "run" / "checkpoints", target, symlinks=True)
    for link in target.rglob("best"):
        link.unlink()


def observed(result, one):
    if result["exit_code"] != "0":
        raise RuntimeError(f"{one.name} on {one.ranks} ranks: {result['errors']}")
    return result


def go_on(build, one, folder):
    """Goes on from the checkpoint, in `folder`: all that it comes to, by name, and the hashes."""
    shutil.copytree(FOLDER / one.mode, folder / "run" / "checkpoints", symlinks=True)
    done = observed(observe(build, until(one, SAVED + MORE), folder, resume="run"), one)
    return tensors(folder / "run" / "checkpoints" / "latest"), {"weights": done["weights"], "state": done["state"]}


def flat(values):
    """All parameters, by name, one behind the other."""
    return numpy.concatenate([values[name].ravel() for name in sorted(values) if name.startswith("parameters/")])


def write(build, folder):
    FOLDER.mkdir(exist_ok=True)
    with h5py.File(EXPECTED, "w", libver="latest") as file:
        file.attrs.update(build.origin())
        for name, each in FIXTURES.items():
            save(build, each.saving, folder / name)
            for way, one in each.ways.items():
                values, hashes = go_on(build, one, folder / f"{name}-{way}")
                group = file.create_group(f"{name}/{way}")
                group.attrs.update(hashes | {key: int(values[key]) for key in COUNTERS})
                group["parameters"] = flat(values)
                print(f"{name} {way}: {hashes}", flush=True)


if __name__ == "__main__":
    with temporary_folder() as temporary:
        write(Build(sys.argv[1], folder=temporary), temporary)
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path}: {path.stat().st_size} bytes")
