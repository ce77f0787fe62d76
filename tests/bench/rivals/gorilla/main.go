// Go and gorilla/websocket. Usage: gorilla PORT CA_PATH SOCKET_PATH COUNT
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type frame struct {
	Op int    `json:"op"`
	S  int64  `json:"s"`
	T  string `json:"t"`
}

func main() {
	pem, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	local, err := net.Dial("unix", os.Args[3])
	if err != nil {
		panic(err)
	}
	count, _ := strconv.Atoi(os.Args[4])
	url := "wss://127.0.0.1:" + os.Args[1] + "/"
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: pool, ClientSessionCache: tls.NewLRUClientSessionCache(64)}}
	var lock sync.Mutex
	frames := 0
	// Written behind by one goroutine: what came meanwhile goes out at once.
	out, wake := bufio.NewWriterSize(local, 1<<18), make(chan struct{}, 1)
	go func() {
		for range wake {
			lock.Lock()
			out.Flush()
			lock.Unlock()
		}
	}()
	gate := make(chan struct{}, 64)
	for i := 0; i < count; i++ {
		gate <- struct{}{}
		go func() {
			first := true
			for {
				ws, _, err := dialer.Dial(url, nil)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				if first {
					<-gate
					first = false
				}
				for {
					_, data, err := ws.ReadMessage()
					if err != nil {
						break
					}
					var f frame
					if json.Unmarshal(data, &f) != nil || f.Op != 0 || f.S == 0 || f.T == "" {
						continue
					}
					lock.Lock()
					frames++
					out.Write(data)
					out.WriteByte('\n')
					lock.Unlock()
					select {
					case wake <- struct{}{}:
					default:
					}
				}
				ws.Close()
			}
		}()
	}
	buffer := make([]byte, 1)
	local.Read(buffer)
}
