#!/usr/bin/env python3
"""The Distributor package's scripts where RPM has the packages: installed, updated, gone back, removed.

    scripts/rollout/life_rpm.py --packages DIR --next DIR --cache DIR

The system is Debian's with Debian's RPM, in which dpkg's records are put aside and a package stands for
the libraries that ours require. What is not shown: a version that fails, and yum or dnf holding a lock.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from life import BWS, Story, expect, nothing_left, parameters, zipped
from machine import Failed, Machine, rpm_tree


def system_package(packages, work):
    """A package that provides what the system of an RPM machine does."""
    needed = set()
    for package in packages:
        told = subprocess.run(["rpm", "-qp", "--requires", package], capture_output=True, text=True, check=True)
        needed |= {line.strip() for line in told.stdout.splitlines()}
    provides = [need for need in sorted(needed) if need and not need.startswith(("config(", "rpmlib("))]
    spec = work / "system.spec"
    spec.write_text(
        "Name: system\nVersion: 1\nRelease: 1\nSummary: system\nLicense: none\nBuildArch: noarch\n"
        + "".join(f"Provides: {need}\n" for need in provides)
        + "%description\nsystem\n%files\n"
    )
    subprocess.run(["rpmbuild", "-bb", "--define", f"_topdir {work}/rpm", spec], check=True, capture_output=True)
    return next((work / "rpm/RPMS/noarch").glob("*.rpm"))


def live(story):
    machine = story.machine
    machine.run("mv /var/lib/dpkg/status /root/ && rpm --initdb && rpm --install /mnt/system.rpm")
    machine.run("rpm --install /mnt/collector.rpm && systemctl enable --now picket-collector")
    given = parameters(machine)
    story.told("collector", "")

    def version():
        return machine.ask("rpm --query picket-agent")[1].strip()

    story.script("install", "zip-1", "install")
    first = version()
    said = story.script("install again", "zip-1", "install")
    expect("installed already" in said, said)
    story.document("configure, enrol, start, health", "rollout", given)
    who, config = story.agent(), machine.run("cat /etc/picket/agent.toml")
    story.script("update", "zip-2", "update")
    expect(version() != first and story.agent() == who, version())
    story.document("health", "health", {})
    story.script("downgrade", "zip-1", "update")
    expect(version() == first and story.agent() == who, version())
    expect(machine.run("cat /etc/picket/agent.toml") == config, "another configuration")

    story.script("uninstall", "zip-1", "uninstall")
    story.kept()
    expect("not installed" in version(), version())
    story.script("install", "zip-2", "install")
    expect(machine.run("cat /etc/picket/agent.toml") == config, "another configuration")
    story.document("health", "rollout", {**given, "TokenFile": "", "Configuration": ""})
    expect(story.agent() == who, "another key")

    machine.run("rpm --erase picket-collector")
    purge = {"SSM_PICKET_PURGE": "yes"}
    story.script("uninstall, everything", "zip-2", "uninstall", purge)
    story.script("uninstall again", "zip-2", "uninstall", purge)
    nothing_left(story)


def main():
    arguments = argparse.ArgumentParser()
    for name in ("packages", "next", "cache"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    given = arguments.parse_args()
    here = f".{platform.machine()}.rpm"
    with tempfile.TemporaryDirectory(prefix="pk-rollout-") as work:
        work = Path(work)
        work.chmod(0o755)
        shown = work / "shown"
        documents = shown / "documents"
        documents.mkdir(parents=True)
        shutil.move(zipped(given.packages, documents), shown / "zip-1")
        shutil.move(zipped(given.next, work / "next"), shown / "zip-2")
        agent, collector = (next(given.packages.glob(f"picket-{one}-*{here}")) for one in ("agent", "collector"))
        shutil.copy(collector, shown / "collector.rpm")
        shutil.copy(system_package([agent, collector], work), shown / "system.rpm")
        BWS.update(BWS_PLATFORM_NAME="amazon", BWS_PACKAGE_MANAGER="yum")
        try:
            with Machine(rpm_tree(given.cache), shown) as machine:
                live(Story(machine, documents))
        except Failed as failed:
            print(f"life of the Distributor package, RPM: {failed}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
