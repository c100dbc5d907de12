"""Training with parameter tasks under the real mpirun: workers that are killed or fall silent at random moments, a cut line, a
parameter task that dies.

parameter_task_test.py PROGRAM MPIRUN [unittest arguments: Killed Silent Replaced Task, or Soak]

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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG, patient   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN = sys.argv[1:3]
STEPS = {"sync_with_backups": 150, "async": 400, "bounded": 400}
RUNS = int(os.environ.get("COHORT_FAULT_RUNS", "5"))
SEED = int(os.environ.get("COHORT_SOAK_SEED", "0")) or random.randrange(1 << 30)
MODES = {"sync_with_backups": [], "async": [], "bounded": ["--set", "updater.bound=2"]}

BTL = {"OMPI_MCA_btl": "self,vader,tcp"}      # shared memory is of one start alone: a replacement needs TCP

JOB = pathlib.Path(__file__).resolve().with_name("parameter_tasks.toml")


def rank_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return None
    return next((int(word[21:]) for word in words if word.startswith(b"OMPI_COMM_WORLD_RANK=")), None)


def is_replacement(pid):
    """A process that ranks have started: of one that has ended nobody knows."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return any(word.startswith(b"OMPI_PARENT_PORT=") for word in file.read().split(b"\0"))
    except OSError:
        return False


def processes_under(launcher):
    try:
        with open(f"/proc/{launcher}/task/{launcher}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def ranks_under(launcher):
    """Rank → process number."""
    return {rank_of(pid): pid for pid in processes_under(launcher) if rank_of(pid) is not None and not is_replacement(pid)}


class Run:
    def __init__(self, folder, mode, ranks=4, tasks=1, words=(), steps=None):
        self.folder, self.mode, self.steps = pathlib.Path(folder), mode, steps or STEPS[mode]
        self.err_path = self.folder / f"err-{time.monotonic_ns()}"
        self.outcome_path = self.folder / f"outcome-{time.monotonic_ns()}.json"
        updater = "async" if mode == "bounded" else mode
        command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n", str(ranks), PROGRAM, "train", str(JOB),
                   "--set", f"train.directory={self.folder}/run", "--set", f"train.max_steps={self.steps}", "--set", f"train.updater={updater}",
                   "--set", f"cluster.ps={tasks}", "--set", f"watchdog.timeout={patient(10)}", "--set", f"cluster.heartbeat_timeout={patient(1.5)}", *MODES[mode], *words]
        self.err_file = open(self.err_path, "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self.err_file, stderr=subprocess.STDOUT, env=os.environ | BTL | {"COHORT_OUTCOME": str(self.outcome_path)})
        self.deadline = time.monotonic() + HUNG
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
        self.assertEqual(max(row["step"] for row in rows), run.steps, run.text)

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


class Replaced(Faults):
    """A worker that is lost, and often the one that takes its place as well."""

    def check_replaced(self, run, victim, times):
        self.assertTrue(run.outcome["completed"], run.text)
        self.assertEqual([loss["rank"] for loss in run.outcome["lost"]], [victim] * times, run.text)
        self.assertEqual(run.outcome["facts"]["workers replaced"], str(times), run.text)
        self.assertEqual(run.text.count(f"rank {victim} is replaced by a new process on"), times, run.text)
        rows = [json.loads(line) for line in run.metrics().read_text().splitlines()]
        self.assertEqual(max(row["step"] for row in rows), run.steps, run.text)
        table = re.findall(r"(?m)^ +\d+ +(\d+) +(\d+) +\d+ +\d+ *(.*)$", run.text)
        self.assertEqual([row[2] for row in table], ["replaced" if int(row[0]) == victim else "" for row in table], run.text)
        gradients = sum(int(row[1]) for row in table)
        self.assertEqual(gradients, run.steps * (len(table) if run.mode == "sync_with_backups" else 1), "each is counted once")

    def test_a_worker_that_is_lost_is_replaced_and_so_is_its_replacement(self):
        for mode, tasks, words in (("sync_with_backups", 1, []), ("async", 2, ["--set", "exchange.codec=int8", "--set", "checkpoint.every_steps=40"]),
                                   ("bounded", 1, [])):
            which = random.Random(f"{SEED} {mode} replaced")
            moment, victim, signals = which.uniform(0, 0.6), which.choice(range(tasks, 4)), [signal.SIGKILL, which.choice([signal.SIGKILL, signal.SIGSTOP])]
            with self.subTest(mode=mode, seed=SEED, moment=f"{moment:.3f}", victim=victim, signals=signals), tempfile.TemporaryDirectory() as folder:
                run = Run(folder, mode, tasks=tasks, words=["--set", "cluster.replace=5", *words], steps=3 * STEPS[mode])
                try:
                    run.wait_for_steps()
                    time.sleep(moment)
                    os.kill(run.pids[victim], signals[0])
                    run.wait_for(lambda run=run: any(map(is_replacement, processes_under(run.process.pid))), "a new process")
                    run.wait_for(lambda run=run, victim=victim: f"rank {victim} is replaced" in run.text, "a replacement")
                    time.sleep(moment)
                    new = [pid for pid in processes_under(run.process.pid) if is_replacement(pid)]
                    os.kill(new[0], signals[1])
                    run.pids[-1] = new[0]
                    run.wait_for(lambda run=run, victim=victim: run.text.count(f"rank {victim} is replaced") == 2, "another replacement")
                    if signals[1] == signal.SIGSTOP:
                        os.kill(new[0], signal.SIGCONT)
                        run.wait_for(lambda run=run: "its gradients are refused" in run.text, "the end of what was replaced")
                    run.end()
                    self.check_replaced(run, victim, 2)
                    self.assertNotIn("MPI_ABORT", run.text)
                finally:
                    run.close()

    def test_where_nothing_can_be_replaced_nobody_tries(self):
        for words, says in ((["cluster.survive=off"], "workers can be replaced only where the job survives their loss"),
                            (["cluster.ps=0", "cluster.worker=0"], "workers can be replaced only where the job survives their loss")):
            with tempfile.TemporaryDirectory() as folder:
                run = Run(folder, "async", words=["--set", "cluster.replace=1", *[word for setting in words for word in ("--set", setting)]])
                try:
                    run.end()
                    self.assertEqual(run.outcome["exit_code"], 2, run.text)
                    self.assertRegex(run.outcome["error"], says)
                    self.assertEqual(len(re.findall(says, run.text)), 1, run.text)
                finally:
                    run.close()


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
