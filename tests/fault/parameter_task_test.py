"""Training with parameter tasks under the real mpirun: workers that are killed or fall silent at random moments, a cut line, a
parameter task that dies.

parameter_task_test.py PROGRAM MPIRUN [unittest arguments: Killed Silent Task Line, or Soak]

COHORT_FAULT_RUNS: how many runs per mode (5); COHORT_SOAK_SEED: which moments.
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM, MPIRUN = sys.argv[1:3]
LIMIT = 60           # seconds after which a run has hung
STEPS = {"sync_with_backups": 150, "async": 400, "bounded": 400}
RUNS = int(os.environ.get("COHORT_FAULT_RUNS", "5"))
SEED = int(os.environ.get("COHORT_SOAK_SEED", "0")) or random.randrange(1 << 30)
MODES = {"sync_with_backups": [], "async": [], "bounded": ["--set", "updater.bound=2"]}

JOB = """
    [train]
    epochs = 1000
    [model]
    type = "mlp"
    hidden = [64]
    [data]
    batch = 8
    threads = 0
    [data.train]
    reader = "synthetic"
    samples = 2000
    shape = [8, 8, 1]
    [optimizer]
    type = "adam"
    [cluster]
    heartbeat_timeout = 1.5
    [[fault]]          # steps last long enough for moments in them
    kind = "slow"
    seconds = 0.01
"""


def rank_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return None
    return next((int(word[21:]) for word in words if word.startswith(b"OMPI_COMM_WORLD_RANK=")), None)


def ranks_under(launcher):
    """Rank → process number."""
    found = {}
    with open(f"/proc/{launcher}/task/{launcher}/children", encoding="ascii") as file:
        for pid in map(int, file.read().split()):
            rank = rank_of(pid)
            if rank is not None:
                found[rank] = pid
    return found


class Run:
    def __init__(self, folder, mode, ranks=4, tasks=1, words=()):
        self.folder, self.mode = pathlib.Path(folder), mode
        (self.folder / "job.toml").write_text(JOB)
        self.err_path = self.folder / f"err-{time.monotonic_ns()}"
        self.outcome_path = self.folder / f"outcome-{time.monotonic_ns()}.json"
        updater = "async" if mode == "bounded" else mode
        command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n", str(ranks), PROGRAM, "train", str(self.folder / "job.toml"),
                   "--set", f"train.directory={self.folder}/run", "--set", f"train.max_steps={STEPS[mode]}", "--set", f"train.updater={updater}",
                   "--set", f"cluster.ps={tasks}", "--set", "watchdog.timeout=10", *MODES[mode], *words]
        self.err_file = open(self.err_path, "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self.err_file, stderr=subprocess.STDOUT, env=os.environ | {"COHORT_OUTCOME": str(self.outcome_path)})
        self.deadline = time.monotonic() + LIMIT
        self.pids = {}

    @property
    def text(self):
        return self.err_path.read_text(errors="replace")

    def wait_for(self, condition, what):
        while not condition():
            if time.monotonic() > self.deadline or (self.process.poll() is not None and not condition()):
                raise AssertionError(f"{what} did not come about\n{self.text}")
            time.sleep(0.01)

    def metrics(self):
        found = sorted(self.folder.glob("run*/metrics.jsonl"), key=os.path.getmtime)
        return found[-1] if found else None

    def wait_for_steps(self):
        self.wait_for(lambda: self.metrics() is not None and self.metrics().stat().st_size > 0, "the first step")
        self.pids = ranks_under(self.process.pid)

    def end(self):
        try:
            self.process.wait(max(self.deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hung\n{self.text}") from None

    def close(self):
        for pid in self.pids.values():
            if rank_of(pid) is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        self.process.kill()
        self.process.wait()
        self.err_file.close()

    @property
    def outcome(self):
        return json.loads(self.outcome_path.read_text())


class Faults(unittest.TestCase):
    def check_survived(self, run, rank):
        self.assertTrue(run.outcome["completed"], run.text)
        self.assertEqual([loss["rank"] for loss in run.outcome["lost"]], [rank], run.text)
        self.assertRegex(run.text, rf"rank {rank} on .*the others go on without it")
        self.assertRegex(run.text, rf"(?m)^ +\d+ +{rank} +\d+ +\d+ +\d+ +lost", "the table says who is lost")
        rows = [json.loads(line) for line in run.metrics().read_text().splitlines()]
        self.assertEqual(max(row["step"] for row in rows), STEPS[run.mode], run.text)

    def repeat(self, do, runs=RUNS):
        for mode in MODES:
            which = random.Random(f"{SEED} {mode} {do.__name__}")
            for _ in range(runs):
                moment, victim = which.uniform(0, 0.6), which.choice([1, 2, 3])
                with self.subTest(mode=mode, seed=SEED, moment=f"{moment:.3f}", victim=victim), tempfile.TemporaryDirectory() as folder:
                    run = Run(folder, mode)
                    try:
                        run.wait_for_steps()
                        time.sleep(moment)
                        do(run, victim)
                        run.end()
                        self.check_survived(run, victim)
                    finally:
                        run.close()

    def kill(self, run, victim):
        os.kill(run.pids[victim], signal.SIGKILL)

    def stop(self, run, victim):
        """It is given up after heartbeat_timeout, and refused when it wakes up."""
        os.kill(run.pids[victim], signal.SIGSTOP)
        run.wait_for(lambda: "the others go on without it" in run.text, f"the loss of rank {victim}")
        time.sleep(0.3)
        os.kill(run.pids[victim], signal.SIGCONT)
        run.wait_for(lambda: rank_of(run.pids[victim]) is None or "refused" in run.text, f"the end of rank {victim}")
        self.assertIn("refused", run.text)


class Killed(Faults):
    def test_every_mode_goes_on_without_a_worker_killed_at_a_random_moment(self):
        self.repeat(self.kill)


class Silent(Faults):
    def test_every_mode_goes_on_without_a_worker_that_is_stopped_and_refuses_it_when_it_wakes_up(self):
        self.repeat(self.stop, max(RUNS * 2 // 5, 1))


class Task(Faults):
    def test_a_parameter_task_that_dies_ends_the_job_and_the_checkpoint_goes_on(self):
        for mode in MODES:
            for task in (0, 1):
                with tempfile.TemporaryDirectory() as folder, self.subTest(mode=mode, task=task):
                    run = Run(folder, mode, ranks=5, tasks=2, words=["--set", "checkpoint.every_steps=20"])
                    try:
                        run.wait_for(lambda: (run.folder / "run" / "checkpoints" / "latest").exists(), "a checkpoint")
                        run.pids = ranks_under(run.process.pid)
                        os.kill(run.pids[task], signal.SIGKILL)
                        run.end()
                        self.assertFalse(run.outcome_path.exists() and run.outcome["completed"], run.text)
                        self.assertRegex(run.text, rf"rank {task} on \S+ ended before the job was done")
                    finally:
                        run.close()
                    again = Run(folder, mode, ranks=3, tasks=1, words=["--resume", str(run.folder / "run")])
                    try:
                        again.end()
                        self.assertTrue(again.outcome["completed"], again.text)
                        self.assertRegex(again.text, r"resumed from .* at step \d+")
                    finally:
                        again.close()


class Soak(Faults):
    """50 runs of each mode: COHORT_FAULT_RUNS=50."""

    def test_killed(self):
        self.repeat(self.kill, max(RUNS, 50))

    def test_silent(self):
        self.repeat(self.stop, max(RUNS, 50))


if __name__ == "__main__":
    print("seed", SEED)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
