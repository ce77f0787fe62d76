// A bot that acknowledges properly: a frame once it was handled and answered, many with one line (after 50 frames
// or half a second, and at the end). What was not acknowledged comes again, whatever ended the bot or holdfast.
// It answers the message `!status TEXT` with a presence. Usage: go run bot.go SOCKET NAME
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type dict = map[string]any

func handle(event dict) any { // your bot: returns a frame to answer with, or nil
	take, _ := event["take"].(dict)
	frame, _ := event["frame"].(dict)
	data, _ := frame["d"].(dict)
	text, _ := data["content"].(string)
	fmt.Println(event["connection"], event["offset"], take["kind"], text)
	if take["kind"] != "MESSAGE_CREATE" || !strings.HasPrefix(text, "!status ") {
		return nil
	}
	doing := []dict{{"name": text[8:], "type": 0}}
	return dict{"op": 3, "d": dict{"since": nil, "activities": doing, "status": "online", "afk": false}}
}

func read(link net.Conn, lines chan<- map[string]dict) { // the channel holds nothing: the rest waits in holdfast
	in := json.NewDecoder(link)
	in.UseNumber()
	for line := (map[string]dict{}); in.Decode(&line) == nil; line = (map[string]dict{}) {
		lines <- line
	}
	close(lines)
}

func attached(link net.Conn, signals <-chan os.Signal) (ending bool) {
	lines, tick := make(chan map[string]dict), time.NewTicker(500*time.Millisecond)
	handled, sends, tries, again := []dict{}, map[any]dict{}, map[any]int{}, []any{}
	say := func(kind string, body any) { json.NewEncoder(link).Encode(dict{kind: body}) }
	id := func(at dict) any { return fmt.Sprint(at["connection"], "/", at["epoch"], "/", at["offset"]) }
	say("attach", dict{"consumer": os.Args[2], "connections": []string{"*"}, "from": "cursor", "states": false})
	go read(link, lines)
	defer link.Close()
	defer tick.Stop()
	for open, late := true, false; open && !ending; late = false {
		var line map[string]dict
		select {
		case line, open = <-lines:
		case <-tick.C:
			late = true
		case <-signals:
			late, ending = true, true
		}
		for kind, body := range line { // there is one
			switch {
			case kind == "event":
				at := dict{"connection": body["connection"], "epoch": body["epoch"], "offset": body["offset"]}
				handled = append(handled, at)
				if frame := handle(body); frame != nil {
					sends[id(at)] = dict{"id": id(at), "connection": at["connection"], "frame": frame}
					say("send", sends[id(at)])
				}
			case kind == "refused" && body["retry"] == true && tries[body["id"]] < 60:
				tries[body["id"]]++
				again = append(again, body["id"])
			case kind == "sent" || kind == "refused":
				delete(sends, body["id"])
			}
			if kind != "event" && kind != "hello" { // a GAP: frames may be missing
				fmt.Fprintln(os.Stderr, strings.ToUpper(kind), body)
			}
			if strings.HasPrefix(fmt.Sprint(body["what"]), "replaced") { // another bot has this name
				os.Exit(1)
			}
		}
		acks := dict{} // up to the first frame that waits for its answer; one line is for all before it
		for (late || len(handled) >= 50 || len(acks) > 0) && len(handled) > 0 && sends[id(handled[0])] == nil {
			acks[fmt.Sprint(handled[0]["connection"])], handled = handled[0], handled[1:]
		}
		for _, at := range acks {
			say("ack", at)
		}
		for ; late && len(again) > 0; again = again[1:] {
			say("send", sends[again[0]])
		}
	}
	return ending
}

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	for {
		link, err := net.Dial("unix", os.Args[1])
		if err == nil && attached(link, signals) {
			return
		}
		fmt.Fprintln(os.Stderr, "holdfast is away:", err)
		select {
		case <-time.After(time.Second):
		case <-signals:
			return
		}
	}
}
