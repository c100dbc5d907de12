"""Times for tests of real processes: how long to wait for what must come, and how much slower this machine is just now.

Nothing here asserts how fast something is. HUNG bounds what would otherwise wait for ever; patient() stretches the times
that a test gives to the program, such as a watchdog's: a rank that has to wait for a core must not be taken for one that hangs.
"""
import os
import time

HUNG = 300       # seconds after which a run, or what it should have said or done, will not come any more
SPIN = 0.1


def measured():
    """Times in tests are chosen for cores that two busy threads share, as `ctest -j` itself makes them; COHORT_TEST_PATIENCE
    asks for more. support/patience.hpp is the same for the tests in C++."""
    begin, end = time.monotonic(), time.process_time() + SPIN
    while time.process_time() < end:
        pass
    share = (time.monotonic() - begin) / SPIN      # threads per core
    return max(1.0, share / 2, float(os.environ.get("COHORT_TEST_PATIENCE", "1")))


PATIENCE = measured()


def patient(seconds):
    return round(seconds * PATIENCE, 3)
