"""A machine whose name server is silent, and which knows neither its own name nor "localhost" by itself: no start asks for a
name, and `cohort doctor` says what is wrong.

names_test.py PROGRAM MPIRUN [unittest arguments]

Runs itself in a mount namespace, where /etc/hosts and /etc/resolv.conf are its own. Exit code 77 where that is not allowed.
"""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN = sys.argv[1:3]
JOB = str(pathlib.Path(__file__).resolve().parents[2] / "jobs" / "synthetic.toml")
SERVER = "127.0.0.53"
WITHIN = "COHORT_NAMES_TEST"


def words_of(query):
    """The name in a DNS query."""
    labels, at = [], 12
    while query[at] > 0:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels)


class Names(unittest.TestCase):
    def setUp(self):
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind((SERVER, 53))
        self.server.setblocking(False)
        self.addCleanup(self.server.close)

    def asked(self):
        """The names that were asked for."""
        names = set()
        while True:
            try:
                names.add(words_of(self.server.recv(1000)))
            except BlockingIOError:
                return names

    def run_it(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_a_start_asks_for_none(self):
        mpirun = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", "2"]
        for launcher in ([], mpirun, [PROGRAM, "launch", "--", *mpirun]):
            with self.subTest(launcher=launcher), tempfile.TemporaryDirectory() as folder:
                settings = ["--set", "train.max_steps=2", "--set", f"train.directory={folder}/run"]
                self.run_it(*launcher, PROGRAM, "train", JOB, *settings)
                self.assertEqual(self.asked(), set())

    def test_doctor_names_the_line_that_is_missing(self):
        said, name = self.run_it(PROGRAM, "doctor"), socket.gethostname()
        self.assertEqual({asked.split(".")[0] for asked in self.asked()}, {name.split(".")[0], "localhost"})
        for missing, address in ((name, "127.0.1.1"), ("localhost", "127.0.0.1")):
            self.assertIn(f"looking up the name {missing} has no answer within 3 s", said)
            self.assertIn(f'the line "{address} {missing}" in /etc/hosts', said)

    def test_doctor_says_nothing_where_all_is_well(self):
        pathlib.Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n", encoding="ascii")
        self.addCleanup(pathlib.Path("/etc/hosts").write_text, "", encoding="ascii")
        self.assertNotIn("looking up", self.run_it(PROGRAM, "doctor"))


def main():
    if WITHIN in os.environ:
        unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "hosts").write_text("", encoding="ascii")
        pathlib.Path(folder, "resolv").write_text(f"nameserver {SERVER}\n", encoding="ascii")
        own = "mount --bind $0/hosts /etc/hosts && mount --bind $0/resolv /etc/resolv.conf && ip link set lo up"
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        words = ["unshare", *user, "--mount", "--net", "sh", "-c"]
        can = subprocess.run([*words, own, folder], capture_output=True, text=True, timeout=HUNG, check=False)
        if can.returncode != 0:
            print(f"not possible here: {can.stderr.strip()}")
            sys.exit(77)
        words += [own + ' && exec "$@"', folder, sys.executable, *sys.argv]
        sys.exit(subprocess.run(words, env=os.environ | {WITHIN: "1"}, check=False).returncode)


if __name__ == "__main__":
    main()
