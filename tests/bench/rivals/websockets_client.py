"""Python websockets. Usage: websockets_client.py PORT CA_PATH SOCKET_PATH COUNT"""
import asyncio, json, resource, ssl, sys
import websockets

port, ca_path, socket_path, count = sys.argv[1:5]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
frames = 0

async def hold(context, local, gate):
    global frames
    first = True
    await gate.acquire()
    while True:
        try:
            async with websockets.connect(f"wss://127.0.0.1:{port}/", ssl=context, compression=None, ping_interval=None,
                                          open_timeout=60, max_size=1 << 24) as ws:
                if first:
                    gate.release()
                    first = False
                async for text in ws:
                    frame = json.loads(text)
                    if frame["op"] == 0 and frame["s"] > 0 and frame["t"]:
                        frames += 1
                        local.write(text.encode() + b"\n")
        except (OSError, websockets.WebSocketException, asyncio.TimeoutError):
            await asyncio.sleep(0)

async def main():
    context = ssl.create_default_context(cafile=ca_path)
    reader, local = await asyncio.open_unix_connection(socket_path)
    gate = asyncio.Semaphore(64)
    tasks = [asyncio.create_task(hold(context, local, gate)) for _ in range(int(count))]
    await reader.read()

asyncio.run(main())
