"""Makes a run of a build and says what came of it: what must be the same, bit by bit, however the code is arranged."""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import h5py

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from patience import HUNG   # pylint: disable=wrong-import-position

MPI_ENVIRONMENT = dict(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_pml="ob1", OMPI_MCA_btl="self,vader",
                       OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_btl_base_warn_component_unused="0", HWLOC_COMPONENTS="-gl")
PLACE = re.compile(r"\b[\w/]+\.[ch]pp:\d+")
OF_TIME = re.compile(r"^time$|_per_second$|seconds|waited")     # metrics that no two runs have alike
OF_PROGRAM = re.compile(r"error|warning|note|terminate|\[rank")     # not of mpirun
PROCESSOR_FLAGS = re.compile(r"avx|amx|fma|f16c|sse4|vnni|bmi")


class Build:
    """A program with the library that lies beside it, and its notes' library (observed_runs.cpp), compiled if it is not given."""

    def __init__(self, program, mpirun="mpirun", notes=None, folder=None):
        self.program = pathlib.Path(program).resolve()
        self.mpirun = mpirun
        self.cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (self.program.parent / "CMakeCache.txt").read_text(encoding="utf-8"), re.M))
        self.notes = pathlib.Path(notes).resolve() if notes else self._compile(pathlib.Path(folder))

    def _compile(self, folder):
        library, source = folder / f"{hashlib.sha256(bytes(self.program)).hexdigest()[:16]}.so", self.cache["CMAKE_HOME_DIRECTORY"]
        subprocess.run([self.cache["CMAKE_CXX_COMPILER"], "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{source}/include", f"-I{source}/src",
                        HERE / "observed_runs.cpp", f"-L{self.program.parent}", "-lcohort", f"-Wl,-rpath,{self.program.parent}", "-ldl",
                        "-o", library], check=True)
        return library

    def origin(self):
        """What bits may depend on beside the source: the processor, the compiler, its flags, the library of kernels."""
        build_type = self.cache.get("CMAKE_BUILD_TYPE", "")
        compiler = subprocess.run([self.cache["CMAKE_CXX_COMPILER"], "--version"], capture_output=True, text=True, check=True).stdout
        listed = subprocess.run([self.program, "list"], capture_output=True, text=True, check=True, env=os.environ | MPI_ENVIRONMENT).stdout
        flags = [self.cache.get(name, "") for name in ("CMAKE_CXX_FLAGS", f"CMAKE_CXX_FLAGS_{build_type.upper()}")]
        native = "-march=haswell" if self.cache.get("COHORT_NATIVE", "OFF") == "ON" else ""
        return {**processor(), "compiler": compiler.splitlines()[0], "build_type": build_type,
                "flags": " ".join(filter(None, [*flags, native])),
                "kernels": f"oneDNN {re.search(r'oneDNN +([^ ,]+)', listed)[1]}, at most {os.environ.get('DNNL_MAX_CPU_ISA', 'all')}"}


def processor():
    with contextlib.suppress(OSError):
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        facts = dict(re.findall(r"^([^:\n]*?)\s*: *(.*)$", text, re.M))
        return {"processor": " ".join(facts.get(key, "") for key in ("model name", "cpu family", "model", "stepping")),
                "processor_flags": " ".join(sorted(filter(PROCESSOR_FLAGS.search, facts.get("flags", "").split())))}
    return {"processor": "unknown", "processor_flags": ""}


def other_origin(here, there):
    """What differs between two origins, a line each; nothing: their bits are the same."""
    return [f"{key}: here {here.get(key)!r}, there {there.get(key)!r}" for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]


def short(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()[:24]


def tensors(path):
    """Every data set of a checkpoint by name, but for what only says where and how it was made."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None)
    found.pop("configuration", None)
    return found


def bytes_of(name, value):
    data = value if isinstance(value, bytes) else value.tobytes()
    return f"{name} {getattr(value, 'dtype', 'text')} {getattr(value, 'shape', '')} {len(data)}\n".encode() + data


def hash_of(values):
    return short(b"".join(bytes_of(name, values[name]) for name in sorted(values)))


def weights_of(values):
    return {name: value for name, value in values.items() if name.startswith(("parameters/", "statistics/"))}


def state_of(run):
    """All other numbers that a run would go on with: optimizer state, counters, the place in the data, residuals of all ranks."""
    checkpoints = run / "checkpoints"
    values = {name: value for name, value in tensors(checkpoints / "latest").items() if not name.startswith(("parameters/", "statistics/"))}
    for path in sorted((checkpoints / "residuals").glob("*/latest")):
        values |= {f"{path.parent.name}/{name}": value for name, value in tensors(path).items()}
    return values


def metrics_of(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if not OF_TIME.search(key)} for line in lines]


def files_of(run):
    names = sorted(str(path.relative_to(run)) + (f" -> {os.readlink(path)}" if path.is_symlink() else "") for path in run.rglob("*"))
    return "\n".join(name for name in names if "tfevents" not in name)


def plain(text, folder):
    """A text of the program without what no two runs have alike."""
    return PLACE.sub("PLACE", text.replace(str(folder), "FOLDER"))


def told(output, folder):
    """What a run tells about itself, up to its tables of workers and of times."""
    lines = re.split(r"^worker +rank|^where the time went", plain(output, folder), flags=re.M)[0].splitlines()
    return "\n".join(line for line in lines if "samples/s" not in line)


def command_of(build, one, job, folder, resume):
    environment = os.environ | MPI_ENVIRONMENT | {"COHORT_COMPARE_NODES": one.nodes(), "TMPDIR": str(folder)}
    observed = ["env", f"LD_PRELOAD={build.notes}", f"COHORT_COMPARE_NOTES={folder / 'notes'}", str(build.program)]
    words = [*observed, "train" if one.mpi else "thread_ranks", str(job), *(["--resume", str(resume)] if resume else [])]
    if one.mpi:
        words = [build.mpirun, "--oversubscribe", "--bind-to", "none", "-n", str(one.ranks), *words]
    return words, environment


def observe(build, one, folder, resume=None):
    """Makes the run in `folder`, which is new; a dictionary of texts, alike for alike runs."""
    (folder / "notes").mkdir(parents=True)
    job, run = folder / "job.toml", folder / "run"
    job.write_text(one.text(), encoding="utf-8")
    words, environment = command_of(build, one, job, folder, resume)
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, timeout=HUNG, check=False)
    errors = "\n".join(sorted(line for line in plain(done.stderr, folder).splitlines() if OF_PROGRAM.match(line)))
    result = {"exit_code": str(done.returncode), "errors": errors}
    if done.returncode != 0:
        return result
    notes = [list(map(int, path.read_text().split())) for path in (folder / "notes").glob("*.sent")]
    texts = sorted(path.read_text() for path in (folder / "notes").glob("*.step"))
    if not texts or len(notes) < (one.ranks if one.mpi else 1) or (one.ranks > 1 and not any(n for n, _ in notes)):
        raise RuntimeError(f"{one.name}: observed_runs.cpp saw no steps or no messages: does {build.program.parent} still call what it stands before?")
    metrics = metrics_of(run)
    carried = sum(value for line in metrics for key, value in line.items() if re.fullmatch(r"exchange/bucket_\d+/bytes", key))
    values = tensors(run / "checkpoints" / "latest")
    result |= {"weights": hash_of(weights_of(values)), "state": hash_of(state_of(run)),
               "sent": f"{sum(n for n, _ in notes)} messages, {sum(n for _, n in notes)} bytes, {carried:.0f} in buckets",
               "steps": f"{len(texts)} prepared, {short(chr(0).join(texts))}",
               "metrics": short(json.dumps(metrics)), "told": told(done.stdout, folder), "files": files_of(run)}
    if one.timed:
        result.pop("sent")
    return result


@contextlib.contextmanager
def temporary_folder():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None       # runs save often, and disks are slow to say that they have it
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cohort-compare-", dir=memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
