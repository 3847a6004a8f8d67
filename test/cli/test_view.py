"""`heisd view`: what it serves and to whom, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.evaluations import made_up_results
from support.replay_bags import cell
from support.tree import ROOT
from support.views import read_rrd
from typer.testing import CliRunner

from heisd_ros.cli.main import app
from heisd_ros.cli.view import Output
from heisd_ros.cli.view_server import ViewServer
from heisd_ros.view.sdk import REQUIREMENT

needs_rerun = pytest.mark.skipif(importlib.util.find_spec("rerun_cli") is None, reason="extra view")
TIMEOUT_SEC = 60.0


def heisd(*arguments):
    result = CliRunner().invoke(app, ["view", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def free_port():
    """The first of three ports that nobody has."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 65000 and not any(connects("127.0.0.1", port + i) for i in range(3)):
            return port


def connects(host, port):
    with closing(socket.socket()) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((host, port)) == 0


def wait_for(condition, what):
    deadline = time.monotonic() + TIMEOUT_SEC
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT_SEC:g} s for {what}"
        time.sleep(0.05)


class Serving:
    """`heisd view` as a process that serves a page."""

    def __init__(self, folder, *arguments):
        self.port = free_port()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        command = [sys.executable, "-m", "heisd_ros.cli.main", "view", *map(str, arguments)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--no-browser"],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.line = self.process.stdout.readline()
        assert self.line, self.process.stderr.read()
        assert self.process.stdout.readline() == "all of it is there\n"

    def get(self, path, port=0, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port + port, timeout=20)
        with closing(connection):
            connection.request(headers.pop("method", "GET"), path, headers=headers)
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer

    def silent(self):
        return not any(connects("127.0.0.1", self.port + number) for number in range(3))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluated") / "results.json"
    made = made_up_results(tasks=1, states=1, steps=15)
    made.path = path
    made.finish()
    return path


@pytest.fixture
def serving(tmp_path):
    served = Serving(tmp_path, cell(steps=2).write(tmp_path / "bag"))
    yield served
    served.process.kill()
    served.process.wait()


@needs_rerun
def test_a_page_is_served_to_this_machine_alone_until_ctrl_c(serving, results):
    assert serving.line == f"view: http://127.0.0.1:{serving.port}/ (Ctrl-C ends it)\n"
    # Who listens on every address listens on 127.0.0.2 as well.
    reached = [(host, n) for host in ("127.0.0.1", "127.0.0.2") for n in range(3)
               if connects(host, serving.port + n)]  # fmt: skip
    assert reached == [("127.0.0.1", n) for n in range(3)]

    moved = serving.get("/")
    assert moved.status == 302
    assert f"127.0.0.1%3A{serving.port + 1}" in moved.getheader("Location")
    page = serving.get(moved.getheader("Location"))
    assert page.status == 200 and b"re_viewer.js" in page.body
    policy = page.getheader("Content-Security-Policy")
    sources = set(re.findall(r"https?://[^\s;]+", policy))
    assert sources == {f"http://127.0.0.1:{serving.port + 1}"}
    for path in ("/etc/passwd", "/../etc/passwd", "/re_viewer.js/../x", "//evil.example/"):
        assert serving.get(path).status in (302, 404)

    # Another site that the browser has open may not read.
    asking = {"method": "OPTIONS", "port": 1, "Access-Control-Request-Method": "POST"}
    service = "/rerun.sdk_comms.v1alpha1.MessageProxyService/ReadMessages"
    allowed = "access-control-allow-origin"
    own = f"http://127.0.0.1:{serving.port}"
    assert serving.get(service, Origin="https://evil.example", **asking).getheader(allowed) is None
    assert serving.get(service, Origin=own, **asking).getheader(allowed) == own

    # A browser that goes away in the middle leaves the page to others.
    with socket.create_connection(("127.0.0.1", serving.port)) as browser:
        browser.sendall(b"GET /re_viewer_bg.wasm HTTP/1.0\r\n\r\n")
        browser.recv(1000)
    assert serving.get("/re_viewer.js").status == 200

    code, said = heisd(results, "--port", serving.port, "--no-browser")
    assert code == 1 and f"127.0.0.1:{serving.port} cannot be listened on" in said
    assert "--port" in said

    serving.process.send_signal(signal.SIGINT)
    _, errors = serving.process.communicate(timeout=TIMEOUT_SEC)
    assert (serving.process.returncode, errors) == (0, "")
    assert serving.silent() and not list(serving.temporary.glob("heisd_view_*"))


@needs_rerun
def test_no_process_is_left_of_a_view_that_is_killed(tmp_path):
    port = free_port()
    serve = f"with ViewServer('127.0.0.1', {port}, '1GB'): input()"
    code = f"from heisd_ros.cli.view_server import ViewServer\n{serve}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    wait_for(lambda: connects("127.0.0.1", port), "the page")
    process.kill()
    process.wait()
    ports = range(port, port + 3)
    wait_for(lambda: not any(connects("127.0.0.1", n) for n in ports), "the end of the server")


@needs_rerun
def test_a_server_that_ends_is_noticed():
    with ViewServer("127.0.0.1", free_port(), "1GB") as server:
        assert not server.problem
        children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
        named = {int(child): Path(f"/proc/{child}/comm").read_text().strip()
                 for child in children.read_text().split()}  # fmt: skip
        os.kill(next(child for child, name in named.items() if name == "rerun"), signal.SIGKILL)
        wait_for(lambda: server.problem, "the problem")
        with pytest.raises(ValueError, match="the viewer's server ended"):
            Output(server.target, server).wait(0)


@needs_rerun
def test_a_bag_is_saved_and_what_is_missing_of_it_said(tmp_path):
    whole = cell(steps=60, size=96, with_telemetry=True).write(tmp_path / "bag")
    file = tmp_path / "view.rrd"
    assert heisd(whole, "--save", file) == (0, f"written: {file}")
    assert len(read_rrd(file)["/robot/arm"]) == 60
    code, said = heisd(whole, "--save", file)
    assert code == 1 and "accepted: a new file in a folder that exists" in said
    recorded = next(whole.glob("*.mcap"))
    recorded.write_bytes(recorded.read_bytes()[: recorded.stat().st_size // 2])
    code, said = heisd(whole, "--save", tmp_path / "part.rrd")
    assert code == 2 and "not read to its end" in said
    assert 0 < len(read_rrd(tmp_path / "part.rrd")["/robot/arm"]) < 60


@needs_rerun
def test_parameters_in_a_bag_that_cannot_be_used_are_named(tmp_path):
    path = cell(with_telemetry=True).write(tmp_path / "bag")
    noted = "/**:\n  ros__parameters:\n    robot.source: panda\n    workspace.x_min: WRONG\n"
    metadata = path / "metadata.yaml"
    text = metadata.read_text()
    quoted = f"custom_data: {{parameters: {json.dumps(noted)}}}"
    metadata.write_text(re.sub(r"custom_data:.*", lambda _: quoted, text))
    code, said = heisd(path, "--save", tmp_path / "view.rrd")
    assert code == 0 and "the parameters in the bag cannot be used" in said and "x_min" in said


@needs_rerun
def test_a_file_takes_one_episode(results, tmp_path):
    file = tmp_path / "view.rrd"
    code, said = heisd(results, "--save", file)
    assert code == 1 and "4 episodes, and a file takes one" in said and not file.exists()
    code, said = heisd(results, "--mode", "nope", "--save", file)
    assert code == 1 and "modes: ar, heisd" in said
    assert heisd(results, "--mode", "heisd", "--task", 0, "--state", 40, "--save", file)[0] == 0
    assert read_rrd(file)["/robot/path"]


@needs_rerun
@pytest.mark.parametrize(
    "content, said",
    [("{", "is damaged"), ("[]", "accepted: a JSON object"), ("{}", "results format None"),
     ('{"kind": "replay"}', "of kind and format ('replay', None)")],
)  # fmt: skip
def test_a_file_that_is_no_result_is_refused(tmp_path, content, said):
    path = tmp_path / "x.json"
    path.write_text(content)
    code, output = heisd(path, "--save", tmp_path / "x.rrd")
    assert code == 1 and said in output and "Traceback" not in output
    assert not (tmp_path / "x.rrd").exists()


@needs_rerun
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--port", "0"], "port is 0; accepted: 1 to 65533"),
        (["--memory", "lots"], "memory is 'lots'; accepted: a size such as"),
        (["--bind", "203.0.113.1"], "203.0.113.1:9090 cannot be listened on"),
        (["--bind", "no.such.host.invalid"], "no.such.host.invalid:9090 cannot be listened on"),
        (["--params", "/no/such.yaml"], "/no/such.yaml"),
    ],
)
def test_bad_options_are_refused(tmp_path, arguments, said):
    bag = cell(steps=2).write(tmp_path / "bag")
    code, output = heisd(bag, *arguments)
    assert code == 1 and said in output


def test_without_rerun_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    code, said = heisd()
    assert code == 1 and f"pip install '{REQUIREMENT}'" in said


def test_the_requirement_is_that_of_pyproject():
    assert f'view = ["{REQUIREMENT}"]' in (ROOT / "pyproject.toml").read_text()
