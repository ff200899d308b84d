#!/usr/bin/env python3
"""The CloudTrail fetcher against servers that speak S3 and SQS on this machine.

Run by scripts/rollout-check, with the Python that has moto and the AWS command beside it."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parent.parent.parent
FETCH = ROOT / "packaging/cloudtrail/picket-cloudtrail-fetch"
NAME = "111122223333_CloudTrail_eu-central-1_20260101T0000Z_abcdefgh%s.json.gz"
PLACE = "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/01/01/"


def event(bucket, *keys):
    return {
        "Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 10}}} for key in keys]
    }


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    os.environ.update(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_DEFAULT_REGION="eu-central-1",
    )
    # Version 1 of the AWS command, which PyPI has, takes its endpoint from an option alone.
    commands = tempfile.TemporaryDirectory()
    command = Path(commands.name) / "aws"
    command.write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent}/aws --endpoint-url {endpoint} "$@"\n')
    command.chmod(0o755)
    os.environ["PATH"] = f"{commands.name}:{os.environ['PATH']}"
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    s3.create_bucket(Bucket="trail", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    queue = sqs.create_queue(QueueName="trail", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    body = gzip.compress(b'{"Records":[]}')
    for n in range(3):
        s3.put_object(Bucket="trail", Key=PLACE + NAME % n, Body=body)
    escape = "../../etc/" + NAME % 9
    s3.put_object(Bucket="trail", Key=PLACE + "digest.json.gz", Body=body)

    def send(told):
        sqs.send_message(QueueUrl=queue, MessageBody=told if isinstance(told, str) else json.dumps(told))

    send(event("trail", PLACE + NAME % 0, PLACE + "digest.json.gz"))
    send({"Type": "Notification", "Message": json.dumps(event("trail", (PLACE + NAME % 1).replace("/", "%2F")))})
    send({"Event": "s3:TestEvent", "Bucket": "trail"})
    send("not JSON")
    send(event("trail", PLACE + NAME % 0))

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        old = folder / (NAME % 7)
        old.write_bytes(body)
        os.utime(old, (0, 0))
        command = [sys.executable, FETCH, "--queue", queue, "--folder", folder, "--once"]
        subprocess.run(command, check=True, timeout=300)
        names = sorted(path.name for path in folder.iterdir())
        assert names == [NAME % 0, NAME % 1], names
        assert (folder / (NAME % 0)).read_bytes() == body
        left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        assert left["Attributes"]["ApproximateNumberOfMessages"] == "0", left

        # What is not there stays in the queue; what leads out of the folder does not.
        inside = folder / "in/side"
        inside.mkdir(parents=True)
        send(event("trail", escape))
        command[command.index(folder)] = inside
        command.remove("--once")
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = running.stderr.readline()
        running.kill()
        running.wait()
        assert "get-object" in said, said
        assert not any(path.is_file() for path in folder.rglob("*9.json.gz")), "it left its folder"
        left = sqs.receive_message(QueueUrl=queue)
        assert len(left.get("Messages", [])) == 1, left
    server.stop()
    print("CloudTrail fetcher: files, SNS's envelope, digests, test events, damaged messages, missing objects")
    return 0


if __name__ == "__main__":
    sys.exit(main())
