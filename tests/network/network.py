#!/usr/bin/env python3
"""Several hosts with throttled links on one machine, as network namespaces: to test, and to try exchanges at a link's speed.

  network.py run --hosts 4 --rate 200mbit -- mpirun -n 4 build/release/cohort train jobs/mlp.toml
  network.py run --hosts 3 --rate 1gbit --delay 0.5 --loss 0.1 -- bash     # ms from host to host, percent
  network.py link 2 --down | --up | --rate 50mbit --delay 5                     # within a run: changes host 2's link; or `all`
  network.py check                                                              # can this machine and user do it? 77 if not

The command runs on the first host. There `mpirun` starts its ranks on all of them, --slots per host, one host after the
other. Every host has its own network, host name (host1, host2, …) and /dev/shm; files and cores are shared. A link carries its
rate in both directions at once.

All that a run makes lives in namespaces of its own, of processes as well: when the command ends or the tool is stopped,
whatever the way, the kernel ends what is left in them and takes them down. The machine's own network is not touched.
Without root a user namespace is tried. Delay and loss need the program network_switch, which the project's build makes.
"""
import argparse
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
STATE = "COHORT_NETWORK"      # environment of the command: "kind base-or-switch-pid host-pid host-pid …", for `link`
BURST, QUEUE = "128kb", "256kb"
SKIPPED = 77
WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD}

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_NAME, NEW_IPC = 0x20000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
PRIVATE, RECURSIVE = 1 << 18, 16384
PARENT_DEATH_SIGNAL = 1


class Unavailable(Exception):
    """This machine or this user cannot do it; the text says why."""


def call(result, what):
    if result != 0:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags, what):
    call(LIBC.unshare(flags), what)


def mount(source, target, kind, flags=0):
    name = kind.encode() if kind else None
    call(LIBC.mount(source.encode(), target.encode(), name, ctypes.c_ulong(flags), None), f"mount {source} at {target}")


def end_with_parent():
    LIBC.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def run(*words):
    """A tool such as ip; what it says becomes the error."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{words[0]} is not installed (Debian: iproute2, util-linux)") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


def in_net(pid, *words):
    run("nsenter", "-t", str(pid), "-n", *words)


def megabits(text):
    """Rate of a link as tc writes it; 0: not throttled."""
    if text == "none":
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", text)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no rate: write 200mbit, 1gbit or none")
    return float(match[1]) * {"kbit": 1e-3, "mbit": 1, "gbit": 1e3}[match[2]]


def not_negative(text):
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def host_count(text):
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError("1 to 64 hosts")
    return value


def address(host):
    return f"10.77.0.{host}"


# --- The links: the kernel's bridge and token buckets, or the switch program.

class KernelLinks:
    """A bridge; host i's link is a pair of virtual interfaces, each end throttles what it sends."""

    def __init__(self, options, hosts):
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for host, pid in enumerate(hosts, 1):
            port, mtu = f"port{host}", str(options.mtu)
            run("ip", "link", "add", "name", port, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu,
                "netns", str(pid))
            run("ip", "link", "set", port, "master", "bridge")
            run("ip", "link", "set", port, "up")
            self.set_rate(host, pid, options.rate)
        self.state = "kernel 1"

    @staticmethod
    def set_rate(host, pid, rate):
        for where, name in ((pid, "eth0"), (1, f"port{host}")):
            limits = ["tbf", "rate", f"{round(rate * 1e6)}bit", "burst", BURST, "limit", QUEUE]
            what = limits if rate else ["pfifo", "limit", "1000"]
            in_net(where, "tc", "qdisc", "replace", "dev", name, "root", *what)

    @staticmethod
    def change(options, _, hosts):
        if options.delay is not None or options.loss is not None:
            sys.exit("network.py: the links of this run have neither delay nor loss: run --switch user")
        for host, pid in hosts.items():
            if options.rate is not None:
                KernelLinks.set_rate(host, pid, options.rate)
            if options.down or options.up:
                in_net(1, "ip", "link", "set", f"port{host}", "down" if options.down else "up")


class UserLinks:
    """network_switch: reads and writes one TAP interface per host."""

    def __init__(self, options, hosts):
        program = switch_program(options)
        words = [str(program), *map(str, hosts)]
        urgent = subprocess.run(["chrt", "-f", "10", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
        if urgent:      # else ranks that poll would starve it
            words = ["chrt", "-f", "10", *words]
        else:
            print("network.py: the switch has no real-time priority here, so delays will be longer than asked", file=sys.stderr)
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise Unavailable(f"{program} did not start: see above")
        for pid in hosts:
            in_net(pid, "ip", "link", "set", "eth0", "mtu", str(options.mtu))
        self.process.stdin.write(f"all rate {options.rate} delay {options.delay} loss {options.loss}\n")
        self.process.stdin.flush()
        self.state = f"user {self.process.pid}"

    @staticmethod
    def change(options, switch, hosts):
        words = [f"{key} {value}" for key in ("rate", "delay", "loss") if (value := getattr(options, key)) is not None]
        words += ["down"] * options.down + ["up"] * options.up
        with open(f"/proc/{switch}/fd/0", "w", encoding="ascii") as control:
            for host in hosts:
                control.write(f"{host} {' '.join(words)}\n")


def switch_program(options):
    if options.switch_program:
        return options.switch_program
    built = list(HERE.parents[1].glob("build/*/tests/network/network_switch"))
    if not built:
        raise Unavailable("network_switch is not built: `ninja -C build/release network_switch`, or --switch-program FILE")
    return max(built, key=lambda file: file.stat().st_mtime)


def make_links(options, hosts):
    if options.switch == "user" or (options.switch == "auto" and (options.delay > 0 or options.loss > 0)):
        return UserLinks(options, hosts)
    return KernelLinks(options, hosts)


# --- The hosts.

def make_host(number):
    """Forks a process that does nothing but hold the namespaces of a host; returns its number."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid > 0:
        os.close(tell)
        with os.fdopen(ready) as said:
            text = said.read()
        if text != "ready":
            raise Unavailable(f"host{number}: {text}")
        return pid
    try:
        end_with_parent()
        unshare(NEW_NET | NEW_NAME | NEW_MOUNTS | NEW_IPC, "namespaces of a host")
        name = f"host{number}".encode()
        call(LIBC.sethostname(name, len(name)), "host name")
        mount("tmpfs", "/dev/shm", "tmpfs")
        run("ip", "link", "set", "lo", "up")
        os.write(tell, b"ready")
    except Exception as error:      # pylint: disable=broad-except
        os.write(tell, str(error).encode())
        os._exit(1)
    os.close(tell)
    while True:
        signal.pause()


def start_network(hosts):
    for host, pid in enumerate(hosts, 1):
        in_net(pid, "ip", "address", "add", f"{address(host)}/24", "dev", "eth0")
        in_net(pid, "ip", "link", "set", "eth0", "up")
        # What a connection has learned would otherwise go on to the next one: runs that are compared begin alike.
        in_net(pid, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save")


def enter(pid):
    return ["nsenter", "-t", str(pid), "-n", "-u", "-m", "-i", "--"]


def write_for_mpirun(hosts, slots):
    """What mpirun and its daemons need to know, in every host's /dev/shm: who the hosts are, and how to get there."""
    cases = "\n".join(f"  {address(host)}) pid={pid} ;;" for host, pid in enumerate(hosts, 1))
    for pid in hosts:
        folder = pathlib.Path(f"/proc/{pid}/root/dev/shm")
        (folder / "hosts").write_text("".join(f"{address(host)} slots={slots}\n" for host in range(1, len(hosts) + 1)))
        agent = folder / "rsh"
        agent.write_text(f"""#!/bin/sh
# rsh [-options] HOST COMMAND ARGUMENTS, as ssh does
while case $1 in -*) true ;; *) false ;; esac; do shift; done
case $1 in
{cases}
  *) echo "there is no host $1" >&2; exit 1 ;;
esac
shift
exec {' '.join(enter('$pid'))} env TMPDIR=/dev/shm sh -c "$*"
""")
        agent.chmod(0o755)


def environment(links, hosts):
    mpi = {"plm": "rsh", "plm_rsh_agent": "/dev/shm/rsh", "routed": "direct", "orte_default_hostfile": "/dev/shm/hosts",
           "rmaps_base_mapping_policy": "slot", "rmaps_base_oversubscribe": "1", "hwloc_base_binding_policy": "none",
           "mpi_yield_when_idle": "1", "pml": "ob1", "btl": "self,vader,tcp", "btl_tcp_if_include": "10.77.0.0/24",
           "oob_tcp_if_include": "10.77.0.0/24"}
    return {**os.environ, **{f"OMPI_MCA_{key}": value for key, value in mpi.items()}, "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TMPDIR": "/dev/shm", STATE: f"{links.state} {' '.join(map(str, hosts))}"}


# --- The run.

def first_process(options):
    """Process 1 of the run's namespaces: makes the network and runs the command. When it ends, all others are ended."""
    end_with_parent()
    mount("none", "/", None, PRIVATE | RECURSIVE)
    mount("proc", "/proc", "proc")
    run("ip", "link", "set", "lo", "up")
    hosts = [make_host(number) for number in range(1, options.hosts + 1)]
    links = make_links(options, hosts)
    start_network(hosts)
    write_for_mpirun(hosts, options.slots)
    words = [*enter(hosts[0]), "sh", "-c", 'cd "$0" && exec "$@"', os.getcwd(), *options.command]
    command = subprocess.Popen(words, env=environment(links, hosts),
                               preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []))
    return supervise(command.pid)


def supervise(child, patience=None):
    """Waits for a child, and for all that have lost their parents; passes signals on, but for the terminal's, whose Ctrl-C has
    reached the child already. Kills it so many seconds after the first request to end."""
    end = None
    while True:
        left = max(0.0, end - time.monotonic()) if end is not None else 3600.0
        came = signal.sigtimedwait(WATCHED, left)
        if came is None:
            if end is not None:
                os.kill(child, signal.SIGKILL)
                end = None
            continue
        if came.si_signo == signal.SIGCHLD:
            status = reap(child)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            continue
        if came.si_code <= 0:       # sent by a process
            os.kill(child, came.si_signo)
        if came.si_signo != signal.SIGUSR1 and end is None and patience is not None:
            end = time.monotonic() + patience


def reap(child):
    """The status of the child if it has ended."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def name_user():
    """In a user namespace of our own we are root."""
    user, group = os.getuid(), os.getgid()
    unshare(NEW_USER, "a user namespace, which all but root need")
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        pathlib.Path(f"/proc/self/{file}").write_text(text, encoding="ascii")


def guarded(options):
    try:
        return first_process(options)
    except Unavailable as error:
        return unavailable(error)
    except Exception:       # pylint: disable=broad-except
        traceback.print_exc()
        return 1


def unavailable(error):
    print(f"network.py: not possible here: {error}", file=sys.stderr)
    return SKIPPED


def run_hosts(options):
    if os.getuid() != 0:
        name_user()
    unshare(NEW_NET | NEW_MOUNTS | NEW_PIDS, "namespaces")
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    first = os.fork()
    if first == 0:
        code = guarded(options)
        sys.stderr.flush()
        os._exit(code)
    return supervise(first, patience=10)


def change_link(options):
    state = os.environ.get(STATE, "").split()
    if not state:
        sys.exit("network.py: link works within a run: give run a script, or bash")
    kind, switch, *pids = state
    hosts = {host: int(pid) for host, pid in enumerate(pids, 1) if options.host in ("all", str(host))}
    if not hosts:
        sys.exit(f"network.py: there is no host '{options.host}': name 1 to {len(pids)}, or all")
    (KernelLinks if kind == "kernel" else UserLinks).change(options, switch, hosts)
    return 0


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    started = actions.add_parser("run", help="run a command on hosts of its own")
    started.add_argument("--hosts", type=host_count, default=4)
    started.add_argument("--slots", type=int, default=1, help="ranks that mpirun starts on a host before it goes on to the next")
    started.add_argument("--mtu", type=int, default=9000, help="longest packet, in bytes")
    started.add_argument("--switch", choices=("auto", "kernel", "user"), default="auto",
                         help="how packets travel; auto: the kernel's bridge, unless there is delay or loss")
    started.add_argument("--switch-program", help="network_switch; default: the last one built")
    started.add_argument("command", nargs="+")
    changed = actions.add_parser("link", help="change links, within a run")
    changed.add_argument("host", help="number of the host, or all")
    changed.add_argument("--down", action="store_true", help="cut the cable")
    changed.add_argument("--up", action="store_true", help="mend it")
    for each, missing in ((started, 0.0), (changed, None)):
        each.add_argument("--rate", type=megabits, default=missing, help="of a link, each way: 200mbit, 1gbit, none")
        each.add_argument("--delay", type=not_negative, default=missing, help="ms from host to host")
        each.add_argument("--loss", type=not_negative, default=missing, help="percent of the packets")
    actions.add_parser("check", help="say whether it works here; exit code 77 if not")
    options = parser.parse_args()
    if options.action == "run" and options.switch == "kernel" and (options.delay > 0 or options.loss > 0):
        parser.error("delay and loss need --switch user")
    if options.action == "link" and options.down and options.up:
        parser.error("down or up?")
    if options.action == "check":
        return parser.parse_args(["run", "--hosts", "2", "--rate", "100mbit", "--", "true"])
    return options


def main():
    options = parsed()
    try:
        return change_link(options) if options.action == "link" else run_hosts(options)
    except Unavailable as error:
        return unavailable(error)


if __name__ == "__main__":
    sys.exit(main())
