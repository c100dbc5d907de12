"""Ranks that die, hang or disagree, under the real mpirun: the job ends, and names the right rank.

fault_test.py PROGRAM MPIRUN PLUGIN [unittest arguments: Ends Kills Hangs Mismatches Training Injected, or Soak]

Soak repeats faults at random instants; COHORT_SOAK_SEED and COHORT_SOAK_RUNS choose which and how many.
"""
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG, patient   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN, PLUGIN = sys.argv[1:4]
WATCHDOG = patient(2)     # seconds, of all runs


def alive(pid):
    """True for a process that runs or is stopped; not for what is left of one that nobody has asked about."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Run:
    """A job from its start to the end of its last process."""

    def __init__(self, ranks, *arguments, recover=False, meddle=None):
        """meddle(pids): called once all ranks have told their process numbers."""
        command = [MPIRUN, "--oversubscribe", "--bind-to", "none", *(["--enable-recovery"] if recover else []), "-n",
                   str(ranks), PROGRAM, *arguments, "--plugin", PLUGIN, "--set", f"watchdog.timeout={WATCHDOG}"]
        self.pids, self.out, self.err, self.losses = {}, "", "", []
        self.ready = threading.Event()
        self.ranks = ranks
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        readers = [threading.Thread(target=self.read_out, args=(process.stdout,)),
                   threading.Thread(target=self.read_err, args=(process.stderr,))]
        for reader in readers:
            reader.start()
        end = time.monotonic() + HUNG
        try:
            if meddle is not None and self.ready.wait(HUNG) and len(self.pids) == ranks:
                meddle(self)
            while (process.poll() is None or any(map(alive, self.pids.values()))) and time.monotonic() < end:
                time.sleep(0.02)
            self.left_over = [rank for rank, pid in self.pids.items() if alive(pid)]
            self.hung = process.poll() is None
        finally:
            for pid in self.pids.values():
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            self.code = process.wait()
            for reader in readers:
                reader.join(5)
            for stream in (process.stdout, process.stderr):
                stream.close()

    def read_out(self, stream):
        for line in stream:
            self.out += line
            words = line.split()
            if words[:1] == ["pid"]:
                self.pids[int(words[1])] = int(words[2])
                if len(self.pids) == self.ranks:
                    self.ready.set()
        self.ready.set()      # there will be no more

    def read_err(self, stream):
        for line in stream:
            self.err += line

    @property
    def text(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    @property
    def complaints(self):
        """The program's own lines on standard error, without the launcher's, and without what a busy machine brings at the end."""
        aside = ("warning: [[fault]]", "warning: MPI_Finalize has not returned")
        return [line for line in self.err.splitlines() if re.match(r"error: |\[rank ", line) and not any(word in line for word in aside)]

    @property
    def warnings(self):
        return [line for line in self.err.splitlines() if "warning: [[fault]]" in line]


# Nobody drives the buckets that a rank has begun before it went: the others may be waiting for one of those.
WAITING = "waiting for it: .* in all_reduce of bucket [0-2] at step 11"


def exchange(ranks, fault, rank, step=11, bucket=2, recover=False, meddle=None, **more):
    settings = {"mishap": f"'{fault}'", "rank": rank, "step": step, "bucket": bucket, **more}
    return Run(ranks, "exchange", *[word for key, value in settings.items() for word in ("--set", f"{key}={value}")],
               recover=recover, meddle=meddle)


JOB = """
    [train]
    epochs = 4
    validate_every = 1
    [model]
    type = "trapped"
    [data]
    global_batch = 24
    [data.train]
    reader = "synthetic"
    samples = 240
    shape = [8, 8, 1]
    [data.validation]
    reader = "synthetic"
    samples = 48
    shape = [8, 8, 1]
    [exchange]
    first_bucket_mib = 0.0005
    bucket_mib = 0.0005
    """


def train(ranks, fault, rank, recover=False, meddle=None, **more):
    settings = {"model.mishap": f"'{fault}'", "model.rank": rank, "model.step": 13, **more}
    with tempfile.TemporaryDirectory() as folder:
        job = os.path.join(folder, "job.toml")
        with open(job, "w", encoding="utf-8") as file:
            file.write(JOB)
        settings["train.directory"] = f"'{folder}/run'"
        run = Run(ranks, "train", job, *[word for key, value in settings.items() for word in ("--set", f"{key}={value}")],
                  recover=recover, meddle=meddle)
        metrics = os.path.join(folder, "run", "metrics.jsonl")
        if os.path.exists(metrics):
            with open(metrics, encoding="utf-8") as file:
                run.losses = re.findall(r'"(?:train|validation)/loss": ?([^,}]*)', file.read())
        return run


class FaultTest(unittest.TestCase):
    def ends(self, run, code=None):
        """All processes are gone."""
        self.assertFalse(run.hung, "mpirun hangs\n" + run.text)
        self.assertEqual(run.left_over, [], run.text)
        if code is None:
            self.assertNotEqual(run.code, 0, run.text)
        else:
            self.assertEqual(run.code, code, run.text)

    def names(self, run, rank, how, where=None):
        """One line and no other, about `rank`."""
        self.assertEqual(len(run.complaints), 1, run.text)
        self.assertRegex(run.complaints[0], rf"\brank {rank} on \S+\]? {how}", run.text)
        if where is not None:
            self.assertRegex(run.complaints[0], where, run.text)


class Ends(FaultTest):
    """A rank that ends, or wants to."""

    def test_no_fault_no_word(self):
        for ranks in (1, 2, 4):
            run = exchange(ranks, "none", 0)
            self.ends(run, code=0)
            self.assertEqual(run.complaints, [])
            self.assertEqual(run.out.count("done"), ranks)

    def test_a_rank_that_throws(self):
        for ranks, rank in ((2, 0), (3, 1)):
            run = exchange(ranks, "throw", rank)
            self.ends(run, code=1)
            self.names(run, rank, "this rank has had enough")

    def test_a_rank_that_exits(self):
        for ranks, rank in ((3, 0), (3, 2)):
            run = exchange(ranks, "exit", rank)
            self.ends(run)
            self.names(run, rank, "ended before the job was done", WAITING)

    def test_a_rank_that_leaves_while_the_others_go_on(self):
        run = exchange(3, "leave", 1, **{"exchange.algorithm": "'ring'"})
        self.ends(run)
        self.names(run, 1, "has finished already", WAITING)
        run = exchange(3, "leave", 1, **{"exchange.algorithm": "'shared_memory'"})   # stuck where it gives the memory back
        self.ends(run)
        self.names(run, 1, "does not move on", WAITING)


class Kills(FaultTest):
    """SIGKILL."""

    def test_under_mpirun_the_job_ends(self):
        run = exchange(3, "kill", 1)
        self.ends(run)
        self.assertRegex(run.err, "exited on signal 9", "the launcher's own message stands")
        self.assertLessEqual(len(run.complaints), 1, run.text)

    def test_survivors_name_the_rank_and_end_by_themselves(self):
        for ranks, rank in ((2, 0), (2, 1), (4, 0), (4, 1), (4, 3)):
            run = exchange(ranks, "kill", rank, recover=True)
            self.ends(run, code=run.code)    # the launcher's code says nothing here
            self.names(run, rank, "ended before the job was done", WAITING)
            self.assertNotIn("done", run.out)


class Hangs(FaultTest):
    """A rank that stays, but does not go on."""

    def test_a_stopped_rank(self):
        for ranks, rank in ((2, 1), (4, 0), (3, 2)):
            run = exchange(ranks, "stop", rank)
            self.ends(run)
            self.names(run, rank, "does not (answer|move on)", WAITING)

    def test_a_rank_that_is_stuck_in_its_own_work(self):
        for ranks, rank in ((2, 0), (3, 1)):
            run = exchange(ranks, "spin", rank)
            self.ends(run)
            self.names(run, rank, r"does not move on \(last seen in bucket 1 of step 11\)",
                       WAITING)

    def test_a_job_that_was_suspended_goes_on(self):
        def suspend(run):
            time.sleep(0.3)
            for pid in run.pids.values():
                os.kill(pid, signal.SIGSTOP)
            time.sleep(2 * WATCHDOG)
            for pid in run.pids.values():
                os.kill(pid, signal.SIGCONT)
        run = exchange(3, "none", 0, pause=0.05, meddle=suspend)
        self.ends(run, code=0)
        self.assertEqual(run.complaints, [])


class Mismatches(FaultTest):
    """Ranks that are about to do different things all say the same, and end."""

    def differs(self, fault, text, ranks=3, **more):
        run = exchange(ranks, fault, 1, **more)
        self.ends(run, code=1)
        self.assertEqual(len(run.complaints), 1, run.text)       # one line: all ranks had the same error
        self.assertRegex(run.complaints[0], "^error: the ranks are not about to exchange the same: " + text, run.text)
        self.assertNotIn("MPI_ABORT", run.err)

    def test_count(self):
        for algorithm in ("auto", "ring", "mpi"):
            self.differs("count", r"count is 4999 on rank 1, 5000 on ranks 0 2", **{"exchange.algorithm": f"'{algorithm}'"})

    def test_dtype(self):
        self.differs("dtype", r"dtype is bfloat16 on rank 1, float32 on ranks 0 2")

    def test_order(self):
        self.differs("order", r"bucket is 3 on rank 1, 0 on ranks 0 2")

    def test_step(self):
        self.differs("step", r"step is 12 on rank 1, 11 on ranks 0 2")

    def test_operation(self):
        self.differs("operation", r"operation is all_gather on rank 1, all_reduce on ranks 0 2")


class Training(FaultTest):
    """The same under `cohort train`."""

    def test_no_fault_no_word(self):
        run = train(3, "none", 0)
        self.ends(run, code=0)
        self.assertEqual(run.complaints, [])

    def test_a_rank_that_throws_in_the_backward_pass(self):
        run = train(3, "throw", 2, **{"model.backward": "true"})
        self.ends(run, code=1)
        self.names(run, 2, "this rank has had enough")

    def test_a_rank_that_is_stopped(self):
        run = train(3, "stop", 1, **{"model.backward": "true"})
        self.ends(run)
        self.names(run, 1, "does not (answer|move on)", r"waiting for it: .* in reduce_scatter of bucket \d at step 13")

    def test_a_rank_that_hangs_in_a_kernel(self):
        run = train(2, "spin", 0)
        self.ends(run)
        self.names(run, 0, r"does not move on \(last seen in step 13\)", r"waiting for it: rank 1 in reduce_scatter of bucket 0 at step 13")

    def test_a_killed_rank(self):
        for rank in (0, 1):
            run = train(3, "kill", rank, recover=True)
            self.ends(run, code=run.code)
            self.names(run, rank, "ended before the job was done", "waiting for it: .* in reduce_scatter of bucket 0 at step 13")

    def test_another_model_on_one_rank(self):
        run = train(3, "none", 1, **{"model.differs": "true"})
        self.ends(run, code=1)
        self.assertEqual(len(run.complaints), 1, run.text)
        self.assertRegex(run.complaints[0], "^error: ranks 0 and 1 have built different models", run.text)


class Injected(FaultTest):
    """What [[fault]] in a job file does, one run per kind."""

    QUICK = {"train.epochs": 2, "train.log_every": 1, "train.deterministic": "true", "exchange.shared_parameters": "false",
             "exchange.algorithm": "'direct'"}

    def inject(self, n, kind, recover=False, **keys):
        fault = {f"fault.0.{key}": value for key, value in {"kind": f"'{kind}'", **keys}.items()}
        run = train(n, "none", 0, recover=recover, **self.QUICK, **fault)
        self.assertRegex(run.warnings[0], rf"^\[rank 0 .* warning: \[\[fault\]\] makes things go wrong in this job: {kind} ", run.text)
        return run

    def test_kill(self):
        run = self.inject(3, "kill", recover=True, ranks="[1]", from_step=13)
        self.ends(run, code=run.code)
        self.names(run, 1, "ended before the job was done", "waiting for it: .* at step 13")

    def test_pause(self):
        run = self.inject(3, "pause", ranks="[2]", from_step=13, seconds=3 * WATCHDOG)
        self.ends(run)
        self.names(run, 2, "does not (answer|move on)", "waiting for it: .* at step 13")
        run = self.inject(2, "pause", ranks="[1]", from_step=3, until_step=5, seconds=0.2)       # a short one
        self.ends(run, code=0)
        self.assertEqual(run.complaints, [])

    def test_drop_and_duplicate_end_with_a_named_error(self):
        run = self.inject(3, "drop", ranks="[1]", peers="[2]", from_step=13)
        self.ends(run)
        self.assertIn("at step 13", "".join(run.complaints), run.text)
        run = self.inject(2, "duplicate", ranks="[1]", from_step=13)
        self.ends(run)
        self.assertNotEqual(run.complaints, [], run.text)

    def test_slow_and_delay_change_no_bit(self):
        plain = train(3, "none", 0, **self.QUICK)
        self.ends(plain, code=0)
        self.assertEqual(plain.warnings, [])
        self.assertEqual(len(plain.losses), 22, plain.losses)        # 20 steps, 2 validations
        for kind, keys in (("slow", {"ranks": "[1]", "probability": 0.5}), ("delay", {"probability": 0.2, "seed": 3})):
            run = self.inject(3, kind, seconds=0.01, **keys)
            self.ends(run, code=0)
            self.assertEqual(run.complaints, [])
            self.assertEqual(run.losses, plain.losses, kind)

    TASKS = {"cluster.ps": 1, "train.updater": "'async'", "train.epochs": 6}

    def test_a_slow_worker_of_parameter_tasks(self):
        run = train(4, "none", 0, **self.TASKS, **{"fault.0.kind": "'slow'", "fault.0.ranks": "[2]", "fault.0.seconds": 0.1})
        self.ends(run, code=0)
        applied = {int(rank): int(n) for rank, n in re.findall(r"^ +\d+ +(\d+) +(\d+) +\d+ +\d+$", run.text, re.MULTILINE)}
        self.assertEqual(sorted(applied), [1, 2, 3], run.text)
        self.assertLess(4 * applied[2], sum(applied.values()), run.text)

    def test_a_parameter_task_is_killed(self):
        run = train(3, "none", 0, recover=True, **self.TASKS, **{"fault.0.kind": "'kill'", "fault.0.ranks": "[0]", "fault.0.from_step": 20})
        self.ends(run, code=run.code)
        self.names(run, 0, "ended before the job was done")

    def test_lost_and_doubled_messages_of_parameter_tasks(self):
        for kind in ("drop", "duplicate"):
            for seed in range(2):
                run = train(4, "none", 0, **self.TASKS, **{"fault.0.kind": f"'{kind}'", "fault.0.probability": 0.05, "fault.0.seed": seed})
                self.ends(run, code=run.code)
                self.assertNotIn("received signal", run.err, run.text)

    def test_a_mistake_in_the_entry_is_named(self):
        run = train(2, "none", 0, **{"fault.0.kind": "'kill'", "fault.0.ranks": "[2]"})
        self.ends(run, code=2)
        self.assertEqual(len(run.complaints), 1, run.text)
        self.assertRegex(run.complaints[0], r"^error: \[\[fault\]\] number 1: ranks: there is no rank 2", run.text)


class Soak(FaultTest):
    """Faults at random instants, in any phase of a job."""

    def test_random_faults(self):
        seed = int(os.environ.get("COHORT_SOAK_SEED", random.randrange(1 << 32)))
        runs = int(os.environ.get("COHORT_SOAK_RUNS", 300))
        print(f"COHORT_SOAK_SEED={seed} COHORT_SOAK_RUNS={runs}", flush=True)
        numbers = random.Random(seed)
        for i in range(runs):
            self.one_random_fault(i, numbers)

    def one_random_fault(self, i, numbers):
        ranks = numbers.choice((2, 3, 4))
        rank = numbers.randrange(ranks)
        kind = numbers.choice(("kill", "kill and recover", "stop"))
        algorithm = numbers.choice(("auto", "ring", "mpi"))
        instant = numbers.uniform(0, 1)
        number = signal.SIGSTOP if kind == "stop" else signal.SIGKILL

        def meddle(run):
            time.sleep(instant)
            os.kill(run.pids[rank], number)

        how = {"recover": kind != "kill", "meddle": meddle, "exchange.algorithm": f"'{algorithm}'"}
        job = numbers.choice((exchange, exchange, train))
        if job is exchange:
            run = exchange(ranks, "none", 0, steps=10**6, elements=numbers.choice((1, 1000, 10**6)),
                           pause=numbers.choice((0, 0.02)), **how)
        else:
            run = train(ranks, "none", 0, **how, **{"train.epochs": 10**5, "checkpoint.every_epochs": numbers.choice((1, 10))})
        with self.subTest(i=i, job=job.__name__, kind=kind, ranks=ranks, rank=rank, algorithm=algorithm, instant=instant):
            if kind == "kill":
                self.ends(run)
                self.assertLessEqual(len(run.complaints), 1, run.text)
                return
            self.ends(run, WATCHDOG if kind == "stop" else 0, code=run.code)
            self.names(run, rank, "does not (answer|move on)" if kind == "stop" else "ended before the job was done",
                       r"of bucket \d at step \d+|no step yet" if job is exchange else None)
        print(f"{i}: {job.__name__}, {kind} rank {rank} of {ranks}, {algorithm}", flush=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
