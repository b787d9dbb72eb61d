#!/usr/bin/env python3
"""ids.py FILE...: counts the ids that the SDKs' programs have shown, from what they printed.

A verdict counts once per id: all tests of that id passed. Fails when a program shows fewer
ids than it should, when ids.txt says of an id that a program shows it and it did not (or the
other way round), and when an id has neither a program nor a reason. SDKs that no file speaks
of are left out. With --list: every id without a verdict, per SDK, and why.
"""
import os
import re
import sys

LEAST = {"py": 60, "js": 60, "go": 50, "java": 15}
NAMES = {"java-by-spec": "java"}
JAVA = "the Java SDK has producers and consumers only; the others show it"
LINE = re.compile(r"^(ok|FAILED) - (py|js|go|ws|java-by-spec) ((?:[A-Z]+-\d\d )+)")


def read_list(path):
    """Id -> (SDKs that show it, why the others do not)."""
    out = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            cells = [c.strip() for c in line.split("|")]
            ids = re.match(r"([A-Z]+)-(\d\d)\.\.\1-(\d\d)$", cells[0])
            if ids:
                for n in range(int(ids[2]), int(ids[3]) + 1):
                    out[f"{ids[1]}-{n:02}"] = (set(), cells[1])
            else:
                shown = set(cells[2].split()) - {"-"}
                out[cells[0]] = (shown, cells[3] if len(cells) > 3 else "")
    return out


def read_verdicts(paths):
    """SDK -> id -> did all of its tests pass."""
    out = {}
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                found = LINE.match(line)
                if found:
                    sdk = out.setdefault(NAMES.get(found[2], found[2]), {})
                    for one in found[3].split():
                        sdk[one] = sdk.get(one, True) and found[1] == "ok"
    return out


def faults_of(sdk, verdicts, known):
    shown = {one for one, good in verdicts.items() if good}
    for one in sorted(verdicts.keys() - known.keys()):
        yield f"{sdk} {one}: there is no such id in ids.txt"
    for one, (programs, why) in known.items():
        if sdk in programs and one not in shown:
            yield f"{sdk} {one}: no verdict"
        elif sdk not in programs and one in verdicts:
            yield f"{sdk} {one}: it is shown, and ids.txt does not say so"
        elif sdk not in programs and sdk not in ("java", "ws") and not why:
            yield f"{sdk} {one}: neither a verdict nor a reason"
    if len(shown) < LEAST.get(sdk, 0):
        yield f"{sdk}: {len(shown)} ids, {LEAST[sdk]} are wanted"


def main():
    paths = [a for a in sys.argv[1:] if a != "--list"]
    known = read_list(os.path.join(os.path.dirname(__file__), "ids.txt"))
    faults, counts = [], []
    for sdk, verdicts in read_verdicts(paths).items():
        name = "java-by-spec" if sdk == "java" else sdk
        counts.append(f"{name} {sum(verdicts.values())}")
        faults += faults_of(sdk, verdicts, known)
        if "--list" in sys.argv and sdk != "ws":
            for one, (_, why) in known.items():
                if not verdicts.get(one):
                    print(f"{name} {one}: {why or JAVA}")
    print(f"ids shown: {', '.join(counts)} of {len(known)}")
    for fault in faults:
        print("FAILED - ids: " + fault)
    return 1 if faults else 0


sys.exit(main())
