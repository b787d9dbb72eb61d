// nats.ws, the NATS client of browsers (and of the product's dashboard), against memphisd's
// WebSocket port.
//
// Usage: node nats_ws.js WS_PORT, with DAEMON_RESTART naming a command that restarts memphisd. With
// TLS_FILES: by wss (NODE_EXTRA_CA_CERTS names the authority, as browsers have theirs).
// Prints one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
const { execSync } = require('child_process')
globalThis.WebSocket ??= require('ws')
const { connect, headers, JSONCodec, StringCodec } = require('nats.ws')

const servers = `${process.env.TLS_FILES ? 'wss' : 'ws'}://127.0.0.1:${process.argv[2]}`
const run = String(Date.now() % 1e9)
const text = StringCodec()
let passed = 0
let failed = 0

function check(what, good, detail = '') {
  if (good) passed++
  else failed++
  console.log(`${good ? 'ok' : 'FAILED'} - ws CON-11 ${what}${detail !== '' ? ` (${detail})` : ''}`)
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
const login = { servers, user: 'root', pass: 'memphis', timeout: 5000 }

async function next(sub, ms = 5000) {
  const late = sleep(ms).then(() => ({ done: true }))
  return (await Promise.race([sub[Symbol.asyncIterator]().next(), late])).value
}

async function wrongPassword() {
  try {
    await connect({ ...login, pass: 'wrong', reconnect: false })
    check('a wrong password is refused', false)
  } catch (e) {
    check('a wrong password is refused', e.code === 'AUTHORIZATION_VIOLATION', e.code)
  }
}

async function messages(nc) {
  const subject = `talk.${run}`
  const sub = nc.subscribe(`${subject}.a`)
  const many = nc.subscribe(`${subject}.*`, { max: 10001 })
  const h = headers()
  h.set('kind', 'test')
  nc.publish(`${subject}.a`, text.encode('hello'), { headers: h })
  const m = await next(sub)
  check('a message comes with its header', text.decode(m.data) === 'hello' && m.headers.get('kind') === 'test')
  const all = [...Array(10000).keys()].map(String)
  for (const i of all) nc.publish(`${subject}.b`, text.encode(i))
  const got = []
  for await (const one of many) got.push(text.decode(one.data))
  check('10,000 messages come in order', got.join() === ['hello', ...all].join(), got.length)
}

async function requests(nc) {
  const subject = `ask.${run}`
  nc.subscribe(subject, { queue: 'q', callback: (err, m) => m.respond(text.encode(`${text.decode(m.data)}!`)) })
  const m = await nc.request(subject, text.encode('you'), { timeout: 5000 })
  check('a request is answered', text.decode(m.data) === 'you!', text.decode(m.data))
  try {
    await nc.request(`nobody.${run}`, text.encode('you'), { timeout: 5000 })
    check('a request that nobody hears fails at once', false)
  } catch (e) {
    check('a request that nobody hears fails at once', e.code === '503', e.code)
  }
}

async function large(nc) {
  const sub = nc.subscribe(`large.${run}`)
  const body = new Uint8Array(nc.info.max_payload).map((_, i) => (i * 31) ^ (i >> 8))
  nc.publish(`large.${run}`, body)
  const m = await next(sub)
  check('8 MiB come back', body.length === 8 << 20 && Buffer.compare(m.data, body) === 0, m.data.length)
}

// A station is made as the SDKs make it; the rest is JetStream.
async function station(nc) {
  const name = `ws-${run}`
  const json = JSONCodec()
  const answer = await nc.request('$memphis_station_creations', json.encode({
    name, retention_type: 'messages', retention_value: 1000, storage_type: 'file', replicas: 1,
    idempotency_window_in_ms: 120000, partitions_number: 1, dls_station: '', username: 'root',
  }), { timeout: 5000 })
  check('a station is created', answer.data.length === 0, text.decode(answer.data))
  const js = nc.jetstream()
  const acks = []
  for (let i = 0; i < 100; i++) acks.push(await js.publish(`${name}$1.final`, text.encode(String(i))))
  check('100 messages are stored', acks.every((a, i) => a.seq === i + 1))
  const jsm = await nc.jetstreamManager({ checkAPI: false })
  await jsm.consumers.add(`${name}$1`, { durable_name: 'group', ack_policy: 'explicit' })
  return name
}

async function pull(nc, name, want) {
  const c = await nc.jetstream().consumers.get(`${name}$1`, 'group')
  const got = []
  for await (const m of await c.fetch({ max_messages: want, expires: 5000 })) {
    got.push(Number(text.decode(m.data)))
    await m.ackAck()
  }
  return got
}

async function all(messages, get) {
  const got = []
  for await (const m of messages) got.push(get(m))
  return got
}

async function streams(nc) {
  const jsm = await nc.jetstreamManager()
  const js = nc.jetstream()
  await jsm.streams.add({ name: 'WS', subjects: ['ws.>'] })
  for (let i = 0; i < 5; i++) await js.publish('ws.a', text.encode(String(i)))
  const ordered = await (await js.consumers.get('WS')).fetch({ max_messages: 5, expires: 3000 })
  const got = await all(ordered, (m) => `${text.decode(m.data)}:${m.info.pending}`)
  check('an ordered consumer gets all of a stream', got.join() === '0:4,1:3,2:2,3:1,4:0', got)
  await jsm.consumers.add('WS', { durable_name: 'd', ack_policy: 'explicit' })
  let n = 0
  for await (const m of await (await js.consumers.get('WS', 'd')).consume({ max_messages: 3 })) {
    m.ack()
    if (++n === 5) break
  }
  const kv = await js.views.kv('ws', { history: 4 })
  await kv.put('a', text.encode('1'))
  await kv.put('a', text.encode('2'))
  check('a bucket is filled and read', (await kv.get('a')).string() === '2')
  const history = await all(await kv.history({ key: 'a' }), (e) => e.string())
  check('and shows its history', history.join() === '1,2', history)
  check('and its keys', (await all(await kv.keys(), (k) => k)).join() === 'a')
  const seen = []
  setTimeout(() => kv.put('b', text.encode('x')), 100)
  for await (const e of await kv.watch()) {
    seen.push(e.key)
    if (e.key === 'b') break
  }
  check('and is watched', seen.join() === 'a,b', seen)
  await kv.purge('a')
  check('and purged', (await kv.get('a')).operation === 'PURGE' && await kv.destroy())
  const objects = await js.views.os('ws')
  await objects.putBlob({ name: 'file' }, new Uint8Array(300000).fill(7))
  const blob = await objects.getBlob('file')
  await objects.delete('file')
  check('an object goes in, out and away',
    blob.length === 300000 && blob.every((b) => b === 7) && (await objects.list()).length === 0)
  check('streams are removed', await objects.destroy() && await jsm.streams.delete('WS'))
}

async function restart(nc, name) {
  const states = []
  ;(async () => {
    for await (const s of nc.status()) states.push(s.type)
  })()
  const sub = nc.subscribe(`again.${run}`)
  const first = await pull(nc, name, 40)
  check('a pull consumer gets what it asks for', first.join() === [...Array(40).keys()].join(), first.length)
  execSync(process.env.DAEMON_RESTART)
  for (let i = 0; i < 100 && !states.includes('reconnect'); i++) await sleep(100)
  check('it reconnects after a restart', states.includes('disconnect') && states.includes('reconnect'), states)
  nc.publish(`again.${run}`, text.encode('back'))
  const m = await next(sub)
  check('and its subscription is there again', m !== undefined && text.decode(m.data) === 'back')
  const second = await pull(nc, name, 60)
  check('and the group goes on where it was', second.join() === [...Array(60).keys()].map((i) => i + 40).join(),
    second.length)
}

async function main() {
  await wrongPassword()
  const nc = await connect({ ...login, maxReconnectAttempts: 100, reconnectTimeWait: 200 })
  check('INFO names the WebSocket port', nc.info.port === Number(process.argv[2]), nc.info.port)
  await messages(nc)
  await requests(nc)
  await large(nc)
  await streams(nc)
  await restart(nc, await station(nc))
  const closed = nc.closed()
  await nc.drain()
  check('it ends without an error', !(await closed))
}

const guard = setTimeout(() => {
  check('the test runs to its end', false)
  end()
}, 60000)

function end() {
  clearTimeout(guard)
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}

main().catch((e) => check('the test runs to its end', false, String(e && e.stack || e))).finally(end)
