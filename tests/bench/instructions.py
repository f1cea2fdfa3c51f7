#!/usr/bin/env python3
"""Counts the instructions of what a request pays for, and fails when one has become clearly dearer.

  instructions.py [--build DIR]            checks against tests/golden/instructions.json
  instructions.py [--build DIR] --update   writes that file
  instructions.py --self-test

Times swing on a shared machine; instructions don't. They are counted by valgrind's callgrind over
decision_instructions, built with the release preset; what reading a clock costs is not among them. A count may
rise by 10 %; one that has fallen by more asks for --update, so that what was won is kept. Counts belong to one
compiler and processor family: with another one nothing is judged.
"""

import argparse
import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/instructions.json"
SOURCE = ROOT / "tests/bench/decision_instructions.cc"
CALLS = 10000
TOLERANCE = 0.10
PREFIX = "counted_"
COUNTED = re.compile(r"^COUNTED " + PREFIX + r"(\w+)\(", re.MULTILINE)
TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def counted(source):
    """What the program's source says that is counted."""
    names = COUNTED.findall(source)
    if not names:
        raise ValueError(f"{SOURCE}: nothing is COUNTED")
    return sorted(names)


def total(profile):
    """The instructions of a profile that callgrind wrote."""
    found = TOTALS.search(profile)
    if not found:
        raise ValueError("callgrind's profile has no totals:\n" + profile[:500])
    return int(found.group(1))


def run(command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        sys.exit(f"instructions.py: {command[0]} is not installed; run deploy/setup.sh")
    except subprocess.CalledProcessError as error:
        sys.exit(f"instructions.py: {' '.join(command)} failed:\n{error.stdout}{error.stderr}")


def count(program):
    """One run for each: callgrind counts only while that function is on the stack."""
    counts = {}
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "callgrind.out"
        for name in counted(SOURCE.read_text()):
            run(["valgrind", "--tool=callgrind", "--quiet", f"--toggle-collect={PREFIX}{name}",
                 f"--callgrind-out-file={out}", str(program), str(CALLS)])
            counts[name] = round(total(out.read_text()) / CALLS, 1)
    return counts


def toolchain(build):
    cache = (build / "CMakeCache.txt").read_text()
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.MULTILINE).group(1)
    version = run([compiler, "-dumpversion"]).strip().split(".")[0]
    kind = "clang" if "clang" in pathlib.Path(compiler).name else "gcc"
    return f"{kind} {version}, {platform.machine()}"


def judge(golden, counts):
    """(table rows, what is wrong)."""
    rows, wrong = [], []
    for name in sorted(golden.keys() | counts.keys()):
        was, now = golden.get(name), counts.get(name)
        rows.append((name, was, now))
        if was is None or now is None:
            what = "not in the golden file" if was is None else "no longer counted"
            wrong.append(f"{name}: {what}; see --update")
        elif now > was * (1 + TOLERANCE):
            wrong.append(f"{name}: {now} instructions a call, {now / was - 1:+.0%} against {was}: REGRESSION. Profile "
                         "it (valgrind --tool=callgrind); if the price is meant, say why in the commit and --update")
        elif now < was * (1 - TOLERANCE):
            wrong.append(f"{name}: {now} instructions a call, {now / was - 1:+.0%} against {was}: better; --update, "
                         "so that it stays so")
    return rows, wrong


def self_test():
    assert counted("COUNTED counted_b(int) {}\nCOUNTED counted_a() {}\n") == ["a", "b"]
    assert total("events: Ir\nfn=(1)\n1 2\ntotals: 4711\n") == 4711
    assert judge({"a": 100.0}, {"a": 109.0})[1] == []
    assert "REGRESSION" in judge({"a": 100.0}, {"a": 111.0})[1][0]
    assert "better" in judge({"a": 100.0}, {"a": 89.0})[1][0]
    assert "not in" in judge({}, {"a": 1.0})[1][0] and "no longer" in judge({"a": 1.0}, {})[1][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        self_test()
        return 0
    program = arguments.build / "tests/bench/decision_instructions"
    if not program.exists():
        sys.exit(f"instructions.py: no {program}; build it first: "
                 "cmake --preset release && ninja -C build/release decision_instructions")
    tools = toolchain(arguments.build)
    counts = count(program)
    if arguments.update:
        GOLDEN.write_text(json.dumps({"toolchain": tools, "instructions_per_call": counts}, indent=2) + "\n")
        print(f"wrote {GOLDEN.relative_to(ROOT)}")
        return 0
    golden = json.loads(GOLDEN.read_text())
    rows, wrong = judge(golden["instructions_per_call"], counts)
    for name, was, now in rows:
        print(f"{name:20} {now if now is not None else '-':>8} instructions a call (golden {was})")
    if golden["toolchain"] != tools:
        print(f"not judged: the golden counts are of {golden['toolchain']}, this build is of {tools}")
        return 0
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
