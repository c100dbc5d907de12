"""Trains with the real program on disks that are full, slow or broken: no checkpoint is lost or damaged, and no success is claimed that is none.

disk_test.py PROGRAM MPIRUN FAULTS SOURCE_FOLDER [unittest arguments]

FAULTS: the library of tests/support/disk_faults.cpp, to be preloaded. COHORT_DISK_SIZES: how many sizes of a full disk (default 6).
"""
import concurrent.futures
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG, patient   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN, FAULTS = sys.argv[1:4]
SOURCE = pathlib.Path(sys.argv[4])
SIZES = int(os.environ.get("COHORT_DISK_SIZES", "6"))
JOB = SOURCE / "jobs" / "synthetic.toml"
SETTINGS = ["model.hidden=[64]", "train.threads=1", "train.max_steps=4", "train.epochs=100", "checkpoint.every_steps=1", "checkpoint.keep=1", "train.log_every=1"]


def run(command, cwd, environment=None, limit=None):
    def prepare():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return subprocess.run(command, cwd=cwd, env=os.environ | (environment or {}), preexec_fn=prepare, capture_output=True, text=True,
                          timeout=HUNG, check=False)


def train(folder, *settings, ranks=1, resume=True, **how):
    command = [PROGRAM] if ranks == 1 else [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(ranks), PROGRAM]
    command += ["train", str(JOB), "--resume", "auto"] if resume else ["train", str(JOB)]
    for setting in [*SETTINGS, f'train.directory="{folder}/run"', *settings]:
        command += ["--set", setting]
    return run(command, folder, **how)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cohort-disk-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def step_of_latest(self, folder):
        """The step of an intact checkpoint."""
        seen = run([PROGRAM, "inspect", f"{folder}/run"], folder)
        self.assertEqual(seen.returncode, 0, seen.stdout[:500] + seen.stderr)
        self.assertIn("all intact", seen.stdout)
        return int(seen.stdout.split("\nstep ")[1].split(",")[0])

    def judge(self, done, folder, before, after, what):
        """The run was to go from the checkpoint of one step to that of another."""
        step = self.step_of_latest(folder)
        if done.returncode == 0:
            self.assertEqual(step, after, what)
            return True
        self.assertIn(step, range(before, after + 1), f"{what}: {done.stderr}")
        self.assertGreater(done.returncode, 0, f"{what}: ended by a signal; {done.stderr}")
        self.assertNotEqual([line for line in done.stderr.splitlines() if "error: " in line or "[rank " in line], [], f"{what}: {done.stderr}")
        return False

    def start(self):
        """A good run of four steps; the bytes of its checkpoint."""
        done = train(self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.step_of_latest(self.folder), 4)
        return (self.folder / "run" / "checkpoints" / "latest").stat().st_size


class Full(Case):
    def sizes(self, largest):
        return [largest * k // SIZES for k in range(1, SIZES + 1)]

    def test_a_file_that_may_not_grow(self):
        bytes_of_checkpoint = self.start()
        outcomes = []
        for size in self.sizes(bytes_of_checkpoint * 11 // 10):
            with self.subTest(size):
                folder = self.folder / str(size)
                shutil.copytree(self.folder / "run", folder / "run", symlinks=True)
                done = train(folder, "train.max_steps=6", limit=size, environment={"PMIX_MCA_gds": "hash"})
                outcomes.append(self.judge(done, folder, 4, 6, f"files of at most {size} bytes"))
                shutil.rmtree(folder)
        print(f"files of at most N bytes: {outcomes.count(True)} of {len(outcomes)} runs were done", file=sys.stderr)
        self.assertIn(True, outcomes)
        self.assertIn(False, outcomes)

    def test_a_small_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        if os.geteuid() != 0 or run(["mount", "-t", "tmpfs", "-o", "size=1m", "cohort", str(disk)], "/").returncode != 0:
            self.skipTest("only root can mount a disk, and not in every container")
        run(["umount", str(disk)], "/")
        bytes_of_checkpoint = self.start()
        outcomes = []
        for size in self.sizes(bytes_of_checkpoint * 5 // 2 + 60000):
            whole = bytes_of_checkpoint + 40000 + size
            with self.subTest(whole):
                run(["mount", "-t", "tmpfs", "-o", f"size={whole}", "cohort", str(disk)], "/")
                try:
                    shutil.copytree(self.folder / "run", disk / "run", symlinks=True)
                    done = train(disk, "train.max_steps=6")
                    outcomes.append(self.judge(done, disk, 4, 6, f"a disk of {whole} bytes"))
                finally:
                    run(["umount", str(disk)], "/")
        print(f"disks of N bytes: {outcomes.count(True)} of {len(outcomes)} runs were done", file=sys.stderr)
        self.assertIn(True, outcomes)
        self.assertIn(False, outcomes)


class Broken(Case):
    """Whatever is written, not checkpoints alone: metrics, configuration, summary, trace."""

    def test_every_file_of_a_run(self):
        cases = {"metrics.jsonl": "write", "tensorboard": "write", "configuration.toml": "", "summary.json": "", "trace.json": "write"}
        for name, only in cases.items():
            with self.subTest(name):
                folder = self.folder / name
                folder.mkdir()
                part = f"{folder}/run/{name}" if only else f"{folder}/run/.writing-{name}"
                faults = f"folder={part} call=1 error=28 and_later=1" + (f" only={only}" if only else "")
                done = train(folder, "trace.record=true", environment={"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": faults})
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(f"{name}", done.stderr)
                self.assertIn("No space left on device", done.stderr)
                self.assertEqual(done.stderr.count("error: "), 1, done.stderr)

    def test_what_rank_0_alone_writes_is_named_by_it_alone(self):
        """It is nobody's consequence, and the other ranks have nothing to say."""
        for name in ("metrics.jsonl", "tensorboard"):
            with self.subTest(name):
                folder = self.folder / name
                folder.mkdir()
                faults = f"folder={folder}/run/{name} call=1 error=28 and_later=1 only=write"
                done = train(folder, "train.max_steps=0", ranks=2, environment={"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": faults})
                self.assertEqual(done.returncode, 1, done.stderr)
                told = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "[rank "))]
                self.assertEqual(len(told), 1, done.stderr)
                self.assertRegex(told[0], rf"^\[rank 0 on \S+\] .*{name}.*: cannot write: No space left on device")

    def test_ranks_with_pieces(self):
        for call in (2, 4):
            with self.subTest(call):
                folder = self.folder / str(call)
                folder.mkdir()
                sharded = ["train.updater=sharded", "updater.stage=1"]
                done = train(folder, *sharded, ranks=2)
                self.assertEqual(done.returncode, 0, done.stderr)
                faults = f"folder={folder}/run/checkpoints/.writing-step-0000000006.rank-1.h5 call={call} error=5 only=pwrite"
                done = train(folder, *sharded, "train.max_steps=6", ranks=2, environment={"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": faults})
                self.assertFalse(self.judge(done, folder, 4, 5, "rank 1 cannot write"))
                self.assertIn("failed on rank 1: ", done.stderr)
                self.assertIn("Input/output error", done.stderr)


class Lost(Case):
    """Disks without links, and copies that have lost them."""

    def test_without_links_runs_are_saved_and_resumed(self):
        environment = {"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": f"folder={self.folder} call=1 error=1 and_later=1 only=symlink"}
        done = train(self.folder, environment=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        latest = self.folder / "run" / "checkpoints" / "latest"
        self.assertFalse(latest.is_symlink())
        self.assertEqual(latest.read_text(), "step-0000000004.h5\n")
        done = train(self.folder, "train.max_steps=6", environment=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("at step 4", done.stdout)
        self.assertEqual(self.step_of_latest(self.folder), 6)
        self.assertFalse((self.folder / "run-2").exists())


class Slow(Case):
    """A save takes longer than the watchdog waits for a rank, and longer than the ranks wait for each other."""

    SLOW = [f"watchdog.timeout={patient(2)}", "checkpoint.keep=3"]
    CASES = {
        "at the end": (2, ["checkpoint.every_steps=0"]),
        "mid-run": (2, ["checkpoint.every_steps=2"]),
        "in pieces": (3, ["train.updater=sharded", "updater.stage=1", "checkpoint.every_steps=0"]),
        "parameter tasks": (3, ["cluster.ps=1", "train.updater=async", "checkpoint.every_steps=0"]),
    }

    def slow(self, folder):
        """Writing a checkpoint takes about seven seconds."""
        return {"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": f"folder={folder}/run/checkpoints write_microseconds={patient(300000):.0f}"}

    def test_no_hang_is_seen(self):
        def one(name):
            folder = self.folder / name.replace(" ", "-")
            folder.mkdir()
            ranks, settings = self.CASES[name]
            return folder, train(folder, *self.SLOW, *settings, ranks=ranks, resume=False, environment=self.slow(folder))

        with concurrent.futures.ThreadPoolExecutor() as pool:      # they sleep most of the time
            for name, (folder, done) in zip(self.CASES, pool.map(one, self.CASES)):
                with self.subTest(name):
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertGreaterEqual(self.step_of_latest(folder), 4)

    def test_after_a_signal(self):
        command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", "2", PROGRAM, "train", str(JOB)]
        for setting in [*SETTINGS, *self.SLOW, "checkpoint.every_steps=0", "train.max_steps=0", f'train.directory="{self.folder}/run"']:
            command += ["--set", setting]
        with subprocess.Popen(command, env=os.environ | self.slow(self.folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
            metrics = self.folder / "run" / "metrics.jsonl"
            end = time.monotonic() + HUNG
            while not metrics.exists() and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(1)
            job.send_signal(signal.SIGUSR1)
            _, errors = job.communicate(timeout=HUNG)
        self.assertEqual(job.returncode, 0, errors)
        self.assertGreater(self.step_of_latest(self.folder), 0)

    def test_a_disk_that_does_nothing_is_named(self):
        faults = f"folder={self.folder}/run/checkpoints call=1 error=0 write_microseconds=30000000"
        done = train(self.folder, *self.SLOW, "checkpoint.every_steps=0", ranks=2, resume=False,
                     environment={"LD_PRELOAD": FAULTS, "COHORT_DISK_FAULTS": faults})
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"rank 0 on \S+ does not move on \(last seen in writing \.writing-step-0000000004\.h5, 0 MB/s\)")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]], verbosity=2)
