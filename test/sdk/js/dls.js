// Dead letters (DLS).
const { test, check, same, numbers, sorted, until, fill, take, drain, textOf } = require('./harness')

const hasty = { maxAckTimeMs: 1500, maxMsgDeliveries: 1 }

// A station with one dead letter per body, of the group g.
async function failed(t, bodies, options = {}) {
  const [m, stationName, p] = await t.start(options)
  await fill(p, bodies)
  const c = await m.consumer({ stationName, consumerName: 'c', consumerGroup: 'g', ...hasty })
  same(await drain(c, bodies.length, { ack: false }), bodies)
  const rows = await t.letters(m, stationName, bodies.length)
  same(rows.length, bodies.length)
  return [m, stationName, c, rows]
}

test('DLS-01', 'a new station has its dead-letter station, empty', async (t) => {
  const [m, stationName, p] = await t.start()
  same((await t.admin(m, 'dls_list', { name: stationName })).total, 0)
  await fill(p, ['1'])
  await take(await m.consumer({ stationName, consumerName: 'c', ...hasty }), 1, { ack: false })
  same((await t.letters(m, stationName)).length, 1)
})

test('DLS-02', 'an unacked message becomes a letter with its group, place and deliveries', async (t) => {
  const [, , , [r]] = await failed(t, ['x'])
  same([r.reason, r.partition, r.message_seq, r.deliveries, r.poisoned_cgs], ['unacked', 1, 1, 1, ['g']])
})

test('DLS-03', 'what a schema refused is a letter with the reason (the SDK\'s notice)', async (t) => {
  const [m, stationName] = await t.start()
  m.brokerManager.publish('$memphis_schemaverse_dls', Buffer.from(JSON.stringify({
    station_name: stationName, producer: { name: 'p', connection_id: m.connectionId },
    message: { data: Buffer.from('bad').toString('hex'), headers: { kind: 'test' } }, validation_error: 'Schema validation has failed: no',
  })))
  same((await t.letters(m, stationName)).map((r) => [r.reason, r.error]), [['schema', 'Schema validation has failed: no']])
})

test('DLS-04', 'a message that was given up keeps the consumer\'s reason', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['x', 'y'])
  const got = await take(await m.consumer({ stationName, consumerName: 'c' }), 2, { ack: false })
  got[0].deadLetter('first')
  got[1].deadLetter('second')
  let rows
  await until(async () => (rows = await t.letters(m, stationName, 2)).every((r) => r.error !== ''), 5000)
  same(rows.map((r) => [r.reason, r.error]), [['nacked', 'first'], ['nacked', 'second']])
})

test('DLS-06 DLS-09', 'a letter goes again to the group that failed, only; acked it is gone', async (t) => {
  const [m, stationName, c, rows] = await failed(t, ['x', 'y'])
  const other = await m.consumer({ stationName, consumerName: 'other' })
  same(await drain(other, 2), ['x', 'y'])
  same(await t.admin(m, 'dls_resend', { name: stationName, ids: [rows[1].id] }), {})
  const [got] = await take(c, 1, { ack: false })
  same([textOf(got), got.message.headers.get('$memphis_pm_cg_name')], ['y', 'g'])
  same((await t.letters(m, stationName)).length, 2)
  got.ack()
  check(await until(async () => (await t.letters(m, stationName)).map((r) => r.id).join() === String(rows[0].id), 5000), 'the row is still there')
  same(await other.fetch({ batchSize: 1 }), [])
})

test('DLS-07', 'all letters are sent again', async (t) => {
  const [m, stationName, c] = await failed(t, numbers(1, 20))
  same(await t.admin(m, 'dls_resend', { name: stationName, all: true }), {})
  same(sorted(await drain(c, 20)), numbers(1, 20))
  check(await until(async () => (await t.letters(m, stationName, 0)).length === 0, 5000), 'rows are still there')
})

test('DLS-08', 'letters are dropped, some or all', async (t) => {
  const [m, stationName, , rows] = await failed(t, numbers(1, 4))
  const ids = rows.map((r) => r.id)
  same(await t.admin(m, 'dls_drop', { name: stationName, ids: ids.slice(0, 2) }), {})
  same((await t.letters(m, stationName, 0)).map((r) => r.id), ids.slice(2))
  same(await t.admin(m, 'dls_drop', { name: stationName, all: true }), {})
  same(await t.letters(m, stationName, 0), [])
})

test('DLS-10', 'letters are copied to a station: headers, where they were, and why', async (t) => {
  const graves = t.name('graves')
  const [m, stationName, p] = await t.start({ dlsStation: graves, partitionsNumber: 2 })
  await fill(p, ['hopeless'], { headers: { color: 'red' } })
  await take(await m.consumer({ stationName, consumerName: 'c', ...hasty }), 1, { ack: false })
  const [got] = await take(await m.consumer({ stationName: graves, consumerName: 'g' }), 1)
  const told = got.getHeaders()
  same([textOf(got), told.color, told.station, told.type], ['hopeless', 'red', stationName, 'unacked'])
})

test('DLS-12', 'the letters go with their station', async (t) => {
  const [m, stationName] = await failed(t, ['x'])
  await (await m.station({ name: stationName })).destroy()
  check('error' in await t.admin(m, 'dls_list', { name: stationName }), 'still there')
  await m.station({ name: stationName })
  same(await t.letters(m, stationName, 0), [])
})

test('DLS-13', 'two groups that fail on a message make one letter', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['x'])
  for (const g of ['a', 'b']) await take(await m.consumer({ stationName, consumerName: g, ...hasty }), 1, { ack: false })
  let rows
  await until(async () => (rows = await t.letters(m, stationName)).some((r) => r.poisoned_cgs.length === 2), 10000)
  same(rows.map((r) => r.poisoned_cgs.sort()), [['a', 'b']])
})

test('DLS-14', 'no unacked message is lost on its way, over a restart', async function* (t) {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 60))
  same(await drain(await m.consumer({ stationName, consumerName: 'c', ...hasty }), 30, { ack: false }), numbers(1, 30))
  same((await t.letters(m, stationName, 30)).length, 30)
  await take(await m.consumer({ stationName, consumerName: 'd', ...hasty }), 60, { ack: false }) // their time ends in the restart, or near it
  yield
  const rows = await t.letters(await t.connect(), stationName, 60)
  same(sorted(rows.map((r) => r.message_seq)), [...Array(60).keys()].map((i) => i + 1))
})

test('DLS-15', 'letters are counted per station', async (t) => {
  const [m, stationName] = await failed(t, numbers(1, 5))
  const answer = await t.admin(m, 'dls_list', { name: stationName, limit: 2 })
  same([answer.total, answer.letters.length], [5, 2])
})
