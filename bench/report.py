"""bench/report.py: what bench/run measured, as a table and against the goals."""
import statistics

OURS, ALWAYS, DEFAULT = "memphisd", "nats always", "nats default"
rows = {}  # (label, side) -> promise, values (one per run), note; in order of arrival

# A workload, then pairs: a factor, and of what: None (absolute), a side of the same
# workload, or another workload of ours.
AT_LEAST = [
    ("produce 128 B, 1 in flight", 0.7, "ceiling", 1, ALWAYS),
    ("produce 128 B, pipelined", 1.2e6, None, 3, DEFAULT, 5, DEFAULT, 50, ALWAYS),
    ("produce 1 KiB, pipelined", 350e3, None, 5, DEFAULT, 50, ALWAYS),
    ("produce 128 B, 1,000 stations", 0.8, "produce 128 B, pipelined", 10, DEFAULT),
    ("consume 128 B, acks", 1, DEFAULT),
    ("consume 1 KiB, acks", 800e3, None, 1, DEFAULT),
    ("in-process produce 128 B", 2e6, None),
    ("in-process produce 128 B, memory", 5e6, None),
]
AT_MOST = [
    ("latency at 1,000/s, p50, ms", 0.3, None, 1, ALWAYS, 1, DEFAULT),
    ("latency at 1,000/s, p99, ms", 2, None, 1, ALWAYS, 1, DEFAULT),
    ("start to ready, empty, ms", 10, None, 1, DEFAULT),
    ("resident, empty, MB", 6, None, 1, DEFAULT),
    ("resident, 10,000 idle stations, MB", 60, None, 1, DEFAULT),
]


def record(label, side, value, note=""):
    """One run of a side (anything with name and promise)."""
    row = rows.setdefault((label, side.name), {"promise": side.promise, "values": []})
    row["values"].append(value)
    row["note"] = note


def median(label, side):
    row = rows.get((label, side))
    return statistics.median(row["values"]) if row else None


def number(v):
    return f"{v:,.0f}" if v >= 100 else f"{v:.2f}"


def table():
    heads = ("workload", "side", "acknowledged", "median", "min..max", "ours/it",
             "last run")
    lines = [heads]
    for (label, side), row in rows.items():
        ours, values = median(label, OURS), row["values"]
        ratio = f"{ours / median(label, side):.2f}" if ours and side != OURS else ""
        spread = f"{number(min(values))}..{number(max(values))}"
        lines.append((label, side, row["promise"], number(median(label, side)), spread,
                      ratio, row["note"]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    lines.insert(1, ["-" * w for w in widths])
    for line in lines:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |")


def goal(label, factor, of, least):
    """One line: of is None, the name of a side, or another workload of ours."""
    text = f"{label} {'>=' if least else '<='} " + (f"{factor:g} x {of}" if of else
                                                     number(factor))
    own = any(label_ == of for label_, _ in rows)
    ours = median(label, OURS)
    theirs = median(of, OURS) if own else median(label, of) if of else 1
    if ours is None or theirs is None:
        return f"  {'not measured':13} {text}"
    have = ours / theirs
    share = have / factor if least else factor / have
    verdict = "reached" if share >= 1 else f"{share:.0%} of it"
    return f"  {verdict:13} {text}: {number(have)}"


def goals():
    for least, goals_ in (True, AT_LEAST), (False, AT_MOST):
        for label, *pairs in goals_:
            for factor, of in zip(pairs[::2], pairs[1::2]):
                print(goal(label, factor, of, least))
