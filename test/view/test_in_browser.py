"""The view in a headless browser: HEISD_CHROMIUM=PROGRAM names one, else this is skipped."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from support.replay_bags import cell
from websockets.sync.client import connect

from heisd_ros.cli.view_server import ViewServer
from heisd_ros.data.bag import Bag
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.view import sdk
from heisd_ros.view.bag_view import show_bag
from heisd_ros.view.screen import Screen

CHROMIUM = os.environ.get("HEISD_CHROMIUM", "")
PORT, TIMEOUT_SEC = 9490, 180.0
OPTIONS = "--headless=new --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader"
EMPTY_COLOURS = 1000
"""Of a window without data; noise in a camera's picture has more."""


@contextmanager
def browser(folder):
    """A headless browser; yields the connection by which its page takes commands."""
    command = [CHROMIUM, *OPTIONS.split(), "--window-size=1280,800", "--remote-debugging-port=0"]
    process = subprocess.Popen([*command, f"--user-data-dir={folder}"], stderr=subprocess.DEVNULL)
    try:
        told, deadline = folder / "DevToolsActivePort", time.monotonic() + 30.0
        while not (told.is_file() and told.read_text().strip()):
            assert time.monotonic() < deadline and process.poll() is None, "no browser"
            time.sleep(0.05)
        address = f"http://127.0.0.1:{told.read_text().split()[0]}/json"
        with urllib.request.urlopen(address) as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
            yield connection
    finally:
        process.kill()
        process.wait()


def ask(connection, method, **parameters):
    """Sends a command; returns its result, and what the page requested meanwhile."""
    connection.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    requested = []
    while True:
        message = json.loads(connection.recv(timeout=60.0))
        if message.get("id") == 1:
            return message["result"], requested
        if message["method"] == "Network.responseReceived":
            requested.append(message["params"]["response"]["url"])


@pytest.mark.skipif(not CHROMIUM, reason="HEISD_CHROMIUM names no browser")
def test_a_bag_is_seen_in_a_browser_that_hears_from_this_machine_alone(tmp_path):
    path = cell(steps=60, size=96, with_telemetry=True).write(tmp_path / "bag")
    with ViewServer("127.0.0.1", PORT, "1GB") as server, browser(tmp_path / "profile") as page:
        with Bag(path) as bag:
            screen = Screen(sdk.record("bag", server.target), live=False)
            show_bag(bag, screen, CellParameters())
        ask(page, "Network.enable")
        _, heard = ask(page, "Page.navigate", url=server.url)
        deadline, colours = time.monotonic() + TIMEOUT_SEC, 0
        while colours < EMPTY_COLOURS:
            assert time.monotonic() < deadline, f"{colours} colours in {tmp_path}/view.png"
            time.sleep(1.0)
            shot, more = ask(page, "Page.captureScreenshot")
            heard += more
            (tmp_path / "view.png").write_bytes(data := base64.b64decode(shot["data"]))
            pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)
            colours = len(np.unique(pixels, axis=0))
    assert heard and all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in heard)
