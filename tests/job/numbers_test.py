"""Trains with any number for any key: real runs that end, with success or one error, and never by a signal.

numbers_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import concurrent.futures
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG   # pylint: disable=wrong-import-position

PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
JOB = SOURCE / "jobs" / "synthetic.toml"
SMALL = ["data.train.samples=64", "data.validation.samples=16", "model.hidden=[8]", "train.epochs=1", "train.threads=1", "watchdog.timeout=0"]
KINDS = {
    "replicas": [], "sharded": ["train.updater=sharded"], "local_sgd": ["train.updater=local_sgd"], "int8": ["exchange.codec=int8"],
    "step": ["schedule={type='step', every=1}"], "polynomial": ["schedule.type=polynomial"], "adam": ["optimizer={type='adam'}"],
    "replay": ["train.updater=async", "updater.schedule=replay", "updater.replay.learners=2"],
    "backups": ["train.updater=sync_with_backups"], "cnn": ["model={type='cnn', filters=[2], hidden=4}"],
    "warmup": ["warmup.epochs=1", "train.epochs=2"],
}
VALUES = ["0", "-1", "3", "2147483647", "2147483648", "4503599627370496", "9007199254740992", "4611686018427387904", "9223372036854775807", "1e-30",
          "1e9", "3e38", "1e300", "inf", "nan", "{}", "[]", "\"\"", "[2147483648]", "[3e38]"]
MEMORY = 8 << 30


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def train(folder, *settings):
    command = [PROGRAM, "train", str(JOB)]
    for setting in [f"train.directory='{folder}/run'", *SMALL, *settings]:
        command += ["--set", setting]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HUNG, preexec_fn=limit, check=False)


def keys_of(text):
    section, keys = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif " = " in line:
            keys.append(section + line.split(" = ")[0])
    return keys


class Numbers(unittest.TestCase):
    def judge(self, kind, key, value):
        with tempfile.TemporaryDirectory(prefix="cohort-numbers-") as folder:
            try:
                # A run may be as long as its numbers say: it is asked to end then.
                stop = ["train.max_steps=3"] if key != "train.max_steps" else []
                done = train(folder, *KINDS[kind], *stop, f"{key}={value}")
            except subprocess.TimeoutExpired:
                return f"{kind}: {key} = {value}: does not end"
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if done.returncode in (1, 2) and len(told) == 1:
            return None
        if done.returncode == 0 and not told:
            return None
        return f"{kind}: {key} = {value}: exit code {done.returncode}, {done.stderr[-500:]}"

    def test_every_run_ends_by_itself(self):
        seen, cases = set(), []
        for kind, settings in KINDS.items():
            with tempfile.TemporaryDirectory(prefix="cohort-numbers-") as folder:
                done = train(folder, *settings)
                self.assertEqual(done.returncode, 0, f"{kind}: {done.stderr}")
                text = pathlib.Path(folder, "run", "configuration.toml").read_text(encoding="utf-8")
            new = [key for key in keys_of(text) if key not in seen and not key.startswith(("train.directory", "trace.record"))]
            seen |= set(new)
            cases += [(kind, key, value) for key in new for value in VALUES]
        self.assertGreater(len(cases), 1500)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            wrong = [text for text in pool.map(lambda case: self.judge(*case), cases) if text]
        self.assertEqual(wrong, [], "\n".join(wrong))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
