"""Compares two builds run by run, bit by bit: for changes that must change nothing.

  /usr/bin/python3 tests/compare/compare_builds.py BEFORE_PROGRAM AFTER_PROGRAM [--only PATTERN] [-j N]
  /usr/bin/python3 tests/compare/compare_builds.py --write-table PROGRAM          # tests/compare/expected.json
  /usr/bin/python3 tests/compare/compare_builds.py --check-table PROGRAM [--part all|quick|refusals]

The programs are those of two build folders, each with its libcohort.so beside it and the sources that its CMakeCache.txt names. The
runs are those of combinations.py: updaters (replicas; one copy of the parameters per machine; sharded stages 1 to 3; local sgd;
parameter tasks, replayed and live in a fixed order; phases) × fp32, bf16, int8, bf16 products × 1 to 3 ranks × 1 and 2 batches per
update; ranks are threads, or processes under mpirun (names that end in /mpi). Of each run both programs must say the same:

  exit_code, errors   and where the run is refused, nothing else
  weights, state      hashes of the last checkpoint: parameters and running statistics; optimizer state, counters, residuals
  sent                messages and bytes between the ranks, and bytes of the buckets where they are encoded
  steps               number and hash of the texts of all prepared steps
  metrics             hash of metrics.jsonl without what is a time
  told, files         what the run prints before its tables of workers and times; names of the files it leaves

A line per run, and the differences; the exit code is 1 if there is one. Some five minutes on two cores. --against-itself shows that
the comparison can fail: the second program's runs have another seed.

The table holds what one processor, compiler and set of flags made of all runs; --check-table compares with it. Exit code 77: it is
another's, and only what is refused, and how, was compared, which depends on neither. Write it again after a change that is meant to change bits.
"""
import argparse
import concurrent.futures
import dataclasses
import difflib
import fnmatch
import json
import os
import pathlib
import sys

from combinations import all_combinations, is_quick, merged
from observe import HERE, Build, observe, other_origin, short, temporary_folder

TABLE = HERE / "expected.json"
IN_TABLE = ("exit_code", "errors", "weights", "state", "sent", "steps")
REFUSAL = ("exit_code", "errors")
SKIPPED = 77
PARTS = {"all": lambda one, rows: True, "quick": lambda one, rows: is_quick(one),
         "refusals": lambda one, rows: rows.get(one.name, {}).get("exit_code") != "0"}


def with_seed(one, seed):
    return dataclasses.replace(one, job=merged(one.job, {"train": {"seed": seed}}))


def chosen(pattern):
    found = [one for one in all_combinations() if fnmatch.fnmatchcase(one.name, pattern) or pattern in one.name]
    if not found:
        sys.exit(f"no run is called {pattern}; names are as {next(all_combinations()).name}")
    return found


def in_parallel(work, items, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from zip(items, pool.map(work, items))


def differences(before, after, keys):
    texts = []
    for key in keys:
        lines = [(result.get(key) or "(nothing)").splitlines() for result in (before, after)]
        texts += [f"    {key:<9} {line}" for line in difflib.ndiff(*lines) if line.startswith(("-", "+"))]
    return texts


def report(one, wrong, result):
    outcome = "refused alike" if result["exit_code"] != "0" else f"weights {result['weights'][:8]}, {result.get('sent', 'sent not compared')}"
    print(f"{'DIFFERS' if wrong else 'same   '} {one.name:<32} {outcome if not wrong else ''}", *wrong, sep="\n" if wrong else "", flush=True)


def compare(arguments, folder):
    builds = [Build(program, arguments.mpirun, folder=folder) for program in arguments.programs]

    def both(one):
        others = one if not arguments.against_itself else with_seed(one, 8)
        place = folder / one.name.replace("/", "_")
        return [observe(build, each, place / str(i)) for i, (build, each) in enumerate(zip(builds, (one, others)))]

    found = chosen(arguments.only)
    failed = 0
    for one, (before, after) in in_parallel(both, found, arguments.jobs):
        wrong = differences(before, after, sorted(before.keys() | after.keys()))
        failed += bool(wrong)
        report(one, wrong, before)
    print(f"\n{len(found)} runs by each of two programs, {failed} of them differ")
    return 1 if failed else 0


def observations(build, runs, folder, jobs):
    yield from in_parallel(lambda one: observe(build, one, folder / one.name.replace("/", "_")), runs, jobs)


def job_of(one):
    return short(one.text() + one.nodes())


def keys_of(one):
    """Of a run in the table. Processes also send the name of their machine, which is longer elsewhere."""
    return [key for key in IN_TABLE if not (one.mpi and key == "sent")]


def write_table(build, folder, jobs):
    rows = {}
    for one, result in observations(build, list(all_combinations()), folder, jobs):
        rows[one.name] = {key: result[key] for key in keys_of(one) if result.get(key)} | {"job": job_of(one)}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    origin = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in build.origin().items())
    TABLE.write_text(f'{{"made_by": {{\n{origin}\n}},\n"runs": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{TABLE}: {len(rows)} runs")
    return 0


def check_table(build, folder, jobs, part):
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    rows, others = table["runs"], other_origin(build.origin(), table["made_by"])
    refusals_only = part == "refusals" or bool(others)
    runs = [one for one in all_combinations() if PARTS[part](one, rows)]
    failed = 0
    for one, result in observations(build, runs, folder, jobs):
        row = dict(rows.get(one.name, {}))
        if row.pop("job", "") != job_of(one):
            wrong = ["    the table has another job for it, or none: compare_builds.py --write-table"]
        else:
            wrong = differences(row, result, REFUSAL if refusals_only else keys_of(one))
        failed += bool(wrong)
        report(one, wrong, result)
    print(f"\n{len(runs)} runs, {failed} of them differ from {TABLE.name}")
    if failed:
        return 1
    if others and part != "refusals":
        print("Only exit codes and errors were compared; bits may be others than the table's:", *others, sep="\n  ")
        return SKIPPED
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="a shell pattern, or a part, of the names of the runs")
    parser.add_argument("-j", "--jobs", type=int, default=2 * (os.cpu_count() or 1), help="runs at a time")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--notes", help="observed_runs.cpp as it was compiled for the one program")
    parser.add_argument("--against-itself", action="store_true", help="runs of the second program have another seed: all must differ")
    parser.add_argument("--write-table", action="store_true")
    parser.add_argument("--check-table", action="store_true")
    parser.add_argument("--part", choices=PARTS, default="all")
    arguments = parser.parse_args()
    of_table = arguments.write_table or arguments.check_table
    if len(arguments.programs) != (1 if of_table else 2):
        parser.error("one program for the table, two to compare")
    with temporary_folder() as folder:
        if not of_table:
            return compare(arguments, folder)
        build = Build(arguments.programs[0], arguments.mpirun, arguments.notes, folder)
        if arguments.write_table:
            return write_table(build, folder, arguments.jobs)
        return check_table(build, folder, arguments.jobs, arguments.part)


if __name__ == "__main__":
    sys.exit(main())
