// The requests of the official Java SDK, as its protocol is written down, sent by its NATS
// library (jnats 2.16.9). The SDK itself is in no registry: this is not the SDK.
//
// Usage: BySpec PORT [ID...]. Prints "ok - java-by-spec IDS text" or "FAILED - ..." per test
// and ends with "N passed, N failed". With ids: only the tests that show one of them.
//
// Like the SDK: request version 3, connection ids of the form "<uuid>::<user>", no app id,
// no language; subjects with the station's name as typed; pulls with an expiry of the wait
// minus 10 ms; errors of consumer creation are not JSON.

import io.nats.client.*;
import io.nats.client.api.ConsumerInfo;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import io.nats.client.support.JsonParser;
import io.nats.client.support.JsonValue;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class BySpec {
    static final String RUN = String.valueOf(System.currentTimeMillis() % 1_000_000_000);
    static int port;
    static final List<Case> cases = new ArrayList<>();

    interface Body {
        void run(T t) throws Exception;
    }

    record Case(String ids, String text, Body body) {
        boolean isAsked(Set<String> only) {
            return only.isEmpty() || Arrays.stream(ids.split(" ")).anyMatch(only::contains);
        }

        boolean run() {
            T t = new T("java-" + ids.split(" ")[0].toLowerCase());
            String failure = null;
            try {
                body.run(t);
            } catch (Throwable e) {
                failure = " (" + e + ")";
            }
            t.end();
            System.out.println((failure == null ? "ok" : "FAILED") + " - java-by-spec " + ids + " " + text
                + (failure == null ? "" : failure));
            return failure == null;
        }
    }

    static void test(String ids, String text, Body body) {
        cases.add(new Case(ids, text, body));
    }

    static void same(Object got, Object want) {
        if (!Objects.equals(got, want))
            throw new AssertionError("got " + got + ", not " + want);
    }

    static void refused(Callable<?> call, String text) {
        try {
            call.call();
        } catch (Exception e) {
            if (String.valueOf(e).toLowerCase().contains(text.toLowerCase()))
                return;
            throw new AssertionError("refused with: " + e);
        }
        throw new AssertionError("not refused (" + text + ")");
    }

    static List<String> numbers(int from, int to) {
        return IntStream.rangeClosed(from, to).mapToObj(String::valueOf).collect(Collectors.toList());
    }

    // What a test has: connections, and the SDK's requests on them.
    static class T {
        final String base;
        final List<Connection> clients = new ArrayList<>();

        T(String base) {
            this.base = base;
        }

        String name(String what) {
            return base + "-" + what + "-" + RUN;
        }

        Client connect() throws Exception {
            return connect("root", "memphis");
        }

        Client connect(String user, String password) throws Exception {
            String id = UUID.randomUUID() + "::" + user;
            Connection c = Nats.connect(new Options.Builder().server("nats://127.0.0.1:" + port)
                .userInfo(user + "$1", password).connectionName(id).maxReconnects(3)
                .connectionTimeout(Duration.ofSeconds(15)).errorListener(new ErrorListener() { }).build());
            clients.add(c);
            return new Client(c, id, user);
        }

        void end() {
            for (Connection c : clients)
                try {
                    c.close();
                } catch (Exception e) {
                    Thread.currentThread().interrupt();
                }
        }
    }

    record Client(Connection nats, String id, String user) {
        String ask(String subject, String body) throws Exception {
            return new String(nats.request(subject, body.getBytes(StandardCharsets.UTF_8), Duration.ofSeconds(15))
                .getData(), StandardCharsets.UTF_8);
        }

        JsonValue admin(String verb, String body) throws Exception {
            return JsonParser.parse(ask("$memphis_admin." + verb, body));
        }

        Producer producer(String station, String name) throws Exception {
            String answer = ask("$memphis_producer_creations", "{\"name\":\"" + name + "\",\"station_name\":\"" + station
                + "\",\"connection_id\":\"" + id + "\",\"producer_type\":\"application\",\"req_version\":3,\"username\":\""
                + user + "\"}");
            Map<String, JsonValue> a = JsonParser.parse(answer).map;
            if (!a.get("error").string.isEmpty())
                throw new IllegalStateException(a.get("error").string);
            return new Producer(this, station, partitions(a));
        }

        Consumer consumer(String station, String group) throws Exception {
            return consumer(station, group, 5000, 10, 1, -1);
        }

        Consumer consumer(String station, String group, int ackMs, int deliveries, int first, int last) throws Exception {
            String answer = ask("$memphis_consumer_creations", "{\"name\":\"c\",\"station_name\":\"" + station
                + "\",\"connection_id\":\"" + id + "\",\"consumer_type\":\"application\",\"consumers_group\":\"" + group
                + "\",\"max_ack_time_ms\":" + ackMs + ",\"max_msg_deliveries\":" + deliveries
                + ",\"start_consume_from_sequence\":" + first + ",\"last_messages\":" + last
                + ",\"req_version\":3,\"username\":\"" + user + "\"}");
            if (!answer.startsWith("{"))
                throw new IllegalStateException(answer);
            Map<String, JsonValue> a = JsonParser.parse(answer).map;
            if (a.containsKey("error")) // the SDK takes any, even an empty one, for a failure
                throw new IllegalStateException("there is an error: " + a.get("error"));
            return new Consumer(this, station, group, partitions(a));
        }

        static int partitions(Map<String, JsonValue> answer) {
            List<JsonValue> list = answer.get("partitions_update").map.get("partitions_list").array;
            for (int i = 0; i < list.size(); i++)
                same(list.get(i).i, i + 1);
            return list.size();
        }
    }

    static class Producer {
        final Client client;
        final String station;
        final int partitions;
        int turn;

        Producer(Client client, String station, int partitions) {
            this.client = client;
            this.station = station;
            this.partitions = partitions;
        }

        long put(byte[] body, String... headers) throws Exception {
            Headers h = new Headers().add("$memphis_connectionId", client.id);
            for (int i = 0; i < headers.length; i += 2)
                h.add(headers[i], headers[i + 1]);
            String subject = station + "$" + (turn++ % partitions + 1) + ".final";
            return client.nats.jetStream().publish(NatsMessage.builder().subject(subject).headers(h).data(body).build())
                .getSeqno();
        }

        void fill(List<String> bodies) throws Exception {
            for (String b : bodies)
                put(b.getBytes(StandardCharsets.UTF_8));
        }
    }

    static class Consumer {
        final List<JetStreamSubscription> subscriptions = new ArrayList<>();
        final Client client;
        final String station, group;

        // jnats asks for STREAM.NAMES and CONSUMER.INFO here, and wants one name and its subject.
        Consumer(Client client, String station, String group, int partitions) throws Exception {
            this.client = client;
            this.station = station;
            this.group = group;
            for (int i = 1; i <= partitions; i++)
                subscriptions.add(client.nats.jetStream().subscribe(station + "$" + i + ".final",
                    PullSubscribeOptions.builder().durable(group).build()));
        }

        List<Message> fetch(int batch, int ms) {
            return subscriptions.stream().flatMap(s -> s.fetch(batch, ms).stream()).collect(Collectors.toList());
        }

        List<Message> take(int want, boolean ack) {
            List<Message> got = new ArrayList<>();
            for (long end = System.currentTimeMillis() + 15000; got.size() < want && System.currentTimeMillis() < end;)
                for (Message m : fetch(want - got.size(), 500)) {
                    got.add(m);
                    if (ack)
                        m.ack();
                }
            return got;
        }

        List<String> drain(int want) {
            return take(want, true).stream().map(BySpec::text).collect(Collectors.toList());
        }

        ConsumerInfo info(int partition) throws Exception {
            return client.nats.jetStreamManagement().getConsumerInfo(station + "$" + partition, group);
        }
    }

    static String text(Message m) {
        return new String(m.getData(), StandardCharsets.UTF_8);
    }

    static void connections() {
        test("CON-01", "a client gets a session at host and port", t -> {
            Connection c = t.connect().nats;
            same(c.getStatus(), Connection.Status.CONNECTED);
            same(c.getServerInfo().getPort() == port && c.getServerInfo().isJetStreamAvailable(), true);
        });
        test("CON-02", "an application user comes in with his password, produces and consumes", t -> {
            Client c = t.connect("first", "First123456!");
            c.producer(t.name("s"), "p").fill(List.of("mine"));
            same(c.consumer(t.name("s"), "g").drain(1), List.of("mine"));
        });
        test("CON-06", "a wrong password is an authorization violation", t ->
            refused(() -> t.connect("root", "wrong"), "Authentication"));
        test("CON-04 CON-07", "root comes in as root$1: this SDK does not try the bare name", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(List.of("by root"));
            same(c.consumer(t.name("s"), "g").drain(1), List.of("by root"));
        });
        test("CON-09", "the status tells whether the client is connected", t -> {
            Connection c = t.connect().nats;
            same(c.getStatus(), Connection.Status.CONNECTED);
            c.close();
            same(c.getStatus(), Connection.Status.CLOSED);
        });
    }

    static JsonValue settings(Client c, String station) throws Exception {
        for (JsonValue s : c.admin("station_list", "{}").map.get("stations").array)
            if (s.map.get("name").string.equals(station))
                return s;
        throw new IllegalStateException("no station " + station);
    }

    static void stations() {
        test("STA-02", "a producer or a consumer makes the missing station, with the defaults", t -> {
            Client c = t.connect();
            c.producer(t.name("p"), "p");
            c.consumer(t.name("c"), "g");
            for (String what : List.of("p", "c")) {
                Map<String, JsonValue> s = settings(c, t.name(what)).map;
                same(List.of(s.get("retention_type").string, s.get("retention_value").i, s.get("storage_type").string,
                    s.get("partitions_number").i), List.of("message_age_sec", 3600, "file", 1));
            }
        });
        test("STA-03", "names are refused with the product's texts", t -> {
            Client c = t.connect();
            refused(() -> c.producer("a b", "p"), "Only alphanumeric and the '_', '-', '.' characters are allowed in Station");
            refused(() -> c.consumer("-a", "g"), "Station name can not start or end with non alphanumeric character");
        });
        test("STA-15 STA-16", "messages take turns in partitions; a consumer reads all of them", t -> {
            Client c = t.connect();
            c.admin("station_create", "{\"name\":\"" + t.name("s") + "\",\"partitions_number\":3}");
            c.producer(t.name("s"), "p").fill(numbers(1, 9));
            Consumer m = c.consumer(t.name("s"), "g");
            same(m.subscriptions.stream().map(s -> s.fetch(5, 1000).stream().map(BySpec::text).collect(Collectors.toList()))
                .collect(Collectors.toList()), List.of(List.of("1", "4", "7"), List.of("2", "5", "8"), List.of("3", "6", "9")));
        });
        test("STA-19", "messages stay in order", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 300));
            same(c.consumer(t.name("s"), "g").drain(300), numbers(1, 300));
        });
    }

    static void producing() {
        test("PRO-01", "a producer is made with a name of the rules", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "Shop.1").fill(List.of("x"));
            refused(() -> c.producer(t.name("s"), "a b"),
                "Only alphanumeric and the '_', '-', '.' characters are allowed in Producer");
        });
        test("PRO-02", "each message is answered with its sequence when it is stored", t -> {
            Producer p = t.connect().producer(t.name("s"), "p");
            for (long i = 1; i <= 5; i++)
                same(p.put("x".getBytes(StandardCharsets.UTF_8)), i);
            same(settings(p.client, t.name("s")).map.get("total_messages").i, 5);
        });
        test("PRO-06 PRO-14", "headers come as they were sent, with the connection", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").put(new byte[0], "kind", "test");
            Message m = c.consumer(t.name("s"), "g").take(1, true).get(0);
            same(List.of(m.getHeaders().getFirst("kind"), m.getHeaders().getFirst("$memphis_connectionId"), m.getData().length),
                List.of("test", c.id, 0));
        });
        test("PRO-09", "one producer name on two connections", t -> {
            Client a = t.connect(), b = t.connect();
            a.producer(t.name("s"), "p").fill(List.of("1"));
            b.producer(t.name("s"), "p").fill(List.of("2"));
            same(a.consumer(t.name("s"), "g").drain(2), List.of("1", "2"));
        });
        test("PRO-13", "bytes pass unchanged", t -> {
            byte[] body = new byte[1 << 16];
            new Random(1).nextBytes(body);
            Client c = t.connect();
            c.producer(t.name("s"), "p").put(body);
            same(Arrays.equals(c.consumer(t.name("s"), "g").take(1, true).get(0).getData(), body), true);
        });
    }

    static void consuming() {
        test("CSM-01", "each group gets every message, one member of it each", t -> {
            Client c = t.connect(), d = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 40));
            same(c.consumer(t.name("s"), "a").drain(40), numbers(1, 40));
            Consumer x = c.consumer(t.name("s"), "b"), y = d.consumer(t.name("s"), "b");
            Set<String> seen = new HashSet<>();
            for (int i = 0; i < 4; i++)
                seen.addAll((i % 2 == 0 ? x : y).drain(10));
            same(seen, new HashSet<>(numbers(1, 40)));
        });
        test("CSM-03", "a batch has what was asked for, or what is there", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 7));
            Consumer m = c.consumer(t.name("s"), "g");
            same(List.of(m.fetch(3, 1000).size(), m.fetch(10, 1000).size()), List.of(3, 4));
        });
        test("CSM-05 CSM-09", "an acked message does not come again, another one does after its ack time", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(List.of("1", "2"));
            Consumer m = c.consumer(t.name("s"), "g", 2000, 10, 1, -1);
            m.take(2, false).get(0).ack();
            long began = System.currentTimeMillis();
            same(m.drain(1), List.of("2"));
            long waited = System.currentTimeMillis() - began;
            same(waited > 1500 && waited < 6000, true);
            Thread.sleep(2500);
            same(m.fetch(2, 500).size(), 0);
        });
        test("CSM-10 DLS-02", "after its deliveries a message is a dead letter", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(List.of("hopeless"));
            Consumer m = c.consumer(t.name("s"), "g", 1000, 2, 1, -1);
            for (int i = 0; i < 2; i++)
                same(m.take(1, false).stream().map(BySpec::text).collect(Collectors.toList()), List.of("hopeless"));
            List<JsonValue> rows = List.of();
            for (int i = 0; i < 100 && rows.isEmpty(); i++) {
                Thread.sleep(50);
                rows = c.admin("dls_list", "{\"name\":\"" + t.name("s") + "\"}").map.get("letters").array;
            }
            same(List.of(rows.size(), rows.get(0).map.get("reason").string, rows.get(0).map.get("deliveries").i),
                List.of(1, "unacked", 2));
            same(m.fetch(1, 500).size(), 0);
        });
        test("CSM-11", "a group can begin with a sequence", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 20));
            same(c.consumer(t.name("s"), "g", 5000, 10, 15, -1).drain(6), numbers(15, 20));
        });
        test("CSM-12 CSM-13", "a group can begin with the last messages, not with both", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 20));
            same(c.consumer(t.name("s"), "g", 5000, 10, 1, 3).drain(3), numbers(18, 20));
            refused(() -> c.consumer(t.name("s"), "h", 5000, 10, 2, 3),
                "consumer creation options can't contain both startConsumeFromSequence and lastMessages");
        });
        test("CSM-14", "messages have sequence numbers", t -> {
            Client c = t.connect();
            c.producer(t.name("s"), "p").fill(numbers(1, 5));
            same(c.consumer(t.name("s"), "g").take(5, true).stream().map(m -> m.metaData().streamSequence())
                .collect(Collectors.toList()), List.of(1L, 2L, 3L, 4L, 5L));
        });
        test("CSM-24", "the ping hears of the group, and that its station has gone", t -> {
            Client c = t.connect();
            Consumer m = c.consumer(t.name("s"), "g");
            same(m.info(1).getName(), "g");
            c.admin("station_remove", "{\"name\":\"" + t.name("s") + "\"}");
            refused(() -> m.info(1), "stream not found");
        });
    }

    public static void main(String[] args) throws Exception {
        port = Integer.parseInt(args[0]);
        Set<String> only = Arrays.stream(args).skip(1).collect(Collectors.toSet());
        connections();
        stations();
        producing();
        consuming();
        ExecutorService pool = Executors.newFixedThreadPool(16);
        List<Future<Boolean>> verdicts = new ArrayList<>();
        for (Case c : cases)
            if (c.isAsked(only))
                verdicts.add(pool.submit(c::run));
        int passed = 0;
        for (Future<Boolean> v : verdicts)
            passed += v.get() ? 1 : 0;
        System.out.println(passed + " passed, " + (verdicts.size() - passed) + " failed");
        System.exit(passed == verdicts.size() ? 0 : 1);
    }
}
