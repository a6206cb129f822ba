"""A headless Chromium, driven through chromedriver's own protocol (WebDriver: JSON over HTTP)."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import die_with_parent, wait_until

ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
             "--force-color-profile=srgb", "--remote-debugging-pipe")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window.  Elements are found by CSS selector; the ids that come back are WebDriver's."""

    def __init__(self, directory):
        programs = [shutil.which(program) for program in ("chromedriver", "chromium")]
        if None in programs:
            pytest.fail("the page is tested in Chromium, and there is none here: tests/support/install test")
        environment = {**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_CACHE_HOME": str(directory)}
        log = directory / "chromedriver.log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen([programs[0], "--port=0"], env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, preexec_fn=die_with_parent)
        port = wait_until(lambda: re.search(r"started successfully on port (\d+)", log.read_text()), 20, "chromedriver")[1]
        self.base = f"http://127.0.0.1:{port}/session"
        options = {"binary": programs[1], "args": [*ARGUMENTS, f"--user-data-dir={directory}/profile"]}
        answer = self.call("POST", "", capabilities={"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}})
        self.base += "/" + answer["sessionId"]

    def call(self, method, path, **body):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            pytest.fail(f"{method} {path}: {json.load(e)['value']['message']}")

    def go(self, url):
        self.call("POST", "/url", url=url)

    def run(self, script, *arguments):
        """The value of a function's body in the page; it may be a promise."""
        return self.call("POST", "/execute/sync", script=script, args=arguments)

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def find(self, selector):
        return [element[ELEMENT] for element in self.call("POST", "/elements", using="css selector", value=selector)]

    def role(self, element):
        """As a screen reader hears it."""
        return self.call("GET", f"/element/{element}/computedrole")

    def label(self, element):
        return self.call("GET", f"/element/{element}/computedlabel")

    def press(self, *keys):
        down_and_up = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": down_and_up}])

    def log(self, kind):
        """What came since the last call: "browser" (the console) or "performance" (DevTools events)."""
        return self.call("POST", "/se/log", type=kind)

    def requests(self):
        """Addresses that the page asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def dress(self, width, height=800, scheme="light"):
        """The size of the window and what the user prefers."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        """The whole page as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self.call("DELETE", "")
        self.process.terminate()
        self.process.wait(10)
