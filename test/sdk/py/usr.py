"""Users (USR)."""
from harness import PASSWORD, check, drain, fill, refused, same, test, until


async def listed(t, m, name):
    users = (await t.admin(m, "user_list"))["users"]
    return next((u for u in users if u["username"] == name), None)


@test("USR-01", "root is there from the start, and stays")
async def root(t):
    m = await t.connect()
    user = await until(lambda: listed(t, m, "root"), 5)  # when its hash is made
    same(user["user_type"], "root")
    check("error" in await t.admin(m, "user_remove", username="root"))
    check("error" in await t.admin(m, "user_add", username="root", password=PASSWORD,
                                   user_type="application"))


@test("USR-05", "passwords need 8 characters, both cases, a digit and a special one")
async def policy(t):
    m = await t.connect()
    for bad in ("Ab1!", "abcdefg1!", "ABCDEFG1!", "Abcdefgh!", "Abcdefgh1", "Abcdefg1!ü"):
        answer = await t.admin(m, "user_add", username=t.name("u"), password=bad,
                               user_type="application")
        check(answer.get("error", "").startswith("a password "), (bad, answer))
    same(await listed(t, m, t.name("u")), None)


@test("USR-07", "a password is changed, a user removed: his connection ends")
async def change(t):
    m = await t.connect()
    user = t.name("u")
    await t.add_user(m, user)
    app = await t.connect(user, PASSWORD, reconnect=False)
    same(await t.admin(m, "user_set_password", username=user, password="New12345!"), {})
    await refused(t.connect(user, PASSWORD, reconnect=False), "authorization violation")
    new = await t.connect(user, "New12345!", reconnect=False)
    check(new.is_connected())
    same(await t.admin(m, "user_remove", username=user), {})
    check(await until(lambda: not app.is_connected() and not new.is_connected(), 5),
          "he is still connected")


@test("USR-08", "a removed user can be made again")
async def again(t):
    m = await t.connect()
    user = t.name("u")
    for _ in range(2):
        await t.add_user(m, user, description="first")
        app = await t.connect(user, PASSWORD, reconnect=False)
        check(app.is_connected())
        same(await t.admin(m, "user_remove", username=user), {})
        same(await listed(t, m, user), None)


@test("USR-09", "the users of INITIAL_CONFIG_FILE are there")
async def initial(t):
    m = await t.connect("first", "First123456!")
    p = await m.producer(station_name=t.name(), producer_name="p")
    await fill(p, ["x"])
    root = await t.connect()
    same((await listed(t, root, "firstboss"))["user_type"], "management")


@test("USR-10", "a user with lists reads and writes what they name, nothing else")
async def permissions(t):
    m = await t.connect()
    user, read, write = t.name("u"), t.name("read"), t.name("write")
    for s in (read, t.name("other")):
        p = await m.producer(station_name=s, producer_name="p")
        await fill(p, ["x"])
    await t.add_user(m, user, allow_read_permissions=[read], allow_write_permissions=[write])
    app = await t.connect(user, PASSWORD)
    c = await app.consumer(station_name=read, consumer_name="c")
    same(await drain(c, 1), ["x"])
    q = await app.producer(station_name=write, producer_name="q")
    await fill(q, ["mine"])
    await refused(app.producer(station_name=read, producer_name="q"),
                  f"user {user} is not allowed to access station {read}")
    await refused(app.consumer(station_name=write, consumer_name="c"),
                  f"user {user} is not allowed to access station {write}")
    await refused(app.station(name=t.name("new")),
                  f"user {user} is not allowed to create station {t.name('new')}")
    before = (await t.settings(m, read))["total_messages"]
    await app.broker_manager.publish(read + "$1.final", b"past the SDK")
    await app.broker_manager.flush()
    same((await t.settings(m, read))["total_messages"], before)
    same((await t.admin(m, "user_set_permissions", username=user)), {})
    await fill(await app.producer(station_name=read, producer_name="q"), ["now"])


@test("USR-11", "patterns with dots and stars name stations")
async def patterns(t):
    m = await t.connect()
    user, base = t.name("u"), t.name("prod")
    await t.add_user(m, user, allow_read_permissions=[base + ".*"],
                     allow_write_permissions=[base + ".*"],
                     deny_write_permissions=[base + ".secret.*"])
    app = await t.connect(user, PASSWORD)
    p = await app.producer(station_name=base + ".eu.orders", producer_name="p")
    await fill(p, ["x"])
    c = await app.consumer(station_name=base + ".eu.orders", consumer_name="c")
    same(await drain(c, 1), ["x"])
    for s in (base, base + "x", base + ".secret.a"):
        await refused(app.producer(station_name=s, producer_name="p"), "is not allowed to")


@test("USR-12", "description, team and position are kept")
async def fields(t):
    m = await t.connect()
    words = {"team": "core", "position": "engineer", "description": "runs the orders"}
    await t.add_user(m, t.name("u"), **words)
    u = await listed(t, m, t.name("u"))
    same({k: u[k] for k in words}, words)
