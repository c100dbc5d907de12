"""Training with parameter tasks under a real Slurm: what srun, salloc and scancel do when ranks are killed, fall silent or
are asked to end, and that the others go on.

slurm_test.py PROGRAM [unittest arguments, such as Lost, Ends or Starts]

Runs itself within slurm.py, on two hosts with two ranks each. Exit code 77 where there is no Slurm, or no namespaces.
COHORT_FAULT_RUNS: how many workers are killed per mode (3); COHORT_SOAK_SEED: which, and when.
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

PROGRAM = sys.argv[1]
HERE = pathlib.Path(__file__).resolve().parent
WITHIN = "COHORT_SLURM_TEST"
RUNS = int(os.environ.get("COHORT_FAULT_RUNS", "3"))
SEED = int(os.environ.get("COHORT_SOAK_SEED", "0")) or random.randrange(1 << 30)
STEPS = {"sync_with_backups": 150, "async": 400}
ENDLESS = 10**6
# As README.md and `cohort doctor` say.
SURVIVING = ["srun", "--mpi=pmix", "--no-kill", "--kill-on-bad-exit=0", "--wait=0"]

JOB = HERE.parent / "fault" / "parameter_tasks.toml"


def variable(pid, name):
    try:
        words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((word[len(name) + 1:].decode() for word in words if word.startswith(name.encode() + b"=")), None)


def processes(name):
    """Numbers of the processes of that name that live; this test sees those of its own hosts alone."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state not in "ZX" and (folder / "comm").read_text().strip() == name:
                found.append(int(folder.name))
        except OSError:
            pass
    return found


class Run:
    def __init__(self, folder, launcher, mode="async", steps=None, tasks=1, words=(), options=()):
        self.folder, self.mode, self.tasks = pathlib.Path(folder), mode, tasks
        self.steps = steps or STEPS[mode]
        number = time.monotonic_ns()
        self.text_path, self.outcome_path = self.folder / f"text-{number}", self.folder / f"outcome-{number}.json"
        command = [PROGRAM, "launch", *options, "--", *launcher, PROGRAM, "train", str(JOB), *words]
        for key, value in {"train.directory": f"{folder}/run", "train.max_steps": self.steps, "train.updater": mode,
                           "cluster.ps": tasks, "watchdog.timeout": patient(10),
                           "cluster.heartbeat_timeout": patient(1.5)}.items():
            command += ["--set", f"{key}={value}"]
        self.command = command
        self.start()

    def start(self):
        with open(self.text_path, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=subprocess.STDOUT,
                                            env=os.environ | {"COHORT_OUTCOME": str(self.outcome_path)})
        self.deadline = time.monotonic() + HUNG

    def has_begun(self):
        """Starts once more where Open MPI 4.1 has crashed in MPI_Init: under srun on several hosts it calls null there in a few
        of 100 starts of any program, when a message comes before it is ready."""
        for _ in range(4):
            while True:
                ended, text = self.process.poll() is not None, self.text
                crashed = "Signal: Segmentation fault" in text
                if "writing to" in text or (ended and not crashed):
                    return
                if crashed:
                    break
                if time.monotonic() > self.deadline:
                    raise AssertionError(f"the run did not begin\n{text}")
                time.sleep(0.05)
            subprocess.run(["scancel", "--user", "root"], check=False, timeout=HUNG)
            self.end()
            print("started once more", flush=True)
            self.start()

    def __enter__(self):
        try:
            self.has_begun()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["scancel", "--user", "root"], check=False, timeout=HUNG)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self.ranks().values():
            os.kill(pid, signal.SIGKILL)

    def ranks(self):
        """Rank → process number."""
        pids = [pid for pid in processes("cohort") if variable(pid, "COHORT_OUTCOME") == str(self.outcome_path)]
        numbers = {pid: variable(pid, "PMIX_RANK") for pid in pids}       # cohort launch has none
        return {int(number): pid for pid, number in numbers.items() if number is not None}

    @property
    def text(self):
        return self.text_path.read_text(errors="replace") + f"exit code {self.process.poll()}\n"

    @property
    def outcome(self):
        return json.loads(self.outcome_path.read_text())

    @property
    def latest(self):
        return self.folder / "run" / "checkpoints" / "latest"

    def wait_for(self, condition, what):
        while not condition():
            if time.monotonic() > self.deadline or (self.process.poll() is not None and not condition()):
                raise AssertionError(f"{what} did not come about\n{self.text}")
            time.sleep(0.02)

    def steps_begin(self):
        metrics = self.folder / "run" / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, "the first step")

    def signal(self, rank, number):
        os.kill(self.ranks()[rank], number)

    def end(self):
        """The launcher's exit code; no rank is left."""
        try:
            code = self.process.wait(max(self.deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hung\n{self.text}") from None
        end = time.monotonic() + HUNG
        while (left := self.ranks()) and time.monotonic() < end:
            time.sleep(0.1)
        if left:
            raise AssertionError(f"ranks {sorted(left)} are left\n{self.text}")
        return code


class Case(unittest.TestCase):
    def completed_without(self, run, lost, code=0, said="ended before the job was done"):
        self.assertEqual(run.end(), code, run.text)
        self.assertTrue(run.outcome["completed"], run.text)
        self.assertEqual(sorted(loss["rank"] for loss in run.outcome["lost"]), lost, run.text)
        for rank in lost:
            self.assertRegex(run.text, rf"rank {rank} on host\d {said}.*the others go on without it")
        rows = [json.loads(line) for line in (run.folder / "run" / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual(max(row["step"] for row in rows), run.steps, run.text)

    def resumes(self, run, launcher):
        with Run(run.folder, launcher, run.mode, steps=run.steps, words=["--resume", str(run.folder / "run")]) as again:
            again.wait_for(lambda: re.search(r"resumed from .* at step \d+", again.text), "the resumption")
            again.wait_for(lambda: re.search(r"step +\d+", again.text.split("resumed", 1)[1]), "a step")
            subprocess.run(["scancel", "--signal=USR1", "--user", "root"], check=True, timeout=HUNG)
            self.assertEqual(again.end(), 0, again.text)
            self.assertTrue(again.outcome["completed"], again.text)


class Lost(Case):
    """Workers that the others go on without."""

    def repeat(self, launcher, do, runs=RUNS, **expected):
        for mode in STEPS:
            which = random.Random(f"{SEED} {mode} {self.id()}")
            for _ in range(runs):
                moment, victim = which.uniform(0, 0.6), which.choice([1, 2, 3])
                with (self.subTest(mode=mode, seed=SEED, moment=f"{moment:.3f}", victim=victim),
                      tempfile.TemporaryDirectory(dir="/tmp") as folder, Run(folder, launcher, mode) as run):
                    run.steps_begin()
                    time.sleep(moment)
                    do(run, victim)
                    self.completed_without(run, [victim], **expected)

    def kill(self, run, victim):
        run.signal(victim, signal.SIGKILL)

    def test_killed_under_srun(self):
        self.repeat([*SURVIVING, "-N2", "--ntasks-per-node=2"], self.kill)

    def test_killed_under_mpirun_in_an_allocation(self):
        mpirun = ["mpirun", "--bind-to", "none", "--enable-recovery"]
        self.repeat(["salloc", "--no-kill", "-N2", "--ntasks-per-node=2", *mpirun], self.kill)

    def test_silent_and_refused_when_it_wakes_up(self):
        def stop(run, victim):
            pid = run.ranks()[victim]
            os.kill(pid, signal.SIGSTOP)
            run.wait_for(lambda: "the others go on without it" in run.text, f"the loss of rank {victim}")
            time.sleep(0.3)
            os.kill(pid, signal.SIGCONT)
            run.wait_for(lambda: "refused" in run.text, f"the refusal of rank {victim}")
        self.repeat([*SURVIVING, "-N2", "--ntasks-per-node=2"], stop, runs=1, said="does not answer")

    def test_a_lost_worker_and_strict(self):
        with (tempfile.TemporaryDirectory(dir="/tmp") as folder,
              Run(folder, [*SURVIVING, "-N2", "--ntasks-per-node=2"], options=["--strict"]) as run):
            run.steps_begin()
            run.signal(3, signal.SIGKILL)
            self.completed_without(run, [3], code=3)


class Ends(Case):
    """Jobs that fail, and jobs that are asked to end."""
    LAUNCHER = [*SURVIVING, "-N2", "--ntasks-per-node=2"]

    def test_a_parameter_task_that_dies_ends_the_job_and_the_checkpoint_goes_on(self):
        for mode in STEPS:
            for task in (0, 1):
                often = ["--set", "checkpoint.every_steps=20"]
                with (self.subTest(mode=mode, task=task), tempfile.TemporaryDirectory(dir="/tmp") as folder,
                      Run(folder, self.LAUNCHER, mode, ENDLESS, tasks=2, words=often) as run):
                    run.wait_for(run.latest.exists, "a checkpoint")
                    run.signal(task, signal.SIGKILL)
                    self.assertNotEqual(run.end(), 0, run.text)
                    self.assertFalse(run.outcome_path.exists() and run.outcome["completed"], run.text)
                    self.assertRegex(run.text, rf"rank {task} on host1 ended before the job was done")
                    self.resumes(run, self.LAUNCHER)

    def test_asked_to_end(self):
        ways = {"scancel": ["scancel", "--user", "root"],
                "scancel with a signal": ["scancel", "--signal=USR1", "--user", "root"],
                "SIGUSR1 to cohort launch": None}
        for name, command in ways.items():
            with (self.subTest(way=name), tempfile.TemporaryDirectory(dir="/tmp") as folder,
                  Run(folder, self.LAUNCHER, steps=ENDLESS) as run):
                run.steps_begin()
                if command:
                    subprocess.run(command, check=True, timeout=HUNG)
                else:
                    run.process.send_signal(signal.SIGUSR1)
                self.assertEqual(run.end(), 0, run.text)
                self.assertRegex(run.text, r"Stopped as asked after \d+ steps")
                self.assertTrue(run.latest.exists())
                self.resumes(run, self.LAUNCHER)

    def test_a_mistake(self):
        with (tempfile.TemporaryDirectory(dir="/tmp") as folder,
              Run(folder, self.LAUNCHER, words=["--set", "optimizer.typo=1"]) as run):
            self.assertEqual(run.end(), 2, run.text)
            self.assertIn("typo", run.text)


class Starts(Case):
    def test_nothing_goes_wrong(self):
        for launcher in (["srun", "--mpi=pmix", "-N2", "--ntasks-per-node=2"], [*SURVIVING, "-N1", "-n4"]):
            with tempfile.TemporaryDirectory(dir="/tmp") as folder, Run(folder, launcher, options=["--strict"]) as run:
                self.completed_without(run, [])
                self.assertNotRegex(run.text, "launch:|srun:")
            self.assertEqual(processes("launcher-line"), [])

    def test_doctor_says_how(self):
        def doctor(*launcher):
            words = [*launcher, PROGRAM, "doctor"]
            return subprocess.run(words, capture_output=True, text=True, timeout=HUNG, check=True).stdout
        said = doctor("srun", "--mpi=pmix", "-n2")
        self.assertIn("srun would let the others live where it was started as below", said)
        self.assertIn(f"cohort launch -- {' '.join(SURVIVING)} -n", said)
        self.assertIn("one process: no launcher", doctor("salloc", "-Q", "-n2"))
        inner = doctor("salloc", "-Q", "-n2", "mpirun", "--bind-to", "none", "--enable-recovery")
        self.assertIn("mpirun would let the others live", inner)


class Vanished(Case):
    """The last one by its name: host2 does not come back."""

    def test_a_host(self):
        with (tempfile.TemporaryDirectory(dir="/tmp") as folder,
              Run(folder, [*SURVIVING, "-N2", "--ntasks-per-node=2"]) as run):
            run.steps_begin()
            host2 = os.readlink(f"/proc/{run.ranks()[3]}/ns/net")
            for name in ("slurmd", "slurmstepd", "cohort", "launcher-line"):
                for pid in processes(name):
                    if os.readlink(f"/proc/{pid}/ns/net") == host2:
                        os.kill(pid, signal.SIGKILL)
            self.completed_without(run, [2, 3])


def main():
    if not os.environ.get(WITHIN):
        os.environ[WITHIN] = "1"
        words = [str(HERE / "slurm.py"), "run", "--hosts", "2", "--", sys.executable, *sys.argv]
        os.execv(sys.executable, [sys.executable, *words])
    print("seed", SEED, flush=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])


if __name__ == "__main__":
    main()
