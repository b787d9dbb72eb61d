// Users (USR).
const { test, check, same, refused, until, fill, drain, password } = require('./harness')

const listed = async (t, m, name) => (await t.admin(m, 'user_list')).users.find((u) => u.username === name)

test('USR-01', 'root is there from the start, and stays', async (t) => {
  const m = await t.connect()
  const root = await until(() => listed(t, m, 'root'), 5000) // when its hash is made
  same(root.user_type, 'root')
  check('error' in await t.admin(m, 'user_remove', { username: 'root' }), 'removed')
  check('error' in await t.admin(m, 'user_add', { username: 'root', password, user_type: 'application' }), 'added')
})

test('USR-05', 'passwords need 8 characters, both cases, a digit and a special one', async (t) => {
  const m = await t.connect()
  for (const bad of ['Ab1!', 'abcdefg1!', 'ABCDEFG1!', 'Abcdefgh!', 'Abcdefgh1', 'Abcdefg1!ü']) {
    const { error = '' } = await t.admin(m, 'user_add', { username: t.name('u'), password: bad, user_type: 'application' })
    check(error.startsWith('a password '), `${bad}: ${error}`)
  }
  same(await listed(t, m, t.name('u')), undefined)
})

test('USR-07', 'a password is changed, a user removed: his connection ends', async (t) => {
  const m = await t.connect()
  const username = t.name('u')
  await t.addUser(m, username)
  const app = await t.connect({ username, password, reconnect: false })
  same(await t.admin(m, 'user_set_password', { username, password: 'New12345!' }), {})
  await refused(t.connect({ username, password, reconnect: false }), 'authorization violation')
  const renewed = await t.connect({ username, password: 'New12345!', reconnect: false })
  check(renewed.isConnected())
  same(await t.admin(m, 'user_remove', { username }), {})
  check(await until(() => !app.isConnected() && !renewed.isConnected(), 5000), 'he is still connected')
})

test('USR-08', 'a removed user can be made again', async (t) => {
  const m = await t.connect()
  const username = t.name('u')
  for (let i = 0; i < 2; i++) {
    await t.addUser(m, username)
    check((await t.connect({ username, password, reconnect: false })).isConnected())
    same(await t.admin(m, 'user_remove', { username }), {})
    same(await listed(t, m, username), undefined)
  }
})

test('USR-09', 'the users of INITIAL_CONFIG_FILE are there', async (t) => {
  const m = await t.connect({ username: 'first', password: 'First123456!' })
  await fill(await m.producer({ stationName: t.name(), producerName: 'p' }), ['x'])
  same((await listed(t, await t.connect(), 'firstboss')).user_type, 'management')
})

test('USR-10', 'a user with lists reads and writes what they name, nothing else', async (t) => {
  const m = await t.connect()
  const [username, read, write] = [t.name('u'), t.name('read'), t.name('write')]
  for (const stationName of [read, t.name('other')]) await fill(await m.producer({ stationName, producerName: 'p' }), ['x'])
  await t.addUser(m, username, 'application', { allow_read_permissions: [read], allow_write_permissions: [write] })
  const app = await t.connect({ username, password })
  same(await drain(await app.consumer({ stationName: read, consumerName: 'c' }), 1), ['x'])
  await fill(await app.producer({ stationName: write, producerName: 'q' }), ['mine'])
  await refused(app.producer({ stationName: read, producerName: 'q' }), `user ${username} is not allowed to access station ${read}`)
  await refused(app.consumer({ stationName: write, consumerName: 'c' }), `user ${username} is not allowed to access station ${write}`)
  await refused(app.station({ name: t.name('new') }), `user ${username} is not allowed to create station ${t.name('new')}`)
  const before = (await t.settings(m, read)).total_messages
  app.brokerManager.publish(`${read}$1.final`, Buffer.from('past the SDK'))
  await app.brokerManager.flush().catch(() => {}) // the SDK closes its connection at the first error
  same((await t.settings(m, read)).total_messages, before)
  same(await t.admin(m, 'user_set_permissions', { username }), {})
  const again = await t.connect({ username, password })
  await fill(await again.producer({ stationName: read, producerName: 'q' }), ['now'])
})

test('USR-11', 'patterns with dots and stars name stations', async (t) => {
  const m = await t.connect()
  const [username, base] = [t.name('u'), t.name('prod')]
  await t.addUser(m, username, 'application', {
    allow_read_permissions: [`${base}.*`], allow_write_permissions: [`${base}.*`], deny_write_permissions: [`${base}.secret.*`],
  })
  const app = await t.connect({ username, password })
  const stationName = `${base}.eu.orders`
  await fill(await app.producer({ stationName, producerName: 'p' }), ['x'])
  same(await drain(await app.consumer({ stationName, consumerName: 'c' }), 1), ['x'])
  for (const s of [base, `${base}x`, `${base}.secret.a`]) await refused(app.producer({ stationName: s, producerName: 'p' }), 'is not allowed to')
})

test('USR-12', 'description, team and position are kept', async (t) => {
  const m = await t.connect()
  const words = { team: 'core', position: 'engineer', description: 'runs the orders' }
  await t.addUser(m, t.name('u'), 'application', words)
  const { team, position, description } = await listed(t, m, t.name('u'))
  same({ team, position, description }, words)
})
