#!/usr/bin/env python3
"""The Distributor package's scripts and the documents' steps, run in a booted systemd with what SSM sets.

    scripts/rollout/life.py --packages DIR --next DIR --cache DIR

Both folders hold the .deb of agent and collector for this machine, the second of a higher version. As
root. What is not shown here: SSM itself, which unpacks the zip and calls the scripts. life_rpm.py has RPM.
"""

import argparse
import hashlib
import json
import platform
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from machine import Failed, Machine, tree, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
# As SSM and as Debian call this machine.
ARCHITECTURE, DEBIAN = {"x86_64": ("x86_64", "amd64"), "aarch64": ("arm64", "arm64")}[platform.machine()]

# What SSM sets for a Distributor package's scripts.
BWS = {
    "BWS_ACTION_NAME": "Install",
    "BWS_PLATFORM_NAME": "debian",
    "BWS_PLATFORM_VERSION": "12",
    "BWS_PLATFORM_FAMILY": "debian",
    "BWS_ARCHITECTURE": ARCHITECTURE,
    "BWS_INIT_SYSTEM": "systemd",
    "BWS_PACKAGE_MANAGER": "apt",
    "BWS_INSTANCE_ID": "i-0123456789abcdef0",
    "BWS_INSTANCE_TYPE": "t4g.micro",
    "BWS_REGION": "eu-central-1",
    "BWS_ACCOUNT_ID": "111122223333",
    "BWS_AVAILABILITY_ZONE": "eu-central-1a",
}
TRACE = "/run/pasted"
# A value that would leave a trace if a shell ever read it as its own text.
HOSTILE = f"# $(touch {TRACE}) `touch {TRACE}` \"; touch {TRACE}; ' touch {TRACE}; #"
CONFIG = f'{HOSTILE}\ninterfaces = ["wan"]\nwindow_s = 2\n'


def expect(condition, why):
    if not condition:
        raise Failed(why)


def zipped(packages, out):
    """Makes the Distributor package and unpacks the zip of this machine, as SSM does."""
    subprocess.run(
        [ROOT / "scripts/ssm-package", "--packages", packages, "--out", out],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with zipfile.ZipFile(out / f"picket-agent-{ARCHITECTURE}.zip") as archive:
        archive.extractall(out / "unpacked")
    return out / "unpacked"


def rebuilt(package, work, version, change):
    """The same package under another version, changed by hand."""
    folder = work / f"tree-{version}"
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN/control"
    lines = control.read_text().splitlines()
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join(lines) + "\n")
    change(folder)
    out = work / version
    out.mkdir()
    built = out / f"picket-agent_{version}_{package.stem.rsplit('_', 1)[1]}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, built], check=True, stdout=subprocess.DEVNULL)
    return out


def blocker(work):
    """A package whose installation holds the lock until /run/go is there."""
    folder = work / "blocker"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN/control").write_text(
        "Package: blocker\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n"
    )
    script = folder / "DEBIAN/preinst"
    script.write_text("#!/bin/sh\ntouch /run/held\nwhile [ ! -e /run/go ]; do sleep 0.1; done\n")
    script.chmod(0o755)
    built = work / "blocker.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, built], check=True, stdout=subprocess.DEVNULL)


class Story:
    """What is done in the machine, a step a line."""

    def __init__(self, machine, documents):
        self.machine = machine
        self.documents = documents
        self.began = time.monotonic()

    def told(self, step, said):
        now = time.monotonic()
        last = said.strip().splitlines()[-1] if said.strip() else ""
        print(f"{step:<34} {now - self.began:>5.1f} s  {last[:110]}", flush=True)
        self.began = now

    def script(self, step, folder, name, env=None, fails=False):
        """Runs a script of the unpacked zip as SSM does."""
        code, said = self.machine.ask(f"cd /mnt/{folder} && sh {name}.sh", {**BWS, **(env or {})})
        expect((code != 0) == fails, f"{step}: exit {code}: {said}")
        self.told(step, said)
        return said

    def document(self, step, name, env, fails=False):
        """Runs each script of a document, with the parameters as SSM gives them."""
        told = json.loads((self.documents / f"picket-{name}.json").read_text())
        given = {p: spec.get("default", "") for p, spec in told["parameters"].items()}
        given.update(env)
        variables = {f"SSM_{p}": value for p, value in given.items()}
        for main in told["mainSteps"]:
            lines = main["inputs"].get("runCommand")
            if not lines:
                continue
            code, said = self.machine.ask("\n".join(lines), variables)
            expect((code != 0) == fails, f"{step}: {main['name']}: exit {code}: {said}")
        self.told(step, said)
        return said

    def kept(self):
        """Sees that the program is gone and the host's key is not."""
        self.machine.run("test ! -e /usr/bin/picket-agent && test -s /var/lib/picket/agent/agent.key && test ! -e /sys/fs/bpf/picket")
        self.machine.run("test \"$(stat -c %U /var/lib/picket/agent/agent.key)\" = picket")

    def version(self):
        code, said = self.machine.ask("dpkg-query -W -f '${db:Status-Status} ${Version}' picket-agent")
        return said if code == 0 else "none"

    def agent(self):
        told = self.machine.run("picket-agent status --config /etc/picket/agent.toml --format jsonl")
        return json.loads(told)["agent_id"]


def parameters(machine):
    """What the documents are given, with a collector running in the machine."""
    machine.run("picket-collector join-tokens add --label test > /run/token && chmod 0400 /run/token")
    authority = ssl.PEM_cert_to_DER_cert(machine.run("cat /var/lib/picket/collector/ca.pem"))
    return {
        "Collector": "https://127.0.0.1:8443",
        "AuthoritySha256": hashlib.sha256(authority).hexdigest(),
        "Configuration": CONFIG,
        "TokenFile": "/run/token",
        "Account": "111122223333",
        "Region": "on-prem",
        "Instance": "web-1",
    }


def nothing_left(story):
    left = story.machine.run(
        "for i in /etc/picket /var/lib/picket/agent* /var/cache/picket /run/picket/agent.sock /sys/fs/bpf/picket "
        "/etc/systemd/system/multi-user.target.wants/picket-agent.service; do [ ! -e $i ] || find $i; done; "
        "getent passwd picket || true"
    )
    expect(not left.strip(), f"left behind: {left}")
    story.told("nothing is left", "")


def live(story):
    machine = story.machine
    collector = next(p.name for p in (story.documents.parent / "first").glob(f"picket-collector_*_{DEBIAN}.deb"))
    machine.run(f"dpkg --install /mnt/first/{collector} && systemctl enable --now picket-collector")
    given = parameters(machine)
    story.told("collector", "")

    other = "arm64" if ARCHITECTURE == "x86_64" else "x86_64"
    story.script("another architecture is refused", "zip-1", "install", {"BWS_ARCHITECTURE": other}, fails=True)
    story.script("a damaged zip is refused", "zip-damaged", "install", fails=True)
    expect(story.version() == "none", "something was installed")
    story.script("what does not work is taken off", "zip-broken", "install", fails=True)
    expect(story.version() in ("none", "not-installed "), f"left behind: {story.version()}")

    story.script("install", "zip-1", "install")
    first = story.version()
    said = story.script("install again", "zip-1", "install")
    expect("installed already" in said, said)
    story.document("unwell before it is configured", "health", {"Seconds": "5"}, fails=True)
    story.document("a bad configuration is refused", "configure", {**given, "Configuration": "window_s = 0"}, fails=True)
    expect("window_s" not in machine.run("grep -v '^#' /etc/picket/agent.toml"), "it was written")
    story.document("configure, enrol, start, health", "rollout", given)
    expect(machine.run("cat /etc/picket/agent.toml").rstrip() == CONFIG.rstrip(), "not what was given")
    since = machine.run("systemctl show -p ActiveEnterTimestampMonotonic picket-agent")
    story.document("again", "rollout", given)
    expect(since == machine.run("systemctl show -p ActiveEnterTimestampMonotonic picket-agent"), "it was restarted")
    expect(machine.ask(f"test -e {TRACE}")[0] != 0, "a value was read as shell")
    who = story.agent()

    holder = machine.start("dpkg --install /mnt/blocker.deb")
    wait_until("the lock", 30, lambda: machine.ask("test -e /run/held")[0] == 0)
    update = machine.start("cd /mnt/zip-2 && sh update.sh", {**BWS, "BWS_ACTION_NAME": "Update"})
    said = ""
    while "another package manager" not in said:
        line = update.stdout.readline()
        expect(line, f"update.sh did not wait: {said}")
        said += line
    machine.run("touch /run/go")
    said += update.communicate()[0]
    expect(update.returncode == 0, f"update behind a lock: {said}")
    expect(holder.wait(30) == 0, "the other package manager failed")
    story.told("update, behind another dpkg", said)
    second = story.version()
    expect(second != first and story.agent() == who, f"{first}, {second}")
    story.document("health", "health", {})

    story.script("update that fails goes back", "zip-broken", "update", fails=True)
    expect(story.version() == second and story.agent() == who, story.version())
    story.document("health", "health", {})
    story.script("downgrade", "zip-1", "update")
    expect(story.version() == first and story.agent() == who, story.version())

    machine.run("systemctl stop picket-collector")
    story.document("unwell without a collector", "health", {"Seconds": "8"}, fails=True)
    machine.run("systemctl start picket-collector")

    story.script("uninstall", "zip-1", "uninstall")
    story.kept()
    story.script("install", "zip-2", "install")
    story.document("configure, health", "rollout", {**given, "TokenFile": ""})
    expect(story.agent() == who, "another key")

    machine.run("dpkg --purge picket-collector")
    purge = {"SSM_PICKET_PURGE": "yes"}
    story.script("uninstall, everything", "zip-2", "uninstall", purge)
    story.script("uninstall again", "zip-2", "uninstall", purge)
    nothing_left(story)


def main():
    arguments = argparse.ArgumentParser()
    for name in ("packages", "next", "cache"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pk-rollout-") as work:
        work = Path(work)
        shown = work / "shown"
        shown.mkdir()
        shutil.copytree(given.packages, shown / "first")
        documents = work / "shown/documents"
        zipped(given.packages, documents)
        shutil.move(documents / "unpacked", shown / "zip-1")
        shutil.move(zipped(given.next, work / "next"), shown / "zip-2")
        package = next(given.next.glob(f"picket-agent_*_{DEBIAN}.deb"))

        def break_it(folder):
            (folder / "usr/bin/picket-agent").write_text("#!/bin/sh\nexit 1\n")

        broken = rebuilt(package, work, "0.1.0-3", break_it)
        shutil.move(zipped(broken, work / "broken"), shown / "zip-broken")
        shutil.copytree(shown / "zip-1", shown / "zip-damaged")
        with open(next((shown / "zip-damaged").glob("*.deb")), "ab") as damaged:
            damaged.write(b"x")
        blocker(shown)
        work.chmod(0o755)
        try:
            with Machine(tree(given.cache), shown) as machine:
                try:
                    live(Story(machine, documents))
                except Failed:
                    print(machine.ask("journalctl -u 'picket-*' -n 30 --no-pager")[1], file=sys.stderr)
                    raise
        except Failed as failed:
            print(f"life of the Distributor package: {failed}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
