#!/usr/bin/env python3
"""Draws docs/gate-example/evidence.svg: the evidence on the check "errors" in a healthy and in a bad run.

Makes up traffic, asks `lockstep gate replay` for the verdict of each 5 s as it goes (so that the traffic follows the
verdicts, as it would in production), and draws what it answers. The same seed gives the same picture.

    docs/gate-example/picture.py --lockstep build/client/cli/lockstep > docs/gate-example/evidence.svg
"""

import argparse
import datetime
import json
import math
import os
import random
import subprocess
import sys

START = 1_767_949_200  # 2026-01-09 09:00:00 UTC
READS_PER_SECOND = 400
WRITES_PER_SECOND = 40
OLD_ERROR_RATE = 0.001
BUCKET_SECONDS = 5

WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP = 900, 250, 60, 50, 62
LOW, HIGH = -4.0, 10.0  # of ln E
STAGES = {"STAGE_DUAL_WRITE": "DUAL_WRITE", "STAGE_SHADOW_READ": "SHADOW_READ"}
ADVANCE, ROLL_BACK = "#1a7f5a", "#c0392b"


def poisson(rng, mean):
    """Knuth's method, in parts small enough for it."""
    count = 0
    while mean > 0:
        part = min(mean, 50.0)
        mean -= part
        limit, product = math.exp(-part), rng.random()
        while product > limit:
            count += 1
            product *= rng.random()
    return count


def timestamp(second):
    return datetime.datetime.fromtimestamp(second, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def bucket(rng, second, stage, share, new_error_rate):
    stats = {"writes": {"mirrorOk": str(poisson(rng, WRITES_PER_SECOND * BUCKET_SECONDS))}}
    reads = READS_PER_SECOND * BUCKET_SECONDS
    for arm, part, rate in (("oldArm", 1 - share, OLD_ERROR_RATE), ("newArm", share, new_error_rate)):
        bad = poisson(rng, reads * part * rate)
        stats[arm] = {"requests": str(bad + poisson(rng, reads * part * (1 - rate))), "errors": str(bad)}
    if stage != "STAGE_DUAL_WRITE":
        stats["comparisons"] = [{"outcome": "COMPARISON_OUTCOME_MATCH", "count": str(poisson(rng, reads))}]
    return {"bucket": {"startTime": timestamp(second), "stats": stats}}


def run(lockstep, plan, seed, new_error_rate, onset, minutes):
    """Yields (seconds since the start, answer) for each bucket, until the migration has ended."""
    rng = random.Random(seed)
    replay = subprocess.Popen([lockstep, "gate", "replay", "-f", "-", "--plan", plan, "-o", "jsonl"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stage, share = "STAGE_DUAL_WRITE", 0.0
    for offset in range(0, minutes * 60, BUCKET_SECONDS):
        rate = new_error_rate if offset >= onset else OLD_ERROR_RATE
        replay.stdin.write(json.dumps(bucket(rng, START + offset, stage, share, rate)) + "\n")
        replay.stdin.flush()
        answer = json.loads(replay.stdout.readline())
        yield offset + BUCKET_SECONDS, answer
        decision = answer.get("lastDecision")
        if decision:
            stage, share = decision["after"]["stage"], decision["after"]["readWeight"] / 100_000
            if decision["runState"] != "RUN_STATE_RUNNING":
                break
    replay.stdin.close()
    replay.wait()


class Panel:
    def __init__(self, title, top, seconds, answers, onset):
        self.top, self.seconds, self.answers, self.onset = top, seconds, answers, onset
        self.out = [f'<text x="{LEFT}" y="{top - 12}" class="title">{title}</text>']

    def x(self, second):
        return LEFT + (WIDTH - LEFT - 20) * second / self.seconds

    def y(self, value):
        value = min(max(value, LOW), HIGH)
        return self.top + PANEL_HEIGHT * (HIGH - value) / (HIGH - LOW)

    def line(self, x1, y1, x2, y2, cls, color="#999"):
        self.out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}" stroke="{color}"/>')

    def text(self, x, y, text, anchor="start", color="#444"):
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{text}</text>')

    def curve(self, points, color):
        path = " ".join(f"{self.x(s):.1f},{self.y(v):.1f}" for s, v in points)
        self.out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')

    def draw(self):
        bottom = self.top + PANEL_HEIGHT
        for value in range(int(LOW), int(HIGH) + 1, 2):
            self.line(LEFT, self.y(value), WIDTH - 20, self.y(value), "grid", "#e4e4e4")
            self.text(LEFT - 8, self.y(value) + 4, str(value).replace("-", "−"), "end")
        for minute in range(0, self.seconds // 60 + 1, 2):
            self.text(self.x(minute * 60), bottom + 16, f"{minute} min", "middle")
        self.steps(bottom)
        if self.onset:
            self.line(self.x(self.onset), self.top + 30, self.x(self.onset), bottom, "step", "#333")
            self.text(self.x(self.onset) - 4, bottom - 24, "new breaks", "end", "#333")
        self.evidence()
        return "\n".join(self.out)

    def steps(self, bottom):
        begin, name = 0, "DUAL_WRITE"
        for second, answer in self.answers:
            decision = answer.get("lastDecision")
            if not decision and second != self.answers[-1][0]:
                continue
            middle, width = (self.x(begin) + self.x(second)) / 2, self.x(second) - self.x(begin)
            short = name.removeprefix("CANARY_READ ").replace("_READ", "_ READ").split("_ ")
            for i, part in enumerate([name] if 8.4 * len(name) < width else short):
                self.text(middle, self.top + 14 + 14 * i, part, "middle")
            if not decision:
                continue
            color = ROLL_BACK if decision["action"] == "rollback" else ADVANCE
            self.line(self.x(second), self.top, self.x(second), bottom, "step", color)
            words = {"rollback": "rolled back", "succeed": "done"}.get(decision["action"], decision["action"])
            self.text(self.x(second) + (4 if second < self.seconds * 0.93 else -4), bottom - 6, words,
                      "start" if second < self.seconds * 0.93 else "end", color)
            after = decision["after"]
            name = STAGES.get(after["stage"], f'CANARY_READ {after["readWeight"] / 1000:g} %')
            begin = second

    def evidence(self):
        curves, thresholds = {"Advance": [], "Rollback": []}, {"Advance": {}, "Rollback": {}}
        for second, answer in self.answers:
            check = next((c for c in answer["gate"]["checks"] if c["check"] == "errors"), None)
            if check is None:
                continue
            for kind, points in curves.items():
                value = float(str(check["logEvidence" + kind]).replace("Infinity", "inf"))
                if value > -math.inf:  # nothing before three subjects are affected
                    points.append((second, value, answer["step"]))
                # Seconds from and until which it is needed, by its value: a step has its own part of alpha_advance.
                needed = check["logThreshold" + kind]
                first, _ = thresholds[kind].get(needed, (second, second))
                thresholds[kind][needed] = (first, second)
        for kind, color in (("Advance", ADVANCE), ("Rollback", ROLL_BACK)):
            label = "to advance" if kind == "Advance" else "to roll back"
            for needed, (first, last) in thresholds[kind].items():
                self.line(self.x(first - BUCKET_SECONDS), self.y(needed), self.x(last), self.y(needed), "threshold", color)
            if thresholds[kind]:
                needed, (first, _) = next(iter(thresholds[kind].items()))
                self.text(self.x(first - BUCKET_SECONDS) - 6, self.y(needed) + 4, f"needed {label}: {needed:.2f}", "end", color)
            for step in sorted({p[2] for p in curves[kind]}) if kind == "Advance" else [None]:
                self.curve([p[:2] for p in curves[kind] if step is None or p[2] == step], color)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lockstep", required=True, help="the command")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    plan = os.path.join(os.path.dirname(os.path.abspath(__file__)), "plan.yaml")
    onset = 330
    runs = [("Healthy: 0.1 % of reads fail on either side", None,
             list(run(args.lockstep, plan, args.seed, OLD_ERROR_RATE, 0, 30))),
            ("Bad: from 5.5 min on, 1.5 % of reads fail on the new side", onset,
             list(run(args.lockstep, plan, args.seed, 0.015, onset, 30)))]
    seconds = max(answers[-1][0] for _, _, answers in runs) + 20
    height = TOP + 2 * PANEL_HEIGHT + GAP + 36
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">')
    print("<title>ln E of the check errors over time, in a healthy and in a bad run</title>")
    print("<style>.title{font-size:15px;font-weight:bold;fill:#222}.threshold{stroke-dasharray:7 4;stroke-width:1.3}"
          ".step{stroke-dasharray:2 3}.grid{stroke-width:1}</style>")
    print(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
    print(f'<text x="{WIDTH - 20}" y="20" text-anchor="end"><tspan fill="{ADVANCE}">━ ln E for advancing</tspan>'
          f'<tspan dx="16" fill="{ROLL_BACK}">━ ln E for rolling back</tspan></text>')
    for i, (title, broken_at, answers) in enumerate(runs):
        print(Panel(title, TOP + i * (PANEL_HEIGHT + GAP), seconds, answers, broken_at).draw())
    print("</svg>")


if __name__ == "__main__":
    sys.exit(main())
