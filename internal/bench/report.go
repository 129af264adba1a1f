package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	_ "embed"
)

//go:embed method.md
var method string

// renderDocument returns the content of docs/internals/benchmarks.md.
func renderDocument(ctx context.Context, rows []row, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Speed and memory\n\nWritten by `make bench` in %.0f minutes, %s.\n\n", took.Minutes(),
		time.Now().UTC().Format("2 January 2006"))
	fmt.Fprintf(&b, "Machine: %s. Versions: %s.\n\n", describeMachine(), strings.Join(toolVersions(ctx), ", "))
	b.WriteString("| What | Target | Figure | Compared with the other, same run | Target | Repeat with |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		figure, ratio, verdict := r.figure, r.ratio, r.verdict()
		if r.err != nil {
			figure, ratio, verdict = "did not run: "+r.err.Error(), "", "FAILED"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | `go run ./internal/bench -only %s` |\n",
			escapeCell(r.what), escapeCell(r.target), escapeCell(figure), escapeCell(ratio), verdict, r.name)
	}
	b.WriteString("\n")
	for _, r := range rows {
		for _, note := range r.notes {
			fmt.Fprintf(&b, "- **%s**: %s\n", r.name, note)
		}
	}
	b.WriteString("\n" + method)
	return b.String()
}

func escapeCell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}

func describeMachine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(text); m != nil {
			model = string(m[1])
		}
	}
	memory := ""
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kb); err == nil {
			memory = fmt.Sprintf(", %.0f GiB memory", float64(kb)/(1<<20))
		}
	}
	return fmt.Sprintf("%d cores of %s%s, %s/%s", runtime.NumCPU(), model, memory, runtime.GOOS, runtime.GOARCH)
}

// toolVersions returns the versions of the programs and libraries involved.
func toolVersions(ctx context.Context) []string {
	list := []string{runtime.Version()}
	for _, c := range [][]string{{"psql", "--version"}, {"python3", "--version"}, {"uname", "-sr"}} {
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).Output()
		if err != nil {
			out = []byte(c[0] + " missing")
		}
		list = append(list, strings.TrimSpace(string(out)))
	}
	if out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Version}}",
		"github.com/duckdb/duckdb-go/v2", "github.com/jackc/pgx/v5", "github.com/aws/aws-sdk-go-v2/service/s3").Output(); err == nil {
		list = append(list, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return list
}
