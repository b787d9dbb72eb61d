#!/usr/bin/env python3
"""switched_off.py BUILD SCRATCH [ID...]: each test sees that its feature is missing.

A feature is switched off by an edit of one source file: memphisd is built with that file in
place of the original, and the test of that id, of one SDK, must fail against it; all of them
pass against memphisd itself. With ids: only those.

switched_off.py --check: that the edits still fit the sources, which costs nothing.
"""
import os
import re
import subprocess
import sys
import threading

# Id, SDK, file, exact text (there once), text instead.
SWITCHES = [
    ("CON-03", "go", "lib/broker/auth.c", "c->kind = is_fit ? TOKEN : UNFIT;", "c->kind = UNFIT;"),
    ("CON-05", "py", "lib/broker/auth.c",
     "return row != NULL && row->type == MP_USER_MANAGEMENT ? NULL : row;", "return row;"),
    ("CON-06", "js", "lib/proto/session.c", 'violation_text[] = "Authorization Violation"',
     'violation_text[] = "No"'),
    ("CON-07", "py", "lib/broker/auth.c", '"$1", 2) == 0)', '"$1", 2) == 7)'),
    ("CON-23", "js", "lib/proto/sdk_station.c", "if (b->partitions == 0)", "if (false)"),
    ("STA-02", "go", "lib/proto/sdk_client.c",
     "if (read_producer(c, r, &err) != MEMPHIS_OK)\n        mp_sdk_refuse(r, err.message);\n"
     "    else\n        mp_station_ensure(c->broker, r->station, true,",
     "if (read_producer(c, r, &err) != MEMPHIS_OK)\n        mp_sdk_refuse(r, err.message);\n"
     "    else\n        mp_station_ensure(c->broker, r->station, false,"),
    ("STA-03", "py", "lib/proto/sdk.c", "mp_fold_lower(out, size);", ""),
    ("STA-05", "js", "lib/broker/station.c", "b->station_removed(b, r->name);", "(void)0;"),
    ("STA-07", "py", "lib/stream/stream.c", "mp_stream_limit_age(s);\n    else if",
     "(void)0;\n    else if"),
    ("STA-08", "js", "lib/stream/stream.c", "mp_stream_limit_messages(s, s->settings.limit_value);",
     "(void)0;"),
    ("STA-09", "go", "lib/stream/stream.c", "mp_stream_limit_bytes(s, s->settings.limit_value);", "(void)0;"),
    ("STA-10", "py", "lib/stream/acked.c", "if (s->settings.limit != MP_LIMIT_ACKED)", "if (true)"),
    ("STA-12", "js", "lib/broker/station.c", "s->settings.storage == MP_STORAGE_MEMORY ?", "false ?"),
    ("STA-15", "go", "lib/proto/sdk_station.c",
     "s->partitions = (uint32_t)mp_sdk_clamp(b->partitions, INT32_MIN, INT32_MAX);",
     "s->partitions = 1;"),
    ("STA-20", "py", "lib/api/api_session.c", "o->max_payload ? o->max_payload :", "false ? 0 :"),
    ("STA-21", "js", "lib/stream/publish.c", "if (id.size > 0 && mp_dedup_find(",
     "if (false && mp_dedup_find("),
    ("STA-23", "go", "lib/admin/admin_station.c",
     "mp_station_purge(s, (uint32_t)partition, mp_admin_then_done(c));",
     'mp_admin_done(c, MEMPHIS_OK, "");'),
    ("STA-24", "py", "lib/admin/admin_station.c",
     "mp_station_remove_messages(s, (uint32_t)partition, seqs, n,\n"
     "                                   mp_admin_then_done(c));",
     'mp_admin_done(c, MEMPHIS_OK, "");'),
    ("STA-28", "py", "lib/broker/dls.c", "s->settings.dls_poison && !g->plain;", "!g->plain;"),
    ("PRO-06", "js", "lib/stream/publish.c", "e.headers = m->headers;", ""),
    ("PRO-14", "go", "lib/stream/publish.c", "e.headers = m->headers;", ""),
    ("CSM-05", "js", "lib/stream/deliver.c", "done = mp_group_ack(&g->group, seq);", "done = false;"),
    ("CSM-06", "go", "lib/stream/deliver.c", 'if (begins(v, "-NAK"))', "if (false)"),
    ("CSM-07", "js", "lib/broker/dls.c", "if (g == NULL || g->plain || !s->settings.dls_poison ||",
     "if (true ||"),
    ("CSM-08", "py", "lib/stream/group.c", "if (delay_ns == 0) {", "if (true) {"),
    ("CSM-09", "js", "lib/stream/group.c",
     "if (later(i->time_ns, g->config.ack_wait_ns) > now_ns)", "if (true)"),
    ("CSM-10", "go", "lib/stream/group.c",
     "if (g->config.deliveries_max > 0 && deliveries >= g->config.deliveries_max) {", "if (false) {"),
    ("CSM-11", "py", "lib/broker/client.c", "*n = r->start_sequence;", "*n = 1;"),
    ("CSM-12", "go", "lib/broker/client.c", "} else if (r->last_messages > 0) {", "} else if (false) {"),
    ("CSM-13", "js", "lib/proto/sdk_client.c",
     "if (b->start_sequence > 1 && b->last_messages > -1)", "if (false)"),
    ("CSM-15", "py", "lib/stream/deliver.c", "mp_buf_put_decimal(out, wall_of(g, e->time_ns));",
     "mp_buf_put_decimal(out, wall_of(g, now_of(g)));"),
    ("CSM-20", "js", "lib/proto/jsapi_consumer.c",
     'mp_json_put_uint(w, "num_pending", mp_stream_group_unseen(g));',
     'mp_json_put_uint(w, "num_pending", 0);'),
    ("CSM-23", "go", "lib/broker/client.c",
     "if (row != NULL && mp_station_is_ready(s) && !has_active_member(s, row))", "if (false)"),
    ("CSM-24", "py", "lib/proto/jsapi.c", "404, 10059, MP_TEXT_STREAM_NOT_FOUND", '404, 10059, "no"'),
    ("DLS-02", "js", "lib/broker/dls.c",
     "return s != NULL && s->settings.dls_poison && !g->plain;", "return false && s;"),
    ("DLS-03", "go", "lib/proto/sdk_dls.c", "if (s != NULL && s->settings.dls_schema &&", "if (false &&"),
    ("DLS-06", "py", "lib/broker/dls_resend.c", "send_to(row, g, letter);", "(void)send_to;"),
    ("DLS-08", "js", "lib/admin/admin_dls.c",
     "mp_dls_drop(s, ids.items, ids.count, mp_admin_then_done(c));",
     'mp_admin_done(c, MEMPHIS_OK, "");'),
    ("DLS-09", "go", "lib/proto/sdk_dls.c",
     "mp_dls_settle(c->broker, id, mp_slice_text(c->body.group));", "(void)id;"),
    ("DLS-10", "py", "lib/broker/dls.c", "if (name == NULL || name[0] == 0)", "if (true)"),
    ("DLS-13", "js", "lib/broker/dls.c", "row_of_message(d, s->pid, dying->seq);", "NULL;"),
    ("USR-05", "go", "lib/broker/user.c", "if (!upper || !lower || !digit || !sign)", "if (false)"),
    ("USR-07", "py", "lib/broker/user.c", "b->starting || b->user_changed == NULL)",
     "b->starting || true)"),
    ("USR-09", "js", "server/users.c", "if (has_users)", "if (true)"),
    ("USR-10", "go", "lib/broker/permission.c",
     "if (g == NULL)\n        return true;\n    for (int i = 0; i < 2; i++)\n        if ((what",
     "if (true)\n        return true;\n    for (int i = 0; i < 2; i++)\n        if ((what"),
    ("USR-11", "py", "lib/broker/permission.c", "} else if (star != SIZE_MAX) {", "} else if (false) {"),
    ("USR-12", "js", "lib/broker/user.c", "c->row.description = keep(c, from->description);",
     "c->row.description = keep(c, NULL);"),
]


def run(command, **env):
    p = subprocess.run(command, shell=isinstance(command, str), text=True, errors="replace",
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                       env={**os.environ, **env}, check=False)
    return p.stdout, p.returncode


def must(command):
    out, status = run(command)
    if status == 0:
        return out
    raise RuntimeError(f"{command}\n{out}")


def source(path, old):
    """Its text, when `old` stands in it once."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if text.count(old) != 1:
        raise RuntimeError(f"its text stands {text.count(old)} times in {path}")
    return text


class Build:
    """The build's own commands, with other names in them."""

    def __init__(self, folder, scratch):
        self.folder, self.scratch = folder, scratch
        self.make = f"make --no-print-directory B={folder} "
        must(self.make + f"{folder}/memphisd")
        self.link = self.command(f"{folder}/memphisd", "server/main.c", f"-o {folder}/memphisd ")

    def command(self, target, changed, has):
        lines = must(self.make + f"-n -W {changed} {target}").replace("\\\n", "").split("\n")
        return [line for line in lines if has in line][-1]

    def without(self, name, path, old, new):
        """A memphisd with that edit."""
        made = f"{self.scratch}/{name}"
        with open(made + ".c", "w", encoding="utf-8") as f:
            f.write(source(path, old).replace(old, new))
        target = f"{self.folder}/{path[:-2]}.o"
        names = f"-c -o {target} {path}"
        must(self.command(target, path, names)
             .replace(names, f"-w -I{os.path.dirname(path)} -c -o {made}.o {made}.c"))
        link = self.link.replace(f"-o {self.folder}/memphisd ", f"-o {made} ")
        if target in link:  # a file of the server
            link = link.replace(target, made + ".o")
        else:
            link = link.replace(f"{self.folder}/libmemphis.a", f"{made}.o {self.folder}/libmemphis.a")
        must(link)
        return made


class Suite:
    def __init__(self, build):
        self.build, self.counts, self.lock = build, [0, 0], threading.Lock()
        self.ports = [21000, 22000]

    def say(self, good, text):
        with self.lock:
            self.counts[good] += 1
            print(("ok - " if good else "FAILED - ") + text, flush=True)

    def test(self, sdk, ids, program):
        """What the tests of these ids say: {id: passed}."""
        with self.lock:
            port = self.ports.pop()
        try:
            out, _ = run(["test/sdk/run", sdk], IDS=" ".join(ids), MEMPHISD=program, PORT=str(port))
        finally:
            with self.lock:
                self.ports.append(port)
        verdicts = {}
        for word, shown in re.findall(r"^(ok|FAILED) - \S+ ((?:[A-Z]+-\d\d )+)", out, re.M):
            verdicts.update({one: word == "ok" for one in shown.split()})
        return verdicts, out

    def off(self, one, sdk, path, old, new):
        verdicts, out = self.test(sdk, [one], self.build.without(f"off-{one}", path, old, new))
        if one not in verdicts:
            raise RuntimeError(f"the test of {sdk} did not run\n{out}")
        why = re.search(r"^FAILED - .*? \(([^()]*:.*)\)$", out, re.M)
        self.say(not verdicts[one], f"{sdk} {one} " +
                 ("passes without its feature" if verdicts[one] else
                  f"fails without its feature: {why[1][:150] if why else ''}"))

    def on(self, sdk, ids):
        verdicts, out = self.test(sdk, ids, f"{self.build.folder}/memphisd")
        good = all(verdicts.get(one) for one in ids)
        self.say(good, f"{sdk}: its tests pass with the features on" + ("" if good else "\n" + out))

    def each(self, jobs):
        jobs = iter(jobs)  # which both threads take from

        def work():
            for do, *args in jobs:
                try:
                    do(*args)
                except Exception as e:
                    self.say(False, f"not run: {args[0]}: {e}")

        other = threading.Thread(target=work)
        other.start()
        work()
        other.join()


def main():
    if sys.argv[1] == "--check":
        faults = []
        for one, _, path, old, _ in SWITCHES:
            try:
                source(path, old)
            except RuntimeError as e:
                faults.append(f"FAILED - switched off: {one}: {e}")
        print("\n".join(faults + [f"{len(SWITCHES) - len(faults)} features can be switched off"]))
        return 1 if faults else 0
    names = sys.argv[3:]
    chosen = [s for s in SWITCHES if not names or s[0] in names]
    suite = Suite(Build(*sys.argv[1:3]))
    by_sdk = {}
    for s in chosen:
        by_sdk.setdefault(s[1], []).append(s[0])
    suite.each([(suite.on, sdk, ids) for sdk, ids in by_sdk.items()] +
               [(suite.off, *s) for s in chosen])
    print(f"{suite.counts[1]} passed, {suite.counts[0]} failed")
    return 1 if suite.counts[0] else 0


sys.exit(main())
