#!/usr/bin/python3
"""Whole training steps over slow links, by codec: the MLP of the race (7.1 MiB of gradients) on hosts of tests/network/network.py.

  codec_steps.py --program build/release/cohort [--hosts 3,4] [--rates 200mbit,1gbit] [--codecs fp32,bf16,int8] [--rounds 3] [--steps 25]

Codecs take turns within a round; milliseconds per step are medians over the rounds of the median step [least-most], factors are medians of
those within a round. Needs the privileges that network.py needs. All hosts share the cores of this machine, so computing a step takes
longer than on hosts of their own, and the factors are smaller.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def step_milliseconds(options, hosts, rate, codec):
    with tempfile.TemporaryDirectory() as folder:
        words = [HERE.parent / "network" / "network.py", "run", "--hosts", str(hosts), "--rate", rate, "--", "mpirun", "-n", str(hosts),
                 options.program, "train", HERE / "race" / "mlp.toml", "--set", f"train.directory={folder}/run", "--set", "train.threads=1",
                 "--set", f"train.max_steps={options.steps}", "--set", "checkpoint.every_epochs=0", "--set", f"exchange.codec={codec}",
                 "--set", "exchange.dense_steps=0"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT, timeout=300)
        ranks = json.loads((pathlib.Path(folder) / "run" / "summary.json").read_text())["ranks"]
        return 1000 * max(rank["step_seconds"]["p50"] for rank in ranks)


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--hosts", default="3,4")
    parser.add_argument("--rates", default="200mbit,1gbit")
    parser.add_argument("--codecs", default="fp32,bf16,int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    options = parser.parse_args()
    options.program = options.program.resolve()
    codecs = options.codecs.split(",")
    print("| hosts, links | " + " | ".join(f"{c}, ms" for c in codecs) + " | " + " | ".join(f"{c} against {codecs[0]}" for c in codecs[1:]) + " |")
    print("|---" * (2 * len(codecs)) + "|", flush=True)
    for hosts in map(int, options.hosts.split(",")):
        for rate in options.rates.split(","):
            rounds = [{c: step_milliseconds(options, hosts, rate, c) for c in codecs} for _ in range(options.rounds)]
            cells = [spread([r[c] for r in rounds], 0) for c in codecs]
            cells += ["×" + spread([r[codecs[0]] / r[c] for r in rounds], 2) for c in codecs[1:]]
            print(f"| {hosts}, {rate} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
