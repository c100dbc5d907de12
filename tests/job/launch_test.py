"""`cohort launch`: its exit code says how a job ended, whatever the launcher's says.

launch_test.py PROGRAM MPIRUN PLUGIN [unittest arguments]
"""
import json
import os
import pathlib
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


def job(ranks, *settings):
    words = [MPIRUN, "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n", str(ranks), PROGRAM, "elastic",
             "--plugin", PLUGIN, "--set", f"watchdog.timeout={patient(2)}", "--set", f"heartbeat_timeout={patient(1)}"]
    return words + [word for setting in settings for word in ("--set", setting)]


class Run:
    """`cohort launch` with a command, in a folder of its own."""

    def __init__(self, command, *options, ranks=0, meddle=None, environment=None):
        """meddle(run): called once `ranks` ranks have told their process numbers."""
        self.pids, self.out = {}, ""
        ready = threading.Event()
        with tempfile.TemporaryDirectory() as folder:
            self.process = subprocess.Popen([PROGRAM, "launch", *options, "--", *command], stdout=subprocess.PIPE, text=True,
                                            stderr=subprocess.PIPE, cwd=folder, env={**os.environ, **(environment or {})})

            def read_out():
                for line in self.process.stdout:
                    self.out += line
                    if line.startswith("pid "):
                        self.pids[int(line.split()[1])] = int(line.split()[2])
                        if len(self.pids) == ranks:
                            ready.set()
                ready.set()      # there will be no more
            readers = [threading.Thread(target=read_out), threading.Thread(target=self.read_err)]
            for reader in readers:
                reader.start()
            try:
                if meddle is not None and ready.wait(HUNG) and len(self.pids) == ranks:
                    meddle(self)
                self.process.wait(HUNG)
            finally:
                for pid in self.pids.values():
                    if os.path.exists(f"/proc/{pid}"):
                        os.kill(pid, signal.SIGKILL)
                self.process.kill()
                self.code = self.process.wait()
                for reader in readers:
                    reader.join(5)
                self.process.stdout.close()
                self.process.stderr.close()
            self.left = os.listdir(folder)

    def read_err(self):
        self.err = self.process.stderr.read()

    @property
    def text(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    @property
    def said(self):
        return [line for line in self.err.splitlines() if line.startswith("launch: ")]


def send(rank, number, after=0.2):
    def meddle(run):
        time.sleep(after)
        os.kill(run.pids[rank], number)
    return meddle


class Launch(unittest.TestCase):
    def test_a_completed_job(self):
        run = Run(job(3, "updates=50"), "--strict", ranks=3)
        self.assertEqual((run.code, run.said, run.left), (0, [], []), run.text)
        self.assertNotIn("outcome:", run.out)

    def test_a_lost_worker(self):
        for options, code in (((), 0), (("--strict",), 3)):
            run = Run(job(4), *options, ranks=4, meddle=send(2, signal.SIGKILL))
            self.assertEqual(run.code, code, run.text)
            said = "".join(line for line in run.out.splitlines() if line.startswith("outcome:"))   # others may print later
            self.assertRegex(said, r"^outcome: completed; lost: rank 2 on \S+ ended before the job was done: .*; updates 200$",
                             run.text)
            self.assertEqual(len(run.said), 1 if code else 0, run.text)
            self.assertEqual(run.left, [])

    def test_a_lost_worker_that_stays_stopped_does_not_hold_up_the_launcher(self):
        run = Run(job(3, "updates=50"), ranks=3, meddle=send(1, signal.SIGSTOP, after=0))
        self.assertEqual(run.code, 0, run.text)
        self.assertIn("the job has ended, but the launcher waits", run.err)
        self.assertRegex(run.err, r"\[rank 1 on \S+\] declared lost after")   # mpirun wakes up what it ends

    def test_rank_0_is_killed(self):
        run = Run(job(3, "updates=100000"), ranks=3, meddle=send(0, signal.SIGKILL))
        self.assertNotEqual(run.code, 0, run.text)
        self.assertEqual(len(run.said), 1, run.text)
        self.assertIn("rank 0 ended before it could say how the job went", run.said[0])

    def test_an_error_of_rank_0(self):
        run = Run(job(2, "updates=100000"), ranks=2, meddle=send(1, signal.SIGKILL))   # nobody is left
        self.assertNotEqual(run.code, 0, run.text)
        self.assertRegex(run.err, r"launch: the job is not completed: no worker is left")
        self.assertRegex(run.out, r"outcome: not completed: no worker is left .*; lost: rank 1 on ")

    def test_a_usage_error_keeps_its_code(self):
        run = Run(job(2, "updatos=1"))
        self.assertEqual(run.code, 2, run.text)
        self.assertIn("did you mean 'updates'", run.said[0])

    def test_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "outcome.json")
            with open(file, "w", encoding="utf-8") as old:
                old.write('{"completed": true}')
            run = Run(job(3), ranks=3, meddle=send(1, signal.SIGKILL), environment={"COHORT_OUTCOME": file})
            self.assertEqual(run.code, 0, run.text)
            self.assertEqual(os.listdir(folder), ["outcome.json"])
            with open(file, encoding="utf-8") as new:
                outcome = json.load(new)
        self.assertEqual([outcome[key] for key in ("completed", "exit_code", "error")], [True, 0, ""])
        self.assertEqual(outcome["facts"], {"updates": "200"})
        self.assertEqual([loss["rank"] for loss in outcome["lost"]], [1])
        self.assertRegex(outcome["lost"][0]["reason"], r"^rank 1 on \S+ ended before the job was done")

    def test_a_command_that_is_not_there(self):
        run = Run(["no-such-launcher", "-n", "2"])
        self.assertEqual(run.code, 2, run.text)
        self.assertIn("error: launch: cannot run no-such-launcher: No such file or directory", run.err)

    def test_a_command_without_a_job(self):
        self.assertEqual(Run(["true"]).code, 1)
        self.assertEqual(Run(["sh", "-c", "exit 5"]).code, 5)
        self.assertEqual(Run(["sh", "-c", "kill -9 $$"]).code, 128 + 9)

    def test_signals_are_passed_on(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            script = f"trap 'echo got {number.value}; exit 4' {number.value}; echo pid 0 $$; while :; do sleep 0.05; done"
            run = Run(["sh", "-c", script], ranks=1, meddle=lambda run, n=number: run.process.send_signal(n))
            self.assertEqual(run.code, 4, run.text)
            self.assertEqual(run.out.count(f"got {number.value}"), 1)

    def test_how_it_is_called(self):
        for words, code, text in ((("--help",), 0, "cohort launch [--strict] [--start-timeout SECONDS] [--linger SECONDS] -- LAUNCHER"), ((), 2, "no command"),
                                  (("-n", "2"), 2, "launch knows no option -n"),
                                  (("--start-timeout", "soon", "--", "true"), 2, "launch --start-timeout 'soon': expected seconds above 0"),
                                  (("--linger", "-1", "--", "true"), 2, "launch --linger '-1': expected seconds above 0")):
            done = subprocess.run([PROGRAM, "launch", *words], capture_output=True, text=True, timeout=HUNG, check=False)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
