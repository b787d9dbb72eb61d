package main

// Producing (PRO).

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"strings"

	"github.com/memphisdev/memphis.go"
)

// The SDK hides what begins with "$memphis": headers as they are stored.
func (t *T) header(station string, seq int, key string) string {
	return must(t.js().GetMsg(station+"$1", uint64(seq))).Header[key][0]
}

func init() {
	test("PRO-01", "a producer has a name of the rules, which its messages carry", func(t *T) {
		c, s, _ := t.start()
		fill(must(c.CreateProducer(s, "Shop.1")), []string{"x"})
		same(t.header(s, 1, "$memphis_producedBy"), "shop.1")
		refused(fails(c.CreateProducer(s, "a b")), "Only alphanumeric and the '_', '-', '.' characters are allowed in Producer")
		refused(fails(c.CreateProducer(s, strings.Repeat("p", 129))), "Producer should be under 128 characters")
	})
	test("PRO-02", "when produce returns the message is stored", func(t *T) {
		_, s, p := t.start()
		for i := 1; i <= 5; i++ {
			fill(p, []string{"x"})
			same(must(t.js().StreamInfo(s+"$1")).State.Msgs, uint64(i))
		}
		check(must(t.connect().CreateStation(s)).Destroy() == nil)
		refused(put(p, "x"), "no responders available")
	})
	test("PRO-03", "produce does not wait when asked so; all messages arrive, in order", func(t *T) {
		c, s, p := t.start()
		for _, body := range numbers(1, 500) {
			check(p.Produce([]byte(body)) == nil) // the SDK's default
		}
		same(drain(consumer(c, s, "c"), 500), numbers(1, 500))
	})
	test("PRO-04", "a connection produces without a producer object", func(t *T) {
		c := t.connect()
		for _, body := range numbers(1, 3) {
			check(c.Produce(t.name("s"), "p", []byte(body), nil, []memphis.ProduceOpt{memphis.SyncProduce()}) == nil)
		}
		same(drain(consumer(c, t.name("s"), "c"), 3), numbers(1, 3))
	})
	test("PRO-05", "one producer for a list of stations: each gets the message", func(t *T) {
		c := t.connect()
		stations := []string{t.name("a"), t.name("b.c"), t.name("d")}
		p := must(c.CreateProducer(stations, "p"))
		fill(p, []string{"to all"})
		check(c.Produce(stations, "p", []byte("again"), nil, []memphis.ProduceOpt{memphis.SyncProduce()}) == nil)
		for _, s := range stations {
			same(drain(consumer(c, s, "c"), 2), []string{"to all", "again"})
		}
		check(p.Destroy() == nil)
	})
	test("PRO-06", "headers come as they were sent; names of the broker are refused", func(t *T) {
		c, s, p := t.start()
		h := memphis.Headers{}
		h.New()
		check(h.Add("kind", "test") == nil && h.Add("Street", "x: y; ü") == nil)
		refused(h.Add("$memphis_x", "y"), "keys in headers should not start with $memphis")
		fill(p, []string{""}, memphis.MsgHeaders(h))
		m := collect(consumer(c, s, "c"), 1, true)[0]
		same(m.GetHeaders(), map[string]string{"kind": "test", "Street": "x: y; ü"})
		same(len(m.Data()), 0) // an empty payload is a message, too
	})
	test("PRO-07", "a map and a struct are sent as JSON", func(t *T) {
		c, s, p := t.start()
		check(put(p, map[string]any{"name": "Ünal", "list": []any{1.0, nil}}) == nil)
		check(put(p, struct {
			Name string `json:"name"`
		}{"Ünal"}) == nil)
		refused(put(p, 7), "unsupported message type")
		got := collect(consumer(c, s, "c"), 2, true)
		var a, b map[string]any
		check(json.Unmarshal(got[0].Data(), &a) == nil && json.Unmarshal(got[1].Data(), &b) == nil)
		same([]any{a, b}, []any{map[string]any{"name": "Ünal", "list": []any{1.0, nil}}, map[string]any{"name": "Ünal"}})
	})
	test("PRO-08", "a suffix makes names unique", func(t *T) {
		c, s, _ := t.start()
		a := must(c.CreateProducer(s, "u", memphis.ProducerGenUniqueSuffix()))
		b := must(c.CreateProducer(s, "u", memphis.ProducerGenUniqueSuffix()))
		check(a.Name != b.Name && strings.HasPrefix(a.Name, "u_") && len(a.Name) == 10, a.Name, b.Name)
		fill(a, []string{"1"})
		fill(b, []string{"2"})
		m := consumer(c, s, "c", memphis.ConsumerGenUniqueSuffix())
		check(strings.HasPrefix(m.Name, "c_"), m.Name)
		same(drain(m, 2), []string{"1", "2"})
		same([]string{t.header(s, 1, "$memphis_producedBy"), t.header(s, 2, "$memphis_producedBy")}, []string{a.Name, b.Name})
	})
	test("PRO-09", "one producer name on many connections", func(t *T) {
		c, d := t.connect(), t.connect()
		p, q := must(c.CreateProducer(t.name("s"), "p")), must(d.CreateProducer(t.name("s"), "p"))
		fill(p, []string{"1"})
		fill(q, []string{"2"})
		check(p.Destroy() == nil)
		fill(q, []string{"3"})
		same(drain(consumer(d, t.name("s"), "c"), 3), numbers(1, 3))
	})
	test("PRO-10", "a producer is removed, also twice, and made again", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"1"})
		check(p.Destroy() == nil)
		same(t.ask("$memphis_producer_destructions", object{"name": "p", "station_name": s,
			"connection_id": c.ConnId, "username": "root", "req_version": 1}), "")
		d := t.connect() // the SDK keeps the old object in its cache
		fill(must(d.CreateProducer(s, "p")), []string{"2"})
		same(drain(consumer(d, s, "c"), 2), []string{"1", "2"})
	})
	test("PRO-13", "compressed bytes pass unchanged", func(t *T) {
		c, s, p := t.start()
		text := strings.Repeat("all the same ", 5000)
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		must(io.WriteString(w, text))
		check(w.Close() == nil)
		all := make([]byte, 4096)
		for i := range all {
			all[i] = byte(i)
		}
		check(put(p, packed.Bytes()) == nil && put(p, all) == nil)
		got := collect(consumer(c, s, "c"), 2, true)
		check(bytes.Equal(got[0].Data(), packed.Bytes()) && bytes.Equal(got[1].Data(), all), "other bytes came")
		same(string(must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(got[0].Data())))))), text)
	})
	test("PRO-14", "each message says its producer and connection", func(t *T) {
		c, s, p := t.start()
		d := t.connect()
		fill(p, []string{"1"})
		fill(must(d.CreateProducer(s, "q")), []string{"2"})
		for seq, want := range []string{"p " + c.ConnId, "q " + d.ConnId} {
			same(t.header(s, seq+1, "$memphis_producedBy")+" "+t.header(s, seq+1, "$memphis_connectionId"), want)
		}
	})
}
