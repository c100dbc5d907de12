"""Goes on from checkpoints that an earlier build has saved (fixtures.py): to the bits that it came to itself, where processor and
compiler are the same, and nearly there elsewhere; by the same ranks and by others.

resume_test.py PROGRAM NOTES [unittest arguments]
"""
import concurrent.futures
import pathlib
import sys
import unittest

import h5py
import numpy

from fixtures import COUNTERS, EXPECTED, FIXTURES, FOLDER, MORE, SAVED, flat, go_on
from observe import Build, other_origin, temporary_folder, tensors

BUILD = Build(sys.argv[1], notes=sys.argv[2])


class Resume(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        runs = [(name, way, one) for name, each in FIXTURES.items() for way, one in each.ways.items()]
        with temporary_folder() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda run: go_on(BUILD, run[2], folder / f"{run[0]}-{run[1]}"), runs))
        cls.came_to = {(name, way): result for (name, way, _), result in zip(runs, done)}

    def each(self):
        with h5py.File(EXPECTED, "r") as file:
            others = other_origin(BUILD.origin(), dict(file.attrs))
            self.assertEqual({f"{name}/{way}" for name, way in self.came_to}, {f"{name}/{way}" for name in file for way in file[name]})
            for (name, way), (values, hashes) in self.came_to.items():
                yield (name, way), file[f"{name}/{way}"], values, hashes, others

    def test_the_weights_and_the_state_are_those_of_the_earlier_build(self):
        for run, expected, values, hashes, others in self.each():
            with self.subTest(run):
                if others:
                    self.expect_close(expected["parameters"][()], flat(values), FIXTURES[run[0]].tolerance, others)
                    continue
                self.assertEqual(hashes, {key: expected.attrs[key] for key in hashes})
                numpy.testing.assert_array_equal(flat(values), expected["parameters"][()])

    def expect_close(self, wanted, found, tolerance, others):
        self.assertEqual(wanted.shape, found.shape)
        self.assertLessEqual(numpy.abs(found - wanted).max() / numpy.abs(wanted).max(), tolerance, "\n".join(others))

    def test_the_counters_are_those_of_the_earlier_build(self):
        for run, expected, values, _, _ in self.each():
            with self.subTest(run):
                self.assertEqual({key: int(values[key]) for key in COUNTERS}, {key: expected.attrs[key] for key in COUNTERS})
                self.assertEqual(values["train/step"], SAVED + MORE)

    def test_the_checkpoints_are_in_the_middle_of_an_epoch(self):
        for name in FIXTURES:
            saved = tensors(pathlib.Path(FOLDER, name, "latest"))
            self.assertEqual((saved["train/step"], saved["data/epoch"]), (SAVED, 0), name)
            self.assertGreater(saved["data/sample"], 0, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
