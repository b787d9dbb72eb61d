// The official Go SDK (memphis.go), unmodified, against memphisd.
//
// Usage: sdk_go PORT [ID...]. Environment: DAEMON_RESTART, a command that restarts memphisd;
// TOKEN_PORT, a memphisd in token mode. Prints "ok - go IDS text" or "FAILED - ..." per test
// and ends with "N passed, N failed". With ids: only the tests that show one of them.
//
// A test names the ids that it shows and gets a T. It has stations of its own, so all of them
// run at the same time. One that returns a function has it called after a restart of
// memphisd. One that is alone runs before all others.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memphisdev/memphis.go"
	"github.com/nats-io/nats.go"
)

const (
	atOnce   = 40            // tests
	password = "App123456!@" // of the users that tests make
)

var (
	port, _ = strconv.Atoi(os.Args[1])
	run     = strconv.FormatInt(time.Now().UnixMilli()%1000000000, 10)
	out     = os.Stdout
	tests   []*Test
)

type Test struct {
	ids, text string
	body      func(*T) func()
	alone     bool
	t         *T
	after     func()
	failure   string
	took      time.Duration
}

func test(ids, text string, body func(t *T)) {
	tests = append(tests, &Test{ids: ids, text: text,
		body: func(t *T) func() { body(t); return nil }})
}

func testRestart(ids, text string, body func(t *T) func()) {
	tests = append(tests, &Test{ids: ids, text: text, body: body})
}

func (x *Test) protected(f func()) {
	began := time.Now()
	defer func() {
		x.took += time.Since(began)
		if r := recover(); r != nil {
			x.failure = fmt.Sprint(r)
		}
	}()
	f()
}

// To the restart, if there is one, then to the end.
func (x *Test) goOn() {
	f := x.after
	x.after = nil
	if f != nil {
		x.protected(f)
	} else {
		x.t = &T{base: "go-" + strings.ToLower(strings.Fields(x.ids)[0])}
		x.protected(func() { x.after = x.body(x.t) })
	}
	if x.after != nil {
		return
	}
	x.t.end()
	word, said := "ok", ""
	if x.failure != "" {
		word, said = "FAILED", " ("+x.failure+")"
	}
	if os.Getenv("SHOW_TIME") != "" {
		said += fmt.Sprintf(" [%.1f s]", x.took.Seconds())
	}
	fmt.Fprintf(out, "%s - go %s %s%s\n", word, x.ids, x.text, said)
}

// === What tests say ===

func check(good bool, detail ...any) {
	if !good {
		file, line := "", 0
		for i := 1; i < 6; i++ { // the line of the test
			_, file, line, _ = runtime.Caller(i)
			if !strings.HasSuffix(file, "main.go") {
				break
			}
		}
		panic(fmt.Sprintf("%s:%d: %v", file[strings.LastIndex(file, "/")+1:], line, detail))
	}
}

func same(got, want any) {
	check(reflect.DeepEqual(got, want), "got", short(got), "not", short(want))
}

func short(v any) string { return fmt.Sprintf("%.300s", fmt.Sprintf("%+v", v)) }

func must[V any](v V, err error) V {
	check(err == nil, err)
	return v
}

func refused(err error, text string) {
	check(err != nil && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(text)),
		"refused with:", err)
}

func fails[V any](_ V, err error) error { return err }

func until(limit time.Duration, condition func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if condition() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func numbers(from, to int) []string {
	out := []string{}
	for i := from; i <= to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func sorted(list []string) []string {
	out := append([]string{}, list...)
	sort.Slice(out, func(i, j int) bool {
		a, _ := strconv.Atoi(out[i])
		b, _ := strconv.Atoi(out[j])
		return a < b
	})
	return out
}

// === What tests do ===

type T struct {
	base    string
	clients []*memphis.Conn
	raw     *nats.Conn
}

func (t *T) name(what string) string { return t.base + "-" + what + "-" + run }

func (t *T) try(user string, options ...memphis.Option) (*memphis.Conn, error) {
	all := []memphis.Option{memphis.Port(port), memphis.Reconnect(true), memphis.MaxReconnect(9),
		memphis.ReconnectInterval(300 * time.Millisecond), memphis.Timeout(15 * time.Second)}
	c, err := memphis.Connect("127.0.0.1", user, append(all, options...)...)
	if err == nil {
		t.clients = append(t.clients, c)
	}
	return c, err
}

func (t *T) connect() *memphis.Conn { return must(t.try("root", memphis.Password("memphis"))) }

// A connection, a station and a producer of it.
func (t *T) start(options ...memphis.StationOpt) (*memphis.Conn, string, *memphis.Producer) {
	return t.startAs(t.name("s"), options...)
}

func (t *T) startAs(station string, options ...memphis.StationOpt) (*memphis.Conn, string, *memphis.Producer) {
	c := t.connect()
	must(c.CreateStation(station, options...))
	return c, station, must(c.CreateProducer(station, "p"))
}

// The SDK keeps its own connection to itself: a second one for verbs and JetStream.
func (t *T) nats() *nats.Conn {
	if t.raw == nil {
		t.raw = must(nats.Connect("127.0.0.1:"+strconv.Itoa(port), nats.UserInfo("root", "memphis"),
			nats.MaxReconnects(-1), nats.ReconnectWait(300*time.Millisecond),
			nats.Timeout(15*time.Second), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})))
	}
	return t.raw
}

func (t *T) ask(subject string, body any) string {
	return string(must(t.nats().Request(subject, must(json.Marshal(body)), 15*time.Second)).Data)
}

type object map[string]any

func (t *T) admin(verb string, args object) object {
	out := object{}
	check(json.Unmarshal([]byte(t.ask("$memphis_admin."+verb, args)), &out) == nil)
	return out
}

type letter struct {
	Id                         int
	Reason, Error              string
	Partition, Seq, Deliveries int
	Groups                     []string
}

// The dead letters of a station, when there are `want`.
func (t *T) letters(station string, want int) []letter {
	return t.lettersWhen(station, func(rows []letter) bool { return len(rows) >= want })
}

func (t *T) lettersWhen(station string, good func([]letter) bool) []letter {
	var rows []letter
	until(15*time.Second, func() bool {
		rows = []letter{}
		list, ok := t.admin("dls_list", object{"name": station, "limit": 1000})["letters"].([]any)
		check(ok, "no list")
		for _, x := range list {
			x := x.(map[string]any)
			l := letter{Id: int(x["id"].(float64)), Reason: x["reason"].(string), Error: x["error"].(string),
				Partition: int(x["partition"].(float64)), Seq: int(x["message_seq"].(float64)),
				Deliveries: int(x["deliveries"].(float64)), Groups: []string{}}
			for _, g := range x["poisoned_cgs"].([]any) {
				l.Groups = append(l.Groups, g.(string))
			}
			sort.Strings(l.Groups)
			rows = append(rows, l)
		}
		return good(rows)
	})
	return rows
}

// Nil: there is no such station.
func (t *T) settings(station string) object {
	for _, x := range t.admin("station_list", object{})["stations"].([]any) {
		if x.(map[string]any)["name"] == station {
			return x.(map[string]any)
		}
	}
	return nil
}

func (t *T) stored(station string) int { return int(t.settings(station)["total_messages"].(float64)) }

func (t *T) addUser(name, kind string, more object) {
	args := object{"username": name, "password": password, "user_type": kind}
	for k, v := range more {
		args[k] = v
	}
	same(t.admin("user_add", args), object{})
}

func (t *T) js() nats.JetStreamContext { return must(t.nats().JetStream()) }

func (t *T) end() {
	for _, c := range t.clients {
		func() {
			defer func() { _ = recover() }() // the SDK's Close twice
			c.Close()
		}()
	}
	if t.raw != nil {
		t.raw.Close()
	}
}

func fill(p *memphis.Producer, bodies []string, options ...memphis.ProduceOpt) {
	for _, b := range bodies {
		check(nil == put(p, b, options...), "not produced")
	}
}

func put(p *memphis.Producer, body any, options ...memphis.ProduceOpt) error {
	if s, ok := body.(string); ok {
		body = []byte(s)
	}
	return p.Produce(body, append([]memphis.ProduceOpt{memphis.SyncProduce()}, options...)...)
}

func consumer(c *memphis.Conn, station, name string, options ...memphis.ConsumerOpt) *memphis.Consumer {
	quiet := func(*memphis.Consumer, error) {}
	all := []memphis.ConsumerOpt{memphis.BatchMaxWaitTime(500 * time.Millisecond), memphis.ConsumerErrorHandler(quiet)}
	return must(c.CreateConsumer(station, name, append(all, options...)...))
}

// Messages in the order of their arrival, until `want` are there.
func collect(c *memphis.Consumer, want int, ack bool, options ...memphis.ConsumingOpt) []*memphis.Msg {
	got := []*memphis.Msg{}
	for end := time.Now().Add(20 * time.Second); len(got) < want && time.Now().Before(end); {
		batch, err := c.Fetch(min(500, want-len(got)), false, options...)
		if err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		for _, m := range batch {
			got = append(got, m)
			if ack {
				m.Ack()
			}
		}
	}
	return got
}

func texts(messages []*memphis.Msg) []string {
	out := []string{}
	for _, m := range messages {
		out = append(out, string(m.Data()))
	}
	return out
}

func drain(c *memphis.Consumer, want int, options ...memphis.ConsumingOpt) []string {
	return texts(collect(c, want, true, options...))
}

func nothing(c *memphis.Consumer) { same(texts(must(c.Fetch(10, false))), []string{}) }

func restart() {
	words := strings.Fields(os.Getenv("DAEMON_RESTART"))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		panic(string(out))
	}
}

// === All of them ===

func together(list []*Test) {
	gate := make(chan bool, atOnce)
	var all sync.WaitGroup
	for _, x := range list {
		all.Add(1)
		go func() {
			defer all.Done()
			gate <- true
			x.goOn()
			<-gate
		}()
	}
	all.Wait()
}

func main() {
	log.SetOutput(io.Discard) // the SDK's words, some of them without a line's end
	os.Stdout = must(os.OpenFile(os.DevNull, os.O_WRONLY, 0))
	var chosen, rest, waiting []*Test
	for _, x := range tests {
		wanted := len(os.Args) == 2
		for _, id := range os.Args[2:] {
			wanted = wanted || strings.Contains(" "+x.ids+" ", " "+id+" ")
		}
		if !wanted {
			continue
		}
		chosen = append(chosen, x)
		if x.alone {
			x.goOn()
		} else {
			rest = append(rest, x)
		}
	}
	together(rest)
	failed := 0
	for _, x := range chosen {
		if x.after != nil {
			waiting = append(waiting, x)
		}
	}
	if len(waiting) > 0 {
		restart()
		together(waiting)
	}
	for _, x := range chosen {
		if x.failure != "" {
			failed++
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", len(chosen)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
