#!/usr/bin/env python3
"""Checks every #include against the layers of docs/architecture.md, and a few rules of the house.

Prints one line per offence, `file:line: what is wrong`, and exits 1 if there is any.

  tests/lint/layers.py            checks the repository
  tests/lint/layers.py --self-test  checks that each rule can fail
"""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A layer is a folder; it may include itself and what is listed. Longest prefix wins.
LAYERS = {
    "core/base": [],
    "core/domain": ["core/base"],
    "core/wire": ["core/base", "core/domain", "proto"],
    "server/store": ["core/base", "core/domain"],
    "server/store/proto_record_codec": ["core/base", "core/domain", "core/wire", "proto", "server/store"],
    "server/engine": ["core/base", "core/domain", "server/store"],
    "server/service": ["core/base", "core/domain", "core/wire", "proto", "server/engine"],
    "server/http": ["core/base", "core/domain", "server/engine"],
    "server/app": ["core", "proto", "server"],
    "client/sdk": ["core/base", "core/domain"],
    "client/sdk/src/grpc_transport": ["core", "proto", "client/sdk"],
    "client/cli": ["core", "proto"],
    "client/examples": ["core/base", "client/sdk"],
}

# Third-party headers that a layer must stay free of (prefix of the include path).
FORBIDDEN = {
    "core/base": ["grpc", "google/", "rocksdb/", "prometheus/", "boost/"],
    "core/domain": ["grpc", "google/", "rocksdb/", "prometheus/", "boost/", "thread", "mutex", "condition_variable",
                    "chrono", "core/base/log.h", "core/base/mutex.h", "core/base/clock.h", "iostream", "fstream"],
    "core/wire": ["grpc", "rocksdb/", "prometheus/", "boost/"],
    "server/engine": ["grpc", "google/", "rocksdb/", "prometheus/", "boost/"],
    "server/service": ["rocksdb/", "prometheus/"],
    "client/sdk/lockstep": ["grpc", "google/", "rocksdb/", "prometheus/", "boost/"],
}

OWN = ("core/", "server/", "client/", "lockstep/v1/", "lockstep/storage/", "lockstep/")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def longest(table, path):
    best = None
    for prefix in table:
        if (path == prefix or path.startswith(prefix + "/") or path.startswith(prefix + "_")
                or path.startswith(prefix + ".")) and (best is None or len(prefix) > len(best)):
            best = prefix
    return best


def folder_of(include):
    """The layer path that an include of ours names."""
    if re.match(r"lockstep/(v1|storage)/", include) or include.startswith("google/rpc/") \
            or include.startswith("grpc/health/"):
        return "proto"
    if include.startswith("lockstep/"):
        return "client/sdk/" + include
    return include


def check_source(path, text):
    offences = []
    layer = longest(LAYERS, path)
    if layer is None:
        return [(1, "is in no layer: add its folder to LAYERS or move it")]
    allowed = LAYERS[layer] + [layer]
    banned_key = longest(FORBIDDEN, path)
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        include = match.group(1)
        if banned_key and any(include == b or include.startswith(b) for b in FORBIDDEN[banned_key]):
            offences.append((number, f"{banned_key} must not include {include}"))
            continue
        target = folder_of(include)
        if target == "proto" or include.startswith(OWN):
            if not any(target == a or target.startswith(a + "/") or target.startswith(a + "_")
                       or target.startswith(a + ".") for a in allowed):
                offences.append((number, f"{layer} must not include {include}; it may include {', '.join(allowed)}"))
    if path.endswith(".h") and "#pragma once" not in text:
        offences.append((1, "header without #pragma once"))
    return offences


def check_house(path, text):
    offences = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            offences.append((number, "open end: do it, or put it in an issue"))
        if re.search(r"\bstd::string_view\b", line) and "constexpr" not in line:
            offences.append((number, "take absl::string_view (docs/adr/0002-dependencies.md)"))
    return offences


def check_tests_are_listed(root):
    """A test file that no CMakeLists.txt names would silently not run."""
    offences = []
    listed = "\n".join(p.read_text() for p in (root / "tests").rglob("CMakeLists.txt"))
    for test in sorted((root / "tests").rglob("*_test.cc")):
        if test.name not in listed:
            offences.append((str(test.relative_to(root)), 1, "is in no CMakeLists.txt, so it never runs"))
    return offences


def check_readme_example(root):
    """The README's example is the one that is compiled and run."""
    source = (root / "tests/client/readme_example.cc").read_text()
    example = source.split("// README: begin\n")[1].split("// README: end")[0].strip("\n")
    if "```cpp\n" + example + "\n```" in (root / "README.md").read_text():
        return []
    return [("README.md", 1, "the SDK example differs from tests/client/readme_example.cc")]


def check_tree(root):
    offences = []
    for folder in ("core", "server", "client", "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            relative = str(path.relative_to(root))
            text = path.read_text()
            found = check_house(relative, text)
            if folder != "tests":
                found += check_source(relative, text)
            offences += [(relative, number, what) for number, what in found]
    return offences + check_tests_are_listed(root) + check_readme_example(root)


def self_test():
    cases = [
        ("core/domain/x.cc", '#include "core/wire/y.h"\n'),
        ("core/domain/x.cc", "#include <mutex>\n"),
        ("core/domain/x.cc", '#include "core/base/log.h"\n'),
        ("server/engine/x.cc", '#include "lockstep/v1/migration.pb.h"\n'),
        ("client/sdk/lockstep/client.h", '#pragma once\n#include "server/engine/registry.h"\n'),
        ("client/sdk/lockstep/client.h", "#pragma once\n#include <grpcpp/grpcpp.h>\n"),
        ("server/store/store.h", "int x;\n"),
        ("elsewhere/x.cc", "int x;\n"),
    ]
    for path, text in cases:
        assert check_source(path, text), f"no offence found in {path}: {text}"
    assert not check_source("server/store/proto_record_codec.cc", '#include "core/wire/migration.h"\n')
    assert not check_source("client/sdk/src/grpc_transport.cc", '#include "lockstep/v1/routing_service.grpc.pb.h"\n')
    assert check_house("x.cc", "// TO" + "DO later\n")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "tests/a").mkdir(parents=True)
        (root / "tests/a/lost_test.cc").write_text("")
        assert check_tests_are_listed(root)
    print("layers.py: self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    offences = check_tree(ROOT)
    for path, number, what in offences:
        print(f"{path}:{number}: {what}")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
