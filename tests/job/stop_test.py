"""A wish to stop (SIGTERM, SIGUSR1) under the real program: wherever a job may be for minutes.

stop_test.py PROGRAM MPIRUN SOURCE_FOLDER [unittest arguments]
"""
import os
import pathlib
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
SOURCE = pathlib.Path(sys.argv[3])


def ranks(n, *arguments):
    return [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(n), PROGRAM, *arguments]


def started():
    """True when what begins now, and never ends by itself, has most likely begun."""
    begin = time.monotonic()
    return lambda _: time.monotonic() > begin + patient(1)


class Stops(unittest.TestCase):
    """A wish to stop is heard wherever a job may be for minutes, and the exit code says whether there is anything to keep."""

    SYNTHETIC = str(SOURCE / "jobs" / "synthetic.toml")
    # A validation that nobody waits for.
    ENDLESS = ["model.hidden=[2048, 2048]", "data.validation.samples=4000000", "data.train.samples=256", "train.epochs=1"]

    def asked(self, command, when, number=signal.SIGTERM):
        """The signal goes to the process, or to mpirun, which passes SIGUSR1 on, as soon as that listens and `when` holds of what it has
        printed."""
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as out:
            code, err = self.asked_by(command, lambda: when(pathlib.Path(out.name).read_text(errors="replace")), number, out.name)
            return code, out.read(), err

    def asked_by(self, command, when, number, out):
        with open(out, "w", encoding="utf-8") as stdout:
            process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + HUNG
            while not (all(self.listens(pid, number) for pid in (process.pid, *self.ranks_of(process, command))) and when()):
                self.assertIsNone(process.poll(), "it has ended by itself")
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=HUNG)
        finally:
            process.kill()
        return process.returncode, err

    @staticmethod
    def ranks_of(process, command):
        """Of mpirun's, all: until they are there, a number that nobody has."""
        if command[0] != MPIRUN:
            return []
        try:
            pids = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        except OSError:
            return [-1]
        return list(map(int, pids)) if len(pids) == int(command[command.index("-n") + 1]) else [-1]

    @staticmethod
    def listens(pid, number):
        try:
            caught = re.search(r"SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")).group(1)
            return int(caught, 16) >> (number - 1) & 1 == 1
        except (OSError, AttributeError):
            return False

    def done(self, command):
        run = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    @staticmethod
    def settings(*texts):
        return [word for text in texts for word in ("--set", text)]

    def test_waiting_for_a_job_file_that_is_a_pipe(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = f"{folder}/job.toml"
            os.mkfifo(pipe)
            for number in (signal.SIGTERM, signal.SIGUSR1):
                code, _, err = self.asked([PROGRAM, "train", pipe], lambda _: True, number)
                self.assertEqual(code, 4, err)
                self.assertIn(f"stopped as asked while waiting for the job file {pipe} ({number.name})", err)
            command = [PROGRAM, "train", pipe, *self.settings("train.max_steps=2", f"train.directory={folder}/run")]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                text = pathlib.Path(self.SYNTHETIC).read_text(encoding="utf-8")
                with open(pipe, "w", encoding="utf-8") as writer:
                    for part in (text[:100], text[100:]):
                        writer.write(part)
                        writer.flush()
                        time.sleep(0.3)
                self.assertEqual(process.wait(HUNG), 0, process.stderr.read())
            run = subprocess.run(ranks(2, "train", pipe), capture_output=True, text=True, timeout=HUNG, check=False)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn("is a pipe, which only one process can read", run.stderr)

    def test_validation_and_evaluation(self):
        with tempfile.TemporaryDirectory() as folder:
            run = f"{folder}/run"
            settings = self.settings(*self.ENDLESS, f"train.directory={run}")
            latest = pathlib.Path(run, "checkpoints", "latest")
            code, out, err = self.asked(ranks(2, "train", self.SYNTHETIC, *settings), lambda _: latest.exists(), signal.SIGUSR1)
            self.assertEqual(code, 0, err)
            self.assertRegex(out, r"Stopped as asked after \d+ steps")
            self.assertNotIn("validation loss", out)
            for command in ([PROGRAM], ranks(2)):
                number = signal.SIGTERM if len(command) == 1 else signal.SIGUSR1
                code, out, err = self.asked([*command, "evaluate", self.SYNTHETIC, "--resume", run, *settings], started(), number)
                self.assertEqual(code, 4, err)
                self.assertIn("stopped as asked in the evaluation, which has no result yet", err)
                self.assertNotIn("loss", out)
            again = self.done([PROGRAM, "train", self.SYNTHETIC, "--resume", run, *settings, "--set", "data.validation.samples=64"])
            self.assertIn("epoch 1: validation loss", again)      # it was still due

    def test_validation_by_parameter_tasks(self):
        with tempfile.TemporaryDirectory() as folder:
            for updater, n in (("train.updater=async", 3), ("updater.schedule=replay", 1)):
                run = f"{folder}/{n}"
                settings = self.settings(*self.ENDLESS, "train.updater=async", updater, f"train.directory={run}", *(["cluster.ps=1"] if n > 1 else []))
                latest = pathlib.Path(run, "checkpoints", "latest")
                command = ranks(n, "train", self.SYNTHETIC, *settings) if n > 1 else [PROGRAM, "train", self.SYNTHETIC, *settings]
                code, out, err = self.asked(command, lambda _, latest=latest: latest.exists(), signal.SIGUSR1)
                self.assertEqual(code, 0, err)
                self.assertRegex(out, r"Stopped as asked after \d+ steps")
                self.assertNotIn("validation loss", out)

    def test_is_delivered_to_a_thread_that_computes_nothing(self):
        """oneDNN's matrix products do not bear a handler of signals on their stack."""
        with tempfile.TemporaryDirectory() as folder:
            settings = self.settings("train.epochs=100000", f"train.directory={folder}/run", "data.threads=2", "train.threads=2")
            process = subprocess.Popen([PROGRAM, "train", self.SYNTHETIC, *settings], stdout=subprocess.PIPE, text=True)
            try:
                self.assertIn("writing to", process.stdout.readline())
                stops = sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT))
                masks = [int(re.search(r"SigBlk:\s*(\w+)", (task / "status").read_text()).group(1), 16) & stops
                         for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()]
                self.assertGreater(len(masks), 3)
                self.assertEqual(sorted(masks), [0] + [stops] * (len(masks) - 1))
                process.send_signal(signal.SIGTERM)
                self.assertIn("Stopped as asked", process.communicate(timeout=HUNG)[0])
                self.assertEqual(process.returncode, 0)
            finally:
                process.kill()

    def test_generation(self):
        with tempfile.TemporaryDirectory() as folder:
            settings = self.settings(f"train.directory={folder}/run", "train.max_steps=1", "data.train.limit=64", "data.validation.limit=8",
                                     *[f'data.{part}.files=["/usr/share/common-licenses/*"]' for part in ("train", "validation")])
            file = str(SOURCE / "jobs" / "lstm.toml")
            self.done([PROGRAM, "train", file, *settings])
            command = [PROGRAM, "generate", file, "--resume", f"{folder}/run", *settings, "--set", 'generate={prompt="Free", length=100000000}']
            code, out, err = self.asked(command, lambda out: len(out) > 10)
            self.assertEqual(code, 4, err)
            self.assertRegex(err, r"^stopped as asked after \d+ of 100000000 bytes \(SIGTERM\)")
            self.assertTrue(out.startswith("Free"), out[:20])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
