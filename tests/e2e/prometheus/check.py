"""Starts Prometheus on a platform's /metrics and asks it what it got. Standard library only.

Prints one line for each thing that held; an AssertionError ends it with status 1.
"""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

WAIT_S = 60
SCRAPE_INTERVAL = "1s"


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_with_promtool(name, metrics_address):
    text = get(f"http://{metrics_address}/metrics")
    result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                            capture_output=True, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 0 and not said.strip(), f"{name}: {said}"


class Prometheus:
    """A server of its own, in a folder of its own, until the block ends."""

    def __init__(self, targets):
        self._folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self._folder.name)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/v1"
        config = {
            "global": {"scrape_interval": SCRAPE_INTERVAL},
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": [address]}]}
                for name, address in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML.
        subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], check=True,
                       capture_output=True)
        self._log = open(folder / "log", "w+")
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def ask(self, path):
        return json.loads(get(f"{self._url}/{path}"))["data"]

    def value(self, query):
        result = self.ask("query?" + urllib.parse.urlencode({"query": query}))["result"]
        assert len(result) == 1, f"{query}: {result}"
        return float(result[0]["value"][1])

    def until_scraped(self, count):
        """Waits until every target was scraped; tells what is wrong with those that were not."""
        problem = "it does not answer"
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            assert self._process.poll() is None, "Prometheus ended"
            try:
                targets = self.ask("targets")["activeTargets"]
            except OSError:
                targets = []
            down = [(t["scrapeUrl"], t["lastError"]) for t in targets if t["health"] != "up"]
            if len(targets) == count and not down:
                return
            problem = down or problem
            time.sleep(0.2)
        raise AssertionError(f"not scraped within {WAIT_S} s: {problem}")


def main():
    with open(os.environ["DELTAWORKS_E2E_PLATFORM"], encoding="utf-8") as file:
        platform = json.load(file)
    targets = {name: service["metrics"] for name, service in platform["services"].items()}
    for name, address in targets.items():
        check_with_promtool(name, address)
    print(f"promtool has nothing to say about {', '.join(sorted(targets))}")

    with Prometheus(targets) as prometheus:
        prometheus.until_scraped(len(targets))
        print(f"Prometheus scrapes all {len(targets)}")
        for query, want in [
                ("count(deltaworks_build_info)", len(targets)),
                ("sum(deltaworks_worker_steps_total)", platform["job_steps"]),
                ("sum(deltaworks_worker_trained_tokens_total)", platform["job_tokens"]),
                ('sum(deltaworks_registry_versions_total{outcome="ready"})', 1),
                ('sum(deltaworks_scheduler_jobs_ended_total{state="succeeded"})', 1),
                ("sum(deltaworks_scheduler_metric_points_total)", platform["job_metric_points"]),
                ('sum(deltaworks_inference_tokens_total{kind="generated"})',
                 platform["generated_tokens"]),
        ]:
            got = prometheus.value(query)
            assert got == want, f"{query} is {got}, want {want}"
        print("its counters agree with the job's totals")


if __name__ == "__main__":
    main()
