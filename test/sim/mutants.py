#!/usr/bin/env python3
"""mutants.py BUILD SCRATCH [NAME...]: bugs planted in the library; a simulation sees each.

Each one is an edit of one source file. The copy with the bug is compiled as the build does
it, linked in front of the library in place of the original, and the simulation of its table
runs, seeds after seeds, until it fails: a failed comparison, an assertion, a crash, a hang.
The same seeds must pass without the bug. With names (of bugs, or of a simulation): only
these, and what gave them away.
"""
import glob
import os
import subprocess
import sys
import threading
import time

from mutants_model import MUTANTS as OF_MODEL

TIMEOUT_S = 60            # of one run, which takes a few seconds

# Name, file, exact text (there once), text instead, what it breaks.
OF_STORE = [
    ("no-sync", "store/wal.c", "if (j->status == MEMPHIS_OK && j->sync)", "if (false)",
     "a batch is acknowledged when it is written, not when it is synced"),
    ("sync-every-second", "store/wal.c", "w->write.sync = wants_sync(w, broker_ns);",
     "w->write.sync = wants_sync(w, broker_ns) && w->end / MP_BLOCK_SIZE % 2 == 0;",
     "about every second batch is acknowledged unsynced"),
    ("roll-unsynced-name", "store/wal.c",
     's = e->rename(e, NEXT_NAME, j->name, &j->why);\n    if (s == MEMPHIS_OK)\n'
     '        s = e->dir_sync(e, "wal", &j->why);',
     "s = e->rename(e, NEXT_NAME, j->name, &j->why);",
     "the name of a new WAL file may be lost with what was acknowledged in it"),
    ("spare-unsynced-name", "store/wal.c",
     '/* before it is changed: it has no other name */\n'
     '        s = e->dir_sync(e, "wal", &j->why);', "/* */;",
     "a file that is taken over may come back under its old name"),
    ("start-unsynced-name", "store/wal.c", 's = e->dir_sync(e, "wal", err);', "s = MEMPHIS_OK;",
     "likewise of the file that a run begins with"),
    ("next-unsynced", "store/wal.c", "s = e->file_sync(e, j->file, &j->why);\n    return s;",
     "return s;", "a WAL file gets its name before its header is on disk"),
    ("durable-early", "store/wal.c", ".durable_upto = w->synced_upto,",
     ".durable_upto = w->end + w->batch_size,",
     "a batch claims that it is durable itself: a torn one is damage"),
    ("segment-unsynced", "store/flush.c", "s = e->file_sync(e, w->file, &f->why);",
     "s = MEMPHIS_OK;", "a meta slot names a segment that is not synced"),
    ("segment-unsynced-name", "store/flush.c", "s = sync_directory(f, f->parts[i].pid);",
     "(void)sync_directory;", "a meta slot names files whose names are not synced"),
    ("shard-unsynced-name", "store/flush.c", "s = e->dir_sync(e, shard, &f->why);",
     "s = MEMPHIS_OK;", "the directory of a partition may be lost with its files"),
    ("slot-one-place", "store/slot.c",
     "file_write(e, f, generation % 2 * MP_BLOCK_SIZE, &v, 1, err);",
     "file_write(e, f, 0, &v, 1, err);", "a torn slot was the only one"),
    ("slot-crc", "store/slot.c", "mp_get_u32(p + AT_CRC);",
     "mp_get_u32(p + AT_CRC) || p[AT_CRC] != 0;", "a torn slot counts"),
    ("slot-unsynced", "store/flush.c", "s = write_one_slot(f, &f->parts[i], serial);",
     "s = write_one_slot(f, &f->parts[i], false);",
     "WAL files go before the slots that make them unnecessary are on disk"),
    ("node-unsynced", "store/recover.c", "mp_slot_write(e, NODE_NAME, block, true, err);",
     "mp_slot_write(e, NODE_NAME, block, false, err);",
     "`node` may be older than what was done in its name"),
    ("wal-of-meta", "replica/space.c", "last_index[MP_SHARD_META - 1] <= meta &&",
     "last_index[MP_SHARD_META - 1] <= meta + 1 &&",
     "off by one: a WAL file goes with metadata that SQLite does not have yet"),
    ("wal-newest", "replica/space.c", "while (n + 1 < r->spans_count &&",
     "while (n < r->spans_count &&", "off by one: the newest WAL file goes, too"),
    ("node-unwritten", "store/flush.c", "s = mp_node_write(f->env, &f->node, &f->why);",
     "(void)mp_node_write;", "WAL files go before `node` says so"),
    ("base-by-one", "replica/space.c", "r->meta_safe : f->index;", "r->meta_safe : f->index + 1;",
     "`node` says that one entry more is in files than there is"),
    ("body-crc", "store/scan.c", "out->length - MP_GROUP_HEADER_SIZE) == out->body_crc;",
     "out->length - MP_GROUP_HEADER_SIZE) <= UINT32_MAX;",
     "a record counts though its body is torn"),
    ("no-copies", "replica/start.c", "if (!is_settled_now(rec, record->lsn))",
     "(void)is_settled_now;\n        if (true)",
     "what was found in the settled range is not written again"),
    ("copies-of-the-torn", "store/recover.c",
     "return s->durable_upto < s->end ? s->durable_upto : s->end;", "return s->end;",
     "what is in the page cache only is not written again"),
    ("no-settlement", "replica/start.c", "bool settle = !r->recovery.fresh &&",
     "bool settle = false &&", "an old tail stays open: a second start may judge it otherwise"),
    ("settlement-unread", "store/scan.c", "if (from < to)\n", "if (false)\n",
     "the scan does not know what an earlier start has settled"),
    ("replay-skips-none", "store/partition.c", "index <= p->flushed_index;",
     "index < p->flushed_index;", "replay repeats the newest entry that is in files"),
    ("replay-skips-one-more", "store/partition.c", "index <= p->flushed_index;",
     "index <= p->flushed_index + 1;", "replay skips an entry that is in no file"),
    ("flushed-by-one", "replica/space.c", ".flushed_index = has_changed(p)\n                                                             ? f->index\n",
     ".flushed_index = has_changed(p)\n                                                             ? f->index + 1\n",
     "a slot says that one entry more is in files than there is"),
    ("state-unsynced", "store/flush.c",
     "s = e->file_sync(e, file, &f->why);\n    e->file_close(e, file);\n    return s;\n}\n\n"
     "/* Both", "e->file_close(e, file);\n    return s;\n}\n\n/* Both",
     "a slot names a state file that is not synced"),
    ("state-removed-early", "store/flush.c",
     "f->status = write_slots(f);\n    if (f->status == MEMPHIS_OK)\n"
     "        f->status = remove_old(f);",
     "f->status = remove_old(f);\n    if (f->status == MEMPHIS_OK)\n"
     "        f->status = write_slots(f);",
     "old state and WAL files go before the slots are written"),
    ("page-cache-trusted", "replica/files.c", "if ((!r->recovery.clean || r->o.accept_loss) && !r->recovery.fresh)",
     "if (false)", "files that a killed process has left in the page cache are built upon"),
    ("left-overs-kept", "store/load.c", "if (p->is_rebuilt && p->logged_seq > 0)", "if (false)",
     "what an interrupted pass has left, torn, is taken for all that there is"),
    ("headerless-left", "store/load.c", "if (s == MEMPHIS_OK && !has_header)",
     "if (s == MEMPHIS_OK && count > 0 && !has_header)",
     "a segment of which nothing is left is damage at each start"),
    ("magic-unsealed", "store/layout.c", "mp_crc32c(0, p + AT_MAGIC, AT_CRC - AT_MAGIC)", "0",
     "a flipped version looks like a newer release"),
    ("evicted-unflushed", "store/chunk.c", "return c->is_flushed ? c : NULL;",
     "return c->is_open ? NULL : c;", "messages leave memory before they are in a segment"),
    ("floor-unkept", "replica/space.c", ".first_seq = p->floor,", ".first_seq = 1,",
     "purged messages are back when the WAL has gone"),
    ("dead-unkept", "store/partition.c", "put_ranges(&p->dead, MP_STATE_DEAD, out);", "",
     "deleted messages are back when the WAL has gone"),
    ("chain-halved", "replica/solo.c",
     "s->log.sink.apply(s->log.sink.ctx, index, time_ns, s->scratch, count, a->tag);",
     "s->log.sink.apply(s->log.sink.ctx, index, time_ns, s->scratch, (count + 1) / 2, a->tag);",
     "a chain of one append is applied half"),
    ("dropped-lives", "store/partition.c", "if (p != NULL)\n            remove_partition(t, p);",
     "if (p != NULL && !p->has_directory)\n            remove_partition(t, p);",
     "a partition with files is found again after its drop"),
    ("table-unkept", "store/partition.c", "shard_itself(t)->touched_index = index;",
     "(void)shard_itself(t);", "partitions without messages are gone when the WAL has gone"),
    ("left-overs-scanned", "store/scan.c", " || base < n->from)", ")",
     "WAL files that a flush has not removed yet are taken for the log"),
    ("damage-is-torn", "store/scan.c", "if (h->durable_upto > s->durable_upto)", "if (false)",
     "damage of what a later batch calls durable is taken for a torn tail"),
    ("tail-damage-is-torn", "store/scan.c",
     "if (st == MEMPHIS_OK && tail < s->durable_upto && s->files_count > 0)", "if (false)",
     "likewise when only `node` calls it durable"),
    ("torn-is-damage", "store/scan.c", "tail < s->durable_upto && s->files_count > 0)",
     "tail <= s->durable_upto && s->files_count > 0)", "a torn tail is taken for damage"),
    ("stale-epoch", "store/scan.c", "h.epoch != f->epoch || h.lsn != lsn)", "h.lsn != lsn)",
     "a batch of another use of the file counts"),
    ("wrong-lsn", "store/scan.c", "h.epoch != f->epoch || h.lsn != lsn)", "h.epoch != f->epoch)",
     "a batch counts that belongs elsewhere"),
    ("failed-slot-kept", "store/slot.c",
     "if (s != MEMPHIS_OK)\n        mp_slot_forget(e, name, generation);", "",
     "a slot whose sync has failed is built upon"),
    ("left-segment", "store/load.c",
     "if (first > l->expected)\n        return remove_left_over(l, first, path, err);", "",
     "a segment that no slot names is read"),
]

# Simulation, its table, its runs.
TABLES = [
    ("test/sim/test_crash", OF_STORE, ["1", "2", "3", "4", "5", "6"]),
    ("test/sim/test_model", OF_MODEL, ["1-30", "31-150", "151-600"]),
]


def run(command, timeout=600):
    """Its output and exit status; 124: it hangs."""
    p = subprocess.Popen(command, shell=isinstance(command, str), text=True,
                         errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        return p.communicate(timeout=timeout)[0], p.returncode
    except subprocess.TimeoutExpired:
        p.kill()
        return p.communicate()[0] + "\nit hangs", 124


def must(command):
    out, status = run(command)
    if status == 0:
        return out
    raise RuntimeError(f"{command}\n{out}")


class Build:
    """The build's own commands, with other names in them."""

    def __init__(self, folder, scratch, program):
        self.folder, self.scratch = folder, scratch
        self.make = f"make --no-print-directory B={folder} "
        self.program = f"{folder}/{program}"
        must(self.make + self.program)
        self.link = self.command(self.program, program + ".c", f"-o {self.program} ")
        self.test = self.compile(program + ".c", program + ".c",
                                 os.path.basename(program) + ".o")

    def command(self, target, changed, has):
        lines = must(self.make + f"-n -W {changed} {target}").replace("\\\n", "").split("\n")
        return [line for line in lines if has in line][-1]

    def compile(self, original, source, name):
        target = f"{self.folder}/{original[:-2]}.o"
        names = f"-c -o {target} {original}"
        made = f"-c -o {self.scratch}/{name} {source}"
        must(self.command(target, original, names).replace(names, "-w " + made))
        return f"{self.scratch}/{name}"

    def plant(self, name, path, old, new):
        """A program with that bug."""
        texts = {}
        for one in glob.glob(path):
            with open(one, encoding="utf-8") as f:
                texts[one] = f.read()
        times = sum(text.count(old) for text in texts.values())
        if times != 1:
            raise RuntimeError(f"its text stands {times} times in {path}")
        path, text = next(t for t in texts.items() if old in t[1])
        made = f"{self.scratch}/{name}"
        with open(made + ".c", "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))
        objects = f"{self.test} {self.compile(path, made + '.c', name + '.o')}"
        must(self.link.replace(f"-o {self.program} ", f"-o {made} ")
             .replace(self.program + ".o", objects))
        return made


def told(out):
    """The line of a failed run that says why."""
    lines = out.strip().split("\n")
    return next((s for s in lines if s.startswith("ERROR") or "ssert" in s), lines[-1])


class Suite:
    def __init__(self, build, mutants, runs, verbose):
        self.build, self.runs, self.verbose = build, runs, verbose
        self.counts, self.used = [0, 0], set()   # failed, passed; runs
        self.lock = threading.Lock()
        path, text = mutants[0][1:3]
        self.original = build.plant("without", "lib/" + path, text, text)

    def say(self, good, text):
        with self.lock:
            self.counts[good] += 1
            print(("ok - " if good else "FAILED - ") + text, flush=True)

    def mutant(self, name, path, old, new, breaks):
        program = self.build.plant(name, "lib/" + path, old, new)
        started = time.time()
        for seed in self.runs:
            out, status = run([program, seed], TIMEOUT_S)
            if status != 0:
                self.used.add(seed)
                self.say(True, f"caught: {name} (seed {seed}, {time.time() - started:.1f} s)"
                         + ("\n    " + told(out) if self.verbose else ""))
                return
        self.say(False, f"survived: {name}: {breaks}")

    def without(self, seed):
        out, status = run([self.original, seed], TIMEOUT_S)
        self.say(status == 0, f"seed {seed} passes without a bug"
                 + (": " + told(out) if status else ""))

    def each(self, do, items):
        items = iter(items)         # which both threads take from

        def work():
            for item in items:
                try:
                    do(*item)
                except Exception as e:
                    self.say(False, f"not run: {item[0]}: {e}")

        other = threading.Thread(target=work)
        other.start()
        work()
        other.join()


def main():
    names = sys.argv[3:]
    failed = passed = 0
    for program, table, runs in TABLES:
        all_of_it = not names or os.path.basename(program) in names
        chosen = [m for m in table if all_of_it or m[0] in names]
        if not chosen:
            continue
        suite = Suite(Build(*sys.argv[1:3], program), table, runs, len(names) > 0)
        suite.each(suite.mutant, chosen)
        suite.each(suite.without, [(seed,) for seed in sorted(suite.used)])
        failed += suite.counts[0]
        passed += suite.counts[1]
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
