"""Each error text of the protocol once, by a raw client, against a real memphisd.

Usage: errors.py PORT. The tables below name the section of the SDK protocol that a text is
from; what has no row is in NOT_HERE, with its reason. Prints "ok - ..." or "FAILED - ..."
lines and ends with "N passed, N failed".
"""
import json
import socket
import sys
import time

PORT = int(sys.argv[1])
LOGIN = {"verbose": False, "pedantic": False, "user": "root", "pass": "memphis", "headers": True,
         "no_responders": True}
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + (f" ({detail})" if detail and not good else ""),
          flush=True)


class Client:
    count = 0

    def __init__(self, login=True, **more):
        self.s = socket.create_connection(("127.0.0.1", PORT), 5)
        self.s.settimeout(10)
        self.f = self.s.makefile("rb")
        assert self.f.readline().startswith(b"INFO {")
        Client.count += 1
        self.inbox = f"_INBOX.e{Client.count}"
        self.asked = 0
        if login:
            self.send("CONNECT " + json.dumps({**LOGIN, **more}) + f"\r\nSUB {self.inbox}.* 1\r\nPING\r\n")
            line = self.f.readline()
            assert line == b"PONG\r\n", line

    def send(self, text):
        self.s.sendall(text.encode() if isinstance(text, str) else text)

    def message(self):
        """(subject, headers, payload) of the next one."""
        while True:
            words = self.f.readline().split()
            if not words:
                raise EOFError("closed")
            if words[0] == b"PING":
                self.send("PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                break
            elif words[0] != b"+OK":
                raise AssertionError(b" ".join(words))
        body = self.f.read(int(words[-1]) + 2)[:-2]
        head = int(words[-2]) if words[0] == b"HMSG" else 0
        return words[1].decode(), body[:head].decode(), body[head:].decode()

    def ask(self, subject, payload="", headers=""):
        """The answer to a request: its payload, or its status line."""
        self.asked += 1
        inbox = f"{self.inbox}.{self.asked}"
        if not isinstance(payload, (str, bytes)):
            payload = json.dumps(payload)
        payload = payload.encode() if isinstance(payload, str) else payload
        if headers:
            head = ("NATS/1.0\r\n" + headers + "\r\n\r\n").encode()
            self.send(b"HPUB %s %s %d %d\r\n" % (subject.encode(), inbox.encode(), len(head),
                                                 len(head) + len(payload)) + head + payload + b"\r\n")
        else:
            self.send(b"PUB %s %s %d\r\n" % (subject.encode(), inbox.encode(), len(payload)) +
                      payload + b"\r\n")
        while True:
            to, head, body = self.message()
            if to == inbox:
                return body or head.split("\r\n")[0]

    def close(self):
        self.s.close()


root = Client()


def station(name, **more):
    body = {"name": name, "retention_type": "messages", "retention_value": 1000, "storage_type": "memory",
            "replicas": 1, "idempotency_window_in_ms": 1000, "partitions_number": 1, "schema_name": "",
            "dls_configuration": {"poison": True, "schemaverse": True}, "username": "root",
            "tiered_storage_enabled": False, "dls_station": "", **more}
    return root.ask("$memphis_station_creations", body)


def producer(client=None, **more):
    body = {"name": "p", "station_name": "errors", "connection_id": "c-1", "producer_type": "application",
            "req_version": 4, "username": "root", "app_id": "a", "sdk_lang": "go", **more}
    return json.loads((client or root).ask("$memphis_producer_creations", body))["error"]


def consumer(client=None, **more):
    body = {"name": "c", "station_name": "errors", "connection_id": "c-1", "consumer_type": "application",
            "consumers_group": "g", "max_ack_time_ms": 30000, "max_msg_deliveries": 2, "username": "root",
            "start_consume_from_sequence": 1, "last_messages": -1, "req_version": 4, "app_id": "a",
            "sdk_lang": "go", **more}
    return (client or root).ask("$memphis_consumer_creations", body)


def admin(verb, **body):
    return json.loads(root.ask("$memphis_admin." + verb, body) or "{}")


# === 1.1, 1.4: what the protocol says; "" = the end without a text ===

def on_wire(section, what, text, sent, login=True, stays=False, **more):
    c = Client(login, **more)
    c.send(sent)
    got = b""
    if text:
        line = c.f.readline()
        while line.startswith((b"+OK", b"PONG", b"PING")):
            line = c.f.readline()
        got = line
        good = line == f"-ERR '{text}'\r\n".encode()
    else:
        good = True
    if stays:
        c.send("PING\r\n")
        line = c.f.readline()
        good = good and line == b"PONG\r\n"
    else:
        try:
            rest = c.f.read()
        except ConnectionResetError:
            rest = b"(reset)"
        good = good and rest == b""
        got += rest
    check(f"{section} {what}: {text or 'the end'}", good, got)
    c.close()


UNKNOWN, DENIED = "Unknown Protocol Operation", "Authorization Violation"
BAD = [("an unknown verb", "NONSENSE\r\n"), ("MSG from a client", "MSG a 1 0\r\n\r\n"),
       ("PUB without arguments", "PUB\r\n"), ("a payload that ends otherwise", "PUB a 2\r\nabcd\r\n"),
       ("PUB with one argument", "PUB a\r\n"), ("PUB with four", "PUB a b c 1\r\n"),
       ("PUB with a size that is none", "PUB a x\r\n"), ("a negative size", "PUB a -1\r\n"),
       ("a size too long to read", "PUB a 99999999999999999999999\r\n"),
       ("SUB with one argument", "SUB a\r\n"), ("SUB with four", "SUB a b c d\r\n"),
       ("UNSUB with three", "UNSUB a b c\r\n"), ("HPUB with too few", "HPUB a 1\r\n"),
       ("headers longer than the whole", "HPUB a 9 5\r\n"), ("an empty line", "\r\n"),
       ("CONNECT without its object", "CONNECT\r\n"), ("CONNECT with bad JSON", "CONNECT {\r\n"),
       ("CONNECT with a value of a wrong type", 'CONNECT {"verbose":1}\r\n')]
for name, sent in BAD:
    on_wire("1.1", name, UNKNOWN, sent)
on_wire("1.1", "HPUB of who takes no headers", UNKNOWN, "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", headers=False,
        no_responders=False)
on_wire("1.1", "-ERR from a client", "", "-ERR 'x'\r\n")
on_wire("1.1", "a payload too long", "Maximum Payload Violation", "PUB a 1048577\r\n")
on_wire("1.4", "a control line too long", "maximum control line exceeded", "PUB " + "a" * 5000 + " 0\r\n\r\n")
on_wire("1.1", "a subject to subscribe that is none", "Invalid Subject", "SUB a..b 5\r\n", stays=True)
on_wire("1.1", "a subject to publish that is none", "Invalid Publish Subject", "PUB a..b 0\r\n\r\n",
        stays=True, pedantic=True)
on_wire("1.3", "an unknown protocol", "invalid client protocol", "CONNECT {\"protocol\":2}\r\n", login=False)
on_wire("1.3", "no responders without headers", "no responders requires headers support",
        'CONNECT {"no_responders":true,"headers":false}\r\n', login=False)
on_wire("1.4", "PING before CONNECT", DENIED, "PING\r\n", login=False)


def refused(what, **more):
    on_wire("1.4", what, DENIED, "CONNECT " + json.dumps(more) + "\r\nPING\r\n", login=False)


refused("nothing")
refused("no password", user="root")
refused("a wrong password", user="root", **{"pass": "wrong"})
refused("an unknown user", user="nobody", **{"pass": "memphis"})
refused("another letter case", user="ROOT", **{"pass": "memphis"})
refused("an account that is not there", user="root$7", **{"pass": "memphis"})
refused("a token where passwords are asked for", auth_token="memphis")
refused("a name with two separators", user="root", name="a::b::c", **{"pass": "memphis"})
refused("a name of another user", user="root", name="a::nobody", **{"pass": "memphis"})
began = time.time()
on_wire("1.4", "no CONNECT", "Authentication Timeout", "", login=False)
check("1.4 and it comes after about two seconds", 1.5 < time.time() - began < 6, time.time() - began)

# === 0.1, 2.1: stations ===


def says(section, what, got, text):
    check(f"{section} {what}: {text[:90]}", got == text, got)


LONG = "n" * 129
for kind, make in [("Station", station), ("Producer", lambda n: producer(name=n)),
                   ("Consumer", lambda n: consumer(name=n)),
                   ("Consumer", lambda n: consumer(consumers_group=n) if n else consumer(name=n))]:
    for name, text in [("", "{} name can not be empty"), (LONG, "{} should be under 128 characters"),
                       ("a b", "Only alphanumeric and the '_', '-', '.' characters are allowed in {}"),
                       (".a", "{} name can not start or end with non alphanumeric character")]:
        says("0.1", f"'{name[:5]}'", make(name), text.format(kind))
says("0.1", "a name with #", station("a#b"), "Only alphanumeric and the '_', '-', '.' characters are allowed in Station")
says("2.1", "a retention that is none", station("x", retention_type="moon"),
     "retention type can be one of the following message_age_sec/messages/bytes/ack_based")
says("2.1", "a storage that is none", station("x", storage_type="tape"),
     "storage type can be one of the following file/memory")
says("2.1", "more replicas than servers", station("x", replicas=3),
     "station can not be created, probably since replicas count is larger than the cluster size")
says("2.1", "a window above a day", station("x", idempotency_window_in_ms=86400001),
     "idempotency window can not exceed 24 hours")
says("2.1", "a window above the retention",
     station("x", retention_type="message_age_sec", retention_value=1, idempotency_window_in_ms=2000),
     "idempotency window cannot be greater than the station retention")
says("2.1", "an old SDK", station("x", partitions_number=0),
     "you are using an old SDK, make sure to update your SDK")
for n in (-1, 10001):
    says("2.1", "so many partitions", station("x", partitions_number=n),
         f"cannot create station with {n} partitions (max:10000 min:1): Station -  x, ")
says("2.1", "a name of a dead-letter station that is none", station("x", dls_station="a b"),
     "Only alphanumeric and the '_', '-', '.' characters are allowed in Station")
check("2.1 bad JSON has a text, too", "JSON" in root.ask("$memphis_station_creations", "{") or
      "expected" in root.ask("$memphis_station_creations", "{"))
says("2.1", "and nothing was made", root.ask("$memphis_station_destructions", {"station_name": "x", "username": "root"}),
     "Station x does not exist")
says("2.1", "an existing station is no error", station("errors") or station("errors") or "-", "-")

# === 2.3 to 2.6: producers and consumers ===

says("2.3", "a type that is none", producer(producer_type="x"),
     "producer type has to be one of the following application/connector")
says("2.3", "an old SDK, no station", producer(req_version=1, station_name="nowhere"),
     "this station does not exist, a default station can not be created automatically, please upgrade your SDK version")
says("2.3", "an old SDK, partitions", producer(req_version=1),
     "to produce to this station please upgrade your SDK version")
says("2.4", "an unknown producer is no error",
     root.ask("$memphis_producer_destructions", {"name": "nobody", "station_name": "errors", "username": "root",
                                                 "connection_id": "c-1", "req_version": 1}) or "-", "-")
says("2.5", "a type that is none", consumer(consumer_type="x"),
     "consumer type has to be one of the following application/connector and not x")
says("2.5", "no first sequence", consumer(start_consume_from_sequence=0),
     "startConsumeFromSequence has to be a positive number")
says("2.5", "a negative one", consumer(start_consume_from_sequence=-1),
     "startConsumeFromSequence has to be a positive number")
says("2.5", "too few last messages", consumer(last_messages=-2), "min value for LastMessages is -1")
says("2.5", "both", consumer(start_consume_from_sequence=2, last_messages=1),
     "consumer creation options can't contain both startConsumeFromSequence and lastMessages")
says("2.5", "an old SDK, no station", consumer(req_version=1, station_name="nowhere"),
     "This station does not exist, a default station can not be created automatically, please upgrade your SDK version")
says("2.5", "an old SDK, partitions", consumer(req_version=1),
     "to consume from this station please upgrade your SDK version")
says("2.6, 9.34", "an unknown consumer is no error",
     root.ask("$memphis_consumer_destructions", {"name": "nobody", "station_name": "errors", "username": "root",
                                                 "connection_id": "c-1", "req_version": 1}) or "-", "-")

# === who may not (1.4, 2.1, 2.3, 2.5) ===

says("verbs", "a user with permissions", str(admin("user_add", username="clerk", password="Secret-12",
                                                    user_type="application")), "{}")
says("verbs", "for one station", str(admin("user_set_permissions", username="clerk", allow_read_permissions=["mine", "seen"],
                                            allow_write_permissions=["mine"])), "{}")
clerk = Client(user="clerk", **{"pass": "Secret-12"})
says("2.1", "a station that he may not make",
     clerk.ask("$memphis_station_creations", {"name": "yours", "retention_type": "messages", "retention_value": 1,
                                              "storage_type": "memory", "partitions_number": 1}),
     "user clerk is not allowed to create station yours")
says("2.3", "a station that he may not write", producer(clerk), "user clerk is not allowed to access station errors")
says("2.5", "a station that he could read but may not make", consumer(clerk, station_name="seen"),
     "user clerk is not allowed to create station seen")
says("2.5", "a station that he may not read", consumer(clerk), "user clerk is not allowed to access station errors")
NOT_YOURS = "Permissions Violation - cant access the requested station, please contact your Memphis administrator"
on_wire("1.4", "a publish that he may not", NOT_YOURS, "PUB errors$1.final 0\r\n\r\n", stays=True, user="clerk",
        **{"pass": "Secret-12"})
on_wire("1.4", "a subscription that he may not", NOT_YOURS, "SUB errors$1.final 7\r\n", stays=True, user="clerk",
        **{"pass": "Secret-12"})
on_wire("1.4", "one with a queue", 'Permissions Violation for Subscription to "errors$1.final" using queue "q"',
        "SUB errors$1.final q 7\r\n", stays=True, user="clerk", **{"pass": "Secret-12"})
says("verbs", "a management user", str(admin("user_add", username="boss", password="Secret-12",
                                              user_type="management")), "{}")
refused("a management user in an SDK", user="boss", **{"pass": "Secret-12"})

# === 3.2, 7.1: the JetStream API ===


def js(what, subject, code, err_code, text, body=""):
    answer = root.ask("$JS.API." + subject, body)
    try:
        error = json.loads(answer).get("error")
    except ValueError:
        error = None
    check(f"7.1 {what}: {err_code} {text[:70]}",
          error == {"code": code, "err_code": err_code, "description": text}, answer)


assert consumer() != "" and json.loads(consumer())["error"] == ""
S = "errors$1"
js("INFO of no stream", "STREAM.INFO.nowhere", 404, 10059, "stream not found")
js("INFO of no consumer", f"CONSUMER.INFO.{S}.nobody", 404, 10014, "consumer not found")
js("DELETE of no consumer", f"CONSUMER.DELETE.{S}.nobody", 404, 10014, "consumer not found")
js("a body that is no JSON", f"CONSUMER.DURABLE.CREATE.{S}.x", 400, 10025, "invalid JSON", "{")
js("a message without a body", f"STREAM.MSG.GET.{S}", 400, 10003, "bad request")
js("a message that is not there", f"STREAM.MSG.GET.{S}", 404, 10037, "no message found", {"seq": 999})


def create(what, subject, code, err_code, text, stream=S, **config):
    js(what, "CONSUMER." + subject, code, err_code, text,
       {"stream_name": stream, "config": {"ack_policy": "explicit", "deliver_policy": "all", **config}})


create("a durable of another name", f"DURABLE.CREATE.{S}.x", 400, 10017,
       "consumer name in subject does not match durable name in request", durable_name="y")
create("a stream of another name", f"DURABLE.CREATE.{S}.x", 400, 10056,
       "stream name in subject does not match request", stream="other", durable_name="x")
create("a start that is not named", f"DURABLE.CREATE.{S}.x", 400, 10094,
       "consumer delivery policy is deliver by start sequence, but optional start sequence is not set",
       durable_name="x", deliver_policy="by_start_sequence")
create("a filter of another subject", f"CREATE.{S}.x.{S}.final", 400, 10131,
       "Consumer create request did not match filtered subject from create subject",
       name="x", durable_name="x", filter_subject=f"{S}.other")
create("another policy", f"DURABLE.CREATE.{S}.g", 500, 10012, "deliver policy can not be updated",
       durable_name="g", deliver_policy="new", filter_subject=f"{S}.final")

# === 3.4: PubAcks ===


def puback(what, headers, code, err_code, text, payload=""):
    got = root.ask(f"{S}.final", payload, headers)
    want = (f'{{"error":{{"code":{code},"err_code":{err_code},"description":"{text}"}},'
            f'"stream":"{S}","seq":0}}')
    says("3.4", what, got, want)


says("3.4", "stored", root.ask(f"{S}.final", "1", "msg-id: a"), f'{{"stream":"{S}", "seq":1}}')
says("3.4", "a duplicate", root.ask(f"{S}.final", "1", "msg-id: a"), f'{{"stream":"{S}", "seq":1,"duplicate": true}}')
puback("another stream", "Nats-Expected-Stream: other", 400, 10060, "expected stream does not match")
puback("another last sequence", "Nats-Expected-Last-Sequence: 7", 400, 10071, "wrong last sequence: 1")
puback("a rollup", "Nats-Rollup: all", 500, 10111, "rollup not permitted")
puback("too many headers", "h: " + "x" * 65536, 400, 10097, "header size exceeds maximum allowed of 64k")
for what, subject in [("no station", "nowhere$1.final"), ("partition 0", "errors$0.final"),
                      ("a partition too many", "errors$2.final"), ("no partition", "errors.final"),
                      ("a pull of nobody", f"$JS.API.CONSUMER.MSG.NEXT.{S}.nobody"),
                      ("an ack of nobody", f"$JS.ACK.{S}.nobody.1.1.1.1.0")]:
    says("1.6", f"{what} has no responder", root.ask(subject), "NATS/1.0 503")

# === 3.5: statuses of pulls ===


def pull(what, body, *statuses, group="g"):
    root.asked += 1
    inbox = f"{root.inbox}.{root.asked}"
    text = body if isinstance(body, str) else json.dumps(body)
    root.send(f"PUB $JS.API.CONSUMER.MSG.NEXT.{S}.{group} {inbox} {len(text)}\r\n{text}\r\n")
    for status in statuses:
        to, head, payload = root.message()
        while to != inbox:
            to, head, payload = root.message()
        check(f"3.5 {what}: {status.split(chr(13))[0]}", head.startswith(f"NATS/1.0 {status}"), head)


root.send(f"PUB $JS.API.CONSUMER.MSG.NEXT.{S}.g {root.inbox}.first 0\r\n\r\n")
subject, head, body = root.message()  # the only one there is, under its own subject
check("3.5 a message comes under its subject", (subject, body) == (f"{S}.final", "1"), subject)
pull("nothing and no waiting", {"batch": 1, "no_wait": True}, "404 No Messages")
pull("nothing in time", {"batch": 3, "expires": 50_000_000}, "408 Request Timeout\r\nNats-Pending-Messages: 3\r\n")
pull("a sign of life", {"batch": 1, "expires": 300_000_000, "idle_heartbeat": 100_000_000},
     "100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 1", "100 Idle", "408 Request Timeout")
pull("a heartbeat that is too slow", {"batch": 1, "expires": 1_000_000, "idle_heartbeat": 900_000},
     "400 Bad Request - heartbeat value too large")
pull("bad JSON", "{", "400 Bad Request - ")
root.ask(f"{S}.final", "x" * 500)
pull("a message that is too big", {"batch": 1, "max_bytes": 100, "expires": 1_000_000_000},
     "409 Message Size Exceeds MaxBytes")
waits = Client()
waits.send("SUB w.> 5\r\n")
assert json.loads(consumer(waits, name="late", consumers_group="late", last_messages=0))["error"] == ""
waits.send(f"PUB $JS.API.CONSUMER.MSG.NEXT.{S}.late w.1 1\r\n1\r\n" * 513 + "PING\r\n")
to, head, _ = waits.message()
check("3.5 more pulls than may wait: 409 Exceeded MaxWaiting", head.startswith("NATS/1.0 409 Exceeded MaxWaiting"),
      head)
assert waits.f.readline() == b"PONG\r\n"
root.ask("$JS.API.CONSUMER.DELETE.errors$1.late")
told = [waits.message()[1] for _ in range(512)]
check("3.5 a consumer that goes tells who waits: 409 Consumer Deleted",
      all(h.startswith("NATS/1.0 409 Consumer Deleted") for h in told), told[:1])

# === 2.2 and the rest ===

says("2.2", "a name that is none", root.ask("$memphis_station_destructions", {"station_name": "a b"}),
     "Only alphanumeric and the '_', '-', '.' characters are allowed in Station")
says("2.2", "a station that goes", root.ask("$memphis_station_destructions", {"station_name": "errors"}) or "-", "-")
says("2.2", "and is gone", root.ask("$memphis_station_destructions", {"station_name": "errors"}),
     "Station errors does not exist")
clerk.send("SUB _INBOX.z.1 9\r\n")
says("verbs", "the user goes", str(admin("user_remove", username="clerk")), "{}")
try:
    end = clerk.f.read()
except ConnectionResetError:
    end = b"(reset)"
check("9.32 and so does his connection", end in (b"", f"-ERR '{DENIED}'\r\n".encode()), end)

NOT_HERE = {
    "Stale Connection": "takes four minutes: test_session.c, in virtual time",
    "maximum connections exceeded": "65,536 connections: test_api_session.c",
    "maximum subscriptions exceeded": "10,000 of them: test_session_limits.c",
    "Secure Connection - TLS Required": "needs TLS",
    "Wrong / missing account ID, maximum account active connections, upgrade your plan": "of a cloud",
    "user does not exist, User <u> does not exist": "the user is the one who logged in",
    "Schema <name> does not exist, and others about schemas": "no schemas in this release",
    "no peers, replicas > 1, Leadership Change": "one server",
    "insufficient storage resources available": "a full disk: test_publish.c, promise.sh",
    "JetStream not enabled": "it always is",
}
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
