"""A real Orthanc on free ports of this machine, in a folder of its own: started, stopped, asked."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "cxr", "cxr-test-pass"
TOOLS = ("Orthanc", "dciodvfy", "dsrdump")


def need_tools() -> None:
    """Skip, with the reason, where Debian's packages are not installed."""
    lacking = [name for name in TOOLS if shutil.which(name) is None] + ["its plugin DICOMweb"] * (not PLUGIN.is_file())
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)} (apt-get install orthanc orthanc-dicomweb dicom3tools dcmtk)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One server; `start` and `stop` as often as wanted, on the same store.

    Args:
        folder: where its configuration, store and log lie.
        **more: further lines of its configuration.
    """

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder, self.http, self.dicom, self.peer = folder, free_port(), free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        configuration = {
            "Name": "cxr-test", "StorageDirectory": "store", "IndexDirectory": "store", "Plugins": [str(PLUGIN)],
            "DefaultEncoding": "Utf8", "OverwriteInstances": False, "RemoteAccessAllowed": False, "HttpPort": self.http,
            "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD}, "DicomServerEnabled": True,
            "DicomAet": "ORTHANC", "DicomPort": self.dicom, "DicomCheckCalledAet": True, "DicomAlwaysAllowStore": False,
            "DicomModalities": {"cxr": ["CXRAI", "127.0.0.1", self.peer]}, "UnknownSopClassAccepted": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado", "Ssl": False},
        } | more  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(configuration))

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["Orthanc", "orthanc.json"], cwd=self.folder, stdout=log, stderr=log)
        for _ in range(600):
            try:
                self.get("/system")
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
            else:
                return
        raise AssertionError("Orthanc does not answer")

    def stop(self) -> None:
        """Stop it and wait: on the same store another may start only then."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def get(self, path: str) -> Any:
        return json.loads(self._ask(path))

    def post(self, path: str, body: bytes) -> Any:
        return json.loads(self._ask(path, body))

    def file(self, identifier: str) -> bytes:
        return self._ask(f"/instances/{identifier}/file")

    def delete(self, path: str) -> None:
        self._ask(path, method="DELETE")

    def find(self, level: str, **query: str) -> list[str]:
        """Orthanc's identifiers of what matches."""
        return list(self.post("/tools/find", json.dumps({"Level": level, "Query": query}).encode()))

    def _ask(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())
