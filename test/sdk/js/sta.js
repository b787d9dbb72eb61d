// Stations (STA).
const murmurhash = require('murmurhash')
const { test, check, same, sleep, numbers, sorted, refused, until, fill, take, drain, textOf, dropped } = require('./harness')

const GONE = 'Produce operation has failed, please check whether Station/Producer still exist'
const of = (s) => [s.retention_type, s.retention_value, s.storage_type, s.partitions_number, s.idempotency_window_in_ms]

test('STA-01', 'a station has the settings that it was made with; again is no error', async (t) => {
  const m = await t.connect()
  for (let i = 0; i < 2; i++) {
    await m.station({ name: t.name(), retentionType: m.retentionTypes.MESSAGES, retentionValue: 7, storageType: m.storageTypes.MEMORY, partitionsNumber: 3, idempotencyWindowMs: 5000 })
  }
  same(of(await t.settings(m, t.name())), ['messages', 7, 'memory', 3, 5000])
})

test('STA-02', 'a producer or a consumer makes the missing station, with the defaults', async (t) => {
  const m = await t.connect()
  await m.producer({ stationName: t.name('p'), producerName: 'p' })
  await m.consumer({ stationName: t.name('c'), consumerName: 'c' })
  for (const what of ['p', 'c']) same(of(await t.settings(m, t.name(what))), ['message_age_sec', 3600, 'file', 1, 120000])
})

test('STA-03', 'names: capitals are folded, others refused with the product\'s texts; consumers of the SDK need small letters', async (t) => {
  const m = await t.connect()
  await m.station({ name: t.name('Loud').toUpperCase() })
  check(await t.settings(m, t.name('loud')), 'not folded')
  await fill(await m.producer({ stationName: t.name('LOUD'), producerName: 'P' }), ['x'])
  const other = await t.connect()
  const lost = await other.consumer({ stationName: t.name('LOUD'), consumerName: 'lost' })
  await refused(lost.fetch({ batchSize: 1 }), 'stream not found') // it asks for a stream without a partition
  same(await drain(await other.consumer({ stationName: t.name('loud'), consumerName: 'C' }), 1), ['x'])
  await refused(m.station({ name: 'a b' }), "Only alphanumeric and the '_', '-', '.' characters are allowed in Station")
  for (const name of ['-a', 'a.']) await refused(m.station({ name }), 'Station name can not start or end with non alphanumeric character')
  await refused(m.station({ name: '' }), 'Station name can not be empty')
  await refused(m.station({ name: 'a'.repeat(129) }), 'Station should be under 128 characters')
})

test('STA-04', 'names with dots work everywhere', async (t) => {
  const [m, stationName, p] = await t.start({ name: t.name('a.b.c'), partitionsNumber: 2 })
  await fill(p, numbers(1, 4))
  const c = await m.consumer({ stationName, consumerName: 'c.d', consumerGroup: 'g.h' })
  same(sorted(await drain(c, 4)), numbers(1, 4))
  await c.destroy()
  await p.destroy()
  await (await m.station({ name: stationName })).destroy()
  same(await t.settings(m, stationName), undefined)
})

test('STA-05', 'a destroyed station is gone for all, and comes back empty', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 5))
  const other = await t.connect()
  const q = await other.producer({ stationName, producerName: 'q' })
  const c = await other.consumer({ stationName, consumerName: 'c' })
  await (await m.station({ name: stationName })).destroy()
  same(await t.settings(m, stationName), undefined)
  await refused(fill(q, ['late']), GONE)
  await refused(c.fetch({ batchSize: 1 }), 'not found')
  await until(() => other.producersMap.size === 0, 5000) // all clients are told
  same(other.producersMap.size, 0)
  await m.station({ name: stationName })
  same(await (await m.consumer({ stationName, consumerName: 'd' })).fetch({ batchSize: 1 }), [])
})

test('STA-07', 'retention by age: what is older goes', async (t) => {
  const [m, stationName, p] = await t.start({ retentionType: 'message_age_sec', retentionValue: 2 })
  await fill(p, numbers(1, 3))
  same(await drain(await m.consumer({ stationName, consumerName: 'a' }), 3), numbers(1, 3))
  await sleep(3500)
  await fill(p, ['new'])
  same(await drain(await m.consumer({ stationName, consumerName: 'b' }), 1), ['new'])
  same((await t.settings(m, stationName)).total_messages, 1)
})

test('STA-08', 'retention by count: the newest are kept', async (t) => {
  const [m, stationName, p] = await t.start({ retentionType: 'messages', retentionValue: 5 })
  await fill(p, numbers(1, 20))
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 5), numbers(16, 20))
})

test('STA-09', 'retention by bytes: the oldest go', async (t) => {
  const [m, stationName, p] = await t.start({ retentionType: 'bytes', retentionValue: 20000 })
  const bodies = numbers(1, 60).map((i) => i.padStart(4, '0') + 'x'.repeat(996))
  await fill(p, bodies)
  check(await until(async () => (await t.settings(m, stationName)).total_bytes <= 20000, 5000), 'too many bytes')
  const s = await t.settings(m, stationName)
  check(s.total_bytes >= 15000, s.total_bytes)
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), s.total_messages), bodies.slice(-s.total_messages))
})

test('STA-10', 'retention until acked: kept for each group that has not acked, then gone', async (t) => {
  const [m, stationName, p] = await t.start({ retentionType: 'ack_based' })
  await fill(p, ['nobody wants it'])
  const a = await m.consumer({ stationName, consumerName: 'a' })
  const b = await m.consumer({ stationName, consumerName: 'b' })
  await fill(p, numbers(1, 20))
  same(await drain(a, 20), numbers(1, 20))
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 20), numbers(1, 20))
  same(await drain(b, 20), numbers(1, 20))
  check(await until(async () => (await t.settings(m, stationName)).total_messages === 0, 5000), 'not gone')
})

test('STA-11 CSM-18', 'a restart keeps messages in files, and the place of their group', async function* (t) {
  const [m, stationName, p] = await t.start({ partitionsNumber: 2 })
  await fill(p, numbers(1, 40))
  const before = await drain(await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 20000 }), 20)
  await m.brokerManager.flush()
  yield
  const n = await t.connect()
  const c = await n.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 20000 })
  same(sorted([...before, ...(await drain(c, 20))]), numbers(1, 40))
  same(sorted(await drain(await n.consumer({ stationName, consumerName: 'd' }), 40)), numbers(1, 40))
})

test('STA-12', 'a station in memory is there after a restart, its messages are not', async function* (t) {
  const [m, stationName, p] = await t.start({ storageType: 'memory' })
  await fill(p, numbers(1, 5))
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 5), numbers(1, 5))
  yield
  const n = await t.connect()
  const s = await t.settings(n, stationName)
  same([s.storage_type, s.total_messages], ['memory', 0])
  await fill(await n.producer({ stationName, producerName: 'p' }), ['new'])
  same(await drain(await n.consumer({ stationName, consumerName: 'd' }), 1), ['new'])
})

// Payloads by partition.
async function onPartition(t, m, stationName, partitions) {
  const c = await m.consumer({ stationName, consumerName: `look-${process.hrtime.bigint()}` })
  const out = []
  for (let i = 1; i <= partitions; i++) {
    const { messages } = await t.state(m, `${stationName}$${i}`)
    out.push(await drain(c, messages, { consumerPartitionNumber: i }))
  }
  return out
}

test('STA-15', 'three partitions together hold every message once', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 3 })
  await fill(p, numbers(1, 60))
  same(sorted(await drain(await m.consumer({ stationName, consumerName: 'c' }), 60)), numbers(1, 60))
  for (const i of [1, 2, 3]) check((await t.state(m, `${stationName}$${i}`)).messages > 0, i)
  same((await t.settings(m, stationName)).partitions_number, 3)
})

test('STA-16', 'partitions take turns', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 3 })
  await fill(p, numbers(1, 9))
  same(await onPartition(t, m, stationName, 3), [['1', '4', '7'], ['2', '5', '8'], ['3', '6', '9']])
})

test('STA-17', 'a key goes to the partition of its hash; the SDK takes the place in the list for the number, so place 0 is refused', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 4 })
  const want = [[], [], [], []]
  for (const i of numbers(0, 23)) {
    const producerPartitionKey = `key${i % 12}`
    const place = murmurhash.v3(producerPartitionKey, 31) % 4
    const body = `${producerPartitionKey} ${i}`
    if (place === 0) {
      await refused(fill(p, [body], { producerPartitionKey }), GONE)
    } else {
      await fill(p, [body], { producerPartitionKey })
      want[place - 1].push(body)
    }
  }
  check(want.filter((x) => x.length > 0).length > 1)
  same(await onPartition(t, m, stationName, 4), want)
})

test('STA-18', 'a partition can be chosen; one that is not there is refused (by the broker: the SDK drops its own error)', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 3 })
  await fill(p, numbers(1, 3), { producerPartitionNumber: 2 })
  await refused(fill(p, ['x'], { producerPartitionNumber: 4 }), GONE)
  check(await until(() => dropped.includes('Partition number not found'), 2000), dropped)
  await refused(fill(p, ['x'], { producerPartitionNumber: 1, producerPartitionKey: 'k' }), 'Can not use both partition number and partition key')
  same(await onPartition(t, m, stationName, 3), [[], numbers(1, 3), []])
})

test('STA-19', 'messages stay in order, and within each partition', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 500))
  same(await drain(await m.consumer({ stationName, consumerName: 'c' }), 500), numbers(1, 500))
  const many = t.name('many')
  await m.station({ name: many, partitionsNumber: 2 })
  await fill(await m.producer({ stationName: many, producerName: 'q' }), numbers(1, 60))
  for (const got of await onPartition(t, m, many, 2)) same([got.length, got], [30, sorted(got)])
})

test('STA-20', 'a message of 8 MiB passes where that is the limit, a larger one does not', async (t) => {
  const [m, stationName, p] = await t.start()
  const limit = m.brokerManager.info.max_payload // with headers
  same(limit, 8 << 20)
  const body = Buffer.alloc(limit - 512).map((_, i) => (i * 31) ^ (i >> 8))
  await p.produce({ message: body, asyncProduce: false })
  await refused(p.produce({ message: Buffer.alloc(limit + 1), asyncProduce: false }), 'max_payload_exceeded')
  await fill(p, ['small'])
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 2)
  check(Buffer.compare(got[0].getData(), body) === 0, 'other bytes came')
  same(textOf(got[1]), 'small')
})

test('STA-21', 'a message id is stored once in its window, over a restart, and again after it', async function* (t) {
  const [m, stationName, p] = await t.start()
  await fill(p, ['x', 'x', 'x'], { msgId: 'same' })
  const short = t.name('short')
  await m.station({ name: short, idempotencyWindowMs: 1000 })
  const q = await m.producer({ stationName: short, producerName: 'q' })
  await fill(q, ['y', 'y'], { msgId: 'same' })
  await sleep(1500)
  await fill(q, ['z', 'z'], { msgId: 'same' })
  yield
  const n = await t.connect()
  const r = await n.producer({ stationName, producerName: 'p' })
  await fill(r, ['x'], { msgId: 'same' })
  await fill(r, ['other'], { msgId: 'other' })
  const c = await n.consumer({ stationName, consumerName: 'c' })
  same(await drain(c, 2), ['x', 'other'])
  const d = await n.consumer({ stationName: short, consumerName: 'd' })
  same(await drain(d, 2), ['y', 'z'])
  for (const x of [c, d]) same(await x.fetch({ batchSize: 5 }), [])
})

test('STA-23', 'a purged station is empty, and its sequence goes on', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 2 })
  await fill(p, numbers(1, 20))
  same(await t.admin(m, 'station_purge', { name: stationName }), {})
  same((await t.settings(m, stationName)).total_messages, 0)
  await fill(p, ['new'])
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 1)
  same([textOf(got[0]), got[0].getSequenceNumber()], ['new', 11])
})

test('STA-28', 'a station can be without dead letters, of either kind', async (t) => {
  const [m, stationName, p] = await t.start({ sendPoisonMsgToDls: false, sendSchemaFailedMsgToDls: false })
  const other = t.name('with')
  const q = await m.producer({ stationName: other, producerName: 'q' })
  for (const [s, producer] of [[stationName, p], [other, q]]) {
    await fill(producer, ['hopeless'])
    const c = await m.consumer({ stationName: s, consumerName: 'c', maxAckTimeMs: 1000, maxMsgDeliveries: 1 })
    same(await drain(c, 1, { ack: false }), ['hopeless'])
    m.brokerManager.publish('$memphis_schemaverse_dls', Buffer.from(JSON.stringify({
      station_name: s, producer: { name: 'p', connection_id: 'x' }, message: { data: '00', headers: {} }, validation_error: 'no',
    })))
  }
  same((await t.letters(m, other, 2)).map((r) => r.reason).sort(), ['schema', 'unacked'])
  await sleep(1000)
  same(await t.letters(m, stationName, 0), [])
  same(m.stationSchemaverseToDlsMap.get(stationName), false)
})

test('STA-31', 'a station knows how many messages and bytes it has', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 2 })
  await fill(p, Array(10).fill('x'.repeat(100)))
  const s = await t.settings(m, stationName)
  same(s.total_messages, 10)
  check(s.total_bytes >= 1000 && s.total_bytes <= 4000, s.total_bytes)
})
