"""A real S3 server, moto's, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

_CODE = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


@dataclass
class ObjectStore:
    """A running server, with nothing in it at first."""

    process: subprocess.Popen[str]
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which AWS' tools, and fsspec, find it."""
        return {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def client(self) -> Any:
        """boto3's client of it."""
        words = self.environment
        return boto3.client(
            "s3",
            endpoint_url=words["AWS_ENDPOINT_URL"],
            region_name=words["AWS_DEFAULT_REGION"],
            aws_access_key_id=words["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=words["AWS_SECRET_ACCESS_KEY"],
        )


@contextmanager
def running(port: int = 0) -> Iterator[ObjectStore]:
    """Run a server, on a free port unless one is given; it is killed after the block."""
    with subprocess.Popen([sys.executable, "-c", _CODE, str(port)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ObjectStore(process, int(process.stdout.readline()))
        finally:
            process.kill()
