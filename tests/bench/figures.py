#!/usr/bin/env python3
"""Turns what the benchmark programs measured into figures, one JSON object a line.

  figures.py decision < FILE    FILE: the JSON output of rounds of decision_benchmark, one after the other
  figures.py gate < FILE        FILE: the same of gate_benchmark
  figures.py migrator < FILE    FILE: the same of migrator_benchmark
  figures.py peers < FILE       FILE: by turns the JSON output of migrator_benchmark and the line of peers.cjs
  figures.py route < FILE       FILE: the JSON lines of route_load on all cores
  figures.py route_pinned < FILE                          ... with client and servers on one core
  figures.py route_mtls < FILE                            ... and mutual TLS
  figures.py fanout_1000 < FILE FILE: the JSON lines of fanout_load with so many subscribers; also fanout_10000
  figures.py ingest < FILE      FILE: the JSON lines of durable_load --part ingest; also admin
  figures.py gate_tick < FILE   FILE: the JSON lines of gate_tick_load
  figures.py restart < FILE     FILE: the JSON lines of restart_load
  figures.py retention < FILE   FILE: the JSON lines of retention_load
  figures.py growth < FILE      FILE: the JSON lines of growth_load
  figures.py fanout_large < FILE                          ... with a message of 4 KB
  figures.py fanout_telemetry < FILE                      ... with telemetry at full load every other time
  figures.py table < FILE       FILE: figures; prints them for people
  figures.py --self-test

A figure is {"bench","value","unit","against","ratio","bar","pass","n","spread"}:
  value    median over the rounds
  against  what it is held against, measured in the same rounds; null: nothing
  ratio    median of the rounds' ratios value / against
  spread   95 % confidence interval of the ratio (of the value, where there is no ratio), by bootstrap
  bar      bound of the ratio (of the value, where there is no ratio); null: for information
  pass     whether the interval reaches the bar; null without one
  n        rounds
  note     what to bear in mind with it; only where there is something
"""

import json
import random
import statistics
import sys
from dataclasses import dataclass
from typing import Optional

RESAMPLES = 2000
SEED = 1


@dataclass(frozen=True)
class Figure:
    """What to make of the rounds. `of` and `against` are (subject, measure)."""
    bench: str
    unit: str
    of: tuple
    against: Optional[tuple] = None
    bar: Optional[str] = None  # "<= 2.5" or ">= 20"
    note: Optional[str] = None


def decision_figures():
    figures = []
    for threads in (1, 2):
        at = f"/threads:{threads}"
        suffix = f"_{threads}_threads" if threads > 1 else "_1_thread"
        floor = ("Floor" + at, "ns")
        figures += [
            Figure("route_by_handle" + suffix, "ns", ("RouteByHandle" + at, "ns"), floor, "<= 2.5"),
            Figure("route_by_name" + suffix, "ns", ("RouteByName" + at, "ns"), floor, "<= 6"),
            Figure("route_by_short_name" + suffix, "ns", ("RouteByShortName" + at, "ns"), floor),
            Figure("floor" + suffix, "ns", floor),
        ]
    one = ("Floor/threads:1", "ns")
    return figures + [
        Figure("route_by_handle_chained", "ns", ("RouteByHandleChained", "ns"), ("FloorChained", "ns")),
        Figure("floor_chained", "ns", ("FloorChained", "ns")),
        Figure("route_pinned_100000", "ns", ("RoutePinned/none_of_the_calls", "ns"), ("RouteByHandle/threads:1", "ns"),
               "<= 2"),
        Figure("route_pinned_100000_half_of_calls", "ns", ("RoutePinned/half_of_the_calls", "ns"),
               ("RouteByHandle/threads:1", "ns")),
        Figure("route_in_storm", "ns", ("RouteInStorm", "ns"), ("RouteByHandle/threads:1", "ns"), "<= 1.3"),
        Figure("route_in_storm_published", "epochs/s", ("RouteInStorm", "epochs_per_s")),
        Figure("decide", "ns", ("Decide", "ns"), one),
        Figure("bucket", "ns", ("Bucket", "ns"), one),
        Figure("sketch_record", "ns", ("SketchRecord", "ns"), one),
        Figure("route_by_handle_allocations", "per call", ("RouteByHandle/threads:2", "allocations"), None, "<= 0"),
        Figure("route_by_name_allocations", "per call", ("RouteByName/threads:2", "allocations"), None, "<= 0"),
        Figure("sketch_record_allocations", "per call", ("SketchRecord", "allocations"), None, "<= 0"),
    ]


def gate_figures():
    figures = []
    for kind in ("Ratio", "Rate"):
        floor = ("Floor/" + kind, "ns")
        name = "gate_" + kind.lower()
        figures += [
            Figure(name + "_metric", "ns", ("Metric/" + kind, "ns"), floor, "<= 1.5"),
            Figure(name + "_verdict", "ns", ("Gate/" + kind, "ns"), floor),
            Figure(name + "_verdict_with_subjects", "ns", ("Gate/" + kind + "Subjects", "ns"), floor),
            Figure(name + "_floor", "ns", floor),
            Figure(name + "_metric_allocations", "per call", ("Metric/" + kind, "allocations"), None, "<= 0"),
        ]
    return figures


STAGES = ("DUAL_WRITE", "SHADOW_READ", "CANARY_READ", "CUTOVER", "NEW_ONLY")


def migrator_figures():
    clock = ("TwoClockReads", "ns")
    figures = [
        Figure("migrator_read_overhead", "ns", ("Read/DUAL_WRITE beyond callbacks", "ns"), None, "<= 150"),
        Figure("migrator_read_overhead_to_clock", "ns", ("Read/DUAL_WRITE beyond callbacks", "ns"), clock),
        Figure("two_clock_reads", "ns", clock),
        Figure("migrator_read_allocations", "per call", ("Read/DUAL_WRITE beyond callbacks", "allocations"), None,
               "<= 0.001"),
    ]
    for threads in (1, 2):
        of = f"RecordComparison/threads:{threads}"
        name = f"record_comparison_{threads}_thread" + ("s" if threads > 1 else "")
        figures += [Figure(name, "ns", (of, "ns"), None, "<= 60"),
                    Figure(name + "_allocations", "per call", (of, "allocations"), None, "<= 0.001")]
    for stage in STAGES:
        figures.append(Figure(f"migrator_read_{stage.lower()}", "ns", (f"Read/{stage} beyond callbacks", "ns"), clock))
    for stage in STAGES:
        figures += [Figure(f"migrator_write_{stage.lower()}", "ns", (f"Write/{stage}", "ns"), clock),
                    Figure(f"migrator_write_{stage.lower()}_allocations", "per call",
                           (f"Write/{stage}", "allocations"))]
    for name, of in (("migrator_read_checked", "ReadChecked"),
                     ("migrator_read_checked_elsewhere", "ReadCheckedElsewhere")):
        figures += [Figure(name, "ns", (f"{of} beyond callbacks", "ns"), clock),
                    Figure(name + "_allocations", "per call", (f"{of} beyond callbacks", "allocations"))]
    return figures


OTHER_RUNTIME = "the peer runs on another runtime (Node), Lockstep compiled: the ratio is of both, runtime and design"


def peers_figures():
    """How many times as long the peer takes as what does the same here."""
    def figure(peer, ours, bar=None, name=None):
        return Figure("peer_" + (name or peer), "ns", (peer, "ns"), (ours, "ns"), bar, OTHER_RUNTIME)

    read, own_part, counted = "ReadChecked", "ReadCheckedElsewhere", "Read/DUAL_WRITE"
    return [
        # Both sides read and compared at every call, latencies tracked and counted, all of it in one thread.
        figure("launchdarkly_migration_read_checked", read, ">= 50"),
        figure("launchdarkly_migration_read_checked_without_events", read),
        # The same for the thread that asks: here the other side is read and compared by the executor's threads.
        figure("launchdarkly_migration_read_checked", own_part, ">= 50",
               "launchdarkly_migration_read_checked_for_the_caller"),
        figure("launchdarkly_migration_read_dualwrite", counted),
        figure("launchdarkly_migration_read_dualwrite_without_events", counted),
        figure("launchdarkly_migration_variation_without_events", "RouteByHandle"),
        figure("launchdarkly_bool_variation_without_events", "RouteByHandle"),
        figure("flagd_core", "RouteByHandle"),
        figure("unleash_client", "RouteByHandle"),
        figure("growthbook", "RouteByHandle"),
    ]


def route_figures(suffix, bars):
    def figure(name, unit, subject, measure, against="echo"):
        return Figure(name + suffix, unit, (subject, measure), (against, measure), bars.get(name))

    return [
        figure("unary_route_rate", "calls/s", "route", "calls_per_s"),
        figure("unary_route_p50", "us", "route", "p50_us"),
        figure("unary_route_p99", "us", "route", "p99_us"),
        figure("unary_route_server_cpu", "us", "route", "server_cpu_us"),
        figure("echo_noise_rate", "calls/s", "echo_again", "calls_per_s"),
        figure("echo_noise_p99", "us", "echo_again", "p99_us"),
        figure("echo_noise_server_cpu", "us", "echo_again", "server_cpu_us"),
        figure("batch_route_decisions", "decisions/s", "batch", "decisions_per_s", "route"),
    ]


def fanout_figures(suffix, bars):
    def figure(name, unit, measure, against="bare"):
        return Figure(name + suffix, unit, ("fanout", measure), against and (against, measure), bars.get(name))

    return [
        figure("propagation_p50", "us", "p50_us"),
        figure("propagation_p99", "us", "p99_us"),
        figure("propagation_settled", "us", "settled_us"),
        figure("push_server_cpu", "us", "server_cpu_us"),
        figure("push_bytes", "B per stream", "message_bytes"),
        figure("push_serialisations", "per push", "encoded", None),
        figure("stream_memory", "KiB", "stream_kib", None),
        figure("stream_memory_over_bare", "KiB", "stream_kib"),
        figure("stream_memory_after_pushes", "KiB", "pushed_stream_kib"),
    ]


def ingest_figures():
    limit = ("limit", "calls_per_s")
    return [
        Figure("ingest_rate", "batches/s", ("ingest", "calls_per_s"), limit, ">= 0.6"),
        Figure("ingest_against_echo", "batches/s", ("ingest", "calls_per_s"), ("echo", "calls_per_s")),
        Figure("ingest_against_rocksdb", "batches/s", ("ingest", "calls_per_s"), ("rocksdb", "calls_per_s")),
        Figure("ingest_comparisons", "comparisons/s", ("ingest", "comparisons_per_s")),
        Figure("ingest_p99", "us", ("ingest", "p99_us")),
        Figure("ingest_server_cpu", "us", ("ingest", "server_cpu_us"), ("echo", "server_cpu_us")),
        # Of the write-ahead log: one for each commit of the server, which holds many batches.
        Figure("ingest_log_syncs_per_commit", "per commit", ("ingest", "log_syncs_per_commit"), None, "<= 1"),
        Figure("ingest_log_syncs", "per batch", ("ingest", "log_syncs_per_call")),
        Figure("ingest_syncs", "per batch", ("ingest", "syncs_per_call")),
    ]


def admin_figures():
    return [
        Figure("admin_update_p50", "us", ("update", "p50_us"), ("limit", "p50_us"), "<= 2"),
        Figure("admin_update_p99", "us", ("update", "p99_us")),
        Figure("admin_echo_p50", "us", ("echo", "p50_us")),
        Figure("admin_synced_write_p50", "us", ("rocksdb", "p50_us")),
        Figure("admin_syncs", "per update", ("update", "syncs_per_call")),
    ]


def gate_tick_figures():
    def subject(count):
        return f"gate_tick_{count}"

    figures = [Figure("gate_tick", "s", (subject(10000), "cpu_s"), (subject(10000), "limit_s"), "<= 1"),
               Figure("gate_tick_wall", "s", (subject(10000), "wall_s"), (subject(10000), "limit_s")),
               Figure("gate_tick_idle", "s", (subject(10000), "idle_cpu_s"), (subject(10000), "limit_s"))]
    return figures + [Figure(f"gate_tick_check_{count}", "ns", (subject(count), "check_ns"), (subject(1), "check_ns"))
                      for count in (1, 10, 100, 1000, 10000)]


def restart_figures():
    figures = [Figure("restart_ready", "ms", ("audit", "ready_ms"), ("created", "ready_ms"), "<= 1.5"),
               Figure("restart_cpu", "ms", ("audit", "cpu_ms"), ("created", "cpu_ms"), "<= 1.5"),
               Figure("restart_memory", "MiB", ("audit", "rss_mib"), ("created", "rss_mib"))]
    for measure, name, unit in (("ready_ms", "ready", "ms"), ("cpu_ms", "cpu", "ms"), ("rss_mib", "memory", "MiB")):
        figures += [Figure(f"restart_{name}_created", unit, ("created", measure), ("empty", measure)),
                    Figure(f"restart_{name}_windows", unit, ("windows", measure), ("created", measure))]
    return figures


def growth_figures():
    curves = {"route_by_handle": 10_000, "remote_route": 10_000, "publish": 10_000, "acknowledge": 10_000,
              "heartbeat": 10_000, "decide_pinned": 100_000}
    bars = {"growth_route_by_handle_10000": "<= 1.3"}
    return [Figure(f"growth_{curve}_{10 ** i}", "ns", (f"{curve}_{10 ** i}", "ns"), (f"{curve}_1", "ns"),
                   bars.get(f"growth_{curve}_{10 ** i}"))
            for curve, largest in curves.items() for i in range(len(str(largest)))]


def fanout_noise_figures(suffix):
    return [Figure("bare_fanout_noise_" + name + suffix, "us", ("bare_again", measure), ("bare", measure))
            for name, measure in (("p99", "p99_us"), ("server_cpu", "server_cpu_us"))]


def fanout_telemetry_figures():
    return [Figure("propagation_under_telemetry_" + name, "us", ("fanout_pressed", measure), ("fanout", measure))
            for name, measure in (("p50", "p50_us"), ("p99", "p99_us"), ("settled", "settled_us"))] + [
        Figure("telemetry_meanwhile", "batches/s", ("fanout_pressed", "reports_per_s"))]


PARTS = {
    "ingest": ingest_figures(),
    "admin": admin_figures(),
    "decision": decision_figures(),
    "gate": gate_figures(),
    "migrator": migrator_figures(),
    "peers": peers_figures(),
    "route": route_figures("", {"unary_route_rate": ">= 0.85", "unary_route_p99": "<= 1.3",
                                "batch_route_decisions": ">= 20"}),
    "gate_tick": gate_tick_figures(),
    "restart": restart_figures(),
    "retention": [Figure("database_size", "MiB", ("retention", "peak_mib"), ("retention", "third_mib"), "<= 1.2")],
    "growth": growth_figures(),
    "fanout_1000": fanout_figures("_1000", {"propagation_p99": "<= 1.3", "push_serialisations": "<= 1"})
                   + fanout_noise_figures("_1000"),
    "fanout_10000": fanout_figures("_10000", {"stream_memory": "<= 40", "push_serialisations": "<= 1"}),
    "fanout_large": fanout_figures("_large", {"push_serialisations": "<= 1"}),
    "fanout_telemetry": fanout_telemetry_figures(),
    "route_pinned": route_figures("_pinned", {"unary_route_server_cpu": "<= 1.1"}),
    "route_mtls": route_figures("_mtls", {"unary_route_server_cpu": "<= 1.1"}),
}


def json_documents(text):
    decoder = json.JSONDecoder()
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        document, at = decoder.raw_decode(text, at)
        yield document


def benchmark_rounds(documents):
    """One round for each run of the program: {(subject, measure): value}."""
    rounds = []
    for document in documents:
        measured = {}
        for run in document["benchmarks"]:
            if run["time_unit"] != "ns":
                raise ValueError(f"{run['name']}: expected ns, got {run['time_unit']}")
            # CPU time of the threads: what others do on the machine meanwhile does not count.
            measured[(run["name"], "ns")] = run["cpu_time"]
            for counter in ("allocations", "epochs_per_s"):
                if counter in run:
                    measured[(run["name"], counter)] = run[counter]
        rounds.append(measured)
    return rounds


def migrator_rounds(documents):
    """As benchmark_rounds, and the reads less what the service's own code in them costs."""
    rounds = benchmark_rounds(documents)
    for measured in rounds:
        for subject, measure in list(measured):
            if subject.startswith("Read"):
                own = measured[("BareCallbacks", measure)]
                measured[(subject + " beyond callbacks", measure)] = measured[(subject, measure)] - own
    return rounds


def peers_rounds(documents):
    """A round is a run of the benchmark and the run of the peers that follows it."""
    ours, theirs = documents[0::2], documents[1::2]
    rounds = benchmark_rounds(ours)
    for measured, document in zip(rounds, theirs, strict=True):
        measured.update({(peer, "ns"): ns for peer, ns in document["peers"].items()})
    return rounds


def route_rounds(documents):
    rounds = {}
    for document in documents:
        if "config" in document:
            continue
        measured = rounds.setdefault(document["round"], {})
        for measure, value in document.items():
            measured[(document["subject"], measure)] = value
    return [rounds[number] for number in sorted(rounds)]


# How the rounds of a part are read, where it is not by route_rounds.
ROUNDS = {"decision": benchmark_rounds, "gate": benchmark_rounds, "migrator": migrator_rounds,
          "peers": peers_rounds}


def median_interval(values):
    """95 % confidence interval of the median, by percentile bootstrap with a fixed seed."""
    prng = random.Random(SEED)
    medians = sorted(statistics.median(prng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return [medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]]


def reaches(bar, interval):
    kind, bound = bar.split()
    if kind == "<=":
        return interval[0] <= float(bound)
    if kind == ">=":
        return interval[1] >= float(bound)
    raise ValueError(f"no such bar: {bar}")


def rounded(number):
    return float(f"{number:.4g}")


def evaluate(figure, rounds):
    values = [measured[figure.of] for measured in rounds]
    ratios = None
    if figure.against is not None:
        ratios = [measured[figure.of] / measured[figure.against] for measured in rounds]
    interval = median_interval(ratios or values)
    against = None
    if figure.against is not None:
        against = {"name": figure.against[0],
                   "value": rounded(statistics.median(measured[figure.against] for measured in rounds))}
    evaluated = {
        "bench": figure.bench,
        "value": rounded(statistics.median(values)),
        "unit": figure.unit,
        "against": against,
        "ratio": rounded(statistics.median(ratios)) if ratios else None,
        "bar": figure.bar,
        "pass": reaches(figure.bar, interval) if figure.bar else None,
        "n": len(rounds),
        "spread": [rounded(bound) for bound in interval],
    }
    if figure.note is not None:
        evaluated["note"] = figure.note
    return evaluated


def print_table(figures):
    notes = list(dict.fromkeys(figure["note"] for figure in figures if "note" in figure))
    rows = [("figure", "median", "unit", "against", "ratio", "95 % interval", "bar", "")]
    for figure in figures:
        against = figure["against"]
        rows.append((
            figure["bench"] + (f" [{notes.index(figure['note']) + 1}]" if "note" in figure else ""),
            f"{figure['value']:g}", figure["unit"],
            f"{against['name']} {against['value']:g}" if against else "",
            f"{figure['ratio']:.2f}" if figure["ratio"] is not None else "",
            "{:.2f} to {:.2f}".format(*figure["spread"]), figure["bar"] or "",
            {True: "pass", False: "MISSED", None: ""}[figure["pass"]]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


def self_test():
    rounds = [{("a", "x"): 2.0 + i / 100, ("b", "x"): 1.0} for i in range(20)]
    met = evaluate(Figure("f", "ns", ("a", "x"), ("b", "x"), "<= 2.1"), rounds)
    assert met["pass"] and met["n"] == 20 and 2.0 <= met["spread"][0] <= met["ratio"] <= met["spread"][1] <= 2.2, met
    missed = evaluate(Figure("f", "ns", ("a", "x"), ("b", "x"), "<= 1.9"), rounds)
    assert missed["pass"] is False, missed
    assert evaluate(Figure("f", "ns", ("a", "x"), ("b", "x"), ">= 2"), rounds)["pass"]
    assert not evaluate(Figure("f", "ns", ("a", "x"), ("b", "x"), ">= 3"), rounds)["pass"]
    plain = evaluate(Figure("f", "ns", ("a", "x")), rounds)
    assert plain["ratio"] is None and plain["pass"] is None and plain["against"] is None, plain
    assert met == evaluate(Figure("f", "ns", ("a", "x"), ("b", "x"), "<= 2.1"), rounds), "not reproducible"
    for part, figures in PARTS.items():
        assert len({figure.bench for figure in figures}) == len(figures), f"{part}: two figures of one name"
    assert list(json_documents('{"a":1}\n {"b":2}\n')) == [{"a": 1}, {"b": 2}]
    bounded = route_rounds([{"round": 0, "subject": "ingest", "calls_per_s": 7.0},
                            {"round": 0, "subject": "limit", "calls_per_s": 10.0}])
    assert evaluate(PARTS["ingest"][0], bounded)["ratio"] == 0.7, bounded
    stream = Figure("f", "KiB", ("a", "x"), None, "<= 2")
    assert evaluate(stream, rounds)["pass"] is False, "a bar without a ratio is one of the value"
    assert evaluate(stream, [{("a", "x"): 2.0}])["pass"], "of one value, too"
    run = {"time_unit": "ns", "allocations": 1}
    document = {"benchmarks": [{"name": "Read/X", "cpu_time": 90, **run},
                               {"name": "BareCallbacks", "cpu_time": 20, **run}]}
    measured = migrator_rounds([document])[0]
    assert measured[("Read/X beyond callbacks", "ns")] == 70, measured
    assert measured[("Read/X beyond callbacks", "allocations")] == 0, measured
    measured = peers_rounds([document, {"peers": {"p": 900}}])[0]
    assert measured[("p", "ns")] == 900 and measured[("Read/X", "ns")] == 90, measured
    assert "note" not in plain and evaluate(Figure("f", "ns", ("a", "x"), note="n"), rounds)["note"] == "n"
    assert route_rounds([{"config": {}}, {"round": 0, "subject": "a", "x": 3}])[0][("a", "x")] == 3


def main(arguments):
    if arguments == ["--self-test"]:
        self_test()
        return 0
    if len(arguments) != 1 or arguments[0] not in [*PARTS, "table"]:
        print(__doc__, file=sys.stderr)
        return 2
    documents = list(json_documents(sys.stdin.read()))
    if arguments[0] == "table":
        print_table(documents)
        return 0
    part = arguments[0]
    rounds = ROUNDS.get(part, route_rounds)(documents)
    if not rounds:
        print(f"figures.py: {part}: nothing was measured", file=sys.stderr)
        return 1
    for figure in PARTS[part]:
        print(json.dumps(evaluate(figure, rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
