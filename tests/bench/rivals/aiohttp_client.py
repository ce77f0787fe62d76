"""Python aiohttp. Usage: aiohttp_client.py PORT CA_PATH SOCKET_PATH COUNT"""
import asyncio, json, resource, ssl, sys
import aiohttp

port, ca_path, socket_path, count = sys.argv[1:5]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
frames = 0

async def hold(session, context, local, gate):
    global frames
    first = True
    await gate.acquire()
    while True:
        try:
            async with session.ws_connect(f"wss://127.0.0.1:{port}/", ssl=context) as ws:
                if first:
                    gate.release()
                    first = False
                async for message in ws:
                    text = message.data
                    frame = json.loads(text)
                    if frame["op"] == 0 and frame["s"] > 0 and frame["t"]:
                        frames += 1
                        local.write(text.encode() + b"\n")
        except (OSError, aiohttp.ClientError, asyncio.TimeoutError):
            await asyncio.sleep(0)

async def main():
    context = ssl.create_default_context(cafile=ca_path)
    reader, local = await asyncio.open_unix_connection(socket_path)
    gate = asyncio.Semaphore(64)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)) as session:
        tasks = [asyncio.create_task(hold(session, context, local, gate)) for _ in range(int(count))]
        await reader.read()

asyncio.run(main())
