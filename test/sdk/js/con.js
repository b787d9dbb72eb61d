// Connections (CON), and plain subscriptions.
const fs = require('fs')
const path = require('path')
const nats = require('nats')
const { test, check, same, sleep, numbers, refused, until, fill, drain, password, port } = require('./harness')

test('CON-01', 'a client gets a session at host and port', async (t) => {
  const m = await t.connect()
  check(m.isConnected() && m.brokerManager.info.client_id > 0)
  same(m.brokerManager.info.port, port)
  await m.station({ name: t.name() })
})

test('CON-02 USR-04', 'an application user comes in with his password, produces and consumes', async (t) => {
  await t.addUser(await t.connect(), t.name('user'))
  const m = await t.connect({ username: t.name('user'), password })
  await fill(await m.producer({ stationName: t.name(), producerName: 'p' }), ['mine'])
  same(await drain(await m.consumer({ stationName: t.name(), consumerName: 'c' }), 1), ['mine'])
})

test('CON-03', 'in token mode the token is enough, and needed', async (t) => {
  const where = { port: Number(process.env.TOKEN_PORT) }
  await refused(t.connect({ ...where, connectionToken: 'wrong', reconnect: false }), 'authorization violation')
  const m = await t.connect({ ...where, connectionToken: 'memphis' })
  await fill(await m.producer({ stationName: t.name(), producerName: 'p' }), ['token'])
  same(await drain(await m.consumer({ stationName: t.name(), consumerName: 'c' }), 1), ['token'])
})

test('CON-10', 'by TLS, with CA, certificate and key; one without them is refused', async (t) => {
  const files = process.env.TLS_FILES
  const where = { port: Number(process.env.TLS_PORT), connectionToken: 'memphis' }
  const m = await t.connect({ ...where, caFile: `${files}/ca.pem`, certFile: `${files}/client.pem`, keyFile: `${files}/client.key` })
  const sent = numbers(1, 300).map((n) => n.repeat(1000))
  await fill(await m.producer({ stationName: t.name(), producerName: 'p' }), sent)
  same(await drain(await m.consumer({ stationName: t.name(), consumerName: 'c' }), 300), sent)
  const refusal = await t.connect({ ...where, reconnect: false }).then(() => '', (e) => `refused: ${e}`)
  check(refusal, 'let in without a certificate')
})

test('CON-04', 'root works like a client', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['by root'])
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 1), ['by root'])
})

test('CON-05 USR-03', 'a management user is there, and no client', async (t) => {
  const root = await t.connect()
  await t.addUser(root, t.name('boss'), 'management')
  const { users } = await t.admin(root, 'user_list')
  same(users.find((u) => u.username === t.name('boss')).user_type, 'management')
  await refused(t.connect({ username: t.name('boss'), password, reconnect: false }), 'authorization violation')
})

test('CON-06', 'a wrong password is an authorization violation', async (t) => {
  await refused(t.connect({ password: 'wrong', reconnect: false }), 'authorization violation')
})

test('CON-07', 'the account id 1 is understood: the SDK does not fall back to the bare name', async (t) => {
  const m = await t.connect({ accountId: 1 })
  same(m.brokerManager.options.user, 'root$1')
})

test('CON-08', 'after a restart the same producers and consumers go on', async function* (t) {
  const [m, stationName, p] = await t.start()
  const c = await m.consumer({ stationName, consumerName: 'c' })
  await fill(p, ['before'])
  same(await drain(c, 1), ['before'])
  yield
  check(await until(() => m.isConnectionActive), 'not connected')
  await fill(p, ['after'])
  same(await drain(c, 1), ['after'])
})

test('CON-09', 'isConnectionActive tells of a lost connection and of the new one; isConnected, of which the SDK makes "not closed", of the end', async function* (t) {
  const m = await t.connect({ reconnectIntervalMs: 1000 })
  const seen = new Set()
  const look = setInterval(() => seen.add(m.isConnectionActive), 5)
  await sleep(100)
  same([...seen], [true])
  yield
  check(await until(() => seen.has(false) && m.isConnectionActive), [...seen])
  clearInterval(look)
  check(m.isConnected())
  await m.close()
  check(!m.isConnected())
})

test('CON-13', 'a plain NATS client publishes, subscribes, asks, and pulls from a station', async (t) => {
  const [m, stationName] = await t.start()
  const nc = await nats.connect({ servers: `127.0.0.1:${port}`, user: 'root', pass: 'memphis' })
  const text = nats.StringCodec()
  try {
    const sub = nc.subscribe(t.name('talk'), { max: 1 })
    nc.publish(t.name('talk'), text.encode('hello'))
    for await (const x of sub) same(text.decode(x.data), 'hello')
    nc.subscribe(t.name('ask'), { callback: (e, x) => x.respond(text.encode(`${text.decode(x.data)}!`)) })
    same(text.decode((await nc.request(t.name('ask'), text.encode('you'), { timeout: 5000 })).data), 'you!')
    const js = nc.jetstream()
    same((await js.publish(`${stationName}$1.final`, text.encode('stored'))).seq, 1)
    const jsm = await nc.jetstreamManager()
    await jsm.consumers.add(`${stationName}$1`, { durable_name: 'group', ack_policy: 'explicit' })
    const pull = await js.consumers.get(`${stationName}$1`, 'group')
    const message = await pull.next({ expires: 5000 })
    same(text.decode(message.data), 'stored')
    message.ack()
    same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 1), ['stored'])
  } finally {
    await nc.close()
  }
})

test('CON-16', 'memphis-dev 1.3.2 is the package of the registry, and works', async (t) => {
  const modules = path.join(require.resolve('memphis-dev'), '../../..')
  const lock = JSON.parse(fs.readFileSync(path.join(modules, '.package-lock.json'), 'utf8'))
  const { version, integrity } = lock.packages['node_modules/memphis-dev']
  same([version, integrity], ['1.3.2', 'sha512-dIXKWC0VYVkGTcrp7IH2y/3T62ZOSFyKnh2gYtXez3F1THn6p3apBHW6ypnVZQSMCZI3cwWwT1sMe8lPze9nOw=='])
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 3))
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 3), numbers(1, 3))
})

// TCP connections of this machine to memphisd: remote port, state ESTABLISHED.
function connections() {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  const lines = fs.readFileSync('/proc/net/tcp', 'latin1').trim().split('\n').slice(1).map((l) => l.trim().split(/\s+/))
  return lines.filter((x) => x[2].endsWith(`:${hex}`) && x[3] === '01').length
}

test('CON-22', 'ten producers and five consumers share the connection of their client', async (t) => {
  const m = await t.connect()
  await until(() => connections() === 1, 5000)
  same(connections(), 1)
  for (const i of numbers(1, 5)) {
    const stationName = t.name(i)
    for (const producerName of ['a', 'b']) await fill(await m.producer({ stationName, producerName }), ['x'])
    same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 2), ['x', 'x'])
  }
  same(connections(), 1)
}, { alone: true })

test('CON-23', 'requests of SDKs from before partitions are refused with a clear text', async (t) => {
  const m = await t.connect()
  same(await t.ask(m, '$memphis_station_creations', { name: t.name(), retention_type: 'messages', retention_value: 10, storage_type: 'file', replicas: 1, partitions_number: 0 }),
    'you are using an old SDK, make sure to update your SDK')
  await m.station({ name: t.name() })
  const answer = await t.ask(m, '$memphis_producer_creations', { name: 'p', station_name: t.name(), connection_id: m.connectionId, producer_type: 'application', req_version: 1 })
  same(JSON.parse(answer).error, 'to produce to this station please upgrade your SDK version')
})

test('CSM-28', 'a plain subscription with a wildcard hears what fits', async (t) => {
  const m = await t.connect()
  const got = []
  m.brokerManager.subscribe(`${t.name()}.*.eu`, { callback: (e, x) => got.push(x.subject.slice(t.name().length + 1)) })
  for (const city of ['paris.eu', 'paris.us', 'rome.eu', 'a.b.eu']) m.brokerManager.publish(`${t.name()}.${city}`)
  await m.brokerManager.flush()
  await until(() => got.length >= 2, 5000)
  await sleep(200)
  same(got, ['paris.eu', 'rome.eu'])
})
