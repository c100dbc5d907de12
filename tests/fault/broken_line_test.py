"""A rank that writes to a dead one over TCP lives on, and so do its other connections.

broken_line_test.py PROGRAM MPIRUN PLUGIN [unittest arguments]
"""
import os
import sys
import unittest
import unittest.mock

from fault_test import FaultTest, Run


class BrokenLine(FaultTest):
    def test_writing_to_a_rank_that_has_died(self):
        with unittest.mock.patch.dict(os.environ, OMPI_MCA_btl="self,tcp", OMPI_MCA_btl_tcp_if_include="lo"):
            run = Run(3, "broken_line", recover=True)
        self.assertFalse(run.hung, run.text)
        done = sorted(line for line in run.out.splitlines() if line.startswith("done"))
        self.assertEqual(done, ["done 0", "done 2"], run.text)
        self.assertIn("writev failed: Broken pipe", run.err, "Open MPI has met what this is about")
        self.assertIn("the others go on without it", run.err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
