// Producing (PRO).
const zlib = require('zlib')
const { test, check, same, numbers, refused, fill, take, drain } = require('./harness')

const raw = (m, key) => m.message.headers.get(key)

test('PRO-01', 'a producer has a name of the rules, which its messages carry', async (t) => {
  const [m, stationName] = await t.start()
  await fill(await m.producer({ stationName, producerName: 'Shop.1' }), ['x'])
  const [message] = await take(await m.consumer({ stationName, consumerName: 'c' }), 1)
  same(raw(message, '$memphis_producedBy'), 'shop.1')
  await refused(m.producer({ stationName, producerName: 'a b' }), "Only alphanumeric and the '_', '-', '.' characters are allowed in Producer")
  await refused(m.producer({ stationName, producerName: 'p'.repeat(129) }), 'Producer should be under 128 characters')
})

test('PRO-02', 'when produce returns the message is stored', async (t) => {
  const [m, stationName, p] = await t.start()
  for (let i = 1; i <= 5; i++) {
    await fill(p, ['x'])
    same((await t.state(m, `${stationName}$1`)).messages, i)
  }
  await (await (await t.connect()).station({ name: stationName })).destroy()
  await refused(fill(p, ['x']), 'Produce operation has failed')
})

test('PRO-03', 'produce does not wait when asked so; all messages arrive, in order', async (t) => {
  const [m, stationName, p] = await t.start()
  for (const body of numbers(1, 500)) await p.produce({ message: Buffer.from(body) }) // the SDK's default
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 500), numbers(1, 500))
})

test('PRO-04', 'a connection produces without a producer object', async (t) => {
  const m = await t.connect()
  for (const body of numbers(1, 3)) await m.produce({ stationName: t.name(), producerName: 'p', message: Buffer.from(body), asyncProduce: false })
  same(m.producersMap.size, 1)
  same(await drain(await m.consumer({ stationName: t.name(), consumerName: 'c' }), 3), numbers(1, 3))
})

test('PRO-05', 'one producer for a list of stations: each gets the message', async (t) => {
  const m = await t.connect()
  const stationName = ['a', 'b.c', 'd'].map((x) => t.name(x))
  const p = await m.producer({ stationName, producerName: 'p' })
  await fill(p, ['to all'])
  await m.produce({ stationName, producerName: 'p', message: Buffer.from('again'), asyncProduce: false })
  for (const s of stationName) same(await drain(await m.consumer({ stationName: s, consumerName: 'c' }), 2), ['to all', 'again'])
  await p.destroy()
})

test('PRO-06', 'headers come as they were sent; names of the broker are refused', async (t) => {
  const [m, stationName, p] = await t.start()
  const headers = m.headers()
  headers.add('kind', 'test')
  headers.add('Street', 'x: y; ü')
  await fill(p, [''], { headers })
  await fill(p, ['object'], { headers: { color: 'red' } })
  await refused(async () => headers.add('$memphis_x', 'y'), 'Keys in headers should not start with $memphis')
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 2)
  const told = got[0].getHeaders()
  same([told.kind, told.Street, got[0].getData().length], ['test', 'x: y; ü', 0]) // an empty payload is a message, too
  same(got[1].getHeaders(), { color: 'red' })
})

test('PRO-07', 'an object is sent as JSON, a string as its bytes', async (t) => {
  const [m, stationName, p] = await t.start()
  await p.produce({ message: { name: 'Ünal', list: [1, null] }, asyncProduce: false })
  await p.produce({ message: 'text ü', asyncProduce: false })
  await refused(p.produce({ message: 7, asyncProduce: false }), 'Unsupported message type')
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 2)
  same([got[0].getDataAsJson(), got[1].getData().toString()], [{ name: 'Ünal', list: [1, null] }, 'text ü'])
})

test('PRO-08', 'a suffix makes names unique', async (t) => {
  const [m, stationName] = await t.start()
  const made = []
  for (let i = 0; i < 2; i++) made.push(await m.producer({ stationName, producerName: 'u', genUniqueSuffix: true }))
  const names = made.map((p) => p.producerName)
  check(names[0] !== names[1] && names.every((n) => /^u_[0-9a-f]{8}$/.test(n)), names)
  for (const p of made) await fill(p, ['x'])
  const c = await m.consumer({ stationName, consumerName: 'c', genUniqueSuffix: true })
  check(/^c_/.test(c.consumerName), c.consumerName)
  same((await take(c, 2)).map((x) => raw(x, '$memphis_producedBy')), names)
})

test('PRO-09', 'one producer name on many connections', async (t) => {
  const stationName = t.name()
  const clients = [await t.connect(), await t.connect(), await t.connect()]
  const made = []
  for (const m of clients) made.push(await m.producer({ stationName, producerName: 'p' }))
  for (let i = 0; i < 3; i++) await fill(made[i], [String(i)])
  await made[0].destroy()
  await fill(made[1], ['3'])
  same(await drain(await clients[2].consumer({ stationName, consumerName: 'c' }), 4), numbers(0, 3))
})

test('PRO-10', 'a producer is removed, also twice, and made again (the SDK keeps the old object: another connection)', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['1'])
  await p.destroy()
  same(await t.ask(m, '$memphis_producer_destructions', { name: 'p', station_name: stationName, connection_id: m.connectionId, username: 'root', req_version: 1 }), '')
  const n = await t.connect()
  await fill(await n.producer({ stationName, producerName: 'p' }), ['2'])
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 2), ['1', '2'])
})

test('PRO-13', 'compressed bytes pass unchanged', async (t) => {
  const [m, stationName, p] = await t.start()
  const text = Buffer.from('all the same '.repeat(5000))
  const bodies = [zlib.deflateSync(text), zlib.gzipSync(text), Buffer.from([...Array(4096).keys()])]
  await fill(p, bodies)
  const got = (await take(await m.consumer({ stationName, consumerName: 'c' }), 3)).map((x) => x.getData())
  check(got.every((x, i) => Buffer.compare(x, bodies[i]) === 0), 'other bytes came')
  check(zlib.inflateSync(got[0]).equals(text) && zlib.gunzipSync(got[1]).equals(text))
})

test('PRO-14', 'each message says its producer and connection', async (t) => {
  const [m, stationName, p] = await t.start()
  const other = await t.connect()
  await fill(p, ['1'])
  await fill(await other.producer({ stationName, producerName: 'q' }), ['2'])
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 2)
  same(got.map((x) => [raw(x, '$memphis_producedBy'), raw(x, '$memphis_connectionId')]), [['p', m.connectionId], ['q', other.connectionId]])
})
