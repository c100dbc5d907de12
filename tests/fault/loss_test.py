"""Workers that die, stop or fail, under the real mpirun: the others go on without them.

loss_test.py PROGRAM MPIRUN PLUGIN [unittest arguments]
"""
import os
import pathlib
import random
import re
import signal
import sys
import time
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import patient   # pylint: disable=wrong-import-position

from fault_test import FaultTest, Run


def elastic(ranks, meddle=None, recover=True, **more):
    more = {"heartbeat_timeout": patient(1), **more}
    return Run(ranks, "elastic", *[word for key, value in more.items() for word in ("--set", f"{key}={value}")],
               recover=recover, meddle=meddle)


class Losses(FaultTest):
    """Workers that may be lost: the others go on, and say whom they have lost."""

    def goes_on_without(self, run, ranks, rank, how, updates):
        self.ends(run, code=run.code)
        lines = [line for line in run.complaints if "the others go on without it" in line]
        self.assertEqual(len(lines), 1, run.text)
        self.assertRegex(lines[0], rf"^\[rank 0 on \S+\] .*\brank {rank} on \S+ {how}", run.text)
        self.assertIn(f"applied {updates}\n", run.out, run.text)
        done = {int(number) for number in re.findall(r"done (\d+)", run.out)}
        self.assertEqual(done, set(range(ranks)) - {rank}, run.text)
        return [line for line in run.complaints if line not in lines]

    def test_no_fault_no_word(self):
        run = elastic(4)
        self.ends(run, code=0)
        self.assertEqual(run.complaints, [])
        self.assertIn("applied 200", run.out)

    def test_killed_workers(self):
        for ranks, rank in ((2, 1), (4, 1), (4, 3), (3, 2)):
            def kill(run, rank=rank):
                time.sleep(random.uniform(0, 0.5))
                os.kill(run.pids[rank], signal.SIGKILL)
            if ranks == 2:   # nobody is left: that is an error of rank 0
                run = elastic(2, kill, updates=10**6)
                self.ends(run, code=run.code)
                self.assertRegex(run.err, r"\[rank 0 on \S+\] .*no worker is left")
                self.assertRegex(run.out, r"(?m)^outcome: not completed: no worker is left .*; lost: rank 1 on ")
                continue
            run = elastic(ranks, kill)
            self.assertEqual(self.goes_on_without(run, ranks, rank, "ended before the job was done", 200), [])

    def test_a_worker_that_throws_or_leaves_by_exit(self):
        for rank, fault, how in ((2, "throw", "failed in step 11: this rank has had enough"),
                                 (1, "exit", "ended before the job was done")):
            run = elastic(4, mishap=f"'{fault}'", rank=rank, step=11, updates=600)
            more = self.goes_on_without(run, 4, rank, how, 600)
            self.assertEqual(len(more), 1 if fault == "throw" else 0, run.text)
            self.assertNotIn("MPI_ABORT", run.err)

    def test_a_stopped_worker_that_wakes_up_is_refused(self):
        for rank, updates in ((1, 100), (3, 100), (1, 900), (2, 900)):   # the others have ended by then, or not yet
            def stop(run, rank=rank):
                time.sleep(random.uniform(0, 0.3))
                os.kill(run.pids[rank], signal.SIGSTOP)
                time.sleep(patient(3))
                os.kill(run.pids[rank], signal.SIGCONT)
            run = elastic(4, stop, updates=updates)
            more = self.goes_on_without(run, 4, rank, r"does not answer \(last seen in .*\)", updates)
            self.assertEqual(len(more), 1, run.text)
            self.assertRegex(more[0], rf"^\[rank {rank} on \S+\] declared lost after \d+\.\d s without a sign of life: "
                                      "its gradients are refused")

    def test_a_worker_that_is_stuck_when_it_is_refused(self):
        run = elastic(3, mishap="'spin'", rank=2, step=11, updates=100)   # only the end shows that it does nothing
        more = self.goes_on_without(run, 3, 2, r"does not move on \(last seen in step 11\)", 100)
        self.assertEqual(len(more), 1, run.text)
        self.assertRegex(more[0], r"^\[rank 2 on \S+\] declared lost, its gradients are refused: ")

    def test_a_lost_worker_is_replaced(self):
        for die in ("false", "true"):   # the replacement, too
            with unittest.mock.patch.dict(os.environ, OMPI_MCA_btl="self,vader,tcp"):   # shared memory is of one start alone
                run = Run(4, "respawn", "--set", f"die={die}", recover=True)
            self.ends(run, code=0)
            self.assertEqual(run.out.count("replacement for rank 2 of 4, on 1 machine"), 1, run.text)
            self.assertEqual(len(re.findall("replaced in", run.out)), 2, run.text)
            self.assertEqual(run.err.count("rank 2 on "), 1 if die == "false" else 2, run.text)
            self.assertEqual(set(re.findall(r"done (\d)", run.out)), {"0", "1", "3"}, run.text)

    def test_rank_0_still_ends_the_job(self):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            def end(run, number=number):
                time.sleep(0.3)
                os.kill(run.pids[0], number)
            run = elastic(3, end, updates=10**6)
            self.ends(run, code=run.code)
            self.assertRegex(run.err, r"rank 0 on \S+ (ended before|does not)")
            self.assertNotIn("done", run.out)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
