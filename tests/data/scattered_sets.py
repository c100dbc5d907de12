"""Writes HDF5 files whose data set "x" lies in other files, wholly or not.

  python3 scattered_sets.py FOLDER

Each is FOLDER/CASE/set.h5; FOLDER/CASE/expected says what an error must name, or is empty where x holds 1, 2, 3, …
"""
import os
import pathlib
import shutil
import sys

import h5py
import numpy
from h5py import h5d, h5p, h5s, h5t

FOLDER = pathlib.Path(sys.argv[1])
PART = 4


def values(first, n=PART):
    return numpy.arange(first + 1, first + n + 1, dtype="f4")


def write_part(path, number, name="x", n=PART):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a") as file:
        file[name] = values(PART * number, n)


def write_virtual(path, sources, parts=None, name="x", fill=None):
    """`sources`: file and data set of each part; None: there is none."""
    layout = h5py.VirtualLayout(shape=(PART * (parts or len(sources)),), dtype="f4")
    for i, source in enumerate(sources):
        if source is not None:
            layout[PART * i:PART * (i + 1)] = h5py.VirtualSource(*source, shape=(PART,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout, fillvalue=fill)


def write_numbered(path, file_name, name):
    """A virtual data set without an end: one part for each number that has a source."""
    creation = h5p.create(h5p.DATASET_CREATE)
    part = h5s.create_simple((0,), (h5s.UNLIMITED,))
    part.select_hyperslab((0,), (h5s.UNLIMITED,), (PART,), (PART,))
    creation.set_virtual(part, file_name, name, h5s.create_simple((PART,)))
    with h5py.File(path, "a") as file:
        h5d.create(file.id, b"x", h5t.IEEE_F32LE, h5s.create_simple((PART,), (h5s.UNLIMITED,)), creation)


class Case:
    def __init__(self, name, expected=""):
        self.folder = FOLDER / name
        self.folder.mkdir()
        (self.folder / "expected").write_text(expected)
        self.set = self.folder / "set.h5"

    def __truediv__(self, name):
        return self.folder / name


def three(name, expected="", remove=(), **options):
    """Three sources beside the file."""
    case = Case(name, expected)
    for i in range(3):
        write_part(case / f"s{i}.h5", i)
    write_virtual(case.set, [(f"s{i}.h5", "x") for i in range(3)], **options)
    for file in remove:
        (case / file).unlink()
    return case


three("whole")
three("no-first", "s0.h5", ["s0.h5"])
three("no-middle", "s1.h5", ["s1.h5"])
three("no-last", "s2.h5", ["s2.h5"])
(three("not-hdf5", "s1.h5", ["s1.h5"]) / "s1.h5").write_text("this is none")
three("part-without-source", "16 elements, of which 12 have a source", parts=4)
for name, expected, n in (("short-source", "s1.h5", 3), ("long-source", "s1.h5", 5)):
    case = three(name, expected, ["s1.h5"])
    write_part(case / "s1.h5", 1, n=n)
case = three("no-data-set", "s1.h5: 'x'", ["s1.h5"])
write_part(case / "s1.h5", 1, name="y")
case = three("wider-source", "s1.h5: 'x'", ["s1.h5"])
with h5py.File(case / "s1.h5", "w") as file:
    file["x"] = numpy.array([5, 6, 7, 1e300])
case = three("narrower-source", "", ["s1.h5"])
with h5py.File(case / "s1.h5", "w") as file:
    file["x"] = numpy.array([5, 6, 7, 8], dtype="u2")

for name, expected, there in (("same-file", "", ("a", "b")), ("same-file-incomplete", "'b'", ("a",))):
    case = Case(name, expected)
    for i, part in enumerate(there):
        write_part(case.set, i, name=part)
    write_virtual(case.set, [(".", "a"), (".", "b")])

for name, missing in (("nested", ""), ("nested-incomplete", "deep.h5"), ("nested-without-middle", "middle.h5")):
    case = Case(name, missing)
    write_part(case / "sub/deep.h5", 0)
    write_virtual(case / "sub/middle.h5", [("deep.h5", "x")])
    write_virtual(case.set, [("sub/middle.h5", "x")])
    if missing:
        (case / "sub" / missing).unlink()
case = Case("circle", "of itself")
write_virtual(case / "other.h5", [("set.h5", "x")])
write_virtual(case.set, [("other.h5", "x")])

case = Case("moved")                                     # an absolute name, found beside the file by its last part
write_part(case / "before/s.h5", 0)
write_virtual(case.set, [(str(case / "before/s.h5"), "x")])
shutil.move(case / "before/s.h5", case / "s.h5")
case = Case("link")                                      # beside the file that a link means
(case / "real").mkdir()
write_part(case / "real/s.h5", 0)
write_virtual(case / "real/set.h5", [("s.h5", "x")])
os.symlink("real/set.h5", case.set)
case = Case("percent")
write_part(case / "100%.h5", 0, name="%b")
write_virtual(case.set, [("100%%.h5", "%%b")])

for name, missing, there in (("numbered", "", (0, 1, 2)), ("numbered-gap", "s1.h5", (0, 2)), ("numbered-none", "s0.h5", ())):
    case = Case(name, missing)
    for i in there:
        write_part(case / f"s{i}.h5", i)
    write_numbered(case.set, b"s%b.h5", b"x")
case = Case("numbered-data-sets-gap", "x1")
for i in (0, 2):
    write_part(case / "s.h5", i, name=f"x{i}")
write_numbered(case.set, b"s.h5", b"x%b")

for name, wrong, size in (("external", "", 8), ("external-missing", "raw", 0), ("external-short", "raw", 7)):
    case = Case(name, wrong)
    raw = case / "raw"
    with h5py.File(case.set, "w") as file:
        file.create_dataset("x", (8,), "f4", external=[(str(raw), 8, h5py.h5f.UNLIMITED)])
    raw.write_bytes(bytes(8) + values(0, 8)[:size].tobytes())
    if size == 0:
        raw.unlink()

# What was never written has no value, unless the data set names one.
for name, expected, options, written in (
        ("never-written", "none of its 8 elements was ever written", {}, 0),
        ("no-chunk", "none of its 8 elements was ever written", {"chunks": (2,)}, 0),
        ("chunk-missing", "of its 4 chunks only 3 were ever written", {"chunks": (2,)}, 6),
        ("compressed-chunk-missing", "of its 4 chunks only 3 were ever written", {"chunks": (2,), "compression": "gzip"}, 6),
        ("chunks", "", {"chunks": (3,), "compression": "gzip"}, 8),
        ("last-chunk-is-the-fill-value", "", {"chunks": (7,), "fillvalue": 8}, 7),
        ("part-of-a-source-missing", "s.h5: 'x'", {}, 0)):
    case = Case(name, expected)
    there = case.set
    if name.startswith("part"):
        there = case / "s.h5"
        write_virtual(case.set, [("s.h5", "x")])
        options = {"chunks": (2,)}
    with h5py.File(there, "w") as file:
        x = file.create_dataset("x", (PART if name.startswith("part") else 8,), "f4", **options)
        if written > 0:
            x[:written] = values(0, written)
