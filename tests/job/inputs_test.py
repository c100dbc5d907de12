"""Data that people bring: the README's own commands for them, and files that claim more than they hold.

inputs_test.py PROGRAM MPIRUN SOURCE_FOLDER [unittest arguments]
"""
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import unittest
import zlib

import h5py
import numpy
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from patience import HUNG   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN = sys.argv[1:3]
SOURCE = pathlib.Path(sys.argv[3])
JOBS = SOURCE / "jobs"
SETS = ("train", "validation")


class Run:
    def __init__(self, command, folder, limit=None):
        """`limit`: bytes of address space."""
        def restrict():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=HUNG, check=False,
                              preexec_fn=restrict if limit else None)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def complaints(self):
        return [line for line in self.err.splitlines() if re.match(r"error: |\[rank ", line)]


class Readme(unittest.TestCase):
    """What the README's section on own data shows is what is run here."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        text = (SOURCE / "README.md").read_text(encoding="utf-8")
        self.section = re.search(r"\n### Data of your own\n(.*?)\n### ", text, re.DOTALL).group(1)

    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", self.section, re.DOTALL)

    def write_job_files(self):
        names = []
        for block in self.blocks("toml"):
            name = re.match(r"# (\w+)\.toml: ", block).group(1)
            (self.folder / f"{name}.toml").write_text(block, encoding="utf-8")
            names.append(name)
        return names

    def write_data(self):
        for i, name in enumerate(SETS):
            lines = [f"{n}.5,{n % 7},{-n},{('setosa', 'virginica', 'versicolor')[n % 3]}" for n in range(30 - 10 * i)]
            (self.folder / f"{name}.csv").write_text("\n".join(["a,b,c,species", *lines]))
            with h5py.File(self.folder / f"{name}.h5", "w") as file:
                file["x"] = numpy.arange(40 * 144, dtype="u1").reshape(40, 12, 12)
                file["y"] = numpy.arange(40) % 10
            for kind in ("ants", "bees"):
                (self.folder / "pictures" / name / kind).mkdir(parents=True)
                for n in range(6):
                    image = Image.new("RGB", (20 + n, 30), (n * 40, 10, 200 if kind == "ants" else 0))
                    image.save(self.folder / "pictures" / name / kind / f"{n}.{'png' if n % 2 else 'jpg'}")
        for name in ("book.txt", "another.txt"):
            (self.folder / name).write_text("It was a dark and stormy night. " * 60)

    def remove_training_data(self):
        for name in ("train.csv", "train.h5", "book.txt"):
            (self.folder / name).unlink()
        (self.folder / "pictures/train").rename(self.folder / "elsewhere")

    def commands(self):
        """Those before, in and behind the loop over $job, as words."""
        found = {True: [], False: []}
        inside = False
        for line in "".join(self.blocks("sh")).splitlines():
            if line.startswith("for job in "):
                inside = True
            elif line == "done":
                inside = False
            elif line:
                found[inside].append(line.split())
        return found

    def run_command(self, words, job):
        own = {"build/release/cohort": [PROGRAM], "mpirun": [MPIRUN, "--oversubscribe", "--bind-to", "none"]}
        command = [part for word in words for part in own.get(word, [word.replace("$job", job)])]
        if "train" in words:
            command += ["--set", "train.max_steps=2"]
        run = Run(command, self.folder)
        self.assertEqual(run.code, 0, (command, run.err))
        return run

    def test_own_data_train_are_evaluated_without_the_training_data_and_reported(self):
        names = self.write_job_files()
        self.write_data()
        shown = re.search(r"for job in (.*); do", self.section).group(1).split()
        self.assertEqual(names, shown)
        commands = self.commands()
        self.assertEqual([words[words.index("build/release/cohort") + 1] for words in commands[True]],
                         ["train", "evaluate", "report"])
        train, *rest = commands[True]
        for name in names:
            self.assertRegex(self.run_command(train, name).out, "Done after 2 steps")
        self.remove_training_data()
        samples = {"table": 20, "digits": 40, "pictures": 12, "book": 29}
        for name in names:
            evaluated, _ = (self.run_command(words, name) for words in rest)
            self.assertRegex(evaluated.out, rf"(?m)^samples +{samples[name]}$")
            self.assertTrue((self.folder / "runs" / name / "report.html").exists())
        (self.folder / "another.txt").unlink()
        for words in commands[False]:
            self.assertGreater(len(self.run_command(words, "").out), 50)


class Claims(unittest.TestCase):
    """Small files that say they are large, where memory is bounded: an error that names the limit, or a run that needs little."""

    LIMIT = 3 << 30
    MLP = ["--set", "model={type=\"mlp\", hidden=[4]}", "--set", "data.batch=2", "--set", "train.max_steps=2"]

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def train(self, data, *words):
        return Run([PROGRAM, "train", "--set", f"data.train={{{data}}}", "--set", "train.threads=1", *self.MLP, *words,
                    str(self.job())], self.folder, self.LIMIT)

    def job(self):
        path = self.folder / "job.toml"
        path.write_text('train = {directory = "run", log_every = 1}\n')
        return path

    def refused(self, run, *texts):
        self.assertNotEqual(run.code, 0, run.out)
        self.assertEqual(len(run.complaints), 1, run.err)
        for text in texts:
            self.assertIn(text, run.err)

    def write_claims(self, **options):
        """About 2 KB that say there are 2^32 - 1 samples."""
        path = self.folder / "claims.h5"
        with h5py.File(path, "w") as file:
            for name, shape, kind in (("x", (2**32 - 1, 1), "f4"), ("y", (2**32 - 1,), "i4")):
                file.create_dataset(name, shape, kind, chunks=(2**16, 1)[:len(shape)], **options)
        self.assertLess(path.stat().st_size, 10_000)
        return path

    def test_an_hdf5_set_that_was_never_written_is_refused(self):
        self.write_claims()
        self.refused(self.train('reader="hdf5", file="claims.h5"'), "claims.h5: '/x': says that it has 4294967295 elements, 17179869180 bytes")

    def test_samples_that_are_all_fill_values_are_refused_or_trained_without_a_list_of_them(self):
        self.write_claims(fillvalue=1)
        self.refused(self.train('reader="hdf5", file="claims.h5"'), "claims.h5: '/x': says that it has 17179869180 bytes, for which 0 are stored",
                     "data.train.most_expansion = 200 times")
        run = self.train('reader="hdf5", file="claims.h5", most_expansion=0')
        self.assertEqual(run.code, 0, run.err)
        self.assertIn("Done after 2 steps", run.out)

    def test_a_long_narrow_png_takes_little_memory(self):
        """1 × 1,000,000 pixels: 1 KB."""
        (self.folder / "set/a").mkdir(parents=True)
        rows = zlib.compress(bytes(2 * 1_000_000), 9)

        def chunk(kind, data):
            return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

        header = (1).to_bytes(4, "big") + (1_000_000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
        (self.folder / "set/a/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
        run = self.train('reader="image_folder", directory="set", height=300, width=300')
        self.assertEqual(run.code, 0, run.err)

    def test_a_mistake_in_the_data_section_is_told_once_whatever_the_ranks_do(self):
        """With parameter tasks only workers make batches, and the others could do without them."""
        recovery = [MPIRUN, "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n", "3", PROGRAM, "train",
                    str(JOBS / "synthetic.toml"), "--set", "train.directory=run", "--set", "cluster.ps=1"]
        for updater in ("async", "sync_with_backups"):
            for words, text in ((["data.augment={flip=true, field=\"imag\"}"], "augment.field: unknown field 'imag', did you mean 'image'?"),
                                (["data.drop_last=true", "data.global_batch=50000"], "drop_last with a global batch of")):
                settings = [part for word in words for part in ("--set", word)]
                run = Run([*recovery, "--set", f"train.updater={updater}", *settings], self.folder)
                self.assertEqual(len(run.complaints), 1, run.err)
                self.assertTrue(run.complaints[0].startswith("error: "), run.err)
                self.assertIn(text, run.complaints[0])
                self.assertNotIn("lost", run.err + run.out)
                self.assertFalse((self.folder / "run").exists())

    def test_the_last_word_on_workers_that_all_fail_is_why(self):
        """Labels beyond the model's classes are found where a batch is computed: by each worker."""
        run = Run([MPIRUN, "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n", "3", PROGRAM, "train",
                   str(JOBS / "synthetic.toml"), "--set", "train.directory=run", "--set", "cluster.ps=1", "--set", "train.updater=async",
                   "--set", "model.classes=2"], self.folder)
        self.assertRegex(run.err, r"no worker is left to train; the first: rank \d on \S+ .*label \d+ in row \d+")

    def test_an_order_that_is_no_longer_that_of_the_checkpoint_is_said(self):
        """More than 2^24 samples were shuffled in another order by the version before."""
        job = [PROGRAM, "train", str(JOBS / "synthetic.toml"), "--set", "train.directory=run", "--set", "data.train={reader=\"synthetic\", "
               "samples=20000000, shape=[1]}", "--set", "data.validation.shape=[1]", "--set"]
        self.assertEqual(Run([*job, "train.max_steps=2"], self.folder).code, 0)
        said = "in another order: in what is left of this epoch"
        run = Run([*job, "train.max_steps=3", "--resume", "auto"], self.folder)
        self.assertEqual((run.code, said in run.out), (0, False), run.err + run.out)
        with h5py.File(next((self.folder / "run/checkpoints").glob("step-*3.h5")), "a") as file:
            del file["data/order"]
        run = Run([*job, "train.max_steps=4", "--resume", "auto"], self.folder)
        self.assertEqual((run.code, said in run.out), (0, True), run.err + run.out)

    def test_an_evaluation_of_nothing_is_an_error(self):
        (self.folder / "some.csv").write_text("a,label\n1,0\n2,1\n")
        (self.folder / "none.csv").write_text("a,label\n")
        self.assertEqual(self.train('reader="csv", file="some.csv"').code, 0)
        run = Run([PROGRAM, "evaluate", str(self.job()), "--set", 'data.validation={reader="csv", file="none.csv"}', *self.MLP], self.folder)
        self.assertEqual((run.code, run.out), (2, ""), run.err)
        self.assertIn("data.validation: the data set has no samples", run.err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
