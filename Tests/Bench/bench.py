#!/usr/bin/env python3
"""Weft beside Envoy, HAProxy, nginx and nghttpx, in one run, interleaved.

    bench.py [--scenarios "s3 s5"] [--rounds 3] [--seconds 2] [--proxies weft,nginx] [--out FILE] [--report FILE]

Every round visits every proxy, each freshly started on a core of its own; load and backend share the other core. What a
request costs is CPU time of the proxy's cgroup divided by requests, which stays true when the load generator is the
bottleneck. The records go to .build/bench/results.json; the table gives medians, ratios and the verdicts on the budgets.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine  # noqa: E402
import proxies  # noqa: E402
import report  # noqa: E402
import scenarios  # noqa: E402


def versions():
    """What was measured, on what."""
    def first(*command):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        return ((done.stdout + done.stderr).strip().splitlines() or ["?"])[0]
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": time.strftime("%F %T"), "kernel": os.uname().release, "cpu": model[0] if model else "?", "congestion": machine.CONGESTION_CONTROL.read_text().strip(),
        "haproxy": first("haproxy", "-v"), "nginx": first("nginx", "-v"), "nghttpx": first("nghttpx", "--version"), "envoy": first(proxies.ENVOY, "--version"),
        "weft": first("git", "-C", machine.REPOSITORY, "describe", "--always", "--dirty"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=" ".join(scenarios.SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--proxies", default=",".join(proxies.PROXIES))
    parser.add_argument("--out", default=str(machine.OUT / "results.json"))
    parser.add_argument("--report", help="only print the tables of this file")
    options = parser.parse_args()
    if options.report:
        print(report.tables(json.loads(Path(options.report).read_text())))
        return 0
    wanted = options.scenarios.replace(",", " ").split()
    unknown = [s for s in wanted if s not in scenarios.SCENARIOS]
    if unknown:
        parser.error(f"unknown scenarios {' '.join(unknown)}; there are {' '.join(scenarios.SCENARIOS)}")
    machine.requirements()
    machine.own_namespace()
    machine.first_in_line()
    run = scenarios.Run(options.proxies.split(","), options.seconds)
    began = time.time()
    try:
        for name in wanted:
            for number in range(options.rounds):
                print(f"== {name} round {number + 1}/{options.rounds}  {time.strftime('%H:%M:%S')}", flush=True)
                run.round = number
                scenarios.SCENARIOS[name](run)
    finally:
        machine.close()
    data = {"meta": versions() | {"secs": round(time.time() - began), "rounds": options.rounds, "dur": options.seconds}, "records": run.records}
    Path(options.out).write_text(json.dumps(data, indent=0))
    text = report.tables(data)
    Path(options.out).with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
