package main

// Consuming (CSM).

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/memphisdev/memphis.go"
)

func times(ack time.Duration, deliveries int) []memphis.ConsumerOpt {
	return []memphis.ConsumerOpt{memphis.MaxAckTime(ack), memphis.MaxMsgDeliveries(deliveries)}
}

func hasty() []memphis.ConsumerOpt { return times(1500*time.Millisecond, 1) }

func init() {
	test("CSM-01", "each group gets every message, one member of it each", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 300))
		same(drain(consumer(c, s, "a", memphis.ConsumerGroup("group-a")), 300), numbers(1, 300))
		members := [2]*memphis.Consumer{}
		parts := [2][]string{}
		for i, conn := range []*memphis.Conn{c, t.connect()} {
			members[i] = consumer(conn, s, "b", memphis.ConsumerGroup("b"))
		}
		for range 15 {
			for i, m := range members {
				parts[i] = append(parts[i], drain(m, 10)...)
			}
		}
		same([]int{len(parts[0]), len(parts[1])}, []int{150, 150})
		same(sorted(append(parts[0], parts[1]...)), numbers(1, 300))
		lone := consumer(c, s, "lone")
		same(lone.ConsumerGroup, "lone")
		same(len(drain(lone, 300)), 300)
	})
	test("CSM-02", "the pull loop calls its handler with batches", func(t *T) {
		c, s, p := t.start()
		m := consumer(c, s, "c", memphis.PullInterval(100*time.Millisecond), memphis.BatchSize(10))
		fill(p, numbers(1, 25))
		var lock sync.Mutex
		got, largest := []string{}, 0
		check(nil == m.Consume(func(batch []*memphis.Msg, _ error, _ context.Context) {
			lock.Lock()
			defer lock.Unlock()
			largest = max(largest, len(batch))
			for _, x := range batch {
				got = append(got, string(x.Data()))
				x.Ack()
			}
		}))
		until(15*time.Second, func() bool { lock.Lock(); defer lock.Unlock(); return len(got) >= 25 })
		m.StopConsume()
		same(got, numbers(1, 25))
		same(largest, 10)
	})
	test("CSM-03", "fetch takes a batch of the size that was asked for, or what is there", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 7))
		m := consumer(c, s, "c")
		for _, x := range [][2]int{{3, 3}, {1, 1}, {10, 3}} {
			same(len(must(m.Fetch(x[0], false))), x[1])
		}
		refused(fails(m.Fetch(5001, false)), "Batch size can not be greater than 5000")
		fill(p, []string{"8"})
		same(texts(must(c.FetchMessages(s, "d", memphis.FetchBatchSize(8), memphis.FetchConsumerGroup("d")))), numbers(1, 8))
	})
	test("CSM-04", "with prefetch the next batch waits in the client", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 30))
		m := consumer(c, s, "c", times(30*time.Second, 2)...)
		got := texts(must(m.Fetch(10, true)))
		same(len(got), 10)
		check(until(5*time.Second, func() bool { // ten more than the test has
			return must(t.js().ConsumerInfo(s+"$1", "c")).NumAckPending == 20
		}), "nothing was fetched ahead")
		time.Sleep(time.Second)
		got = append(got, texts(must(m.Fetch(10, false)))...)
		same(sorted(got), numbers(1, 20))
	})
	test("CSM-05", "an acked message does not come again", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"1", "2"})
		m := consumer(c, s, "c", times(1500*time.Millisecond, 5)...)
		collect(m, 2, false)[0].Ack()
		same(drain(m, 1), []string{"2"})
		time.Sleep(2 * time.Second)
		nothing(m)
	})
	test("CSM-06", "a nacked message comes again at once, others stay", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"1", "2"})
		m := consumer(c, s, "c", times(30*time.Second, 3)...)
		first := collect(m, 2, false)
		began := time.Now()
		check(first[0].Nack() == nil)
		same(drain(m, 1), []string{"1"})
		check(time.Since(began) < 3*time.Second, time.Since(began))
	})
	test("CSM-07", "a message is given up with a reason", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"bad", "good"})
		m := consumer(c, s, "c", times(1500*time.Millisecond, 5)...)
		got := collect(m, 2, false)
		check(got[0].DeadLetter("no such customer") == nil && got[1].Ack() == nil)
		rows := t.lettersWhen(s, func(rows []letter) bool { return len(rows) > 0 && rows[0].Error != "" })
		check(len(rows) == 1 && rows[0].Seq == 1 && rows[0].Error == "no such customer", rows)
		time.Sleep(2 * time.Second)
		nothing(m)
	})
	test("CSM-08", "a delayed message comes after its delay, not before", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"later"})
		m := consumer(c, s, "c", times(30*time.Second, 5)...)
		first := collect(m, 1, false)
		began := time.Now()
		check(first[0].Delay(2*time.Second) == nil)
		same(drain(m, 1), []string{"later"})
		check(time.Since(began) > 1800*time.Millisecond && time.Since(began) < 6*time.Second, time.Since(began))
	})
	test("CSM-09", "an unacked message comes again after its ack time", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"once more"})
		m := consumer(c, s, "c", times(2*time.Second, 3)...)
		same(len(collect(m, 1, false)), 1)
		began := time.Now()
		same(drain(m, 1), []string{"once more"})
		check(time.Since(began) > 1500*time.Millisecond && time.Since(began) < 6*time.Second, time.Since(began))
	})
	test("CSM-10", "after its deliveries a message is a dead letter and does not come again", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"hopeless"})
		m := consumer(c, s, "c", times(1500*time.Millisecond, 3)...)
		for range 3 {
			got := collect(m, 1, false)
			same(texts(got), []string{"hopeless"})
			check(got[0].Nack() == nil)
		}
		time.Sleep(2 * time.Second)
		nothing(m)
		rows := t.letters(s, 1)
		check(len(rows) == 1 && rows[0].Reason == "unacked" && rows[0].Deliveries == 3, rows)
	})
	test("CSM-11", "a group can begin with a sequence", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 20))
		same(drain(consumer(c, s, "c", memphis.StartConsumeFromSequence(15)), 6), numbers(15, 20))
	})
	test("CSM-12", "a group can begin with the last messages, of one and of many partitions", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 20))
		same(drain(consumer(c, s, "c", memphis.LastMessages(3)), 3), numbers(18, 20))
		none := consumer(c, s, "none", memphis.LastMessages(0))
		fill(p, []string{"21"})
		same(drain(none, 1), []string{"21"})
		many := t.name("many")
		must(c.CreateStation(many, memphis.PartitionsNumber(3)))
		fill(must(c.CreateProducer(many, "q")), numbers(1, 30))
		m := consumer(c, many, "d", memphis.LastMessages(2))
		same(sorted(drain(m, 6)), numbers(25, 30)) // of each partition
		for range 3 {
			nothing(m)
		}
	})
	test("CSM-13", "a sequence and last messages together are refused, by the broker, too", func(t *T) {
		c, s, _ := t.start()
		refused(fails(c.CreateConsumer(s, "c", memphis.LastMessages(3), memphis.StartConsumeFromSequence(2))),
			"Consumer creation options can't contain both startConsumeFromSequence and lastMessages")
		refused(fails(c.CreateConsumer(s, "c", memphis.StartConsumeFromSequence(0))), "startConsumeFromSequence has to be a positive number")
		refused(fails(c.CreateConsumer(s, "c", memphis.LastMessages(-2))), "min value for LastMessages is -1")
		answer := t.ask("$memphis_consumer_creations", object{"name": "c", "station_name": s, "consumer_type": "application",
			"start_consume_from_sequence": 2, "last_messages": 3, "req_version": 4, "connection_id": c.ConnId})
		check(strings.Contains(answer, "can't contain both startConsumeFromSequence and lastMessages"), answer)
	})
	test("CSM-14", "messages have sequence numbers, from 1 in each partition", func(t *T) {
		c, s, p := t.start(memphis.PartitionsNumber(2))
		fill(p, numbers(1, 10))
		m := consumer(c, s, "c")
		for range 2 { // partitions take turns
			for i, x := range must(m.Fetch(5, false)) {
				same(must(x.GetSequenceNumber()), uint64(i+1))
			}
		}
	})
	test("CSM-16", "the handler gets the context with its first batch; the SDK forgets it then", func(t *T) {
		type key string
		c, s, p := t.start()
		fill(p, []string{"x"})
		m := consumer(c, s, "c", memphis.PullInterval(100*time.Millisecond))
		m.SetContext(context.WithValue(context.Background(), key("who"), "me"))
		seen := make(chan any, 10)
		check(nil == m.Consume(func(batch []*memphis.Msg, _ error, ctx context.Context) {
			if len(batch) > 0 {
				batch[0].Ack()
				seen <- ctx.Value(key("who"))
			}
		}))
		select {
		case who := <-seen:
			same(who, "me")
		case <-time.After(10 * time.Second):
			check(false, "no message")
		}
		m.StopConsume()
	})
	test("CSM-20", "a group knows how many messages wait and are being worked on", func(t *T) {
		c, s, p := t.start()
		m := consumer(c, s, "c", memphis.ConsumerGroup("g.h"))
		fill(p, numbers(1, 10))
		collect(m, 2, true)
		collect(m, 3, false)
		var seen []int
		until(5*time.Second, func() bool {
			i := must(t.js().ConsumerInfo(s+"$1", "g#h"))
			seen = []int{int(i.NumPending), i.NumAckPending, int(i.AckFloor.Stream)}
			return seen[0] == 5 && seen[1] == 3 && seen[2] == 2
		})
		same(seen, []int{5, 3, 2})
	})
	test("CSM-22", "a consumer takes from one partition, by number or key", func(t *T) {
		c, s, p := t.start(memphis.PartitionsNumber(3))
		fill(p, numbers(1, 9))
		m := consumer(c, s, "c")
		same(drain(m, 3, memphis.ConsumerPartitionNumber(2)), []string{"2", "5", "8"})
		fill(p, []string{"by key"}, memphis.ProducerPartitionKey("k"))
		d := consumer(c, s, "d", memphis.LastMessages(1))
		same(drain(d, 1, memphis.ConsumerPartitionKey("k")), []string{"by key"})
		refused(fails(m.Fetch(1, false, memphis.ConsumerPartitionNumber(4))), "Partition number is out of range")
	})
	test("CSM-23", "the group goes with the last of its consumers", func(t *T) {
		c, s, p := t.start()
		fill(p, numbers(1, 4))
		a := consumer(c, s, "a", memphis.ConsumerGroup("g"))
		b := consumer(t.connect(), s, "b", memphis.ConsumerGroup("g"))
		same(drain(a, 2), []string{"1", "2"})
		time.Sleep(300 * time.Millisecond)
		check(a.Destroy() == nil)
		same(drain(b, 2), []string{"3", "4"})
		check(b.Destroy() == nil)
		refused(fails(t.js().ConsumerInfo(s+"$1", "g")), "consumer not found")
		same(drain(consumer(t.connect(), s, "c", memphis.ConsumerGroup("g")), 4), numbers(1, 4))
	})
	test("CSM-24", "the ping of a consumer, every 30 s, hears that its station has gone", func(t *T) {
		c, s, _ := t.start()
		said := make(chan string, 10)
		consumer(c, s, "c", memphis.ConsumerErrorHandler(func(_ *memphis.Consumer, e error) { said <- e.Error() }))
		time.Sleep(time.Second)
		same(len(said), 0)
		check(must(t.connect().CreateStation(s)).Destroy() == nil)
		select {
		case text := <-said:
			check(strings.Contains(text, "station unreachable"), text)
		case <-time.After(35 * time.Second):
			check(false, "nothing was said")
		}
	})
	testRestart("CSM-27", "with ids, retention until acked and one delivery each comes once; what was not acked comes again after a restart", func(t *T) func() {
		c, s, p := t.start(memphis.RetentionTypeOpt(memphis.AckBased))
		m := consumer(c, s, "c", memphis.MaxMsgDeliveries(1))
		for _, i := range numbers(1, 20) {
			for range 2 { // a producer that is not sure
				fill(p, []string{i}, memphis.MsgId(i))
			}
		}
		same(drain(m, 20), numbers(1, 20))
		nothing(m)
		least := t.name("least")
		fill(must(c.CreateProducer(least, "q")), numbers(1, 10))
		d := consumer(c, least, "d", times(3*time.Second, 10)...)
		same(drain(d, 4), numbers(1, 4))
		same(len(collect(d, 3, false)), 3)
		time.Sleep(300 * time.Millisecond) // for the acks
		return func() {
			same(sorted(drain(consumer(t.connect(), least, "d", times(3*time.Second, 10)...), 6)), numbers(5, 10))
		}
	})
}
