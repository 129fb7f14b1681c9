"""Headless Chromium, driven through its own pipe: no driver, no server, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds


class Page:
    """One tab. Messages of the DevTools protocol end with a zero byte."""

    def __init__(self, read: int, write: int) -> None:
        self._in, self._out, self._waiting = read, write, b""
        self._number, self._session = 0, None
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._send("Page.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            there, _, _ = select.select([self._in], [], [], PATIENCE)
            text = os.read(self._in, 1 << 20) if there else b""
            if not text:
                raise RuntimeError("Chromium ended" if there else f"Chromium said nothing for {PATIENCE} s")
            self._waiting += text
        text, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(text)

    def _send(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, path: Path, width: int, height: int, phone: bool = False, scheme: str = "light") -> None:
        """Load a file at this size of window, on a phone with touch and its own pixels, for a reader who prefers light or dark."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        self._send("Emulation.setTouchEmulationEnabled", enabled=phone)
        self._send("Page.navigate", url=path.absolute().as_uri())
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression; a promise is waited for."""
        found = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", script))
        return found["result"].get("value")

    def click(self, selector: str, number: int = 0) -> None:
        """A press of the mouse on the middle of an element, so that what covers it is noticed."""
        script = f"""(() => {{
            const element = document.querySelectorAll({json.dumps(selector)})[{number}];
            element.scrollIntoView({{block: "center", inline: "center"}});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.run(script)
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A Chromium whose profile lies in `folder`."""
    read, to_browser = os.pipe()
    from_browser, write = os.pipe()
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-pipe",
    ]
    options += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"]
    # Chromium reads from descriptor 3 and writes to 4; not every sh knows descriptors of two digits.
    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    command = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", chromium, *options]
    process = subprocess.Popen(
        command, pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for descriptor in (read, write):
        os.close(descriptor)
    try:
        yield Page(from_browser, to_browser)
    finally:
        process.terminate()
        process.wait(timeout=30)
