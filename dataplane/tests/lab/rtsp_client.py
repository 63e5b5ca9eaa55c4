# aiortsp plays a tone: appends the bytes of its packets to a file. Arguments: URL, FILE, and how many bytes are enough.
import asyncio
import sys

from aiortsp.rtsp.reader import RTSPReader

URL, FILE, ENOUGH = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def play():
    with open(FILE, "wb") as out:
        async with RTSPReader(URL) as reader:
            async for packet in reader.iter_packets():
                out.write(bytes(packet.data))
                if out.tell() >= ENOUGH:
                    return


asyncio.run(asyncio.wait_for(play(), 30))
