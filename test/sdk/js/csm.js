// Consuming (CSM).
const { test, check, same, sleep, numbers, sorted, refused, until, fill, take, drain, textOf, dropped } = require('./harness')

test('CSM-01', 'each group gets every message, one member of it each', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 300))
  same(await drain(await m.consumer({ stationName, consumerName: 'a', consumerGroup: 'group-a' }), 300), numbers(1, 300))
  const other = await t.connect()
  const members = []
  for (const client of [m, other]) members.push(await client.consumer({ stationName, consumerName: 'b', consumerGroup: 'b' }))
  const parts = [[], []]
  for (let i = 0; i < 30; i++) parts[i % 2].push(...(await drain(members[i % 2], 10)))
  same(parts.map((x) => x.length), [150, 150])
  same(sorted([...parts[0], ...parts[1]]), numbers(1, 300))
  const lone = await m.consumer({ stationName, consumerName: 'Lone' })
  same([lone.consumerGroup, (await drain(lone, 300)).length], ['lone', 300])
})

test('CSM-02', 'the pull loop hands each message to its handler', async (t) => {
  const [m, stationName, p] = await t.start()
  const c = await m.consumer({ stationName, consumerName: 'c', pullIntervalMs: 200 })
  const got = []
  c.on('message', (x) => {
    got.push(textOf(x))
    x.ack()
  })
  await fill(p, numbers(1, 25))
  check(await until(() => got.length >= 25), got)
  same(sorted(got), numbers(1, 25)) // pulls of the SDK overlap
  c.stop()
})

test('CSM-03', 'fetch takes a batch of the size that was asked for, or what is there', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 7))
  const c = await m.consumer({ stationName, consumerName: 'c' })
  for (const [asked, came] of [[3, 3], [1, 1], [10, 3]]) same((await c.fetch({ batchSize: asked })).length, came)
  await refused(c.fetch({ batchSize: 5001 }), 'Batch size can not be greater than 5000')
  await fill(p, ['8'])
  same((await m.fetchMessages({ stationName, consumerName: 'd', batchSize: 8 })).map(textOf), numbers(1, 8))
})

test('CSM-05', 'an acked message does not come again', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['1', '2'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 1500, maxMsgDeliveries: 5 })
  const first = await take(c, 2, { ack: false })
  first[0].ack()
  same(await drain(c, 1), ['2'])
  await sleep(2000)
  same(await c.fetch({ batchSize: 2 }), [])
})

test('CSM-06', 'a nacked message comes again at once, others stay', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['1', '2'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 30000 })
  const first = await take(c, 2, { ack: false })
  const began = Date.now()
  first[0].nack()
  same(await drain(c, 1), ['1'])
  check(Date.now() - began < 3000, Date.now() - began)
})

test('CSM-07', 'a message is given up with a reason', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['bad', 'good'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 1500, maxMsgDeliveries: 5 })
  const got = await take(c, 2, { ack: false })
  got[0].deadLetter('no such customer')
  got[1].ack()
  let rows
  await until(async () => (rows = await t.letters(m, stationName)).some((r) => r.error !== ''), 5000)
  same(rows.map((r) => [r.message_seq, r.error]), [[1, 'no such customer']])
  await sleep(2000)
  same(await c.fetch({ batchSize: 2 }), [])
})

test('CSM-08', 'a delayed message comes after its delay, not before', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['later'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 30000, maxMsgDeliveries: 5 })
  const [message] = await take(c, 1, { ack: false })
  const began = Date.now()
  message.delay(2000)
  same(await drain(c, 1), ['later'])
  check(Date.now() - began > 1800 && Date.now() - began < 6000, Date.now() - began)
})

test('CSM-09', 'an unacked message comes again after its ack time', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['once more'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 2000, maxMsgDeliveries: 3 })
  same(await drain(c, 1, { ack: false }), ['once more'])
  const began = Date.now()
  same(await drain(c, 1), ['once more'])
  check(Date.now() - began > 1500 && Date.now() - began < 6000, Date.now() - began)
})

test('CSM-10', 'after its deliveries a message is a dead letter and does not come again', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, ['hopeless'])
  const c = await m.consumer({ stationName, consumerName: 'c', maxAckTimeMs: 1500, maxMsgDeliveries: 3 })
  for (let i = 0; i < 3; i++) {
    const got = await take(c, 1, { ack: false })
    same(got.map(textOf), ['hopeless'])
    got[0].nack()
  }
  await sleep(2000)
  same(await c.fetch({ batchSize: 1 }), [])
  same((await t.letters(m, stationName)).map((r) => [r.reason, r.deliveries]), [['unacked', 3]])
})

test('CSM-11', 'a group can begin with a sequence', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 20))
  same(await drain(await m.consumer({ stationName, consumerName: 'c', startConsumeFromSequence: 15 }), 6), numbers(15, 20))
})

test('CSM-12', 'a group can begin with the last messages, of one and of many partitions', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 20))
  same(await drain(await m.consumer({ stationName, consumerName: 'c', lastMessages: 3 }), 3), numbers(18, 20))
  const none = await m.consumer({ stationName, consumerName: 'none', lastMessages: 0 })
  await fill(p, ['21'])
  same(await drain(none, 1), ['21'])
  const many = t.name('many')
  await m.station({ name: many, partitionsNumber: 3 })
  await fill(await m.producer({ stationName: many, producerName: 'q' }), numbers(1, 30))
  const d = await m.consumer({ stationName: many, consumerName: 'd', lastMessages: 2 })
  same(sorted(await drain(d, 6)), numbers(25, 30)) // of each partition
  for (let i = 0; i < 3; i++) same(await d.fetch({ batchSize: 10 }), [])
})

test('CSM-13', 'a sequence and last messages together are refused, by the broker, too', async (t) => {
  const [m, stationName] = await t.start()
  const options = { stationName, consumerName: 'c' }
  await refused(m.consumer({ ...options, lastMessages: 3, startConsumeFromSequence: 2 }), "Consumer creation options can't contain both startConsumeFromSequence and lastMessages")
  await refused(m.consumer({ ...options, startConsumeFromSequence: 0 }), 'startConsumeFromSequence has to be a positive number')
  await refused(m.consumer({ ...options, lastMessages: -2 }), 'min value for LastMessages is -1')
  const answer = await t.ask(m, '$memphis_consumer_creations', {
    name: 'c', station_name: stationName, consumer_type: 'application', start_consume_from_sequence: 2, last_messages: 3, req_version: 4, connection_id: m.connectionId,
  })
  check(answer.includes("can't contain both startConsumeFromSequence and lastMessages"), answer)
})

test('CSM-14', 'messages have sequence numbers, from 1 in each partition', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 2 })
  await fill(p, numbers(1, 10))
  const c = await m.consumer({ stationName, consumerName: 'c' })
  for (const i of [1, 2]) same((await take(c, 5, { consumerPartitionNumber: i })).map((x) => x.getSequenceNumber()), [1, 2, 3, 4, 5])
})

test('CSM-15', 'messages have the time they were stored at', async (t) => {
  const [m, stationName, p] = await t.start()
  const before = Date.now()
  await fill(p, ['x'])
  const after = Date.now()
  await sleep(1000)
  const [message] = await take(await m.consumer({ stationName, consumerName: 'c' }), 1)
  const time = message.getTimeSent().getTime()
  check(time >= before - 50 && time <= after + 50, `${time - before} ms`)
})

test('CSM-16', 'the handler gets the context', async (t) => {
  const [m, stationName, p] = await t.start()
  const c = await m.consumer({ stationName, consumerName: 'c', pullIntervalMs: 200 })
  c.setContext({ who: 'me' })
  let seen
  c.on('message', (x, context) => { seen = context })
  await fill(p, ['x'])
  check(await until(() => seen), 'no message')
  same(seen, { who: 'me' })
  c.stop()
})

test('CSM-20', 'a group knows how many messages wait and are being worked on', async (t) => {
  const [m, stationName, p] = await t.start()
  const c = await m.consumer({ stationName, consumerName: 'c', consumerGroup: 'g.h' })
  await fill(p, numbers(1, 10))
  await take(c, 2)
  await take(c, 3, { ack: false })
  let seen
  await until(async () => {
    const i = await m.brokerStats.consumers.info(`${stationName}$1`, 'g#h')
    seen = [i.num_pending, i.num_ack_pending, i.ack_floor.stream_seq]
    return seen.join() === '5,3,2'
  }, 5000)
  same(seen, [5, 3, 2])
})

test('CSM-22', 'a consumer takes from one partition, by number or key', async (t) => {
  const [m, stationName, p] = await t.start({ partitionsNumber: 3 })
  await fill(p, numbers(1, 9))
  const c = await m.consumer({ stationName, consumerName: 'c' })
  same(await drain(c, 3, { consumerPartitionNumber: 3 }), ['3', '6', '9'])
  const key = ['a', 'b', 'c', 'd'].find((k) => m._getPartitionFromKey(k, stationName) > 0) // STA-17 says why
  await fill(p, ['by key'], { producerPartitionKey: key })
  const d = await m.consumer({ stationName, consumerName: 'd', lastMessages: 1 })
  same(await drain(d, 1, { consumerPartitionKey: key }), ['by key'])
  await refused(c.fetch({ consumerPartitionNumber: 4 }), 'stream not found')
  check(await until(() => dropped.includes('Partition number not found'), 2000), dropped)
})

test('CSM-23', 'the group goes with the last of its consumers', async (t) => {
  const [m, stationName, p] = await t.start()
  await fill(p, numbers(1, 4))
  const other = await t.connect()
  const a = await m.consumer({ stationName, consumerName: 'a', consumerGroup: 'g' })
  const b = await other.consumer({ stationName, consumerName: 'b', consumerGroup: 'g' })
  same(await drain(a, 2), ['1', '2'])
  await m.brokerManager.flush()
  await a.destroy()
  same(await drain(b, 2), ['3', '4'])
  await b.destroy()
  await refused(m.brokerStats.consumers.info(`${stationName}$1`, 'g'), 'consumer not found')
  same(await drain(await m.consumer({ stationName, consumerName: 'c', consumerGroup: 'g' }), 4), numbers(1, 4))
})

test('CSM-24', 'the ping of a consumer hears that its group has gone', async (t) => {
  const [m, stationName] = await t.start()
  const c = await m.consumer({ stationName, consumerName: 'c', pullIntervalMs: 100000 })
  const errors = []
  c.pingConsumerInvtervalMs = 300 // of 30 s
  c.on('error', (e) => errors.push(e.message))
  c.on('message', () => {})
  await sleep(1500)
  same(errors, [])
  await m.brokerStats.consumers.delete(`${stationName}$1`, 'c')
  check(await until(() => errors.length > 0, 5000), 'nothing was said')
  same(errors[0], 'station/consumer were not found')
})

test('CSM-27', 'with ids, retention until acked and one delivery each comes once; what was not acked comes again after a restart', async function* (t) {
  const [m, stationName, p] = await t.start({ retentionType: 'ack_based' })
  const c = await m.consumer({ stationName, consumerName: 'c', maxMsgDeliveries: 1 })
  for (const i of numbers(1, 20)) for (let k = 0; k < 2; k++) await fill(p, [i], { msgId: i }) // a producer that is not sure
  same(await drain(c, 20), numbers(1, 20))
  same(await c.fetch({ batchSize: 5 }), [])
  const least = t.name('least')
  await fill(await m.producer({ stationName: least, producerName: 'q' }), numbers(1, 10))
  const options = { stationName: least, consumerName: 'd', maxAckTimeMs: 3000, maxMsgDeliveries: 10 }
  const d = await m.consumer(options)
  same(await drain(d, 4), numbers(1, 4))
  same(await drain(d, 3, { ack: false }), numbers(5, 7))
  await m.brokerManager.flush()
  yield
  same(sorted(await drain(await (await t.connect()).consumer(options), 6)), numbers(5, 10))
})
