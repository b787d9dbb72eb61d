import asyncio
import sys
from memphis import Memphis

host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 6666

async def main():
    memphis = Memphis()
    await memphis.connect(host=host, port=port, username="root", password="memphis")
    await memphis.station(name="orders", partitions_number=3)

    producer = await memphis.producer(station_name="orders", producer_name="shop")
    await producer.produce(bytearray(b"two books"), msg_id="order-17")

    consumer = await memphis.consumer(station_name="orders", consumer_name="packer",
                                      batch_max_time_to_wait_ms=500)
    for _ in range(3):                       # one partition after the other
        for message in await consumer.fetch() or []:
            print(message.get_data().decode())
            await message.ack()
    await memphis.close()

asyncio.run(main())
