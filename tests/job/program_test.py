"""Runs the real program under the real mpirun: exit codes, messages, signals, plug-ins.

program_test.py PROGRAM MPIRUN PLUGIN SOURCE_FOLDER [unittest arguments]
"""
import json
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
from patience import HUNG   # pylint: disable=wrong-import-position

PROGRAM, MPIRUN, PLUGIN = sys.argv[1:4]
SOURCE = pathlib.Path(sys.argv[4])
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")


def ranks(n, *arguments):
    return [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(n), PROGRAM, *arguments]


class Run:
    """What became of a command: exit code and both outputs."""

    def __init__(self, command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def complaints(self):
        """The program's own lines on standard error, without the launcher's."""
        return [line for line in self.err.splitlines() if re.match(r"error: |\[rank ", line)]


def faulty(n, job, *settings):
    options = [word for setting in settings for word in ("--set", setting)]
    return Run(ranks(n, job, *options, "--plugin", PLUGIN))


class Alone(unittest.TestCase):
    """One process, no mpirun."""

    def test_without_arguments_the_usage_names_the_jobs(self):
        run = Run([PROGRAM])
        self.assertEqual(run.code, 0)
        for job in ("doctor", "evaluate", "generate", "inspect", "list", "report", "train"):
            self.assertIn(f"\n  {job} ", run.out)

    def test_version(self):
        run = Run([PROGRAM, "--version"])
        self.assertEqual(run.code, 0)
        self.assertRegex(run.out, r"^cohort \d+\.\d+\.\d+\n$")

    def test_slips_end_with_code_2_and_one_clear_line(self):
        slips = {
            ("doctr",): "unknown job 'doctr', did you mean 'doctor'? Known:",
            ("doctor", "x"): "doctor takes no argument, but got 'x'",
            ("doctor", "--set", "a=1"): "--set a: unknown key 'a'",
            ("doctor", "--resume", "auto"): "doctor takes no --resume",
            ("doctor", "--fast"): "not expected: --fast",
            ("list", "optimiser"): "unknown kind 'optimiser', did you mean 'optimizer'?",
            ("list", "nix.toml"): "nix.toml: no such job file",
            ("list", "--plugin", "nix.so"): "--plugin nix.so: cannot load: ",
        }
        for words, text in slips.items():
            with self.subTest(words):
                run = Run([PROGRAM, *words])
                self.assertEqual(run.code, 2, run.err)
                self.assertEqual(len(run.complaints), 1, run.err)
                self.assertIn(text, run.err)

    def test_other_errors_end_with_code_1(self):
        for how, text in (("exception", "somebody else's exception"), ("memory", "out of memory"), ("own", "own trouble")):
            run = Run([PROGRAM, "go_wrong", "--set", "how=" + how, "--plugin", PLUGIN])
            self.assertEqual((run.code, len(run.complaints)), (1, 1), run.err)
            self.assertIn(text, run.err)

    def test_a_broken_promise_tells_its_place(self):
        run = Run([PROGRAM, "go_wrong", "--set", "how=internal", "--plugin", PLUGIN])
        self.assertRegex(run.err, r"error: tests/job/faulty_jobs.cpp:\d+: a promise was broken \(internal\)")

    def test_a_jobs_own_code_is_kept(self):
        self.assertEqual(Run([PROGRAM, "go_wrong", "--set", "how=return", "--plugin", PLUGIN]).code, 7)

    def test_a_damaged_job_file_names_line_and_column(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "job.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write("how = 'error'\nrank = = 1\n")
            run = Run([PROGRAM, "go_wrong", path, "--plugin", PLUGIN])
        self.assertEqual(run.code, 2)
        self.assertIn("job.toml:2:8: ", run.err)


    def test_processes_of_a_launcher_that_mpi_does_not_join_are_refused(self):
        file = str(SOURCE / "jobs" / "synthetic.toml")
        srun = ["SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=4", "SLURM_PROCID=1"]
        for variables, named in ((["PMI_SIZE=3", "PMI_RANK=1"], "3 processes (PMI_SIZE)"),
                                 (srun, "4 processes (SLURM_STEP_NUM_TASKS)")):
            for job in (["train", file], ["evaluate", file, "--resume", "nix"], ["doctor"]):
                run = Run(["env", *variables, PROGRAM, *job])
                self.assertEqual((run.code, len(run.complaints)), (1, 1), run.err)
                self.assertIn(named + ", but MPI knows of 1 in all", run.err)
                self.assertRegex(run.err, r"mpirun of the MPI library that this program uses \(Open MPI v\d")
                self.assertEqual("srun --mpi=pmix" in run.err, variables is srun)
            self.assertEqual(Run(["env", *variables, "COHORT_ALONE=1", PROGRAM, "doctor"]).code, 0)
            self.assertEqual(Run(["env", *variables, *ranks(2, "doctor")]).code, 0)   # mpirun is the nearest
        for harmless in (["list", "codec"], ["--version"], ["inspect", file], ["train", "--help"], []):
            self.assertEqual(Run(["env", *srun, PROGRAM, *harmless]).code, 0, harmless)


class Together(unittest.TestCase):
    """Ranks under mpirun."""

    def test_doctor_shows_every_rank(self):
        run = Run(ranks(3, "doctor"))   # takes a second or two; how long is the machine's affair, that it ends is ours
        self.assertEqual(run.code, 0, run.err)
        for rank in range(3):
            self.assertRegex(run.out, rf"\n +{rank}  \S+ +\d+  \d+ of \d+ .*CPU.* works\n")
        for word in ("MPI", "HDF5", "zlib", "toml++", "threads: multiple"):
            self.assertIn(word, run.out)
        if (os.cpu_count() or 1) < 3:
            self.assertIn("oversubscribed: 3 ranks share", run.out)

    def test_mpis_thread_level_is_heeded(self):
        small = ["--set", "train.max_steps=2", "--set", "data.train.samples=64", "--set", "data.validation.samples=8"]
        file = str(SOURCE / "jobs" / "synthetic.toml")

        def at(level, *arguments):
            with tempfile.TemporaryDirectory() as folder:
                own = ["--set", f"train.directory={folder}/run", *small] if arguments[0] == "train" else []
                return Run(["env", f"COHORT_MPI_THREAD_LEVEL={level}", *ranks(2, *arguments, *own)])

        run = at("funneled", "doctor")
        self.assertEqual(run.code, 0, run.err)
        self.assertIn("threads: funneled", run.out)
        self.assertIn("warning: MPI does not grant MPI_THREAD_MULTIPLE", run.out)
        run = at("serialized", "train", file)
        self.assertEqual(run.code, 0, run.err)
        for setting in ("exchange.thread=on", "train.updater=async"):
            run = at("serialized", "train", file, "--set", setting)
            self.assertEqual(run.code, 1, run.err)
            self.assertEqual(len(run.complaints), 1, run.err)
            self.assertIn("MPI grants its threads the level \"serialized\"", run.err)
        run = at("single", "train", file)
        self.assertEqual((run.code, len(run.complaints)), (1, 1), run.err)
        self.assertIn("MPI grants the thread level \"single\"", run.err)
        run = at("many", "train", file)
        self.assertEqual((run.code, len(run.complaints)), (2, 1), run.err)
        self.assertIn("COHORT_MPI_THREAD_LEVEL is 'many', allowed: single funneled serialized multiple", run.err)

    def test_an_error_of_all_ranks_is_printed_once(self):
        run = faulty(3, "go_wrong", "how=error")
        self.assertEqual(run.code, 2)
        self.assertEqual(run.complaints, ["error: this went wrong (invalid_argument)"])
        self.assertNotIn("MPI_ABORT", run.err)

    def test_a_bad_value_is_printed_once(self):
        run = faulty(2, "go_wrong", "how=eror")
        self.assertEqual(run.code, 2)
        self.assertEqual(len(run.complaints), 1, run.err)
        self.assertIn("--set how: how = \"eror\": allowed: one of: error", run.err)
        self.assertIn("did you mean 'error'?", run.err)

    def test_an_error_of_one_rank_ends_all(self):
        troubles = (("own", "rank 1 has its own trouble (failed_precondition)"), ("exception", "somebody else's exception"))
        for how, text in troubles:
            run = faulty(3, "go_wrong", "how=" + how, "rank=1")
            self.assertEqual(run.code, 1, run.err)
            self.assertEqual(len(run.complaints), 1, run.err)
            self.assertRegex(run.complaints[0], r"^\[rank 1 on \S+\] .*" + re.escape(text))

    def test_different_errors_are_all_told(self):
        run = faulty(2, "go_wrong", "how=own")
        self.assertEqual(run.code, 1)
        self.assertEqual(len(run.complaints), 2, run.err)

    def test_only_the_cause_is_told(self):
        run = faulty(3, "consequence")
        self.assertEqual(run.code, 1)
        self.assertEqual(len(run.complaints), 1, run.err)
        self.assertRegex(run.complaints[0], r"^\[rank 1 on \S+\] tests/job/faulty_jobs.cpp:\d+: the cause \(data_loss\)$")

    def test_configurations_that_differ_are_refused_with_the_difference(self):
        one = ["--oversubscribe", "--bind-to", "none", "-n", "1", PROGRAM, "go_wrong", "--plugin", PLUGIN, "--set"]
        run = Run([MPIRUN, *one, "rank=5", ":", "-n", "1", *one[5:], "rank=6"])
        self.assertEqual(run.code, 1, run.err)
        self.assertIn("rank: 5 on rank 0; 6 on rank 1.", run.err)
        self.assertEqual(len(run.complaints), 1, run.err)

    def test_different_builds_are_refused_and_named_with_the_ranks(self):
        """A copy of the library in which the build id is another: all else is the same, as after a build on one host alone."""
        libraries = [path for path in pathlib.Path(PROGRAM).parent.glob("libcohort.so*") if not path.is_symlink()]
        data = libraries[0].read_bytes()
        note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
        self.assertEqual(data.count(note), 1, "one build id of SHA-1")
        at = data.index(note) + len(note)
        with tempfile.TemporaryDirectory() as folder:
            for path in pathlib.Path(PROGRAM).parent.glob("libcohort.so*"):
                other = data[:at] + bytes([data[at] ^ 0xff]) + data[at + 1:]
                pathlib.Path(folder, path.name).write_bytes(other)
            run = Run([*ranks(2, "doctor"), ":", "-n", "1", "env", f"LD_LIBRARY_PATH={folder}", PROGRAM, "doctor"])
        self.assertEqual((run.code, len(run.complaints)), (1, 1), run.err)
        self.assertIn("error: the ranks run different programs:", run.err)
        ids = [data[at:at + 20].hex(), other[at:at + 20].hex()]
        self.assertRegex(run.err, rf"libcohort\.so\S*: .*build {ids[0]} on ranks 0 1")
        self.assertRegex(run.err, rf"libcohort\.so\S*: .*build {ids[1]} on rank 2")
        self.assertNotIn("the program:", run.err)

    def test_a_plugin_that_one_rank_lacks_is_named_with_the_rank(self):
        one = ["--oversubscribe", "--bind-to", "none", "-n", "1", PROGRAM, "list", "--plugin"]
        run = Run([MPIRUN, *one, PLUGIN, ":", "-n", "1", *one[5:], "nix.so"])
        self.assertEqual(run.code, 2, run.err)
        self.assertRegex(run.err, r"\[rank 1 on \S+\] .*--plugin nix.so: cannot load")


class Jobs(unittest.TestCase):
    """The jobs that come with the program, and their example files."""

    MISSING = {"idx": ["images=/nowhere/i", "labels=/nowhere/l"], "text": ['files=["/nowhere/*"]'], "synthetic": []}
    FOLDERS = {"optimizers": "optimizer", "collectives": "collective", "collectives/codecs": "codec", "jobs": "job",
               "jobs/models": "model"}

    def test_list_names_everything_that_has_a_file(self):
        for folder, kind in self.FOLDERS.items():
            listed = Run([PROGRAM, "list", kind]).out
            for path in (SOURCE / folder).glob("*.cpp"):
                self.assertRegex(listed, rf"(?m)^    {path.stem}( |$)", kind)
        everything = Run([PROGRAM, "list"]).out
        registered = re.compile(r'Registered<(?:Op|ReaderType|UpdaterType|DeviceType)>\s+\w+\{\s*"([^"]+)"')
        names = {name for path in (SOURCE / "src").rglob("*.cpp") if "debug" not in path.parts
                 for name in registered.findall(path.read_text(encoding="utf-8"))}
        self.assertGreater(len(names), 40)
        for name in names:
            self.assertRegex(everything, rf"(?m)^    {name}( |$)")

    def test_list_shows_options_with_default_and_range(self):
        out = Run([PROGRAM, "list", "optimizer"]).out
        self.assertRegex(out, r"momentum = 0.0 +share of the last step that is kept \[0 <= value <= 1\]")

    def test_example_files_train_and_are_evaluated_inspected_and_reported_without_their_training_data(self):
        files = sorted((SOURCE / "jobs").glob("*.toml"))
        self.assertGreaterEqual(len(files), 4)
        for file in files:
            if "/usr/share/datasets" in file.read_text(encoding="utf-8") and not DATA.exists():
                continue
            with self.subTest(file.name), tempfile.TemporaryDirectory() as folder:
                limits = ["--set", f"train.directory={folder}/run", "--set", "data.train.limit=300", "--set",
                          "data.validation.limit=100", "--set", "train.max_steps=2"]
                if 'reader = "text"' in file.read_text(encoding="utf-8"):   # texts that every Debian has
                    for part in ("train", "validation"):
                        limits += ["--set", f'data.{part}.files=["/usr/share/common-licenses/*"]']
                run = Run(ranks(2, "train", str(file), *limits))
                self.assertEqual(run.code, 0, run.err)
                self.assertRegex(run.out, r"(accuracy +0|nats_per_byte +\d|absolute_error +\d)\.\d+")
                kind = re.search(r'reader = "(\w+)"', file.read_text(encoding="utf-8")).group(1)
                gone = [word for key in self.MISSING[kind] for word in ("--set", f"data.train.{key}")]   # only the training data
                run = Run([PROGRAM, "evaluate", str(file), "--resume", f"{folder}/run", *limits, *gone])
                self.assertEqual(run.code, 0, run.err)
                self.assertIn("samples        100", run.out)
                if kind == "text":
                    run = Run([PROGRAM, "generate", str(file), "--resume", f"{folder}/run", *limits, *gone, "--set",
                               'data.validation.files=["/nowhere"]', "--set", 'generate={prompt="Free", length=20, top=1}'])
                    self.assertEqual(run.code, 0, run.err)
                    self.assertIn("Free", run.out)
                run = Run([PROGRAM, "inspect", f"{folder}/run"])
                self.assertEqual(run.code, 0, run.err)
                self.assertIn("parameters/", run.out)
                run = Run([PROGRAM, "inspect", str(file), *limits, *gone])
                self.assertEqual(run.code, 0, run.err)
                self.assertRegex(run.out, r"\d+ parameters, ")
                run = Run([PROGRAM, "report", f"{folder}/run"])
                self.assertEqual(run.code, 0, run.err)

    def test_slips_in_a_job_file_show_the_way(self):
        file = str(SOURCE / "jobs" / "synthetic.toml")
        for setting, text in {
                "optimizer.momentun=0.5": "unknown key 'optimizer.momentun', did you mean 'momentum'?",
                "optimizer.momentum=2": "optimizer.momentum = 2: allowed: 0 <= value <= 1",
                "optimizer.type=sdg": "did you mean 'sgd'?",
                "modle.type=mlp": "unknown key 'modle', did you mean 'model'?",
                "data.batch=many": "data.batch = \"many\": expected a whole number",
                "train.device=GPU:0": "GPU",
                "data.train.reader=hdf": "did you mean 'hdf5'?"}.items():
            run = Run([PROGRAM, "train", file, "--set", setting])
            self.assertEqual(run.code, 2, run.err)
            self.assertEqual(len(run.complaints), 1, run.err)
            self.assertIn(text, run.err)


class Signals(unittest.TestCase):
    """A wish to stop reaches the job as a flag, and the job ends with code 0."""

    def stopped(self, command, send):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            count = int(command[command.index("-n") + 1]) if "-n" in command else 1
            pids = [int(re.search(r"is process (\d+)", process.stdout.readline()).group(1)) for _ in range(count)]
            send(process, pids)
            out, err = process.communicate(timeout=HUNG)
        finally:
            process.kill()
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(out.count("was asked to stop"), count, out + err)

    def test_alone(self):
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            self.stopped([PROGRAM, "wait_for_stop", "--plugin", PLUGIN], lambda process, _, n=number: process.send_signal(n))

    def test_one_rank(self):
        for number in (signal.SIGUSR1, signal.SIGTERM):
            self.stopped(ranks(2, "wait_for_stop", "--plugin", PLUGIN), lambda _, pids, n=number: os.kill(pids[1], n))

    def test_mpirun_passes_sigusr1_on(self):
        self.stopped(ranks(2, "wait_for_stop", "--plugin", PLUGIN), lambda process, _: process.send_signal(signal.SIGUSR1))

    def test_a_connection_that_breaks_ends_no_rank(self):
        def send(_, pids):
            os.kill(pids[1], signal.SIGPIPE)      # what writing to a rank that has died gets
            time.sleep(0.2)
            for pid in pids:
                os.kill(pid, signal.SIGUSR1)
        self.stopped(ranks(2, "wait_for_stop", "--plugin", PLUGIN), send)

    def test_training_stops_with_a_checkpoint_and_goes_on_from_it(self):
        file = str(SOURCE / "jobs" / "synthetic.toml")
        with tempfile.TemporaryDirectory() as folder:
            options = ["--set", f"train.directory={folder}/run", "--set", "train.epochs=100000"]
            process = subprocess.Popen(ranks(2, "train", file, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                self.assertIn("writing to", process.stdout.readline())
                time.sleep(0.5)
                process.send_signal(signal.SIGUSR1)   # to mpirun, which passes it on
                out, err = process.communicate(timeout=HUNG)
            finally:
                process.kill()
            self.assertEqual(process.returncode, 0, err)
            steps = int(re.search(r"Stopped as asked after (\d+) steps", out).group(1))
            self.assertTrue(os.path.exists(f"{folder}/run/checkpoints/latest"))
            more = ["--resume", "auto", "--set", f"train.max_steps={steps + 5}"]
            run = Run(ranks(2, "train", file, *options, *more))
            self.assertEqual(run.code, 0, run.err)
            self.assertIn(f"at step {steps}", run.out)
            self.assertIn(f"Done after {steps + 5} steps", run.out)

    def test_a_second_interrupt_ends_a_process_that_does_not_heed_the_first(self):
        command = [PROGRAM, "wait_for_stop", "--plugin", PLUGIN, "--set", "heed=false"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            self.assertIn("asked to stop", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HUNG)
        finally:
            process.kill()
        self.assertEqual(process.returncode, -signal.SIGINT)


class Killed(unittest.TestCase):
    """A run that hangs, and is killed."""

    def wait_for(self, what, condition):
        end = time.monotonic() + HUNG
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)

    def test_what_was_logged_is_there_and_the_next_job_goes_on_from_it(self):
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder, "run")
            metrics = run / "metrics.jsonl"
            options = [PROGRAM, "train", str(SOURCE / "jobs" / "synthetic.toml"), "--resume", "auto", "--set", f"train.directory={run}/", "--set",
                       "train.log_every=1", "--set", "checkpoint.every_steps=3", "--set"]
            hangs = [*options, "fault=[{kind='slow', seconds=100, from_step=7}]"]
            there = {**os.environ, "SLURM_JOB_ID": "4711"}
            with subprocess.Popen(hangs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=there) as process:
                try:
                    # No step ends any more, and nothing else makes it write.
                    self.wait_for("the last line", lambda: metrics.exists() and '{"step":7,' in metrics.read_text() and metrics.read_text().endswith("}\n"))
                    events = next((run / "tensorboard").iterdir())
                    self.wait_for("the last event", lambda: b"\x10\x07\x2a" in events.read_bytes())     # an Event's step 7, then its summary
                    second = Run(hangs)
                    self.assertEqual(second.code, 1, second.err)
                    self.assertRegex(second.err, rf"run(, .*)? is in use by process {process.pid} on \S+ \(Slurm job 4711\), since ")
                finally:
                    process.kill()
            lines = metrics.read_text()
            metrics.write_text(lines + '{"step":8,"ti')
            third = Run([*options, "train.max_steps=9"])
            self.assertEqual(third.code, 0, third.err)
            self.assertIn(f"process {process.pid} on ", third.err)
            self.assertIn("taken over", third.err)
            self.assertIn("at step 6", third.out)
            steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
            self.assertEqual(sorted(set(steps)), list(range(1, 10)))
            self.assertEqual(steps, sorted(steps))
            self.assertEqual([path.name for path in pathlib.Path(folder).iterdir()], ["run"])
            self.assertFalse((run / "lock").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
