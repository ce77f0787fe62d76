"""A bot in 15 lines: prints each message of one connection and acknowledges it. At least once: what it did
not acknowledge comes again after a restart. Usage: consumer.py [run/holdfast.sock]"""
import json, socket, sys

link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1] if len(sys.argv) > 1 else "run/holdfast.sock")
lines, out = link.makefile("r", encoding="utf-8"), link.makefile("w", encoding="utf-8")
def say(message): out.write(json.dumps(message) + "\n"); out.flush()

say({"attach": {"consumer": "example", "connections": ["*"], "from": "cursor"}})
for line in lines:
    kind, body = next(iter(json.loads(line).items()))
    if kind == "event":
        print(body["connection"], body["offset"], json.dumps(body.get("frame", body.get("frame_base64"))), flush=True)
        say({"ack": {key: body[key] for key in ("connection", "epoch", "offset")}})
    elif kind == "gap":
        print("frames may be missing:", body["cause"], file=sys.stderr)
