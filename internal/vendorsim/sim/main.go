// Command sim runs the simulated vendors until it is interrupted. It prints the
// environment settings that point a client at them, and then an empty line.
//
//	go run ./internal/vendorsim/sim -count tenable_vulnerabilities=100000 -gzip stored
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := run(os.Args[1:], os.Stdout, stop); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "sim:", err)
		}
		os.Exit(2)
	}
}

// run serves until it receives from stop.
func run(args []string, out io.Writer, stop <-chan os.Signal) error {
	opts, err := parseOptions(args)
	if err != nil {
		return err
	}
	s, err := vendorsim.Start(opts)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, h := range s.Hosts() {
		_, _ = fmt.Fprintf(out, "# %s", h.Name())
		for _, stream := range h.Streams() {
			_, _ = fmt.Fprintf(out, " %s=%d", stream, s.RecordCount(stream))
		}
		_, _ = fmt.Fprintf(out, "\n%s\n", strings.Join(h.Env(), "\n"))
	}
	_, _ = fmt.Fprintln(out) // the end of the settings
	<-stop
	return nil
}

// parseOptions parses the flags.
func parseOptions(args []string) (vendorsim.Options, error) {
	opts := vendorsim.Options{Counts: map[string]int{}, RecordBytes: map[string]int{}}
	fs := flag.NewFlagSet("sim", flag.ContinueOnError)
	names := fs.String("vendors", "", "comma-separated `names` of the vendors; default all")
	gzip := fs.String("gzip", "fast", "compression of responses: fast, stored or off")
	base := fs.String("base", "", "present `time` of the data (RFC 3339, or now); default is a fixed time")
	fs.StringVar(&opts.Listen, "listen", "127.0.0.1:0", "`address` of the first vendor; the others take the next ports")
	fs.Uint64Var(&opts.Seed, "seed", 0, "`number` that selects the data")
	fs.DurationVar(&opts.Latency, "latency", 0, "`duration` to wait before each response")
	fs.IntVar(&opts.EdgeEvery, "edge-every", 50, "every `n`-th record has awkward content; negative means none")
	fs.Func("count", "number of records of a stream, as `stream=n`; may be repeated", setEntry(opts.Counts))
	fs.Func("bytes", "mean record size of a stream, as `stream=n`; may be repeated", setEntry(opts.RecordBytes))
	if err := fs.Parse(args); err != nil {
		return opts, err
	}
	mode, ok := map[string]vendorsim.GzipMode{"fast": vendorsim.GzipFast, "stored": vendorsim.GzipStored, "off": vendorsim.GzipOff}[*gzip]
	if !ok {
		return opts, fmt.Errorf("-gzip %s: want fast, stored or off", *gzip)
	}
	opts.Gzip = mode
	switch *base {
	case "":
	case "now":
		opts.Base = time.Now()
	default:
		t, err := time.Parse(time.RFC3339, *base)
		if err != nil {
			return opts, fmt.Errorf("-base: %w", err)
		}
		opts.Base = t
	}
	var err error
	opts.Vendors, err = chooseVendors(*names)
	return opts, err
}

// setEntry returns a flag function that parses NAME=NUMBER into m.
func setEntry(m map[string]int) func(string) error {
	return func(text string) error {
		name, number, ok := strings.Cut(text, "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return errors.New("want stream=n")
		}
		m[name] = n
		return nil
	}
}

// chooseVendors returns the vendors by name, all of them for "".
func chooseVendors(names string) ([]vendorsim.Vendor, error) {
	all := vendorsim.AllVendors()
	if names == "" {
		return all, nil
	}
	var out []vendorsim.Vendor
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, v := range all {
			if v.Name() == name {
				out, found = append(out, v), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-vendors: no vendor named %q", name)
		}
	}
	return out, nil
}
