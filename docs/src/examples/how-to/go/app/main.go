// A payment service and its caller.
//
//	payments-go serve
//	payments-go call https://HOST [SECONDS]   once, or repeatedly every SECONDS seconds
package main

import (
	"log"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	var source Source
	switch arguments := os.Args[1:]; {
	case len(arguments) == 1 && arguments[0] == "serve":
		if err := serve(&source); err != nil {
			log.Fatal(err)
		}
	case len(arguments) == 2 && arguments[0] == "call":
		if caller := (&caller{source: &source}); !caller.call(arguments[1]) {
			os.Exit(1)
		}
	case len(arguments) == 3 && arguments[0] == "call":
		caller := &caller{source: &source}
		interval, err := time.ParseDuration(arguments[2] + "s")
		if err != nil {
			log.Fatal(err)
		}
		for ; ; time.Sleep(interval) {
			caller.call(arguments[1])
		}
	default:
		log.Fatal("payments-go serve | call URL [SECONDS]")
	}
}
