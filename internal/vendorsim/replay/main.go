// Command replay serves recorded vendor traffic until it is interrupted. It
// prints the environment settings that point a client at it.
//
//	go run ./internal/vendorsim/replay -listen 127.0.0.1:8080 DIR
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/collectord/collectord/internal/vendorsim"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := run(os.Args[1:], os.Stdout, stop); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "replay:", err)
		}
		os.Exit(2)
	}
}

// run serves until it receives from stop.
func run(args []string, out io.Writer, stop <-chan os.Signal) error {
	fs := flag.NewFlagSet("replay", flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "`address` to listen on")
	fs.Usage = func() {
		_, _ = fmt.Fprintln(fs.Output(), "usage: replay [-listen address] file-or-directory…")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("no recording given")
	}
	rec, err := vendorsim.LoadRecording(fs.Args()...)
	if err != nil {
		return err
	}
	s, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{rec}, Listen: *listen})
	if err != nil {
		return err
	}
	defer s.Close()
	h := s.Host(rec.Name())
	_, _ = fmt.Fprintf(out, "# %s\n%s\n", h.URL(), strings.Join(h.Env(), "\n"))
	<-stop
	return nil
}
