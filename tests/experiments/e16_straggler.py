"""One of four workers is slow: four processes and a parameter task, whose steps are sleeps, so that cores do not matter."""
import json
import os
import pathlib
import subprocess

import lab
import svg

TITLE = "One slow worker of four"
WORKERS, STEP, SLOWER = 4, 0.04, 5           # seconds that a step sleeps, and how much longer the slow worker does
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}

MODES = {
    "sync_with_backups, 3 of 4": {"train.updater": "sync_with_backups", "updater.replicas_to_aggregate": 3},
    "sync_with_backups, 4 of 4": {"train.updater": "sync_with_backups"},
    "async": {"train.updater": "async"},
    "async, bound 1": {"train.updater": "async", "updater.bound": 1},
}


def faults(slow):
    """Worker 3 (the last rank) has the longer sleep."""
    entries = [f'{{kind="slow", seconds={STEP}, ranks=[1, 2, 3{"" if slow else ", 4"}]}}']
    if slow:
        entries.append(f'{{kind="slow", seconds={STEP * SLOWER}, ranks=[4]}}')
    return "[" + ", ".join(entries) + "]"


def train(place, settings, slow, seed):
    """Updates per second after the start, accuracy in per cent, and worker 3's share of all gradients that were applied."""
    place.runs += 1
    directory = place.folder / f"run-{place.runs}"
    everything = place.images() | {"train.directory": str(directory), "train.seed": seed, "data.seed": seed, "train.threads": 1, "data.threads": 0,
                                   "data.train.limit": 6_400 if place.brief else 60_000, "model.type": "mlp", "model.hidden": [32], "data.batch": 32,
                                   "train.epochs": 1, "train.log_every": 10, "checkpoint.every_epochs": 0, "cluster.ps": 1,
                                   "optimizer.type": "sgd", "schedule.type": "cosine", "schedule.learning_rate": 0.05} | settings
    program = pathlib.Path(place.program).parents[2] / "cohort"
    (place.folder / "job.toml").write_text("")
    words = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(WORKERS + 1), str(program), "train", str(place.folder / "job.toml")]
    for key, value in everything.items():
        words += ["--set", f"{key}={lab._toml(value)}"]
    done = subprocess.run(words + ["--set", f"fault={faults(slow)}"], capture_output=True, text=True, timeout=lab.RUN_LIMIT, cwd=place.folder,
                          env=os.environ | ENVIRONMENT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    with open(directory / "metrics.jsonl") as file:
        rows = [json.loads(line) for line in file]
    steps = [(row["step"], row["time"]) for row in rows if "updates_per_second" in row]
    (first, begin), (last, end) = steps[1], steps[-1]
    accuracy = next(row["validation/accuracy"] for row in reversed(rows) if "validation/accuracy" in row)
    counts = next(row for row in reversed(rows) if "workers/0/applied" in row)
    applied = [counts[f"workers/{worker}/applied"] for worker in range(WORKERS)]
    return (last - first) / (end - begin), 100 * accuracy, applied[WORKERS - 1] / sum(applied)


def run(place):
    seeds = place.seeds(3)
    modes = list(MODES)[:1] + list(MODES)[2:3] if place.brief else list(MODES)
    result = lab.Result(header=["mode", "updates/s, all alike", "one 5 times slower", "kept", "accuracy, all alike, %", "one slower", "difference"])
    kept, accuracy, rates, shares = {}, {}, {}, {}
    for mode in modes:
        even = [train(place, MODES[mode], False, seed) for seed in seeds]
        slow = [train(place, MODES[mode], True, seed) for seed in seeds]
        kept[mode] = lab.mean([s[0] for s in slow]) / lab.mean([e[0] for e in even])
        accuracy[mode] = lab.differences([s[1] for s in slow], [e[1] for e in even])
        shares[mode] = [s[2] for s in slow]
        rates[mode] = (lab.mean([e[0] for e in even]), lab.mean([s[0] for s in slow]))
        result.rows.append((mode, f"{rates[mode][0]:.1f}", f"{rates[mode][1]:.1f}", f"{kept[mode]:.1%}", lab.text_of([e[1] for e in even]),
                            lab.text_of([s[1] for s in slow]), lab.text_of(accuracy[mode], signed=True)))
    backups = "sync_with_backups, 3 of 4"
    if place.brief:                                  # rates of a busy machine say nothing: whose gradients count does
        for mode in modes:
            share = lab.mean(shares[mode])
            result.check(f"{mode}: the slow worker's share of the gradients", f"{share:.1%}", "< 20 %", share < 0.2)
        return result
    result.check("3 of 4: steps per second kept", f"{kept[backups]:.1%}", "≥ 95 %", kept[backups] >= 0.95)
    result.check("async: updates per second kept (80 % is the bound)", f"{kept['async']:.1%}", "≥ 76 %", kept["async"] >= 0.76)
    result.check("bound 1: updates per second kept (theory 20 %)", f"{kept['async, bound 1']:.1%}", "15 to 25 %", 0.15 <= kept["async, bound 1"] <= 0.25)
    for mode in modes:
        result.check(f"{mode}: accuracy, one slower", lab.text_of(accuracy[mode], signed=True), "within 1", abs(lab.mean(accuracy[mode])) <= 1)
    result.figures["straggler.svg"] = svg.bars("Updates per second with one of 4 workers 5 times slower", svg.Axis("% of what it is without", least=0),
                                               [mode.replace("sync_with_backups, ", "").replace("async, ", "") for mode in modes],
                                               [svg.Series("kept", [(i, 100 * kept[mode]) for i, mode in enumerate(modes)])])
    return result
