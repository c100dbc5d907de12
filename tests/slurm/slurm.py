#!/usr/bin/env python3
"""Slurm on hosts of its own, on this machine: to try how jobs start, end and lose ranks there.

  slurm.py run --hosts 2 -- srun --mpi=pmix -n 4 build/release/cohort train jobs/mlp.toml
  slurm.py run --hosts 4 -- bash                    # srun, sbatch, salloc, scancel, sinfo, …
  slurm.py check                                    # can this machine and user do it? 77 if not

The hosts are those of ../network/network.py (host1, host2, …; the command runs on host1), so no other user reaches them,
and when the command ends the kernel ends Slurm and all that it has started. Needs Slurm: apt-get install slurm-wlm. Its own
configuration and services are neither needed nor touched.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
NETWORK = HERE.parent / "network" / "network.py"
SKIPPED = 77
START = 120     # seconds that Slurm may take to begin
RSH = "/dev/shm/rsh"

# A job step and its end are the same as everywhere; what would need services or control groups is left out. Time-outs are
# short: a host that is lost is down after a quarter of a minute.
CONFIGURATION = """
ClusterName=hosts
SlurmctldHost=host1(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=10
KillWait=5
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
"""


def missing():
    """What Slurm lacks here; None if nothing."""
    for program in ("slurmctld", "slurmd", "srun"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install slurm-wlm)"
    return None


def configure(folder, hosts, slots):
    nodes = "".join(f"NodeName=host{host} NodeAddr=10.77.0.{host} CPUs={slots} RealMemory=4000\n" for host in hosts)
    partition = "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    for host in hosts:
        (folder / f"tmp-host{host}").mkdir()
        (folder / f"spool-host{host}").mkdir()
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder) + nodes + partition)


def environment(folder):
    """Of the command: without what network.py tells an mpirun that knows of no Slurm."""
    own = ("plm", "plm_rsh_agent", "routed", "orte_default_hostfile", "rmaps_base_mapping_policy")
    kept = {key: value for key, value in os.environ.items() if key not in [f"OMPI_MCA_{name}" for name in own]}
    return kept | {"SLURM_CONF": str(folder / "slurm.conf")}


def wait_for_hosts(folder, count, variables):
    end = time.monotonic() + START
    while time.monotonic() < end:
        found = subprocess.run(["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"], env=variables, capture_output=True,
                               text=True, check=False, timeout=START)
        if len(set(found.stdout.split())) == count:
            return
        time.sleep(0.1)
    logs = "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(folder.glob("*.log")))
    sys.exit(f"slurm.py: Slurm did not begin within {START} s\n{logs}")


def within(options):
    """On host1 of a network: starts Slurm and runs the command."""
    hosts = range(1, options.hosts + 1)
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:      # all hosts see it
        folder = pathlib.Path(name)
        configure(folder, hosts, options.slots)
        variables = environment(folder)
        daemons = [["slurmctld", "-D", "-c"]]
        for host in hosts:
            daemons.append([RSH, f"10.77.0.{host}", f"SLURM_CONF={folder}/slurm.conf exec slurmd -D -N host{host}"])
        started = [subprocess.Popen(words, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for words in daemons]
        wait_for_hosts(folder, options.hosts, variables)
        code = subprocess.run(options.command, env=variables, check=False).returncode
        for daemon in started[1:] + started[:1]:
            daemon.terminate()
        for daemon in started:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        return code if code >= 0 else 128 - code


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, about in (("run", "run a command beside a Slurm of its own"), ("within", argparse.SUPPRESS)):
        action = actions.add_parser(name, help=about)
        action.add_argument("--hosts", type=int, default=2)
        action.add_argument("--slots", type=int, default=4, help="processors that Slurm believes a host to have")
        action.add_argument("command", nargs="+")
    actions.add_parser("check", help="say whether it works here; exit code 77 if not")
    options = parser.parse_args()
    if options.action == "check":
        return parser.parse_args(["run", "--", "srun", "-N2", "true"])
    return options


def main():
    options = parsed()
    if options.action == "within":
        return within(options)
    lack = missing()
    if lack:
        print(f"slurm.py: not possible here: {lack}", file=sys.stderr)
        return SKIPPED
    sizes = ["--hosts", str(options.hosts)]
    words = [sys.executable, str(NETWORK), "run", *sizes, "--", sys.executable, str(HERE / "slurm.py"), "within", *sizes,
             "--slots", str(options.slots), "--", *options.command]
    os.execv(sys.executable, words)
    return 1


if __name__ == "__main__":
    sys.exit(main())
