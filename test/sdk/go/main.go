// The official Go SDK (memphis.go), unmodified, against memphisd.
//
// Usage: sdk_go PORT, with DAEMON_RESTART naming a command that restarts memphisd. With
// TLS_FILES naming a folder of certificates: by TLS, and only what a transport can harm. Prints
// one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
package main

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memphisdev/memphis.go"
)

var (
	port, _        = strconv.Atoi(os.Args[1])
	files          = os.Getenv("TLS_FILES")
	run            = strconv.FormatInt(time.Now().UnixMilli()%1000000000, 10)
	passed, failed int
)

func check(what string, good bool, detail any) {
	word := "ok"
	if good {
		passed++
	} else {
		failed++
		word = "FAILED"
	}
	fmt.Printf("%s - go: %s (%v)\n", word, what, detail)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func connect(password string) (*memphis.Conn, error) {
	options := []memphis.Option{memphis.Password(password), memphis.Port(port),
		memphis.Reconnect(true), memphis.MaxReconnect(20),
		memphis.ReconnectInterval(time.Second)} // nine attempts at most
	if files != "" {
		options = append(options, memphis.Tls(files+"/client.pem", files+"/client.key", files+"/ca.pem"))
	}
	return memphis.Connect("127.0.0.1", "root", options...)
}

// Payloads in the order of their arrival, until `want` are there.
func drain(c *memphis.Consumer, want int, limit time.Duration) []string {
	got := []string{}
	for end := time.Now().Add(limit); len(got) < want && time.Now().Before(end); {
		batch, err := c.Fetch(min(500, want-len(got)), false)
		if err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		for _, m := range batch {
			got = append(got, string(m.Data()))
			m.Ack()
		}
	}
	return got
}

func numbers(from, to int) []string {
	out := []string{}
	for i := from; i <= to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func produce(c *memphis.Conn, station string, bodies []string) *memphis.Producer {
	p := must(c.CreateProducer(station, "p"))
	for _, b := range bodies {
		if err := p.Produce([]byte(b), memphis.SyncProduce()); err != nil {
			panic(err)
		}
	}
	return p
}

func groups(c *memphis.Conn) {
	station := "go-orders." + run
	must(c.CreateStation(station, memphis.PartitionsNumber(1)))
	s := must(c.CreateStation(station, memphis.PartitionsNumber(1))) // again: no error
	sent := numbers(1, 1000)
	p := produce(c, station, sent)
	wait := memphis.BatchMaxWaitTime(time.Second)
	a := must(c.CreateConsumer(station, "a", memphis.ConsumerGroup("group-a"), wait))
	b := must(c.CreateConsumer(station, "b", memphis.ConsumerGroup("group-b"), wait))
	got := drain(a, 1000, 20*time.Second)
	check("group a sees 1,000 messages once, in order", reflect.DeepEqual(got, sent), len(got))
	got = drain(b, 1000, 20*time.Second)
	check("group b sees 1,000 messages once, in order", reflect.DeepEqual(got, sent), len(got))
	parts := [2][]string{}
	var lock sync.Mutex
	var done sync.WaitGroup
	for i := range parts {
		member := must(c.CreateConsumer(station, "c"+strconv.Itoa(i), memphis.ConsumerGroup("group-c"), wait))
		done.Add(1)
		go func() {
			defer done.Done()
			for {
				batch, err := member.Fetch(50, false)
				if err != nil || len(batch) == 0 {
					return
				}
				lock.Lock()
				for _, m := range batch {
					parts[i] = append(parts[i], string(m.Data()))
					m.Ack()
				}
				lock.Unlock()
			}
		}()
	}
	done.Wait()
	all := append(append([]string{}, parts[0]...), parts[1]...)
	want := append([]string{}, sent...)
	sort.Strings(all)
	sort.Strings(want)
	check("two members share one group, each message to one of them",
		reflect.DeepEqual(all, want) && len(parts[0]) > 0 && len(parts[1]) > 0,
		fmt.Sprint(len(parts[0]), " + ", len(parts[1])))
	check("producer and consumer can be removed", p.Destroy() == nil && a.Destroy() == nil, "")
	check("a station can be removed", s.Destroy() == nil, "")
}

func redelivery(c *memphis.Conn) {
	station := "go-again-" + run
	produce(c, station, []string{"once more"})
	m := must(c.CreateConsumer(station, "c", memphis.MaxAckTime(1500*time.Millisecond),
		memphis.MaxMsgDeliveries(2), memphis.BatchMaxWaitTime(time.Second)))
	first, _ := m.Fetch(1, false)
	began := time.Now()
	second := []*memphis.Msg{}
	for len(second) == 0 && time.Since(began) < 8*time.Second {
		second, _ = m.Fetch(1, false)
	}
	waited := time.Since(began)
	check("an unacknowledged message comes again after its ack time", len(first) == 1 &&
		len(second) == 1 && waited > time.Second && waited < 7*time.Second, waited)
	for _, x := range second {
		x.Ack()
	}
}

func startPositions(c *memphis.Conn) {
	station := "go-start-" + run
	produce(c, station, numbers(1, 20))
	m := must(c.CreateConsumer(station, "c", memphis.StartConsumeFromSequence(15)))
	got := drain(m, 6, 10*time.Second)
	check("a group can start from a sequence", reflect.DeepEqual(got, numbers(15, 20)), got)
	m = must(c.CreateConsumer(station, "d", memphis.LastMessages(3)))
	got = drain(m, 3, 10*time.Second)
	check("a group can start with the last messages", reflect.DeepEqual(got, numbers(18, 20)), got)
}

func idempotence(c *memphis.Conn) {
	station := "go-ids-" + run
	p := must(c.CreateProducer(station, "p"))
	for i := 0; i < 3; i++ {
		if err := p.Produce([]byte("x"), memphis.SyncProduce(), memphis.MsgId("same")); err != nil {
			panic(err)
		}
	}
	m := must(c.CreateConsumer(station, "c", memphis.BatchMaxWaitTime(time.Second)))
	got := drain(m, 1, 10*time.Second)
	more, _ := m.Fetch(5, false)
	check("a message id is stored once", len(got) == 1 && len(more) == 0, got)
}

func asynchronous(c *memphis.Conn) {
	station := "go-async-" + run
	p := must(c.CreateProducer(station, "p"))
	sent := numbers(1, 1000)
	for _, b := range sent {
		if err := p.Produce([]byte(b)); err != nil {
			panic(err)
		}
	}
	m := must(c.CreateConsumer(station, "c"))
	got := drain(m, 1000, 20*time.Second)
	check("1,000 messages of an asynchronous producer arrive in order", reflect.DeepEqual(got, sent), len(got))
}

func restart(c *memphis.Conn) {
	station := "go-restart-" + run
	sent := numbers(1, 50)
	p := produce(c, station, sent)
	m := must(c.CreateConsumer(station, "c", memphis.MaxAckTime(2*time.Second), memphis.BatchMaxWaitTime(time.Second)))
	before := drain(m, 20, 10*time.Second)
	time.Sleep(100 * time.Millisecond)
	words := strings.Fields(os.Getenv("DAEMON_RESTART"))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		panic(string(out))
	}
	for end := time.Now().Add(15 * time.Second); !c.IsConnected() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	after := drain(m, 30, 20*time.Second)
	check("after a restart the group goes on where it was, nothing lost or repeated",
		reflect.DeepEqual(append(before, after...), sent), fmt.Sprint(len(before), " + ", len(after)))
	err := p.Produce([]byte("after"), memphis.SyncProduce())
	got := drain(m, 1, 10*time.Second)
	check("the same producer and consumer work after the reconnect",
		err == nil && len(got) == 1 && got[0] == "after", got)
}

func main() {
	defer func() {
		if r := recover(); r != nil {
			check("the test runs to its end", false, r)
		}
		fmt.Printf("%d passed, %d failed\n", passed, failed)
		if failed > 0 {
			os.Exit(1)
		}
	}()
	_, err := connect("wrong")
	check("a wrong password is refused",
		err != nil && strings.Contains(strings.ToLower(err.Error()), "authorization"), err)
	c := must(connect("memphis"))
	groups(c)
	if files == "" {
		redelivery(c)
		startPositions(c)
		idempotence(c)
		asynchronous(c)
	}
	restart(c)
	c.Close()
}
