"""A platform of real processes that a script starts with `dw up`, talks to with `dw`, and ends.

    with DwPlatform(dw, folder, ["cpu:0", "cpu:1"], {"scheduler.lease_duration": "5s"}) as platform:
        platform.add_tenant("north")
        platform.dw("job", "list", tenant="north")   # what --output json says

`dw` finds the services' programs beside itself. Every tenant shows a token of its own. One thread.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

START_S, STOP_S = 120, 90


class DwPlatform:

    def __init__(self, dw, folder, devices, settings):
        self.folder = pathlib.Path(folder)
        self._dw = str(dw)
        self._words = ["up", "--foreground", "--port_base=0", "--train=" + ",".join(devices),
                       *(f"--set={name}={value}" for name, value in settings.items())]
        self._environment = {name: value for name, value in os.environ.items()
                             if not name.startswith("DELTAWORKS_")}
        self._environment["DELTAWORKS_HOME"] = str(self.folder / "home")
        self._supervisor = None

    def __enter__(self):
        self.folder.mkdir(parents=True)
        with open(self.folder / "up.log", "w", encoding="utf-8") as log:
            self._supervisor = subprocess.Popen([self._dw, *self._words], env=self._environment,
                                                stdout=log, stderr=subprocess.STDOUT)
        end_s = time.monotonic() + START_S
        while not (self.folder / "home/dw.json").exists():  # There when all are up.
            if self._supervisor.poll() is not None or time.monotonic() > end_s:
                self.__exit__()
                raise SystemExit((self.folder / "up.log").read_text(encoding="utf-8"))
            time.sleep(0.05)
        return self

    def __exit__(self, *error):
        self._supervisor.send_signal(signal.SIGTERM)
        try:
            self._supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()

    def dw_text(self, *words, tenant=None, codes=(0,)):
        """What it prints on stdout; SystemExit, with all that it said, if it ends otherwise than
        with one of `codes`."""
        words = [str(word) for word in words]
        if tenant is not None:
            words += ["--tenant", tenant, "--token_file", self.folder / f"{tenant}.token"]
        done = subprocess.run([self._dw, *words], env=self._environment, capture_output=True,
                              text=True, check=False)
        if done.returncode not in codes:
            raise SystemExit(f"dw {' '.join(map(str, words))} ended with {done.returncode}:\n"
                             f"{done.stdout}{done.stderr}")
        return done.stdout

    def dw(self, *words, tenant=None):
        return json.loads(self.dw_text(*words, "--output", "json", tenant=tenant))

    def dw_lines(self, *words, tenant=None):
        """For commands that stream."""
        text = self.dw_text(*words, "--output", "json", tenant=tenant)
        return [json.loads(line) for line in text.splitlines()]

    def add_tenant(self, tenant):
        self.dw_text("token", "add", tenant, "--save", self.folder / f"{tenant}.token")

    def processes(self):
        """By name ("worker-cpu-0"), as `dw status` has them: pid, metrics_address, log_file."""
        # 6: one of them is down.
        status = json.loads(self.dw_text("status", "--output", "json", codes=(0, 6)))
        return {process["name"]: process for process in status["processes"]}

    def print_logs(self, lines=15):
        for log in sorted((self.folder / "home/logs").glob("*.log")):
            end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            print(f"---- the end of {log.name}", *end, sep="\n", file=sys.stderr)


def metrics(address):
    """{"name{labels}": value}; empty if nobody is there."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def cpu_seconds(pid):
    """That a process has used; None if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
