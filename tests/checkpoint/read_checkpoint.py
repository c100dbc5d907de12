"""Reads a checkpoint of PiecesState with h5py, as one logical file, and compares it with what must be in it.

  python3 read_checkpoint.py CHECKPOINT SEED

Exit code 77: h5py is not installed (Debian: python3-h5py).
"""
import sys

try:
    import h5py
    import numpy
except ImportError:
    sys.exit(77)

SHAPES = {"parameters/matrix": (7, 5), "parameters/deep": (3, 4, 5), "parameters/one": (1,), "parameters/scalar": (), "parameters/none": (0, 3),
          "slots/m/prime": (101,), "slots/100%b/odd name": (2, 1, 3, 2), "parameters/flat": (2, 13)}

path, seed = sys.argv[1], int(sys.argv[2])
with h5py.File(path, "r") as file:
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert set(names) == set(SHAPES) | {"train/step", "train/text", "statistics/mean", "configuration"}, names
    for place, (name, shape) in enumerate(SHAPES.items()):
        expected = (1000 * place + numpy.arange(numpy.prod(shape, dtype=int)) + seed / 4).reshape(shape)
        assert file[name].shape == shape and file[name].dtype == numpy.float32, name
        numpy.testing.assert_array_equal(file[name][()], expected, name)
        assert file[name].attrs["kind"] in ("tensor", b"tensor")
    assert file["parameters/matrix"].is_virtual
    assert file["train/step"][()] == seed
    assert file["train/text"][()] == f"seed {seed}".encode()
    numpy.testing.assert_array_equal(file["statistics/mean"][()], [seed, 1, 2])
    assert file["parameters/matrix"][2, 1:4].tolist() == [11 + seed / 4, 12 + seed / 4, 13 + seed / 4]   # a part of it
print("read")
