// What the tests of memphis-dev share: the table of tests, connections, and how they run.
//
// A test names the ids that it shows and gets a T. It has stations of its own, so all of them
// run at the same time. One that is an async generator yields once, where memphisd is started
// anew. With `alone` it runs before all others.
const { exec } = require('child_process')
const { promisify } = require('util')
const { createMemphisInstance } = require('memphis-dev')

const port = Number(process.argv[2])
const only = new Set(process.argv.slice(3))
const run = String(Date.now() % 1e9)
const atOnce = 40 // tests
const password = 'App123456!@' // of the users that tests make
const tests = []

function test(ids, text, body, { alone = false } = {}) {
  tests.push({ ids, text, body, alone })
}

function check(good, detail = '') {
  if (!good) throw new Error(String(detail))
}

const plain = (x) => JSON.stringify(x)

function same(got, want) {
  check(plain(got) === plain(want), `got ${String(plain(got)).slice(0, 300)}, not ${String(plain(want)).slice(0, 300)}`)
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
const numbers = (first, last) => [...Array(last - first + 1).keys()].map((i) => String(i + first))
const sorted = (list) => [...list].sort((a, b) => a - b)

// The call fails, and the error says `text`.
async function refused(call, text) {
  try {
    await (typeof call === 'function' ? call() : call)
  } catch (e) {
    check(String(e.message || e).toLowerCase().includes(text.toLowerCase()), `refused with: ${e}`)
    return
  }
  throw new Error(`not refused (${text})`)
}

async function until(condition, ms = 15000) {
  for (const end = Date.now() + ms; ; await sleep(50)) {
    const value = await condition()
    if (value || Date.now() > end) return value
  }
}

async function fill(producer, bodies, how = {}) {
  for (const body of bodies) await producer.produce({ message: Buffer.from(body), asyncProduce: false, ...how })
}

// Messages in the order of their arrival, until `want` are there.
async function take(consumer, want, { ms = 20000, ack = true, ...how } = {}) {
  const got = []
  for (const end = Date.now() + ms; got.length < want && Date.now() < end;) {
    for (const m of await consumer.fetch({ batchSize: Math.min(500, want - got.length), ...how })) {
      got.push(m)
      if (ack) m.ack()
    }
  }
  return got
}

const textOf = (m) => m.getData().toString()
const drain = async (consumer, want, how) => (await take(consumer, want, how)).map(textOf)

class T {
  constructor(ids) {
    this.base = `js-${ids.split(' ')[0].toLowerCase()}`
    this.clients = []
  }

  name(what = 's') {
    return `${this.base}-${what}-${run}`
  }

  async connect(options = {}) {
    const m = createMemphisInstance()
    const login = { host: '127.0.0.1', port, username: 'root', reconnect: true, maxReconnect: 9, reconnectIntervalMs: 300, timeoutMs: 15000, suppressLogs: true }
    if (!options.connectionToken) login.password = 'memphis'
    await m.connect({ ...login, ...options })
    this.clients.push(m)
    return m
  }

  // A connection, a station and a producer of it.
  async start(options = {}) {
    const m = await this.connect()
    const station = { name: this.name(), ...options }
    await m.station(station)
    return [m, station.name, await m.producer({ stationName: station.name, producerName: 'p' })]
  }

  async ask(m, subject, body) {
    return (await m.brokerManager.request(subject, Buffer.from(JSON.stringify(body)), { timeout: 15000 })).data.toString()
  }

  async admin(m, verb, args = {}) {
    return JSON.parse(await this.ask(m, `$memphis_admin.${verb}`, args))
  }

  // The dead letters of a station, when there are `want`.
  async letters(m, station, want = 1) {
    let rows
    await until(async () => {
      rows = (await this.admin(m, 'dls_list', { name: station, limit: 1000 })).letters
      return rows.length >= want
    })
    return rows
  }

  async settings(m, station) {
    return (await this.admin(m, 'station_list')).stations.find((s) => s.name === station)
  }

  async addUser(m, username, user_type = 'application', more = {}) {
    same(await this.admin(m, 'user_add', { username, password, user_type, ...more }), {})
  }

  async state(m, stream) {
    return (await m.brokerStats.streams.info(stream)).state
  }

  async end() {
    for (const m of this.clients) {
      m.consumersMap.forEach((c) => c.stop())
      try {
        await m.brokerManager.close()
      } catch (e) {
        // it is closed already
      }
    }
  }
}

class Run {
  constructor({ ids, text, body }) {
    Object.assign(this, { ids, text, t: new T(ids), waits: false, began: Date.now() })
    const it = body(this.t)
    this.it = typeof it.next === 'function' ? it : { next: async () => ({ done: true, value: await it }) }
  }

  // To the restart, if there is one, then to the end.
  async goOn() {
    const late = sleep(50000).then(() => Promise.reject(new Error('it does not end')))
    late.catch(() => {})
    try {
      this.waits = !(await Promise.race([this.it.next(), late])).done
    } catch (e) {
      this.waits = false
      const line = (/js\/(?!harness)(\w+\.js:\d+)/.exec(e.stack) || [])[1]
      this.error = `${line ? `${line}: ` : ''}${e.message || e}`
    }
    if (!this.waits) await this.finish()
  }

  async finish() {
    await this.t.end()
    const time = process.env.SHOW_TIME ? ` [${(Date.now() - this.began) / 1000} s]` : ''
    console.log(`${this.error ? 'FAILED' : 'ok'} - js ${this.ids} ${this.text}${this.error ? ` (${this.error})` : ''}${time}`)
  }
}

async function runAll() {
  const chosen = tests.filter(({ ids }) => only.size === 0 || ids.split(' ').some((id) => only.has(id)))
  const runs = []
  for (const t of chosen.filter((x) => x.alone)) {
    runs.push(new Run(t))
    await runs[runs.length - 1].goOn()
  }
  const queue = chosen.filter((x) => !x.alone)
  const worker = async () => {
    for (let t; (t = queue.shift());) {
      const r = new Run(t)
      runs.push(r)
      await r.goOn()
    }
  }
  await Promise.all([...Array(atOnce)].map(worker))
  const waiting = runs.filter((r) => r.waits)
  if (waiting.length > 0) {
    await promisify(exec)(process.env.DAEMON_RESTART)
    await Promise.all(waiting.map((r) => r.goOn()))
  }
  const failed = runs.filter((r) => r.error).length
  console.log(`${runs.length - failed} passed, ${failed} failed`)
  return failed
}

// Promises that the SDK drops, as those of its checks of partition numbers.
const dropped = []
process.on('unhandledRejection', (e) => dropped.push(String(e && e.message || e)))

module.exports = { test, check, same, sleep, numbers, sorted, refused, until, fill, take, drain, textOf, runAll, password, port, dropped }
