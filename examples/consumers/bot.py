#!/usr/bin/env python3
"""A bot that acknowledges properly: a frame once it was handled and answered, many with one line (after 50 frames
or half a second, and at the end). What was not acknowledged comes again, whatever ended the bot or holdfast.
It answers the message `!status TEXT` with a presence. Usage: bot.py [SOCKET [NAME]]"""
import collections, json, select, signal, socket, sys, time
PATH, NAME = (sys.argv[1:] + ["run/holdfast.sock", "bot-py"][len(sys.argv) - 1:])[:2]
BATCH, BATCH_S, PAUSE_S, TRIES, ending = 50, 0.5, 1, 60, []  # ending: filled by a signal
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: ending.append(True))

def handle(event):  # your bot: returns a frame to answer with, or None
    kind = event.get("take", {}).get("kind")
    text = event["frame"]["d"].get("content", "") if kind == "MESSAGE_CREATE" else ""
    print(event["connection"], event["offset"], kind, text, flush=True)
    doing = {"since": None, "activities": [{"name": text[8:], "type": 0}], "status": "online", "afk": False}
    return {"op": 3, "d": doing} if text.startswith("!status ") else None

def attached(link, rest=b"", stop=False):
    handled, sends, again, tries, ticked = collections.deque(), {}, [], collections.Counter(), time.monotonic()
    def say(kind, body): link.sendall(json.dumps({kind: body}).encode() + b"\n")
    say("attach", {"consumer": NAME, "connections": ["*"], "from": "cursor", "states": False})
    while not stop:
        stop, came = bool(ending), select.select([link], [], [], BATCH_S)[0]
        piece = link.recv(65536) if came else b""
        if came and not piece: raise ConnectionError("it hung up")
        *lines, rest = (rest + piece).split(b"\n")
        for kind, body in [item for line in lines for item in json.loads(line).items()] + [("tick", {})]:
            if kind not in ("event", "hello", "tick"): print(kind.upper(), body, file=sys.stderr)  # also a GAP
            if kind == "event":
                at = {key: body[key] for key in ("connection", "epoch", "offset")}
                name, frame = "%(connection)s/%(epoch)d/%(offset)d" % at, handle(body)
                handled.append((name, at))
                if frame: sends[name] = {"id": name, "connection": at["connection"], "frame": frame}
                if frame: say("send", sends[name])
            elif kind == "refused" and body["retry"] and tries[body["id"]] < TRIES: again.append(body["id"])
            elif kind in ("sent", "refused"): del sends[body["id"]]
            elif kind == "error" and body["what"].startswith("replaced"): sys.exit("another bot has this name")
            late, acks = stop or time.monotonic() - ticked >= BATCH_S, {}
            while (late or len(handled) >= BATCH or acks) and handled and handled[0][0] not in sends:
                at = handled.popleft()[1]
                acks[at["connection"]] = at
            for at in acks.values(): say("ack", at)  # cumulative: one line for all up to there
            if not late: continue
            for name in again: say("send", sends[name])
            tries.update(again); again.clear(); ticked = time.monotonic()

while not ending:
    try:
        with socket.socket(socket.AF_UNIX) as link: link.connect(PATH); attached(link)
    except OSError as error: print("holdfast is away:", error, file=sys.stderr)
    time.sleep(0 if ending else PAUSE_S)
