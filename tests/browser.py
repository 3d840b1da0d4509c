"""Headless Chromium, driven over the DevTools protocol: keys, and what scripts on the page say."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMED = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
"""Keys that write nothing -> their code."""


class Page:
    """A tab."""

    def __init__(self, socket: Any, *domains: str) -> None:
        self._socket, self._calls = socket, 0
        self.problems: list[str] = []
        for domain in domains:
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; what goes wrong on the page meanwhile is kept in `problems`."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(json.dumps(message["params"]))
            if message.get("method") == "Page.javascriptDialogOpening":  # it asks whether the page may be left
                self._socket.send(
                    json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}})
                )
            if message.get("id") == self._calls:
                assert "error" not in message, message["error"]
                return dict(message["result"])

    def open(self, address: str, width: int = 1280, height: int = 800) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """What a script says, as soon as that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.value(script):
                return value
            time.sleep(0.01)
        raise AssertionError(f"never true: {script}; {self.value('document.body.innerText')}; {self.problems}")

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {} if key in NAMED else {"text": key}
            code = {"windowsVirtualKeyCode": NAMED[key]} if key in NAMED else {}
            if key == "Enter":
                text = {"text": "\r"}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)


@contextmanager
def chromium(program: str, folder: Path) -> Iterator[Callable[[], Page]]:
    """A browser with a new profile; gives what opens a tab in it, each with cookies of its own."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    process = subprocess.Popen([program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with ExitStack() as stack:
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)

        def socket(path: str) -> Any:
            address = f"ws://127.0.0.1:{port}{path}"
            return stack.enter_context(connect(address, max_size=None, proxy=None, ping_interval=None))

        port, path = _devtools(folder / "DevToolsActivePort")
        browser = Page(socket(path))

        def tab() -> Page:
            context = browser.call("Target.createBrowserContext")["browserContextId"]
            target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            return Page(socket(f"/devtools/page/{target}"), "Page", "Runtime", "Log")

        yield tab


def _devtools(file: Path) -> list[str]:
    """Port and path of the browser's own socket, which it writes down once it is up."""
    for _ in range(600):
        if file.is_file() and len(lines := file.read_text().split("\n")) == 2:
            return lines
        time.sleep(0.05)
    raise AssertionError("the browser did not start")
