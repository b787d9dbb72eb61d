package main

// Dead letters (DLS).

import (
	"strings"
	"time"

	"github.com/memphisdev/memphis.go"
)

// What an SDK sends when a message breaks its schema.
func (t *T) schemaNotice(station string) {
	t.nats().Publish("$memphis_schemaverse_dls", []byte(strings.ReplaceAll(`{"station_name":"STATION",
"producer":{"name":"p","connection_id":"x"},"message":{"size":3,"data":"626164","headers":{"kind":"test"}},
"validation_error":"Schema validation has failed: no"}`, "STATION", station)))
	t.nats().Flush()
}

// A station with one dead letter per body, of the group g.
func (t *T) failed(bodies []string) (*memphis.Conn, string, *memphis.Consumer, []letter) {
	c, s, p := t.start()
	fill(p, bodies)
	m := consumer(c, s, "c", append(hasty(), memphis.ConsumerGroup("g"))...)
	same(texts(collect(m, len(bodies), false)), bodies)
	rows := t.letters(s, len(bodies))
	same(len(rows), len(bodies))
	return c, s, m, rows
}

func init() {
	test("DLS-01", "a new station has its dead-letter station, empty", func(t *T) {
		c, s, p := t.start()
		same(t.admin("dls_list", object{"name": s})["total"], 0.0)
		fill(p, []string{"1"})
		collect(consumer(c, s, "c", hasty()...), 1, false)
		same(len(t.letters(s, 1)), 1)
	})
	test("DLS-02", "an unacked message becomes a letter with its group, place and deliveries", func(t *T) {
		_, _, _, rows := t.failed([]string{"x"})
		same(rows[0], letter{Id: rows[0].Id, Reason: "unacked", Partition: 1, Seq: 1, Deliveries: 1, Groups: []string{"g"}})
	})
	test("DLS-03", "what a schema refused is a letter with the reason (the SDK's notice)", func(t *T) {
		_, s, _ := t.start()
		t.schemaNotice(s)
		rows := t.letters(s, 1)
		check(len(rows) == 1 && rows[0].Reason == "schema" && rows[0].Error == "Schema validation has failed: no", rows)
	})
	test("DLS-04", "a message that was given up keeps the consumer's reason", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"x", "y"})
		got := collect(consumer(c, s, "c"), 2, false)
		check(got[0].DeadLetter("first") == nil && got[1].DeadLetter("second") == nil)
		rows := t.lettersWhen(s, func(r []letter) bool { return len(r) == 2 && r[0].Error != "" && r[1].Error != "" })
		same([]string{rows[0].Reason, rows[0].Error, rows[1].Reason, rows[1].Error}, []string{"nacked", "first", "nacked", "second"})
	})
	test("DLS-06 DLS-09", "a letter goes again to the group that failed, only; acked it is gone", func(t *T) {
		c, s, m, rows := t.failed([]string{"x", "y"})
		other := consumer(c, s, "other")
		same(drain(other, 2), []string{"x", "y"})
		same(t.admin("dls_resend", object{"name": s, "ids": []int{rows[1].Id}}), object{})
		got := collect(m, 1, false)
		same(texts(got), []string{"y"})
		same(len(t.letters(s, 2)), 2)
		check(got[0].Ack() == nil)
		left := t.lettersWhen(s, func(r []letter) bool { return len(r) == 1 })
		check(len(left) == 1 && left[0].Id == rows[0].Id, left)
		nothing(other)
	})
	test("DLS-07", "all letters are sent again", func(t *T) {
		_, s, m, _ := t.failed(numbers(1, 20))
		same(t.admin("dls_resend", object{"name": s, "all": true}), object{})
		same(sorted(drain(m, 20)), numbers(1, 20))
		same(t.lettersWhen(s, func(r []letter) bool { return len(r) == 0 }), []letter{})
	})
	test("DLS-08", "letters are dropped, some or all", func(t *T) {
		_, s, _, rows := t.failed(numbers(1, 4))
		same(t.admin("dls_drop", object{"name": s, "ids": []int{rows[0].Id, rows[1].Id}}), object{})
		left := t.letters(s, 0)
		check(len(left) == 2 && left[0].Id == rows[2].Id, left)
		same(t.admin("dls_drop", object{"name": s, "all": true}), object{})
		same(t.letters(s, 0), []letter{})
	})
	test("DLS-10", "letters are copied to a station: headers, where they were, and why", func(t *T) {
		c, s, p := t.start(memphis.DlsStation(t.name("graves")), memphis.PartitionsNumber(2))
		h := memphis.Headers{}
		h.New()
		check(h.Add("color", "red") == nil)
		fill(p, []string{"hopeless"}, memphis.MsgHeaders(h))
		collect(consumer(c, s, "c", hasty()...), 1, false)
		got := collect(consumer(c, t.name("graves"), "g"), 1, true)[0]
		told := got.GetHeaders()
		same([]string{string(got.Data()), told["color"], told["station"], told["type"]}, []string{"hopeless", "red", s, "unacked"})
	})
	test("DLS-12", "the letters go with their station", func(t *T) {
		c, s, _, _ := t.failed([]string{"x"})
		check(must(c.CreateStation(s)).Destroy() == nil)
		check(t.admin("dls_list", object{"name": s})["error"] != nil)
		must(c.CreateStation(s))
		same(t.letters(s, 0), []letter{})
	})
	test("DLS-13", "two groups that fail on a message make one letter", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"x"})
		for _, g := range []string{"a", "b"} {
			collect(consumer(c, s, g, hasty()...), 1, false)
		}
		rows := t.lettersWhen(s, func(r []letter) bool { return len(r) > 0 && len(r[0].Groups) == 2 })
		check(len(rows) == 1, rows)
		same(rows[0].Groups, []string{"a", "b"})
	})
	testRestart("DLS-14", "no unacked message is lost on its way, over a restart", func(t *T) func() {
		c, s, p := t.start()
		fill(p, numbers(1, 60))
		same(texts(collect(consumer(c, s, "c", hasty()...), 30, false)), numbers(1, 30))
		same(len(t.letters(s, 30)), 30)
		collect(consumer(c, s, "d", hasty()...), 60, false) // their time ends in the restart, or near it
		return func() {
			check(until(15*time.Second, t.nats().IsConnected), "not connected")
			seen := map[int]bool{}
			for _, r := range t.letters(s, 60) {
				seen[r.Seq] = true
			}
			same(len(seen), 60)
		}
	})
	test("DLS-15", "letters are counted per station", func(t *T) {
		_, s, _, _ := t.failed(numbers(1, 5))
		answer := t.admin("dls_list", object{"name": s, "limit": 2})
		same([]any{answer["total"], len(answer["letters"].([]any))}, []any{5.0, 2})
	})
}
