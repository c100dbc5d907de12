"""Ranks that die, stop or never come while a job starts, ends, or starts a process in place of one that it has lost: the job
ends or goes on, names the rank, and tells the truth by its exit code.

start_test.py PROGRAM MPIRUN [unittest arguments: Waits Moments Cut Replacements Listeners, or Soak]

Soak makes 200 kills and stops at random moments of the start, of steps, saves, the end and replacements, and prints a table:
COHORT_SOAK_RUNS: how many; COHORT_SOAK_SEED: which moments; COHORT_SOAK_FIRST: begin with this run. Before that it goes through
COHORT_SOAK_MOMENTS (20) moments of the start, the end and a replacement's start (COHORT_SOAK_PARTS), for each rank.
"""
import collections
import contextlib
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
SEED = int(os.environ.get("COHORT_SOAK_SEED", "0")) or random.randrange(1 << 30)
BTL = {"OMPI_MCA_btl": "self,vader,tcp"}      # shared memory is of one start alone: a replacement needs TCP
JOB = pathlib.Path(__file__).resolve().with_name("parameter_tasks.toml")
START = patient(4)        # seconds that a job may take to start; it takes about one
SILENCE = patient(1.5)    # after which a worker counts as lost
REPLACE = patient(3)
LINGER = patient(1)       # what the launcher may take then
BOUND = patient(10)       # a job ends so many seconds after a rank was killed or stopped at the latest


def environment_of(pid):
    try:
        words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(word.decode(errors="replace").split("=", 1) for word in words if b"=" in word)


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def send(pid, number):
    """False where it has ended by itself."""
    try:
        os.kill(pid, number)
        return True
    except OSError:
        return False


class Run:
    """`cohort launch` with mpirun, from the beginning to the end of its last process."""

    def __init__(self, folder, words, options=(), launcher=("--enable-recovery",), environment=()):
        self.folder = pathlib.Path(folder)
        self.out_path, self.outcome_path = self.folder / "out", self.folder / "outcome.json"
        command = [PROGRAM, "launch", *options, "--", MPIRUN, "--oversubscribe", "--bind-to", "none", *launcher, *words]
        with open(self.out_path, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                                            env=self.environment(environment) | {"COHORT_OUTCOME": str(self.outcome_path)})
        self.pids, self.new, self.known = {}, [], set()

    @staticmethod
    def environment(more):
        """Variables that are to be empty are not there."""
        return {name: value for name, value in (os.environ | BTL | dict(more)).items() if value}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.find()
        for pid in self.known:
            send(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def text(self):
        return self.out_path.read_text(errors="replace") + f"\nexit code {self.process.poll()}"

    @property
    def outcome(self):
        return json.loads(self.outcome_path.read_text()) if self.outcome_path.exists() else None

    def find(self):
        """Rank → process number, and processes that ranks have started."""
        for launcher in children(self.process.pid):
            self.known.add(launcher)
            for pid in children(launcher):
                variables = environment_of(pid)
                if "OMPI_COMM_WORLD_RANK" not in variables or pid in self.known:
                    continue
                self.known.add(pid)
                if "OMPI_PARENT_PORT" in variables:
                    self.new.append(pid)
                else:
                    self.pids[int(variables["OMPI_COMM_WORLD_RANK"])] = pid

    def wait_for(self, condition, what):
        end = time.monotonic() + HUNG
        while not condition():
            if time.monotonic() > end or (self.process.poll() is not None and not condition()):
                raise AssertionError(f"{what} did not come about\n{self.text}")
            self.find()
            time.sleep(0.002)

    def end(self):
        """Seconds until the last process is gone; those that are left are named."""
        begin = time.monotonic()
        while (self.process.poll() is None or any(map(runs, self.known))) and time.monotonic() < begin + BOUND:
            self.find()
            time.sleep(0.02)
        if self.process.poll() is None or any(map(runs, self.known)):
            raise AssertionError(f"after {BOUND:.0f} s still there: launch {self.process.poll()}, {list(filter(runs, self.known))}\n{self.text}")
        return time.monotonic() - begin


def training(folder, ranks=4, steps=60, words=(), program=PROGRAM):
    settings = {"train.directory": f"{folder}/run", "train.max_steps": steps, "train.updater": "async", "cluster.ps": 1,
                "checkpoint.every_steps": 10, "watchdog.timeout": patient(4), "cluster.heartbeat_timeout": SILENCE}
    return ["-n", str(ranks), program, "train", str(JOB), *[word for key, value in settings.items() for word in ("--set", f"{key}={value}")], *words]


class Case(unittest.TestCase):
    def tells(self, run, *patterns):
        for pattern in patterns:
            self.assertRegex(run.text, pattern)


class Waits(Case):
    """Another program in the place of the last rank never comes to MPI_Init, so the others wait there."""

    def job(self, folder, timeout=patient(1.5), ranks=2):
        one = ["doctor"]
        return Run(folder, ["-n", str(ranks - 1), PROGRAM, *one, ":", "-n", "1", "sleep", "1000"], options=["--start-timeout", str(timeout)])

    def test_a_rank_that_never_comes_is_named_and_the_job_ends(self):
        with tempfile.TemporaryDirectory() as folder, self.job(folder) as run:
            run.end()
            self.assertNotEqual(run.process.returncode, 0, run.text)
            self.tells(run, r"launch: the job cannot begin: not all ranks had met .*: rank 1 of 2 never began; ending it",
                       r"\[rank 0 on \S+\] warning: in MPI_Init for \d+ s, which returns when all 2 processes .* are there")

    def test_a_rank_that_dies_in_mpi_init_is_named_at_once(self):
        with tempfile.TemporaryDirectory() as folder, self.job(folder, timeout=HUNG, ranks=3) as run:
            run.wait_for(lambda: len(run.pids) == 3, "the ranks")
            time.sleep(patient(0.7))          # it has said that it is there
            os.kill(run.pids[1], signal.SIGKILL)
            run.end()
            self.assertNotEqual(run.process.returncode, 0, run.text)
            self.tells(run, rf"launch: the job cannot begin: rank 1 of 3 on \S+ \(process {run.pids[1]}\) ended before all ranks had met")

    def test_a_rank_that_is_stopped_in_mpi_init_is_named(self):
        with tempfile.TemporaryDirectory() as folder, self.job(folder, timeout=patient(4.5), ranks=3) as run:
            run.wait_for(lambda: len(run.pids) == 3, "the ranks")
            time.sleep(patient(0.7))
            os.kill(run.pids[0], signal.SIGSTOP)
            run.end()
            self.assertNotEqual(run.process.returncode, 0, run.text)
            self.tells(run, rf"rank 2 of 3 never began; rank 0 of 3 on \S+ \(process {run.pids[0]}\) does not answer")

    def test_programs_that_never_speak_are_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            with Run(folder, ["-n", "2", "sleep", "1"], options=["--start-timeout", "0.2"]) as run:
                run.end()
                self.assertNotIn("cannot begin", run.text)


class Cut(Case):
    """mpirun ends the others when a rank has died, unless it is told to let them live."""

    def test_a_job_that_is_cut_off_is_not_completed(self):
        with tempfile.TemporaryDirectory() as folder:
            with Run(folder, training(folder, steps=10**6), launcher=()) as run:
                metrics = run.folder / "run" / "metrics.jsonl"
                run.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, "the first step")
                os.kill(run.pids[2], signal.SIGKILL)
                run.end()
                self.assertNotEqual(run.process.returncode, 0, run.text)
                self.tells(run, r"launch: (the job is not completed|rank 0 ended before)", "rank 2")
                self.assertNotIn("outcome: completed", run.text)
                self.assertFalse(run.outcome and run.outcome["completed"] and not run.outcome["stopped"], run.text)

    def test_a_job_that_was_asked_to_stop_is(self):
        with tempfile.TemporaryDirectory() as folder, Run(folder, training(folder, steps=10**6), launcher=()) as run:
            metrics = run.folder / "run" / "metrics.jsonl"
            run.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, "the first step")
            run.process.send_signal(signal.SIGUSR1)
            run.end()
            self.assertEqual(run.process.returncode, 0, run.text)
            self.assertIn("Stopped as asked", run.text)
            self.assertEqual((run.outcome["completed"], run.outcome["stopped"]), (True, "SIGUSR1"))


class Listeners(Case):
    """Where one machine has all ranks, nobody else can connect to them."""

    @staticmethod
    def listening_at(pids):
        """Addresses of the sockets at which these processes listen, as /proc writes them."""
        mine = set()
        for pid in pids:
            for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
                mine |= {found.group(1)} if found else set()
        lines = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]]
        return [line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in mine]

    def test_are_at_loopback(self):
        for words, least in (([], 2), (["--set", "cluster.replace=1"], 2)):
            with tempfile.TemporaryDirectory() as folder:
                with Run(folder, training(folder, 3, 10**6, words), environment=[("OMPI_MCA_btl", "")]) as run:
                    metrics = run.folder / "run" / "metrics.jsonl"
                    run.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, "the first step")
                    run.wait_for(lambda: len(run.pids) == 3, "the ranks")
                    at = self.listening_at(run.pids.values())
                    self.assertGreaterEqual(at.count("0100007F"), least, at)      # the watchdog's, of ranks 0 and 1
                    if not words:       # whoever starts later is reached over TCP, for which Open MPI listens everywhere
                        self.assertEqual(set(at), {"0100007F"}, at)
                    run.process.send_signal(signal.SIGUSR1)
                    run.end()


class Any(Case):
    """A kill or stop at some moment of some part of a job, and what must be true afterwards."""

    PARTS = ("start", "step", "save", "end", "replacement")
    RANKS = 4

    def happens(self, part, number, victim, moment, recover=True):
        """What became of it: "goes on" without the rank, "ends", or "too late", where the rank had ended by itself; and seconds."""
        words = ["--set", "cluster.replace=3", "--set", f"cluster.replace_timeout={REPLACE}"] if part == "replacement" else []
        steps = {"end": 20, "replacement": 300}.get(part, 120)
        options = ["--start-timeout", str(START), "--linger", str(LINGER)]
        with tempfile.TemporaryDirectory() as folder:
            with Run(folder, training(folder, self.RANKS, steps, words), options, ("--enable-recovery",) if recover else ()) as run:
                try:
                    pid = self.reach(run, part, victim, steps)
                    time.sleep(moment * self.length(part))
                    hit = send(pid, number) and runs(pid)
                    seconds = run.end()
                    return self.judge(run, part, number, victim, steps, hit), seconds
                except AssertionError as error:
                    raise AssertionError(f"{part}, {signal.Signals(number).name} to rank {victim}, moment {moment:.3f}: {error}") from None

    def length(self, part):
        """Seconds of a part, about."""
        return {"start": patient(0.9), "step": 0.5, "save": 0.01, "end": patient(0.06), "replacement": patient(0.6)}[part]

    def reach(self, run, part, victim, steps):
        """Returns as soon as that part of the job begins, with the process to be hit."""
        if part == "start":
            run.wait_for(lambda: victim in run.pids, "the rank")
            return run.pids[victim]
        metrics, saved = run.folder / "run" / "metrics.jsonl", run.folder / "run" / "checkpoints"
        run.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, "the first step")
        run.wait_for(lambda: len(run.pids) == self.RANKS, "the ranks")
        if part == "save":
            run.wait_for(lambda: saved.exists() and any(name.startswith(".writing") for name in os.listdir(saved)), "a save")
        if part == "end":
            run.wait_for(lambda: f'"step":{steps},' in metrics.read_text() or run.outcome_path.exists(), "the last step")
        if part == "replacement":
            os.kill(run.pids[victim], signal.SIGKILL)
            run.wait_for(lambda: run.new, "a new process")
            return run.new[0]
        return run.pids[victim]

    def judge(self, run, part, number, victim, steps, hit):
        text, code, outcome = run.text, run.process.returncode, run.outcome
        completed = outcome is not None and outcome["completed"]
        made = [json.loads(line)["step"] for line in (run.folder / "run" / "metrics.jsonl").read_text().splitlines()] \
            if (run.folder / "run" / "metrics.jsonl").exists() else [0]
        # The exit code tells the truth: 0 if and only if rank 0 says that all was done, and then it was.
        self.assertEqual(code == 0, completed, text)
        if completed:
            self.assertEqual(max(made), steps, text)
            self.assertNotIn("stopped", outcome["facts"], text)
        named = re.search(rf"\brank {victim}\b", text)
        if not completed:
            self.assertTrue(named, "the rank is not named\n" + text)
            return "ends, named"
        lost = [loss["rank"] for loss in outcome["lost"]]
        if part == "replacement":
            self.assertEqual(set(lost), {victim}, text)
            return "replaced" if "workers replaced" in outcome["facts"] else "goes on without, named"
        if lost:
            self.assertEqual(lost, [victim], text)
            self.assertTrue(named, text)
            return "goes on without, named"
        # Nothing was lost: it had done its part, and at most the launcher waited for it.
        if hit and number == signal.SIGSTOP and "launcher waits" in text:
            self.assertTrue(named, text)
            return "done before, named"
        return "done before"


class Moments(Any):
    """A few moments of each part; all of them are in the soak."""

    def test_some(self):
        which = random.Random(f"{SEED} moments")
        for part, number in (("start", signal.SIGKILL), ("start", signal.SIGSTOP), ("end", signal.SIGKILL), ("end", signal.SIGSTOP)):
            moment, victim = which.random(), which.randrange(self.RANKS)
            if number == signal.SIGSTOP and part == "end":
                moment, victim = 0, 1 + victim % (self.RANKS - 1)      # while the others sum up with it what the run came to
            with self.subTest(seed=SEED, part=part, number=number, victim=victim, moment=moment):
                self.happens(part, number, victim, moment)


class Replacements(Any):
    """A process that is started in place of a lost worker, and dies while it starts. One that is stopped is in the soak."""

    def test_are_given_up_and_the_others_go_on(self):
        with self.subTest(seed=SEED):
            self.happens("replacement", signal.SIGKILL, random.Random(f"{SEED} replacements").choice((1, 2, 3)), 0)

    def test_that_die_while_they_join_hold_nobody_up(self):
        """Where Open MPI lets any thread of the parents wait for them. The job goes on, also without those that nobody replaces any more."""
        after = random.Random(f"{SEED} joining").randrange(3)
        with self.subTest(seed=SEED, after=after), self.job("COHORT_DIES_AFTER", after, SILENCE) as run:
            run.wait_for(lambda: "rank 3 is not replaced" in run.text, "the end of the new process")
            os.kill(run.pids[2], signal.SIGKILL)
            run.wait_for(lambda: "rank 2 on " in run.text, "the second loss")
            self.goes_on(run, {2, 3})

    def test_that_come_when_nobody_waits_any_more_are_not_let_in(self):
        """They would wait for work, for ever."""
        with self.job("COHORT_LATE", patient(1.5), patient(0.5)) as run:
            run.wait_for(lambda: run.text.count("rank 3 is not replaced") == 3, "three that are late")
            time.sleep(patient(7))            # they come, and the watchdog would miss what they wait for
            self.goes_on(run, {3})

    @contextlib.contextmanager
    def job(self, variable, value, replace_timeout):
        """One that goes on for ever, has lost rank 3, and gets such new processes as `bad_replacement.cpp` says."""
        with tempfile.TemporaryDirectory() as folder:
            count, program, *line = training(folder, self.RANKS, 10**6)[1:]
            words = ["--set", "cluster.replace=3", "--set", f"cluster.replace_timeout={replace_timeout}"]
            # mpirun hands its own environment to the processes that ranks start, and these ranks have another.
            line = ["-n", count, "env", "-u", "LD_PRELOAD", program, *line, *words]
            preload = [("LD_PRELOAD", os.environ["COHORT_BAD_REPLACEMENT"]), (variable, str(value))]
            with Run(folder, line, ("--linger", str(LINGER)), environment=preload) as run:
                run.wait_for(lambda: self.steps(run) > 0 and len(run.pids) == self.RANKS, "the first step")
                os.kill(run.pids[3], signal.SIGKILL)
                yield run

    @staticmethod
    def steps(run):
        metrics = run.folder / "run" / "metrics.jsonl"
        return metrics.read_text().count('"step"') if metrics.exists() else 0

    def goes_on(self, run, lost):
        before = self.steps(run)
        run.wait_for(lambda: self.steps(run) > before + 20, "more steps")
        run.process.send_signal(signal.SIGUSR1)
        run.end()
        self.assertEqual(run.process.returncode, 0, run.text)
        self.assertEqual((run.outcome["completed"], run.outcome["stopped"]), (True, "SIGUSR1"), run.text)
        self.assertEqual({loss["rank"] for loss in run.outcome["lost"]}, lost, run.text)


class Soak(Any):
    def judge(self, run, part, *others):
        what = super().judge(run, part, *others)
        if part == "replacement":
            self.assertNotIn("ends", what, "a process that starts has taken the healthy job with it\n" + run.text)
        return what

    def test_each_rank_at_twenty_moments(self):
        """Of the start, of the end, and of the start of a replacement."""
        table, moments = Table(), int(os.environ.get("COHORT_SOAK_MOMENTS", "20"))
        for part in os.environ.get("COHORT_SOAK_PARTS", "start end replacement").split():
            for victim in range(1 if part == "replacement" else 0, self.RANKS):
                for number in (signal.SIGKILL, signal.SIGSTOP):
                    for moment in range(moments):
                        with self.subTest(part=part, number=number, victim=victim, moment=moment):
                            table.add(part, number, *self.happens(part, number, victim, moment / moments))
        table.show()

    def test_random_moments(self):
        count, first = int(os.environ.get("COHORT_SOAK_RUNS", "200")), int(os.environ.get("COHORT_SOAK_FIRST", "0"))
        print(f"COHORT_SOAK_SEED={SEED} COHORT_SOAK_FIRST={first} COHORT_SOAK_RUNS={count}", flush=True)
        table = Table()
        for i in range(first, first + count):
            which = random.Random(f"{SEED} {i}")
            part, number = self.PARTS[i % len(self.PARTS)], which.choice((signal.SIGKILL, signal.SIGSTOP))
            victim = which.randrange(1, self.RANKS) if part == "replacement" else which.randrange(self.RANKS)
            recover = part == "replacement" or number == signal.SIGSTOP or which.random() < 0.7
            with self.subTest(i=i, seed=SEED):
                try:
                    table.add(part, number, *self.happens(part, number, victim, which.random(), recover))
                except AssertionError:
                    table.add(part, number, "WRONG", 0)
                    raise
        table.show()


class Table:
    """Outcomes by part of the job and signal."""

    def __init__(self):
        self.rows = collections.defaultdict(list)

    def add(self, part, number, what, seconds):
        self.rows[part, signal.Signals(number).name, what].append(seconds)
        print(f"{part}, {signal.Signals(number).name}: {what}, {seconds:.1f} s", flush=True)

    def show(self):
        print(f"\nseed {SEED}, bound {BOUND:.0f} s\n{'part':<12} {'signal':<8} {'what became of it':<24} {'runs':>5} {'longest end (s)':>16}")
        for (part, number, what), seconds in sorted(self.rows.items()):
            print(f"{part:<12} {number:<8} {what:<24} {len(seconds):>5} {max(seconds):>16.1f}")
        print(f"{'all':<46} {sum(map(len, self.rows.values())):>5}", flush=True)


if __name__ == "__main__":
    print("seed", SEED, flush=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
