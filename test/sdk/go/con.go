package main

// Connections (CON), plain subscriptions, and users (USR).

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memphisdev/memphis.go"
	"github.com/nats-io/nats.go"
)

func init() {
	test("CON-01", "a client gets a session at host and port", func(t *T) {
		c := t.connect()
		check(c.IsConnected() && port != 6666)
		must(c.CreateStation(t.name("s")))
	})
	test("CON-02 USR-04", "an application user comes in with his password, produces and consumes", func(t *T) {
		t.addUser(t.name("user"), "application", nil)
		c := must(t.try(t.name("user"), memphis.Password(password)))
		fill(must(c.CreateProducer(t.name("s"), "p")), []string{"mine"})
		same(drain(consumer(c, t.name("s"), "c"), 1), []string{"mine"})
	})
	test("CON-03", "in token mode the token is enough, and needed", func(t *T) {
		where := memphis.Port(must(strconv.Atoi(os.Getenv("TOKEN_PORT"))))
		refused(fails(t.try("root", where, memphis.ConnectionToken("wrong"))), "authorization violation")
		c := must(t.try("root", where, memphis.ConnectionToken("memphis")))
		fill(must(c.CreateProducer(t.name("s"), "p")), []string{"token"})
		same(drain(consumer(c, t.name("s"), "c"), 1), []string{"token"})
	})
	test("CON-10", "by TLS, with CA, certificate and key; one without them is refused", func(t *T) {
		files := os.Getenv("TLS_FILES")
		where := memphis.Port(must(strconv.Atoi(os.Getenv("TLS_PORT"))))
		c := must(t.try("root", where, memphis.ConnectionToken("memphis"),
			memphis.Tls(files+"/client.pem", files+"/client.key", files+"/ca.pem")))
		sent := []string{}
		for _, n := range numbers(1, 300) {
			sent = append(sent, strings.Repeat(n, 1000))
		}
		fill(must(c.CreateProducer(t.name("s"), "p")), sent)
		same(drain(consumer(c, t.name("s"), "c"), 300), sent)
		_, err := t.try("root", where, memphis.ConnectionToken("memphis"), memphis.Reconnect(false))
		check(err != nil, "let in without a certificate")
	})
	test("CON-04", "root works like a client", func(t *T) {
		c, s, p := t.start()
		fill(p, []string{"by root"})
		same(drain(consumer(c, s, "c"), 1), []string{"by root"})
	})
	test("CON-05 USR-03", "a management user is there, and no client", func(t *T) {
		t.addUser(t.name("boss"), "management", nil)
		same(t.listed(t.name("boss"))["user_type"], "management")
		refused(fails(t.try(t.name("boss"), memphis.Password(password))), "authorization violation")
	})
	test("CON-06", "a wrong password is an authorization violation", func(t *T) {
		refused(fails(t.try("root", memphis.Password("wrong"))), "authorization violation")
	})
	test("CON-07", "the account id 1 is understood: root$1, as the SDK sends it", func(t *T) {
		check(must(t.try("root", memphis.Password("memphis"), memphis.AccountId(1))).IsConnected())
		nc := must(nats.Connect("127.0.0.1:"+strconv.Itoa(port), nats.UserInfo("root$1", "memphis")))
		nc.Close()
	})
	testRestart("CON-08", "after a restart the same producers and consumers go on", func(t *T) func() {
		c, s, p := t.start()
		m := consumer(c, s, "c")
		fill(p, []string{"before"})
		same(drain(m, 1), []string{"before"})
		return func() {
			check(until(15*time.Second, c.IsConnected), "not connected")
			fill(p, []string{"after"})
			same(drain(m, 1), []string{"after"})
		}
	})
	testRestart("CON-09", "IsConnected tells of a lost connection, and of the new one", func(t *T) func() {
		c := must(t.try("root", memphis.Password("memphis"), memphis.ReconnectInterval(time.Second)))
		check(c.IsConnected())
		var lost, done atomic.Bool
		go func() {
			for !done.Load() {
				if !c.IsConnected() {
					lost.Store(true)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		return func() {
			check(until(15*time.Second, c.IsConnected), "not connected")
			done.Store(true)
			check(lost.Load(), "the loss was not seen")
			c.Close()
			check(!c.IsConnected())
		}
	})
	test("CON-13", "a plain NATS client publishes, subscribes, asks, and pulls from a station", func(t *T) {
		c, s, _ := t.start()
		nc, js := t.nats(), t.js()
		sub := must(nc.SubscribeSync(t.name("talk")))
		check(nil == nc.Publish(t.name("talk"), []byte("hello")))
		same(string(must(sub.NextMsg(5*time.Second)).Data), "hello")
		must(nc.Subscribe(t.name("ask"), func(m *nats.Msg) { m.Respond(append(m.Data, '!')) }))
		same(string(must(nc.Request(t.name("ask"), []byte("you"), 5*time.Second)).Data), "you!")
		same(must(js.Publish(s+"$1.final", []byte("stored"))).Sequence, uint64(1))
		pull := must(js.PullSubscribe(s+"$1.final", "group", nats.BindStream(s+"$1")))
		m := must(pull.Fetch(1, nats.MaxWait(5*time.Second)))[0]
		same(string(m.Data), "stored")
		check(nil == m.Ack())
		same(drain(consumer(c, s, "c"), 1), []string{"stored"})
	})
	test("CON-17", "memphis.go v1.3.1 is built as the checksum database knows it, and works", func(t *T) {
		info, _ := debug.ReadBuildInfo()
		found := false
		for _, d := range info.Deps {
			if d.Path == "github.com/memphisdev/memphis.go" {
				found = d.Replace == nil
				same([]string{d.Version, d.Sum}, []string{"v1.3.1", "h1:WbJ2iinvxtOZPZ6rLYFGIlHW27jU30nYqovBlS1md1Y="})
			}
		}
		check(found, "not built in")
		c, s, p := t.start()
		fill(p, numbers(1, 3))
		same(drain(consumer(c, s, "c"), 3), numbers(1, 3))
	})
	test("CON-22", "ten producers and five consumers share the connection of their client", func(t *T) {
		c := t.connect()
		until(5*time.Second, func() bool { return connections() == 1 })
		same(connections(), 1)
		for _, i := range numbers(1, 5) {
			for _, name := range []string{"a", "b"} {
				fill(must(c.CreateProducer(t.name(i), name)), []string{"x"})
			}
			same(drain(consumer(c, t.name(i), "c"), 2), []string{"x", "x"})
		}
		same(connections(), 1)
	})
	tests[len(tests)-1].alone = true
	test("CON-23", "requests of SDKs from before partitions are refused with a clear text", func(t *T) {
		same(t.ask("$memphis_station_creations", object{"name": t.name("s"), "retention_type": "messages", "retention_value": 10,
			"storage_type": "file", "replicas": 1, "partitions_number": 0}), "you are using an old SDK, make sure to update your SDK")
		must(t.connect().CreateStation(t.name("s")))
		answer := object{}
		check(nil == json.Unmarshal([]byte(t.ask("$memphis_producer_creations", object{"name": "p", "station_name": t.name("s"),
			"connection_id": "x", "producer_type": "application", "req_version": 1})), &answer))
		same(answer["error"], "to produce to this station please upgrade your SDK version")
	})
	test("CSM-28", "a plain subscription with a wildcard hears what fits", func(t *T) {
		nc := t.nats()
		sub := must(nc.SubscribeSync(t.name("s") + ".*.eu"))
		for _, city := range []string{"paris.eu", "paris.us", "rome.eu", "a.b.eu"} {
			check(nil == nc.Publish(t.name("s")+"."+city, []byte(city)))
		}
		for _, want := range []string{"paris.eu", "rome.eu"} {
			same(string(must(sub.NextMsg(5*time.Second)).Data), want)
		}
		refused(fails(sub.NextMsg(300*time.Millisecond)), "timeout")
	})
	users()
}

// TCP connections of this machine to memphisd: remote port, state ESTABLISHED.
func connections() int {
	n := 0
	for _, line := range strings.Split(string(must(os.ReadFile("/proc/net/tcp"))), "\n")[1:] {
		x := strings.Fields(line)
		if len(x) > 3 && strings.HasSuffix(x[2], fmt.Sprintf(":%04X", port)) && x[3] == "01" {
			n++
		}
	}
	return n
}

// Nil: there is no such user.
func (t *T) listed(name string) object {
	for _, x := range t.admin("user_list", object{})["users"].([]any) {
		if x.(map[string]any)["username"] == name {
			return x.(map[string]any)
		}
	}
	return nil
}

func users() {
	pass := memphis.Password(password)
	once := memphis.Reconnect(false)
	test("USR-01", "root is there from the start, and stays", func(t *T) {
		until(5*time.Second, func() bool { return t.listed("root") != nil }) // when its hash is made
		same(t.listed("root")["user_type"], "root")
		check(t.admin("user_remove", object{"username": "root"})["error"] != nil)
		check(t.admin("user_add", object{"username": "root", "password": password, "user_type": "application"})["error"] != nil)
	})
	test("USR-05", "passwords need 8 characters, both cases, a digit and a special one", func(t *T) {
		for _, bad := range []string{"Ab1!", "abcdefg1!", "ABCDEFG1!", "Abcdefgh!", "Abcdefgh1", "Abcdefg1!ü"} {
			answer := t.admin("user_add", object{"username": t.name("u"), "password": bad, "user_type": "application"})
			text, _ := answer["error"].(string)
			check(strings.HasPrefix(text, "a password "), bad, text)
		}
		check(t.listed(t.name("u")) == nil)
	})
	test("USR-07", "a password is changed, a user removed: his connection ends", func(t *T) {
		user := t.name("u")
		t.addUser(user, "application", nil)
		app := must(t.try(user, pass, once))
		same(t.admin("user_set_password", object{"username": user, "password": "New12345!"}), object{})
		refused(fails(t.try(user, pass, once)), "authorization violation")
		renewed := must(t.try(user, memphis.Password("New12345!"), once))
		check(renewed.IsConnected())
		same(t.admin("user_remove", object{"username": user}), object{})
		check(until(5*time.Second, func() bool { return !app.IsConnected() && !renewed.IsConnected() }), "he is still connected")
	})
	test("USR-08", "a removed user can be made again", func(t *T) {
		for range 2 {
			t.addUser(t.name("u"), "application", nil)
			check(must(t.try(t.name("u"), pass, once)).IsConnected())
			same(t.admin("user_remove", object{"username": t.name("u")}), object{})
			check(t.listed(t.name("u")) == nil)
		}
	})
	test("USR-09", "the users of INITIAL_CONFIG_FILE are there", func(t *T) {
		c := must(t.try("first", memphis.Password("First123456!")))
		fill(must(c.CreateProducer(t.name("s"), "p")), []string{"x"})
		same(t.listed("firstboss")["user_type"], "management")
	})
	test("USR-10", "a user with lists reads and writes what they name, nothing else", func(t *T) {
		c := t.connect()
		user, read, write := t.name("u"), t.name("read"), t.name("write")
		for _, s := range []string{read, t.name("other")} {
			fill(must(c.CreateProducer(s, "p")), []string{"x"})
		}
		t.addUser(user, "application", object{"allow_read_permissions": []string{read}, "allow_write_permissions": []string{write}})
		app := must(t.try(user, pass))
		same(drain(consumer(app, read, "c"), 1), []string{"x"})
		fill(must(app.CreateProducer(write, "q")), []string{"mine"})
		refused(fails(app.CreateProducer(read, "q")), fmt.Sprintf("user %s is not allowed to access station %s", user, read))
		refused(fails(app.CreateConsumer(write, "c")), fmt.Sprintf("user %s is not allowed to access station %s", user, write))
		refused(fails(app.CreateStation(t.name("new"))), fmt.Sprintf("user %s is not allowed to create station %s", user, t.name("new")))
		nc := must(nats.Connect("127.0.0.1:"+strconv.Itoa(port), nats.UserInfo(user, password),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})))
		defer nc.Close()
		before := t.stored(read)
		check(nil == nc.Publish(read+"$1.final", []byte("past the SDK")) && nc.Flush() == nil)
		same(t.stored(read), before)
		same(t.admin("user_set_permissions", object{"username": user}), object{})
		fill(must(app.CreateProducer(read, "q2")), []string{"now"})
	})
	test("USR-11", "patterns with dots and stars name stations", func(t *T) {
		user, base := t.name("u"), t.name("prod")
		t.addUser(user, "application", object{"allow_read_permissions": []string{base + ".*"},
			"allow_write_permissions": []string{base + ".*"}, "deny_write_permissions": []string{base + ".secret.*"}})
		app := must(t.try(user, pass))
		fill(must(app.CreateProducer(base+".eu.orders", "p")), []string{"x"})
		same(drain(consumer(app, base+".eu.orders", "c"), 1), []string{"x"})
		for _, s := range []string{base, base + "x", base + ".secret.a"} {
			refused(fails(app.CreateProducer(s, "p")), "is not allowed to")
		}
	})
	test("USR-12", "description, team and position are kept", func(t *T) {
		t.addUser(t.name("u"), "application", object{"team": "core", "position": "engineer", "description": "runs the orders"})
		u := t.listed(t.name("u"))
		same([]any{u["team"], u["position"], u["description"]}, []any{"core", "engineer", "runs the orders"})
	})
}
