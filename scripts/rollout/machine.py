"""A systemd that boots in a namespace container, with a network and a BPF file system of its own. What it
writes is gone with it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

PACKAGES = "systemd,systemd-sysv,dbus,udev,iproute2,kmod,procps,ca-certificates"
# The tree that `make system` boots, too.
TREE = "bookworm-1"
BOOT_LIMIT_S = 120


class Failed(Exception):
    """What did not go as it should."""


def wait_until(what, limit_s, condition):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise Failed(f"{what}: not within {limit_s} s")


def tree(cache):
    """The system to boot; made once."""
    folder = cache / "system" / TREE
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    mirror = os.environ.get("PICKET_DEBIAN_MIRROR")
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", part]
    subprocess.run(command + ([mirror] if mirror else []), check=True, stdout=subprocess.DEVNULL)
    part.rename(folder)
    return folder


def rpm_tree(cache):
    """The same with RPM; what dpkg knows is put aside in the machine."""
    folder = cache / "system" / f"{TREE}-rpm"
    if folder.is_dir():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run(["cp", "--archive", tree(cache).resolve(), part], check=True)
    shutil.copy("/etc/resolv.conf", part / "etc/resolv.conf")
    install = "apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends rpm"
    line = f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive {install} && apt-get clean"
    subprocess.run(["chroot", part, "sh", "-c", line], check=True, stdout=subprocess.DEVNULL)
    part.rename(folder)
    return folder


class Machine:
    """Use with `with`."""

    def __init__(self, system, shown):
        self.folder = Path(f"/run/pk-rollout-{os.getpid()}")
        self.bpf = self.folder / "bpf"
        self.bpf.mkdir(parents=True)
        subprocess.run(["mount", "-t", "bpf", "bpf", self.bpf], check=True)
        self.log = open(self.folder / "nspawn.log", "w+")
        command = ["systemd-nspawn", "--quiet", "--boot", "--volatile=overlay", "--register=no"]
        command += ["--keep-unit", "--console=pipe", "--capability=all", "--resolv-conf=off"]
        command += ["--link-journal=no", "--private-network"]
        command += ["--system-call-filter=bpf perf_event_open pidfd_getfd"]
        command += [f"--machine=pk-rollout-{os.getpid()}", f"--directory={system}"]
        command += [f"--bind={self.bpf}:/sys/fs/bpf", f"--bind-ro={shown}:/mnt"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )
        self.leader = None

    def __enter__(self):
        try:
            wait_until("boot", BOOT_LIMIT_S, self.is_up)
            # A wire with a default route, as an instance has one.
            self.run("ip link add wan type veth peer name far")
            self.run("ip address add 10.78.0.2/24 dev wan; ip link set wan up; ip link set far up")
            self.run("ip route add default via 10.78.0.1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"systemd-nspawn ended: {(self.folder / 'nspawn.log').read_text()}")
        found = subprocess.run(
            ["pgrep", "-x", "systemd", "-P", str(self.process.pid)], capture_output=True, text=True
        )
        self.leader = found.stdout.strip()
        return bool(self.leader) and self.ask("systemctl is-system-running")[1].strip() == "running"

    def command(self, line, env=None):
        command = ["nsenter", "--target", self.leader, "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        command += [f"{name}={value}" for name, value in (env or {}).items()]
        return command + ["sh", "-c", line]

    def ask(self, line, env=None):
        """Exit status and output of a line of shell."""
        ran = subprocess.run(
            self.command(line, env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return ran.returncode, ran.stdout

    def run(self, line, env=None):
        code, said = self.ask(line, env)
        if code != 0:
            raise Failed(f"{line}: exit {code}: {said}")
        return said

    def start(self, line, env=None):
        return subprocess.Popen(
            self.command(line, env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __exit__(self, *_):
        if self.leader and self.process.poll() is None:
            self.ask("systemctl poweroff")
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        subprocess.run(["umount", self.bpf], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
