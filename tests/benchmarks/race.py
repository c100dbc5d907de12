#!/usr/bin/python3
"""Races `cohort train` against a PyTorch program on the same machine, with the same nets, batches and data.

  race.py --program build/release/cohort --peer torch_ddp.py [--models mlp,cnn,gpt] [--rounds 9] [--seconds 5]

The peer takes --model, --nproc, --secs, --foreach and prints one JSON line with samples_per_s. In every round all contenders of a
model take turns, since a shared machine changes its speed from minute to minute; ratios are medians over the rounds of the ratio
within a round. "pair" is two independent single processes at the same time: data parallelism costs 1 - (2 ranks) / pair.
Cohort's figure is samples per step over the median step. One thread per process or rank, bound to a core each.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
STEPS_PER_SECOND = {"mlp": 60, "cnn": 20, "gpt": 5}     # about: how many make a run of --seconds
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def peer(options, model, ranks):
    words = [sys.executable, options.peer, "--model", model, "--nproc", str(ranks), "--secs", str(options.seconds), "--foreach", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])["samples_per_s"]


def start(options, model, ranks, folder, core=None):
    steps = max(20, int(options.seconds * STEPS_PER_SECOND[model]))
    words = ["taskset", "-c", str(core)] if ranks == 1 else ["mpirun", "-n", str(ranks), "--bind-to", "core"]
    words += [options.program, "train", str(HERE / "race" / f"{model}.toml"), "--set", f"train.directory={folder}/run", "--set", f"train.max_steps={steps}",
              "--set", "train.epochs=1000", "--set", "train.threads=1", "--set", "checkpoint.every_epochs=0"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, env=ENVIRONMENT)


def speed_of(process, folder):
    if process.wait(timeout=300) != 0:
        raise SystemExit(f"{process.args} failed")
    runs = sorted(pathlib.Path(folder).glob("run*/summary.json"))
    ranks = json.loads(runs[-1].read_text())["ranks"]
    return sum(r["samples"] / r["steps"] / r["step_seconds"]["p50"] for r in ranks)


def cohort(options, model, ranks):
    with tempfile.TemporaryDirectory() as folder:
        return speed_of(start(options, model, ranks, folder, core=0), folder)


def pair(options, model):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        running = [(start(options, model, 1, folder, core), folder) for core, folder in enumerate((one, two))]
        return sum(speed_of(process, folder) for process, folder in running)


def spread(values, digits=0):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def race(options, model):
    contenders = {"peer 1": lambda: peer(options, model, 1), "cohort 1": lambda: cohort(options, model, 1), "peer 2": lambda: peer(options, model, 2),
                  "cohort 2": lambda: cohort(options, model, 2), "pair": lambda: pair(options, model)}
    rounds = [{name: run() for name, run in contenders.items()} for _ in range(options.rounds)]
    print(f"| {model} | " + " | ".join(spread([r[name] for r in rounds]) for name in contenders), end=" | ")
    print(spread([r["cohort 1"] / r["peer 1"] for r in rounds], 2), "|", spread([r["cohort 2"] / r["peer 2"] for r in rounds], 2), "|",
          spread([100 * (1 - r["cohort 2"] / r["pair"]) for r in rounds], 1), "% |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--models", default="mlp,cnn,gpt")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    print("| samples/s | peer, 1 process | cohort, 1 process | peer, 2 ranks | cohort, 2 ranks | cohort, two single processes | 1 process | 2 ranks | overhead |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in options.models.split(","):
        race(options, model)


if __name__ == "__main__":
    main()
