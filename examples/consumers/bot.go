// A bot that acknowledges properly: each frame once it was handled. What was not acknowledged comes again, whatever
// ended the bot or holdfast. (bot.py and bot.js also answer, and acknowledge many at once.) bot.go SOCKET NAME
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

type body struct {
	Connection, What string
	Epoch, Offset    int64
	Take, Frame      map[string]any
}

func attached(link net.Conn, busy *sync.Mutex) {
	fmt.Fprintf(link, `{"attach":{"consumer":%q,"connections":["*"],"from":"cursor","states":false}}`+"\n", os.Args[2])
	for in, line := json.NewDecoder(link), (map[string]body{}); in.Decode(&line) == nil; line = map[string]body{} {
		busy.Lock()
		if event, ok := line["event"]; ok { // your bot goes here
			data, _ := event.Frame["d"].(map[string]any)
			fmt.Println(event.Connection, event.Offset, event.Take["kind"], data["content"])
			fmt.Fprintf(link, `{"ack":{"connection":%q,"epoch":%d,"offset":%d}}`+"\n", event.Connection, event.Epoch, event.Offset)
		} else if _, ok := line["hello"]; !ok { // a gap: frames may be missing
			fmt.Fprintf(os.Stderr, "%+v\n", line)
		}
		if line["error"].What == "replaced: attached again elsewhere" {
			os.Exit(1)
		}
		busy.Unlock()
	}
}

func main() {
	signals, busy := make(chan os.Signal, 1), &sync.Mutex{}
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { <-signals; busy.Lock(); os.Exit(0) }() // never between a frame and its acknowledgement
	for ; ; time.Sleep(time.Second) {
		if link, err := net.Dial("unix", os.Args[1]); err == nil {
			attached(link, busy)
		}
		fmt.Fprintln(os.Stderr, "holdfast is away")
	}
}
