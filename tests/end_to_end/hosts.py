"""Several hosts on one machine, for tests of real clusters: no containers, no virtual machines.

A host is a set of namespaces: it has its own network, processes, mounts, host name, /tmp, home, /run,
/dev/shm and ssh server. A bridge in a network namespace of its own joins the hosts; nothing else can be
reached from them. No namespace has a name: they are gone when their processes are, and those end with this
one, whatever ends it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SHARED = Path("/srv")
"""Where every host has the same folder: their shared disk."""
HOME = Path.home()
SHOWN = 4000
"""How many characters of a failed command's output are shown: its end, which says what went wrong."""
ENVIRONMENT = Path(sys.prefix).resolve()
"""The environment that the tests run in; hosts have it too, read-only."""
TOOLS = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "ip": "iproute2",
    "tmux": "tmux",
    "curl": "curl",
    "unshare": "util-linux",
}
NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
DIES_WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = r"""
set -e
folder=$1 address=$2 gateway=$3 home=$4 shared=$5
hostname "$(basename "$folder")"
until ip link show eth0 > /dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$gateway"  # Ray finds a host's own address through it
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind "$folder/names" /etc/hosts
mount --bind "$shared" /srv
while read -r path; do mount -o bind,ro "$path" "$folder$path"; done < "$folder/visible"
mount --rbind "$folder$home" "$home"
mount --rbind "$folder/tmp" /tmp
cd /
ssh-keygen -q -t ed25519 -N '' -f /run/sshd/key
/usr/sbin/sshd -D -e -f /dev/null -h /run/sshd/key -o UsePAM=no -o PermitRootLogin=yes -o PidFile=none \
    -o MaxStartups=100 2> "$folder/sshd.log" &
until (: < /dev/tcp/127.0.0.1/22) 2> /dev/null; do sleep 0.02; done
echo ready
while true; do wait -n || sleep 1; done  # the host's pid 1: takes in what has lost its parent
"""


def _why_not() -> str | None:
    """Why there can be no hosts here, or None."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"hosts need {' '.join(missing)}: apt-get install {' '.join(missing)}"
    tried = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"hosts are namespaces, which are not permitted here: {tried.stderr.strip()}"
    return None


@dataclass
class Host:
    """One of the hosts; `pid` is its first process, as this machine counts."""

    name: str
    address: str
    folder: Path
    pid: int

    def command(self, command: str) -> list[str]:
        """What runs a shell command in the host, with this test's environment on the PATH."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid"]
        environment = [
            "env",
            "-i",
            f"HOME={HOME}",
            f"PATH={ENVIRONMENT}/bin:{PATH}",
            "TERM=dumb",
            "LANG=C.UTF-8",
        ]
        return [*inside, "--wdns=" + str(HOME), *environment, "bash", "-c", command]

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> str:
        """Run a shell command to its end; returns what it says. A failure shows the end of that, too."""
        done = subprocess.run(
            self.command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        said = f"{self.name}: {command}: exit code {done.returncode}\n{done.stdout[-SHOWN:]}"
        assert done.returncode == 0 or not check, said
        return done.stdout

    def start(self, command: str, log: str) -> subprocess.Popen[bytes]:
        """Begin a shell command; what it says goes to the file `log` in the host's home."""
        with self.home(log).open("wb") as file:
            return subprocess.Popen(
                self.command(command), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    def home(self, path: str) -> Path:
        """Where a file of the host's home is, seen from outside."""
        return Path(f"{self.folder}{HOME}") / path

    def processes(self, words: str = "") -> list[psutil.Process]:
        """The host's processes whose command line has these words."""
        found = []
        for process in psutil.process_iter():
            try:
                if _namespace(process.pid, "pid") == _namespace(self.pid, "pid") and words in " ".join(
                    process.cmdline()
                ):
                    found.append(process)
            except (OSError, psutil.Error):  # gone meanwhile
                continue
        return found


class Hosts:
    """Hosts that reach one another, by address and by name; `hosts["head"]` is one of them."""

    def __init__(self, names: Sequence[str], folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._switch = self._begin(["unshare", "--net", "sleep", "infinity"]).pid
        _wait_for(lambda: _namespace(self._switch, "net") != _namespace(os.getpid(), "net"))
        self._in_switch("link add bridge type bridge")
        self._in_switch("address add 10.77.0.254/24 dev bridge")
        self._in_switch("link set bridge up")
        self._addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        (folder / "shared").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._hosts = {name: self._start(name) for name in names}

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    @property
    def shared(self) -> Path:
        """The shared disk, which is SHARED in every host, seen from outside."""
        return self._folder / "shared"

    def cut(self, host: Host) -> None:
        """Pull the plug of a host's network."""
        self._in_switch(f"link set {host.name} down")

    def join(self, host: Host) -> None:
        """Put it in again."""
        self._in_switch(f"link set {host.name} up")

    def replace(self, host: Host) -> None:
        """Switch a host off and put a new one in its place: its name and address, nothing on its disk."""
        self._in_switch(f"link delete {host.name}")  # first, so that none of its processes says goodbye
        self._processes[host.name].kill()
        _wait_for(lambda: not psutil.pid_exists(host.pid))
        shutil.rmtree(host.folder)
        self._hosts[host.name] = self._start(host.name)

    def _start(self, name: str) -> Host:
        folder = self._folder / name
        _fill(folder, self._addresses, self._folder / "key")
        arguments = [folder, self._addresses[name], "10.77.0.254", HOME, self.shared]
        process = self._begin(["unshare", *NAMESPACES, "bash", "-c", INIT, "init", *map(str, arguments)])
        _wait_for(lambda: _namespace(process.pid, "net") != _namespace(os.getpid(), "net"))
        # the same for a host in another's place: the others know it by that for a while
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in self._addresses[name].split("."))
        self._in_switch(f"link add {name} type veth peer name eth0 address {mac} netns {process.pid}")
        self._in_switch(f"link set {name} master bridge up")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", (folder / "sshd.log").read_text()
        (init,) = psutil.Process(process.pid).children()
        # its processes end with the first of them, but not at once
        self._stack.callback(_wait_for, lambda: not psutil.pid_exists(init.pid))
        self._stack.callback(process.kill)
        self._processes[name] = process
        return Host(name, self._addresses[name], folder, init.pid)

    def _begin(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*DIES_WITH_ITS_PARENT, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": PATH, "HOME": str(HOME)},
            start_new_session=True,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def _in_switch(self, words: str) -> None:
        command = ["nsenter", f"--target={self._switch}", "--net", "ip", *shlex.split(words)]
        subprocess.run(command, check=True)


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Start hosts; nothing is left of them at the end. A name is a link's too: at most 15 characters.

    Skips the test where the machine cannot have any.
    """
    if reason := _why_not():
        pytest.skip(reason)
    # neither below a home nor below /tmp, which the hosts do not share
    folder = Path(tempfile.mkdtemp(prefix="hosts-", dir="/var/tmp"))
    try:
        with ExitStack() as stack:
            yield Hosts(names, folder, stack)
    finally:
        shutil.rmtree(folder)


def _fill(folder: Path, addresses: dict[str, str], key: Path) -> None:
    """The folder of a host: its home and /tmp, and what it is to see of this machine's."""
    home = Path(f"{folder}{HOME}")
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (folder / "tmp").mkdir(mode=0o700)
    for file in Path("/etc/skel").iterdir():
        shutil.copy(file, home)
    shutil.copy(key, home / ".ssh/id_ed25519")
    shutil.copy(key.with_suffix(".pub"), home / ".ssh/authorized_keys")
    names = [f"{address} {name}\n" for name, address in addresses.items()]
    (folder / "names").write_text("127.0.0.1 localhost\n" + "".join(names))
    hidden = (HOME, Path("/tmp"))
    visible = [
        p for p in {ENVIRONMENT, Path(sys.base_prefix)} if any(p.is_relative_to(root) for root in hidden)
    ]
    for path in visible:
        Path(f"{folder}{path}").mkdir(parents=True)
    (folder / "visible").write_text("".join(f"{path}\n" for path in visible))


def _namespace(pid: int, kind: str) -> Path:
    return Path(f"/proc/{pid}/ns/{kind}").readlink()


def _wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
