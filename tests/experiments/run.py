#!/usr/bin/env python3
"""Runs experiments, compares their figures with accept bands, and writes them into docs/experiments.md and its plots.

  tests/experiments/run.py 4            one experiment in full: its part of docs/experiments.md is written anew
  tests/experiments/run.py all          all of them
  tests/experiments/run.py 4 --brief    a short form with wider bands; writes nothing (what ./check runs)

Exit code 1: a figure is outside its band."""
import argparse
import importlib
import pathlib
import sys
import time

import lab

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
EXPERIMENTS = {int(path.stem[1:3]): path.stem for path in sorted(HERE.glob("e[0-9][0-9]_*.py"))}


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def text_of(number, result):
    parts = [f"![experiment {number}](experiments/{name})" for name in result.figures]
    if result.rows:
        parts.append(table(result.header, result.rows))
    parts.append(table(["checked", "figure", "accepted", ""], [(c.what, c.value, c.band, "yes" if c.ok else "**no**") for c in result.checks]))
    return "\n\n".join(parts + result.notes)


def write(number, result):
    (DOCS / "experiments").mkdir(exist_ok=True)
    for name, svg in result.figures.items():
        (DOCS / "experiments" / name).write_text(svg)
    page = DOCS / "experiments.md"
    text = page.read_text()
    begin, end = f"<!-- begin {number} -->\n", f"<!-- end {number} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + text_of(number, result) + "\n" + end + after)


def run(number, build, brief, writes):
    module = importlib.import_module(EXPERIMENTS[number])
    place = lab.Lab(build, brief)
    start = time.monotonic()
    try:
        result = module.run(place)
    finally:
        place.close()
    print(f"experiment {number}: {module.TITLE} ({time.monotonic() - start:.0f} s)")
    if result.rows:
        print(table(result.header, result.rows))
    for c in result.checks:
        print(f"  {'ok     ' if c.ok else 'OUTSIDE'} {c.what}: {c.value} (accepted: {c.band})")
    sys.stdout.flush()
    if writes:
        write(number, result)
    return all(c.ok for c in result.checks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", help="numbers: " + " ".join(map(str, EXPERIMENTS)) + ", or all")
    parser.add_argument("--brief", action="store_true", help="one seed, fewer epochs, wider bands; writes nothing")
    parser.add_argument("--build", default=lab.default_build(), help="the build folder")
    arguments = parser.parse_args()
    numbers = list(EXPERIMENTS) if arguments.experiments == ["all"] else [int(word) for word in arguments.experiments]
    if not lab.has_data():
        print(f"skipped: no {lab.FASHION}; install the Debian package dataset-fashion-mnist")
        return 77
    verdicts = [run(number, arguments.build, arguments.brief, not arguments.brief) for number in numbers]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
