"""Hosts in namespaces are what network.py promises, leave nothing behind, and collectives and training work between them.

network_test.py MPIRUN NETWORK_SWITCH COHORT COLLECTIVE_MPI_TEST [unittest arguments]

Exit code 77 where namespaces are not allowed.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG, patient   # pylint: disable=wrong-import-position

MPIRUN, SWITCH, PROGRAM, COLLECTIVE_TEST = sys.argv[1:5]
HERE = pathlib.Path(__file__).resolve().parent
TOOL = [sys.executable, str(HERE / "network.py")]
JOB = str(HERE.parents[1] / "jobs" / "synthetic.toml")

# Sends argv[2] bytes from the second host to the first, or asks for single bytes back; prints seconds.
SERVE = """
import socket, sys, time
listener = socket.create_server(("10.77.0.1", 5555))
listener.settimeout(300)
connection, _ = listener.accept()
connection.recv(1)
begin = time.monotonic()
left = int(sys.argv[1])
while left > 0:
    left -= len(connection.recv(min(left, 1 << 20)))
print(time.monotonic() - begin, flush=True)
while byte := connection.recv(1):
    connection.sendall(byte)
"""
ASK = """
import socket, sys, time
while True:
    try:
        connection = socket.create_connection(("10.77.0.1", 5555), timeout=300)
        break
    except ConnectionRefusedError:      # it does not listen yet
        time.sleep(0.05)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
connection.sendall(b"x" * (int(sys.argv[1]) + 1))
times = []
for _ in range(20):
    begin = time.monotonic()
    connection.sendall(b"x")
    connection.recv(1)
    times.append(time.monotonic() - begin)
print(min(times[5:]), flush=True)
"""


def network(*options, command, **more):
    words = [*TOOL, "run", "--switch-program", SWITCH, *options, "--", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=HUNG, check=False, **more)


def comes_true(condition):
    end = time.monotonic() + HUNG
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def processes_with(word):
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def own_network():
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.count("\n"), \
        subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def possible(*options):
    return subprocess.run([*TOOL, *options], timeout=HUNG, check=False).returncode


if possible("check") != 0:
    sys.exit(77)      # it has said why
SWITCHES = ["kernel"]
if possible("run", "--switch", "user", "--switch-program", SWITCH, "--", "true") == 0:
    SWITCHES.append("user")


class Hosts(unittest.TestCase):
    def test_are_apart(self):
        done = network("--hosts", "2", command=["sh", "-c", "echo here >/dev/shm/note; hostname; ls /dev/shm; "
                                                            "/dev/shm/rsh 10.77.0.2 'hostname; ls /dev/shm'"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.split(), ["host1", "hosts", "note", "rsh", "host2", "hosts", "rsh"])
        self.assertFalse(os.path.exists("/dev/shm/note"))

    def test_get_as_many_ranks_as_they_have_slots(self):
        done = network("--hosts", "2", "--slots", "2", command=[MPIRUN, "-n", "3", "hostname"])
        self.assertEqual(sorted(done.stdout.split()), ["host1", "host1", "host2"], done.stderr)

    def test_hand_on_the_exit_code(self):
        self.assertEqual(network("--hosts", "1", command=["sh", "-c", "exit 7"]).returncode, 7)
        self.assertEqual(network("--hosts", "1", command=["sh", "-c", "kill -9 $$"]).returncode, 137)

    def test_leave_nothing_behind(self):
        before = own_network()
        ends = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
        for i, (end, switch) in enumerate((end, switch) for end in ends for switch in SWITCHES):
            word = f"{91234 + i}.{os.getpid()}"      # sleep takes it, and nobody else has it
            with self.subTest(end=end.name, switch=switch):
                words = [*TOOL, "run", "--hosts", "2", "--switch", switch, "--switch-program", SWITCH, "--",
                         "sh", "-c", f"/dev/shm/rsh 10.77.0.2 sleep {word} & exec sleep {word}"]
                with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
                    try:
                        self.assertTrue(comes_true(lambda w=word: len(processes_with(w)) >= 2))
                        process.send_signal(end)
                        self.assertTrue(comes_true(lambda p=process: p.poll() is not None))
                        self.assertTrue(comes_true(lambda w=word: not processes_with(w)))
                    finally:
                        process.kill()
        self.assertEqual(own_network(), before)


class Links(unittest.TestCase):
    def measure(self, size, *options):
        """Seconds that `size` bytes took, and of a short message there and back."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("serve", SERVE), ("ask", ASK)):
                (pathlib.Path(folder) / name).write_text(text, encoding="utf-8")
            python = f"{sys.executable} {folder}"
            done = network("--hosts", "2", *options,
                           command=["sh", "-c", f"{python}/serve {size} & /dev/shm/rsh 10.77.0.2 {python}/ask {size}; wait"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.split()), 2, done.stderr)
        return map(float, done.stdout.split())

    def best(self, which, enough, *arguments):
        """The least of one of the two times: a busy machine makes some longer, and none shorter."""
        times = []
        while not times or (min(times) >= enough and len(times) < 10):
            times.append(list(self.measure(*arguments))[which])
        return min(times)

    def test_have_their_rate(self):
        size = 4_000_000
        for switch in SWITCHES:
            with self.subTest(switch=switch):
                queued = 2 * 256 * 1024 if switch == "user" else 2 * 128 * 1024      # goes at once
                least = (size - queued) * 8 / 100e6
                best = self.best(0, 4 * least, size, "--switch", switch, "--rate", "100mbit")
                self.assertTrue(least < best < 4 * least, best)

    @unittest.skipUnless("user" in SWITCHES, "the switch in user space does not run here")
    def test_have_their_delay(self):
        there_and_back = self.best(1, 0.08, 1000, "--delay", "10")
        self.assertTrue(0.02 < there_and_back < 0.08, there_and_back)

    def test_can_be_cut_and_mended(self):
        script = """
reach() { "$1" -c 'import socket
try: socket.create_connection(("10.77.0.2", 9), timeout=PATIENT)
except ConnectionRefusedError: print("there")
except OSError: print("gone")'; }
tool="$0 $1 link 2"
for change in '--rate 10mbit' --down --up; do $tool $change && reach "$0"; done""".replace("PATIENT", str(patient(1)))
        for switch in SWITCHES:
            with self.subTest(switch=switch):
                done = network("--hosts", "2", "--switch", switch, command=["sh", "-c", script, *TOOL])
                self.assertEqual(done.stdout.split(), ["there", "gone", "there"], done.stderr)


class ParameterTasks(unittest.TestCase):
    def test_go_on_without_a_worker_whose_line_is_cut(self):
        """Its process lives on, and mpirun notices nothing."""
        with tempfile.TemporaryDirectory() as folder:
            job = pathlib.Path(folder, "job.toml")
            job.write_text('[train]\nepochs = 1000\nmax_steps = 300\nupdater = "async"\n[model]\ntype = "mlp"\nhidden = [32]\n'
                           '[data]\nbatch = 8\nthreads = 0\n[data.train]\nreader = "synthetic"\nsamples = 2000\nshape = [8, 8, 1]\n'
                           '[cluster]\nps = 1\nheartbeat_timeout = ' + str(patient(1.5)) + '\n[[fault]]\nkind = "slow"\nseconds = 0.03\n')
            script = f"""{PROGRAM} launch -- {MPIRUN} --enable-recovery -n 4 {PROGRAM} train {job} --set train.directory={folder}/run &
                         until test -s {folder}/run/metrics.jsonl; do sleep 0.1; done
                         "$0" "$@" link 4 --down
                         wait $!"""
            done = network("--hosts", "4", command=["bash", "-c", script, *TOOL])
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stdout + done.stderr, "rank 3 on host4 .*the others go on without it")
            steps = [json.loads(line)["step"] for line in pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
            self.assertEqual(max(steps), 300)


# Of the processes named cohort on this host: at how many sockets they listen at all addresses, and at which others.
LISTENERS = """
import os, pathlib, re
mine, here = set(), os.readlink("/proc/self/ns/net")
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if (folder / "comm").read_text().strip() == "cohort" and os.readlink(folder / "ns/net") == here and b"train" in (folder / "cmdline").read_bytes():
            mine |= {os.readlink(entry) for entry in (folder / "fd").iterdir()}
    except OSError:
        pass
lines = [line.split() for line in pathlib.Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
at = [line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in mine]
print("everywhere", at.count("00000000"), "else", sorted({".".join(str(b) for b in bytes.fromhex(a)[::-1]) for a in at} - {"0.0.0.0"}))
"""


class Watchdog(unittest.TestCase):
    def test_listens_where_the_other_hosts_come_from(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "listeners").write_text(LISTENERS, encoding="utf-8")
            script = f"""{MPIRUN} -n 3 {PROGRAM} train {JOB} --set train.epochs=100000 --set train.directory={folder}/run --set train.log_every=1 "$@" &
                         until test -s {folder}/run/metrics.jsonl; do sleep 0.1; done
                         {sys.executable} {folder}/listeners
                         kill -USR1 $!
                         wait $!"""
            for settings, said in (([], "everywhere 1 else ['10.77.0.1']"), (["--set", "watchdog.interface=all"], "everywhere 2 else []"),
                                   (["--set", "watchdog.interface=10.77.0.0/16"], "everywhere 1 else ['10.77.0.1']")):
                done = network("--hosts", "3", command=["bash", "-c", script, "bash", *settings])
                self.assertIn(said, done.stdout, done.stdout + done.stderr)      # one is Open MPI's own
                subprocess.run(["rm", "-r", f"{folder}/run"], check=True)
            done = network("--hosts", "2", command=[MPIRUN, "-n", "2", PROGRAM, "train", JOB, "--set", "watchdog.interface=eth9"])
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertRegex(done.stderr, r"error: watchdog.interface = \"eth9\": rank 0 on host1 has no such interface or address, but: \S+ 10.77.0.1/")


class Ranks(unittest.TestCase):
    def test_of_three_hosts_sum(self):
        done = network("--hosts", "3", "--rate", "500mbit",
                       command=[MPIRUN, "-n", "3", COLLECTIVE_TEST, "--gtest_filter=*EveryCollective.Sums/*"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_of_two_hosts_sum_on_both_levels(self):
        done = network("--hosts", "2", "--slots", "2", "--rate", "500mbit",
                       command=[MPIRUN, "-n", "4", COLLECTIVE_TEST, "--gtest_filter=*EveryCollective.*/hierarchical"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def train(self, hosts, slots, *settings):
        with tempfile.TemporaryDirectory() as folder:
            done = network("--hosts", str(hosts), "--slots", str(slots), "--rate", "500mbit",
                           command=[MPIRUN, "-n", "4", PROGRAM, "train", JOB, "--set", "train.max_steps=12", "--set",
                                    "train.log_every=1", "--set", f"train.directory={folder}/run", *settings])
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            lines = (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = [line["train/loss"] for line in map(json.loads, lines) if "train/loss" in line]
        self.assertEqual(len(losses), 12)
        return losses, done.stdout + done.stderr

    def test_train_the_same_wherever_they_are(self):
        together, _ = self.train(1, 4, "--set", "train.deterministic=true")
        for hosts, slots in ((2, 2), (4, 1)):
            self.assertEqual(self.train(hosts, slots, "--set", "train.deterministic=true")[0], together)

    def test_of_a_host_share_their_parameters(self):
        together, _ = self.train(1, 4)
        apart, output = self.train(2, 2)
        self.assertIn("one copy of the parameters per machine", output)
        self.assertIn("between machines", output)
        for one, other in zip(together, apart):
            self.assertAlmostEqual(one, other, delta=1e-4 * abs(one))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]])
