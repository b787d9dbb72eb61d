// The official JavaScript SDK (memphis-dev), unmodified, against memphisd.
//
// Usage: node sdk_js.js PORT, with DAEMON_RESTART naming a command that restarts memphisd. With
// TLS_FILES naming a folder of certificates: by TLS, and only what a transport can harm.
// Prints one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
const { execSync } = require('child_process')
const { memphis } = require('memphis-dev')

const port = Number(process.argv[2])
const run = String(Date.now() % 1e9)
let passed = 0
let failed = 0

function check(what, good, detail = '') {
  if (good) passed++
  else failed++
  console.log(`${good ? 'ok' : 'FAILED'} - js: ${what}${detail !== '' ? ` (${detail})` : ''}`)
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b)

const files = process.env.TLS_FILES
const tls = files
  ? { caFile: `${files}/ca.pem`, certFile: `${files}/client.pem`, keyFile: `${files}/client.key` }
  : {}
const login = { host: '127.0.0.1', port, username: 'root', password: 'memphis', suppressLogs: true, ...tls }

// Payloads in the order of their arrival, until `want` are there.
async function drain(consumer, want, seconds = 20) {
  const got = []
  const end = Date.now() + seconds * 1000
  while (got.length < want && Date.now() < end) {
    const batch = await consumer.fetch({ batchSize: Math.min(500, want - got.length) })
    for (const m of batch || []) {
      got.push(m.getData().toString())
      m.ack()
    }
  }
  return got
}

async function groups() {
  const stationName = `js-orders.${run}`
  await memphis.station({ name: stationName, partitionsNumber: 1 })
  await memphis.station({ name: stationName, partitionsNumber: 1 }) // again: no error
  const producer = await memphis.producer({ stationName, producerName: 'shop' })
  const sent = [...Array(1000).keys()].map((i) => `order ${i}`)
  const headers = memphis.headers()
  headers.add('kind', 'test')
  for (const body of sent) await producer.produce({ message: Buffer.from(body), headers, asyncProduce: false })
  const a = await memphis.consumer({ stationName, consumerName: 'a', consumerGroup: 'group-a' })
  const b = await memphis.consumer({ stationName, consumerName: 'b', consumerGroup: 'group-b' })
  let got = await drain(a, 1000)
  check('group a sees 1,000 messages once, in order', same(got, sent), got.length)
  got = await drain(b, 1000)
  check('group b sees 1,000 messages once, in order', same(got, sent), got.length)
  const c1 = await memphis.consumer({ stationName, consumerName: 'c1', consumerGroup: 'group-c' })
  const c2 = await memphis.consumer({ stationName, consumerName: 'c2', consumerGroup: 'group-c' })
  const parts = [[], []]
  const member = async (c, out) => {
    while (parts[0].length + parts[1].length < 1000) {
      const batch = await c.fetch({ batchSize: 50 })
      for (const m of batch) {
        out.push(m.getData().toString())
        m.ack()
      }
      if (batch.length === 0) break
    }
  }
  await Promise.all([member(c1, parts[0]), member(c2, parts[1])])
  const all = [...parts[0], ...parts[1]]
  check('two members share one group, each message to one of them',
    same(all.sort(), [...sent].sort()) && parts[0].length > 0 && parts[1].length > 0,
    `${parts[0].length} + ${parts[1].length}`)
  await producer.destroy()
  await a.destroy()
  return stationName
}

async function redelivery() {
  const stationName = `js-again-${run}`
  await memphis.station({ name: stationName })
  const producer = await memphis.producer({ stationName, producerName: 'p' })
  await producer.produce({ message: Buffer.from('once more'), asyncProduce: false })
  const c = await memphis.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 1500, maxMsgDeliveries: 2 })
  const first = await c.fetch({ batchSize: 1 })
  const began = Date.now()
  let second = []
  while (second.length === 0 && Date.now() - began < 8000) second = await c.fetch({ batchSize: 1 })
  const waited = Date.now() - began
  check('an unacknowledged message comes again after its ack time',
    first.length === 1 && second.length === 1 && waited > 1000 && waited < 7000, `${waited} ms`)
  if (second.length) second[0].ack()
}

async function deadLetters() {
  const stationName = `js-dead-${run}`
  const graves = `js-graves-${run}`
  await memphis.station({ name: stationName, dlsStation: graves })
  const producer = await memphis.producer({ stationName, producerName: 'p' })
  await producer.produce({ message: Buffer.from('hopeless'), asyncProduce: false })
  const c = await memphis.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 1500, maxMsgDeliveries: 1 })
  const first = await c.fetch({ batchSize: 1 })
  const g = await memphis.consumer({ stationName: graves, consumerName: 'g' })
  const end = Date.now() + 10000
  let copy = []
  while (copy.length === 0 && Date.now() < end) copy = await g.fetch({ batchSize: 1 })
  const told = copy.length ? copy[0].getHeaders() : {}
  check('an unacknowledged message goes to the station for dead letters',
    first.length === 1 && copy.length === 1 && copy[0].getData().toString() === 'hopeless')
  check('with where it was and why',
    String(told.station) === stationName && String(told.type) === 'unacked', JSON.stringify(told))
}

async function handler() {
  const stationName = `js-event-${run}`
  const producer = await memphis.producer({ stationName, producerName: 'p' }) // makes the station
  const c = await memphis.consumer({ stationName, consumerName: 'c', pullIntervalMs: 200 })
  const got = []
  c.on('message', (m) => {
    got.push(m.getData().toString())
    m.ack()
  })
  for (let i = 0; i < 25; i++) await producer.produce({ message: Buffer.from(String(i)), asyncProduce: false })
  const end = Date.now() + 15000
  while (got.length < 25 && Date.now() < end) await sleep(100)
  check('messages reach an event handler on a station that was made by its producer',
    same(got, [...Array(25).keys()].map(String)), got.length)
  c.stop()
}

async function startPositions() {
  const stationName = `js-start-${run}`
  const producer = await memphis.producer({ stationName, producerName: 'p' })
  for (let i = 1; i <= 20; i++) await producer.produce({ message: Buffer.from(String(i)), asyncProduce: false })
  const c = await memphis.consumer({ stationName, consumerName: 'c', startConsumeFromSequence: 15 })
  const got = await drain(c, 6)
  check('a group can start from a sequence', same(got, ['15', '16', '17', '18', '19', '20']), got)
}

async function idempotence() {
  const stationName = `js-ids-${run}`
  const producer = await memphis.producer({ stationName, producerName: 'p' })
  for (let i = 0; i < 3; i++) await producer.produce({ message: Buffer.from('x'), msgId: 'same', asyncProduce: false })
  const c = await memphis.consumer({ stationName, consumerName: 'c' })
  const got = await drain(c, 1)
  const more = await c.fetch({ batchSize: 5 })
  check('a message id is stored once', same(got, ['x']) && more.length === 0)
}

async function restart() {
  const stationName = `js-restart-${run}`
  const producer = await memphis.producer({ stationName, producerName: 'p' })
  const sent = [...Array(50).keys()].map(String)
  for (const body of sent) await producer.produce({ message: Buffer.from(body), asyncProduce: false })
  const c = await memphis.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 2000 })
  const before = await drain(c, 20)
  await sleep(100)
  execSync(process.env.DAEMON_RESTART)
  await sleep(3000)
  const after = []
  const end = Date.now() + 20000
  while (after.length < 30 && Date.now() < end) {
    try {
      after.push(...(await drain(c, 30 - after.length, 5)))
    } catch (e) {
      await sleep(300)
    }
  }
  check('after a restart the group goes on where it was, nothing lost or repeated',
    same([...before, ...after], sent), `${before.length} + ${after.length}`)
  await producer.produce({ message: Buffer.from('after'), asyncProduce: false })
  const got = await drain(c, 1)
  check('the same producer and consumer work after the reconnect', same(got, ['after']), got)
}

async function wrongPassword() {
  try {
    await memphis.connect({ ...login, password: 'wrong', reconnect: false })
    check('a wrong password is refused', false)
  } catch (e) {
    check('a wrong password is refused', /authorization/i.test(String(e)), String(e))
  }
}

async function main() {
  await wrongPassword()
  await memphis.connect({ ...login, reconnect: true, maxReconnect: 20, reconnectIntervalMs: 200 })
  const stationName = await groups()
  const steps = files ? [restart] : [redelivery, deadLetters, handler, startPositions, idempotence, restart]
  for (const step of steps) {
    try {
      await step()
    } catch (e) {
      check(step.name, false, String(e))
    }
  }
  const station = await memphis.station({ name: stationName })
  await station.destroy()
  check('a station can be removed', true)
  await memphis.close()
}

const guard = setTimeout(() => {
  check('the test runs to its end', false)
  end()
}, 170000)

function end() {
  clearTimeout(guard)
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}

main().catch((e) => check('the test runs to its end', false, String(e))).finally(end)
