package main

// Stations (STA).

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/memphisdev/memphis.go"
	"github.com/spaolacci/murmur3"
)

func of(s object) []any {
	return []any{s["retention_type"], s["retention_value"], s["storage_type"], s["partitions_number"], s["idempotency_window_in_ms"]}
}

// Payloads by partition.
func (t *T) onPartition(station string, partitions int) [][]string {
	out := [][]string{}
	js := t.js()
	for i := 1; i <= partitions; i++ {
		stream := station + "$" + strconv.Itoa(i)
		got := []string{}
		for seq := uint64(1); seq <= must(js.StreamInfo(stream)).State.LastSeq; seq++ {
			got = append(got, string(must(js.GetMsg(stream, seq)).Data))
		}
		out = append(out, got)
	}
	return out
}

func init() {
	retention := func(kind memphis.RetentionType, value int) []memphis.StationOpt {
		return []memphis.StationOpt{memphis.RetentionTypeOpt(kind), memphis.RetentionVal(value)}
	}
	test("STA-01", "a station has the settings that it was made with; again is no error", func(t *T) {
		c := t.connect()
		for range 2 {
			must(c.CreateStation(t.name("s"), memphis.RetentionTypeOpt(memphis.Messages), memphis.RetentionVal(7),
				memphis.StorageTypeOpt(memphis.Memory), memphis.PartitionsNumber(3), memphis.IdempotencyWindow(5*time.Second)))
		}
		same(of(t.settings(t.name("s"))), []any{"messages", 7.0, "memory", 3.0, 5000.0})
	})
	test("STA-02", "a producer or a consumer makes the missing station, with the defaults", func(t *T) {
		c := t.connect()
		must(c.CreateProducer(t.name("p"), "p"))
		consumer(c, t.name("c"), "c")
		for _, what := range []string{"p", "c"} {
			same(of(t.settings(t.name(what))), []any{"message_age_sec", 3600.0, "file", 1.0, 120000.0})
		}
	})
	test("STA-03", "names: capitals are folded, others refused with the product's texts", func(t *T) {
		c := t.connect()
		must(c.CreateStation(strings.ToUpper(t.name("Loud"))))
		check(t.settings(t.name("loud")) != nil, "not folded")
		fill(must(c.CreateProducer(t.name("LOUD"), "P")), []string{"x"})
		same(drain(consumer(t.connect(), t.name("Loud"), "C"), 1), []string{"x"})
		refused(fails(c.CreateStation("a b")), "Only alphanumeric and the '_', '-', '.' characters are allowed in Station")
		for _, name := range []string{"-a", "a."} {
			refused(fails(c.CreateStation(name)), "Station name can not start or end with non alphanumeric character")
		}
		refused(fails(c.CreateStation("")), "Station name can not be empty")
		refused(fails(c.CreateStation(strings.Repeat("a", 129))), "Station should be under 128 characters")
	})
	test("STA-04", "names with dots work everywhere", func(t *T) {
		c, s, p := t.startAs(t.name("a.b.c"), memphis.PartitionsNumber(2))
		fill(p, numbers(1, 4))
		m := consumer(c, s, "c.d", memphis.ConsumerGroup("g.h"))
		same(sorted(drain(m, 4)), numbers(1, 4))
		check(m.Destroy() == nil && p.Destroy() == nil)
		check(must(c.CreateStation(s)).Destroy() == nil)
		check(t.settings(s) == nil)
	})
	test("STA-05", "a destroyed station is gone for all, and comes back empty", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 5))
		other := t.connect()
		q := must(other.CreateProducer(s, "q"))
		m := consumer(other, s, "c")
		check(must(c.CreateStation(s)).Destroy() == nil)
		check(t.settings(s) == nil)
		refused(put(q, "late"), "no responders available")
		nothing(m) // the SDK looks for the error before it has come
		must(c.CreateStation(s))
		nothing(consumer(c, s, "d"))
	})
	test("STA-07", "retention by age: what is older goes", func(t *T) {
		c, s, p := t.start(retention(memphis.MaxMessageAgeSeconds, 2)...)
		fill(p, numbers(1, 3))
		same(drain(consumer(c, s, "a"), 3), numbers(1, 3))
		time.Sleep(3500 * time.Millisecond)
		fill(p, []string{"new"})
		same(drain(consumer(c, s, "b"), 1), []string{"new"})
		same(t.stored(s), 1)
	})
	test("STA-08", "retention by count: the newest are kept", func(t *T) {
		c, s, p := t.start(retention(memphis.Messages, 5)...)
		fill(p, numbers(1, 20))
		same(drain(consumer(c, s, "c"), 5), numbers(16, 20))
	})
	test("STA-09", "retention by bytes: the oldest go", func(t *T) {
		c, s, p := t.start(retention(memphis.Bytes, 20000)...)
		bodies := []string{}
		for i := range 60 {
			bodies = append(bodies, fmt.Sprintf("%04d", i)+strings.Repeat("x", 996))
		}
		fill(p, bodies)
		size := func() float64 { return t.settings(s)["total_bytes"].(float64) }
		check(until(5*time.Second, func() bool { return size() <= 20000 }), size())
		check(size() >= 15000, size())
		n := t.stored(s)
		same(drain(consumer(c, s, "c"), n), bodies[60-n:])
	})
	test("STA-10", "retention until acked: kept for each group that has not acked, then gone", func(t *T) {
		c, s, p := t.start(retention(memphis.AckBased, 0)...)
		fill(p, []string{"nobody wants it"})
		a, b := consumer(c, s, "a"), consumer(c, s, "b")
		fill(p, numbers(1, 20))
		same(drain(a, 20), numbers(1, 20))
		same(drain(consumer(c, s, "c"), 20), numbers(1, 20))
		same(drain(b, 20), numbers(1, 20))
		check(until(5*time.Second, func() bool { return t.stored(s) == 0 }), "not gone")
	})
	testRestart("STA-11 CSM-18", "a restart keeps messages in files, and the place of their group", func(t *T) func() {
		c, s, p := t.start(memphis.PartitionsNumber(2))
		fill(p, numbers(1, 40))
		before := drain(consumer(c, s, "c", memphis.MaxAckTime(20*time.Second)), 20)
		time.Sleep(300 * time.Millisecond) // for the acks
		return func() {
			c := t.connect()
			got := drain(consumer(c, s, "c", memphis.MaxAckTime(20*time.Second)), 20)
			same(sorted(append(before, got...)), numbers(1, 40))
			same(sorted(drain(consumer(c, s, "d"), 40)), numbers(1, 40))
		}
	})
	testRestart("STA-12", "a station in memory is there after a restart, its messages are not", func(t *T) func() {
		c, s, p := t.start(memphis.StorageTypeOpt(memphis.Memory))
		fill(p, numbers(1, 5))
		same(drain(consumer(c, s, "c"), 5), numbers(1, 5))
		return func() {
			c := t.connect()
			same([]any{t.settings(s)["storage_type"], t.stored(s)}, []any{"memory", 0})
			fill(must(c.CreateProducer(s, "p")), []string{"new"})
			same(drain(consumer(c, s, "d"), 1), []string{"new"})
		}
	})
	test("STA-15", "three partitions together hold every message once", func(t *T) {
		c, s, p := t.start(memphis.PartitionsNumber(3))
		fill(p, numbers(1, 60))
		same(sorted(drain(consumer(c, s, "c"), 60)), numbers(1, 60))
		for i := 1; i <= 3; i++ {
			check(must(t.js().StreamInfo(s+"$"+strconv.Itoa(i))).State.Msgs > 0, i)
		}
		same(t.settings(s)["partitions_number"], 3.0)
	})
	test("STA-16", "partitions take turns", func(t *T) {
		_, s, p := t.start(memphis.PartitionsNumber(3))
		fill(p, numbers(1, 9))
		same(t.onPartition(s, 3), [][]string{{"1", "4", "7"}, {"2", "5", "8"}, {"3", "6", "9"}})
	})
	test("STA-17", "a key goes to the partition of its hash, always the same", func(t *T) {
		_, s, p := t.start(memphis.PartitionsNumber(4))
		want := [][]string{{}, {}, {}, {}}
		for i := range 24 {
			key := fmt.Sprint("key", i%12)
			body := fmt.Sprint(key, " ", i)
			place := murmur3.Sum32WithSeed([]byte(key), 31) % 4
			fill(p, []string{body}, memphis.ProducerPartitionKey(key))
			want[place] = append(want[place], body)
		}
		same(t.onPartition(s, 4), want)
	})
	test("STA-18", "a partition can be chosen; the SDK refuses one that is not there, and the last", func(t *T) {
		_, s, p := t.start(memphis.PartitionsNumber(3))
		fill(p, numbers(1, 3), memphis.ProducerPartitionNumber(2))
		for _, n := range []int{3, 4} { // 3 is there: off by one
			refused(put(p, "x", memphis.ProducerPartitionNumber(n)), "Partition number is out of range")
		}
		refused(put(p, "x", memphis.ProducerPartitionNumber(1), memphis.ProducerPartitionKey("k")),
			"Can not use both partition number and partition key")
		same(t.onPartition(s, 3), [][]string{{}, numbers(1, 3), {}})
	})
	test("STA-19", "messages stay in order, and within each partition", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 500))
		same(drain(consumer(c, s, "c"), 500), numbers(1, 500))
		many := t.name("many")
		must(c.CreateStation(many, memphis.PartitionsNumber(2)))
		fill(must(c.CreateProducer(many, "q")), numbers(1, 60))
		m := consumer(c, many, "c")
		same(len(must(m.Fetch(1, false))), 1) // of the first partition; then turns are taken
		for range 2 {
			got := texts(must(m.Fetch(60, false)))
			same(got, sorted(got))
			check(len(got) >= 29, len(got))
		}
	})
	test("STA-20", "a message of 8 MiB passes where that is the limit, a larger one does not", func(t *T) {
		c, s, p := t.start()
		limit := int(t.nats().MaxPayload()) // with headers
		same(limit, 8<<20)
		body := make([]byte, limit-512)
		for i := range body {
			body[i] = byte((i * 31) ^ (i >> 8))
		}
		check(put(p, body) == nil)
		refused(put(p, make([]byte, limit+1)), "maximum payload exceeded")
		fill(p, []string{"small"})
		got := collect(consumer(c, s, "c"), 2, true)
		check(bytes.Equal(got[0].Data(), body), "other bytes came")
		same(string(got[1].Data()), "small")
	})
	testRestart("STA-21", "a message id is stored once in its window, over a restart, and again after it", func(t *T) func() {
		c, s, p := t.start()
		fill(p, []string{"x", "x", "x"}, memphis.MsgId("same"))
		short := t.name("short")
		must(c.CreateStation(short, memphis.IdempotencyWindow(time.Second)))
		q := must(c.CreateProducer(short, "q"))
		fill(q, []string{"y", "y"}, memphis.MsgId("same"))
		time.Sleep(1500 * time.Millisecond)
		fill(q, []string{"z", "z"}, memphis.MsgId("same"))
		return func() {
			c := t.connect()
			p := must(c.CreateProducer(s, "p"))
			fill(p, []string{"x"}, memphis.MsgId("same"))
			fill(p, []string{"other"}, memphis.MsgId("other"))
			m, n := consumer(c, s, "c"), consumer(c, short, "d")
			same(drain(m, 2), []string{"x", "other"})
			same(drain(n, 2), []string{"y", "z"})
			nothing(m)
			nothing(n)
		}
	})
	test("STA-22", "an empty message id is refused", func(t *T) {
		_, s, p := t.start()
		refused(put(p, "x", memphis.MsgId("")), "msg id can not be empty")
		same(t.stored(s), 0)
	})
	test("STA-23", "a purged station is empty, and its sequence goes on", func(t *T) {
		c, s, p := t.start(memphis.PartitionsNumber(2))
		fill(p, numbers(1, 20))
		same(t.admin("station_purge", object{"name": s}), object{})
		same(t.stored(s), 0)
		fill(p, []string{"new"})
		got := collect(consumer(c, s, "c"), 1, true)
		same(texts(got), []string{"new"})
		same(must(got[0].GetSequenceNumber()), uint64(11))
	})
	test("STA-28", "a station can be without dead letters, of either kind", func(t *T) {
		c, s, p := t.start(memphis.SendPoisonMsgToDls(false), memphis.SendSchemaFailedMsgToDls(false))
		other := t.name("with")
		q := must(c.CreateProducer(other, "q"))
		for station, producer := range map[string]*memphis.Producer{s: p, other: q} {
			fill(producer, []string{"hopeless"})
			same(len(collect(consumer(c, station, "c", hasty()...), 1, false)), 1)
			t.schemaNotice(station)
		}
		same(len(t.letters(other, 2)), 2)
		time.Sleep(time.Second)
		same(t.letters(s, 0), []letter{})
	})
	test("STA-31", "a station knows how many messages and bytes it has", func(t *T) {
		_, s, p := t.start(memphis.PartitionsNumber(2))
		for range 10 {
			fill(p, []string{strings.Repeat("x", 100)})
		}
		same(t.stored(s), 10)
		size := t.settings(s)["total_bytes"].(float64)
		check(size >= 1000 && size <= 4000, size)
	})
}
