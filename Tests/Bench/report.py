"""Tables with medians and ratios, and a verdict per budget."""

import json
import statistics

#: scenario, variant, value, unit, better, [(peer, factor)]: Weft's median must be at most (or at least) factor × the peer's.
BUDGETS = [
    ("v1", "", "errors", "wrong answers of the door", "less", [(None, 0)]),
    ("s1", "", "us_req", "CPU µs per request", "less", [("nginx", 0.80), ("envoy", 0.25)]),
    ("s2", "mesh_h2", "us_req", "CPU µs per request, two hops", "less", [("nghttpx", 0.90), ("envoy", 0.25)]),
    ("s2", "same_node", "us_req", "CPU µs per request, same node", "less", [("floor", 1.3)]),
    ("s3", "", "us_req", "CPU µs per exchange", "less", [("nghttpx", 1.0), ("envoy", 0.2)]),
    ("s4", "full", "us_hs", "CPU µs per full handshake", "less", [("nginx", 0.8)]),
    ("s4", "full", "us_hs", "CPU µs per full handshake (a goal)", "less", [("envoy", 1.3)]),
    ("s4", "resumed", "of_full", "a resumed handshake's share of a full one", "less", [(None, 0.4)]),
    ("s5", "bulk", "gb_cpu_s", "GB per CPU second, opaque bulk", "more", [("haproxy_1mb", 1.0)]),
    ("s5", "pingpong", "s50", "p50 µs, opaque, one connection", "less", [("nginx", 1.03)]),
    ("s6", "plain", "kb_conn", "KB per idle connection", "less", [(None, 0.5)]),
    ("s6", "mtls", "kb_conn", "KB per idle connection over mutual TLS", "less", [(None, 24)]),
    ("s6", "plain", "weft_proxy_kb", "KB of weft-proxy, idle", "less", [(None, 12 * 1024)]),
    ("s7", "pingpong", "s50", "added p50 µs, one connection", "less", [("nginx", 1.0)]),
    ("s7", "open500", "s50", "added p50 µs, 500 requests/s", "less", [("nginx", 1.0)]),
    ("s7", "mesh_h2_pingpong", "s50", "added p50 µs, two hops, one connection", "less", [("haproxy", 0.96)]),
    ("s7", "mesh_h2_open500", "s50", "added p50 µs, two hops, 500 requests/s", "less", [("haproxy", 0.96)]),
    ("s7", "grpc", "s50", "added p50 µs, one gRPC call at a time", "less", [("haproxy", 1.0)]),
    ("s9", "get1m", "gb_cpu_s", "GB per CPU second, 1 MB down", "more", [("haproxy", 1.3)]),
    ("s9", "post100k", "gb_cpu_s", "GB per CPU second, 100 KB up", "more", [("haproxy", 1.3)]),
    ("s9", "h2_get1m", "gb_cpu_s", "GB per CPU second over HTTP/2, 1 MB down", "more", [("nghttpx", 1.0), ("haproxy", 1.0), ("envoy", 1.0)]),
    ("s9", "h2_post100k", "gb_cpu_s", "GB per CPU second over HTTP/2, 100 KB up", "more", [("nghttpx", 1.0), ("haproxy", 1.0), ("envoy", 1.0)]),
]
TITLES = {
    ("v1", ""): "V1  whom a door that wants mutual TLS lets in (1: a reply)",
    ("s1", ""): "S1  HTTP/1.1, 64 keep-alive connections, 1 KB",
    ("s2", "mesh_h2"): "S2  two hops, HTTP/2 over mutual TLS between them (floor: two plain hops)",
    ("s2", "mesh_h1"): "S2  two hops, HTTP/1.1 over mutual TLS between them (Weft: its HTTP/2; floor: two plain hops)",
    ("s2", "same_node"): "S2  one hop between pods of one node, no TLS",
    ("s3", ""): "S3  HTTP/2 shaped like gRPC, 8 connections of 32 streams",
    ("s4", "full"): "S4  full handshakes, mutual TLS 1.3, P-256, one request each", ("s4", "resumed"): "S4  resumed handshakes",
    ("s5", "bulk"): "S5  opaque TCP, bulk over 4 connections", ("s5", "pingpong"): "S5  opaque TCP, one connection back to back",
    ("s6", "plain"): "S6  10,000 idle connections", ("s6", "mtls"): "S6  10,000 idle connections over mutual TLS",
    ("s7", "open500"): "S7  500 requests/s in open loop, one hop", ("s7", "pingpong"): "S7  one connection back to back, one hop",
    ("s7", "mesh_h2_open500"): "S7  500 requests/s in open loop, two hops with mutual TLS", ("s7", "mesh_h2_pingpong"): "S7  one connection back to back, two hops with mutual TLS",
    ("s7", "grpc"): "S7  one gRPC call after the other, one hop",
    ("s9", "get1m"): "S9  1 MB replies", ("s9", "post100k"): "S9  100 KB uploads",
    ("s9", "h2_get1m"): "S9  1 MB replies over HTTP/2", ("s9", "h2_post100k"): "S9  100 KB uploads over HTTP/2",
}
LATENCY = [("s50", "p50 µs"), ("s99", "p99 µs"), ("add_s50", "added p50 µs"), ("us_req", "CPU µs/req")]
BODIES = [("gb_cpu_s", "GB/CPU s"), ("gb_s", "GB/s"), ("p50", "p50 µs"), ("p99", "p99 µs")]
#: By scenario and variant, else by scenario.
COLUMNS = {
    "s1": [("us_req", "CPU µs/req"), ("rps", "req/s"), ("p50", "p50 µs"), ("p99", "p99 µs"), ("pss_kb", "PSS KB")],
    "s2": [("us_req", "CPU µs/req"), ("rps", "req/s"), ("p50", "p50 µs"), ("p99", "p99 µs"), ("pss_kb", "PSS KB")],
    "v1": [("good", "good"), ("no_certificate", "no certificate"), ("stranger", "another authority's"), ("tls12", "TLS 1.2")],
    "s4": [("us_hs", "CPU µs/handshake, net"), ("us_hs_gross", "with its request"), ("us_req", "CPU µs/req kept alive"), ("hs_s", "handshakes/s"), ("p50", "p50 µs"), ("p99", "p99 µs")],
    "s3": [("us_req", "CPU µs/req"), ("rps", "req/s"), ("mean", "mean µs"), ("max", "max µs"), ("pss_kb", "PSS KB")],
    ("s5", "bulk"): BODIES[:2], ("s5", "pingpong"): LATENCY[:2] + LATENCY[3:],
    "s6": [("kb_conn", "KB/connection"), ("rss0_kb", "KB before"), ("rss1_kb", "KB after"), ("alive", "still open"), ("open_secs", "s to open")],
    "s7": LATENCY,
    "s9": BODIES, ("s9", "h2_get1m"): BODIES[:2] + [("mean", "mean µs")], ("s9", "h2_post100k"): BODIES[:2] + [("mean", "mean µs")],
}
RATIO = {"v1": "errors", "s1": "us_req", "s2": "us_req", "s4": "us_hs", "s3": "us_req", ("s5", "bulk"): "gb_cpu_s", ("s5", "pingpong"): "s50", "s6": "kb_conn", "s7": "add_s50", "s9": "gb_cpu_s"}


def of(choices, scenario, variant):
    """The variant's own, or the scenario's."""
    return choices.get((scenario, variant)) or choices[scenario]


def values(records, scenario, variant, proxy, key):
    """What the rounds measured."""
    return [r[key] for r in records if (r["scenario"], r["variant"], r["proxy"]) == (scenario, variant, proxy) and r.get(key) is not None]


def median(records, *what):
    """Their median, or None."""
    found = values(records, *what)
    return statistics.median(found) if found else None


def number(value):
    """Three significant digits or a whole number."""
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def add_latency(records):
    """S7 is judged by what the hops add to the direct way of the same round."""
    direct = {(r["variant"], r["round"]): r for r in records if r["scenario"] == "s7" and r["proxy"] == "direct" and "s50" in r}
    for r in records:
        base = direct.get((r["variant"].removeprefix("mesh_h2_"), r["round"]))
        if r["scenario"] == "s7" and base and "s50" in r and r["proxy"] != "direct":
            r["add_s50"], r["add_s99"] = r["s50"] - base["s50"], r["s99"] - base["s99"]


def table(records, scenario, variant):
    """One scenario: a row per proxy."""
    mine = [r for r in records if (r["scenario"], r["variant"]) == (scenario, variant)]
    names = list(dict.fromkeys(r["proxy"] for r in mine))
    columns, ratio = of(COLUMNS, scenario, variant), of(RATIO, scenario, variant)
    lines = ["| proxy | " + " | ".join(title for _, title in columns) + " | weft ÷ it | errors | bottleneck |", "|---" * (len(columns) + 4) + "|"]
    own = median(mine, scenario, variant, "weft", ratio)
    for name in names:
        cells = []
        for key, _ in columns:
            found = values(mine, scenario, variant, name, key)
            cells.append(f"{number(statistics.median(found))} [{number(min(found))}–{number(max(found))}]" if found else "–")
        theirs = median(mine, scenario, variant, name, ratio)
        cells.append(f"{own / theirs:.2f}" if own and theirs and name not in ("weft", "direct") else "–")
        cells.append(str(sum(r.get("errors", 0) for r in mine if r["proxy"] == name)))
        busy = [median(mine, scenario, variant, name, key) for key in ("core_load_busy", "core_proxy_busy")]
        cells.append(f"load {busy[0]:.0%}, proxy {busy[1]:.0%}" if None not in busy else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(records):
    """The budgets of PERFORMANCE, held or missed by how much."""
    lines = ["| budget | weft | limit | verdict |", "|---|---|---|---|"]
    for scenario, variant, key, title, better, limits in BUDGETS:
        for peer, factor in limits:
            key_used = "add_s50" if scenario == "s7" else key
            own = median(records, scenario, variant, "weft", key_used)
            theirs = 1.0 if peer is None else median(records, scenario, variant, peer, key_used)
            if own is None or theirs is None:
                continue
            limit = factor * theirs
            held = own <= limit if better == "less" else own >= limit
            sign = "≤" if better == "less" else "≥"
            name = number(factor) if peer is None else f"{factor:g} × {peer} = {number(limit)}"
            off = f" by {abs(own / limit - 1):.0%}" if not held and limit else ""
            lines.append(f"| {scenario.upper()} {title} | {number(own)} | {sign} {name} | {'held' if held else 'MISSED' + off} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def tables(data):
    """The whole report."""
    records = data["records"]
    add_latency(records)
    out = ["# Bench", "", "`" + json.dumps(data["meta"]) + "`", "", "Median [least–most] over the rounds; CPU is the proxy's, with everything it started. Only ratios of one run count."]
    for (scenario, variant), title in TITLES.items():
        if any((r["scenario"], r["variant"]) == (scenario, variant) and "error" not in r for r in records):
            out += ["", f"## {title}", "", table(records, scenario, variant)]
    judged = verdicts(records)
    if judged:
        out += ["", "## Budgets", "", judged]
    errors = [r for r in records if "error" in r]
    if errors:
        out += ["", "## Failures", ""] + [f"- {r['scenario']} {r['proxy']}: {r['error'][:300]!r}" for r in errors]
    noisy = [r for r in records if r.get("repeated_because_foreign") or r.get("foreign", 0) > 0.12]
    out += ["", f"{len(noisy)} of {len(records)} records were disturbed by others (more than 12 % of a core) or repeated for it; stolen at most {max([r.get('steal', 0) for r in records] or [0]):.1%}."]
    return "\n".join(out)
