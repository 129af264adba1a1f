package web

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "write screenshots of the status page into this folder")

// browser is Debian's Chromium with one tab, which notes what a page must not do.
type browser struct {
	*testing.T
	ctx  context.Context
	host string

	mu     sync.Mutex
	wrongs []string
}

func openBrowser(t *testing.T, host string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("the tests of the status page need Chromium: make test-servers, or apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	b := &browser{T: t, ctx: ctx, host: host}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) hear(event any) {
	wrong := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.host+"/") && !strings.HasPrefix(e.Request.URL, "about:") && !strings.HasPrefix(e.Request.URL, "blob:"+b.host) {
			wrong = "a request to " + e.Request.URL
		}
	case *runtime.EventExceptionThrown:
		wrong = "an exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		wrong = "console." + string(e.Type)
	case *cdplog.EventEntryAdded:
		wrong = string(e.Entry.Level) + ": " + e.Entry.Text + " " + e.Entry.URL
	}
	if wrong != "" {
		b.mu.Lock()
		b.wrongs = append(b.wrongs, wrong)
		b.mu.Unlock()
	}
}

// clean fails when something was heard.
func (b *browser) clean() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrongs {
		b.Error(w)
	}
	b.wrongs = nil
}

func (b *browser) do(action chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, action); err != nil {
		b.Fatal(err)
	}
}

// open loads a page and waits for an element of it.
func (b *browser) open(address, element string) {
	b.Helper()
	b.do(chromedp.Navigate(address))
	b.until("document.querySelector(" + strconv.Quote(element) + ")?.checkVisibility() === true")
}

// enter types into a field.
func (b *browser) enter(element, text string) {
	b.Helper()
	value[bool](b, fmt.Sprintf("(() => { const e = document.querySelector(%q); e.value = %q; return e.dispatchEvent(new Event('input')); })()", element, text))
}

// click clicks on an element.
func (b *browser) click(element string) {
	b.Helper()
	value[bool](b, fmt.Sprintf("(document.querySelector(%q).click(), true)", element))
}

// value is what a JavaScript expression is.
func value[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%.100s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
	b.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		b.Fatalf("%.100s: %v\n%.3000s", expression, err, value[string](b, "document.body.innerText"))
	}
}

func (b *browser) size(width, height int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

func (b *browser) dark(dark bool) {
	b.Helper()
	scheme := map[bool]string{true: "dark", false: "light"}[dark]
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		b.Fatal(err)
	}
}

// shoot writes a picture when -shots asks for it.
func (b *browser) shoot(name string) {
	b.Helper()
	if *shots == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), picture, 0o600); err != nil {
		b.Fatal(err)
	}
}

// fits tells that nothing is wider than the window.
func (b *browser) fits(what string) {
	b.Helper()
	if wide := value[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		b.Errorf("%s: %d pixels too wide", what, wide)
	}
}

// contrast is the smallest ratio between a text and what is behind it.
const contrast = `(() => {
  const lum = (c) => { const v = c.match(/[\d.]+/g).slice(0, 3).map((x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  const low = [];
  for (const e of document.querySelectorAll("main *, header *, footer *")) {
    if (!e.offsetParent || e.disabled || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const a = lum(getComputedStyle(e).color), b = lum(behind(e)), r = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (r < 4.5) low.push(e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 20) + " " + r.toFixed(2));
  }
  return low.join("; ");
})()`

func TestOverviewInABrowser(t *testing.T) {
	t.Parallel()
	s := everyState(t)
	server := s.server("secret-token")
	b := openBrowser(t, server.URL)
	b.size(1280, 800)
	b.open(server.URL+"/", "table.off")
	for stream, want := range map[string]Freshness{
		"crowdstrike_hosts": Fresh, "crowdstrike_vulnerabilities": Late, "crowdstrike_zta": Never, "okta_users": Failing,
		"tenable_assets": Running, "tenable_was": Restored, "manual_stream": NoTicks,
	} {
		if got := value[string](b, `document.getElementById("`+stream+`.state").textContent`); got != string(want) {
			t.Errorf("%s is %q, want %q", stream, got, want)
		}
	}
	text := value[string](b, `document.body.innerText`)
	for _, want := range []string{
		"SNYK_TOKEN", "COLLECTORS does not name it", "18,250 records", "250/s", "connection refused", "next try in 7", hostile,
		"Vulnerabilities: read", "from the backup", "stored 1\u202fh ago",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	if n := value[int](b, `document.querySelectorAll("main script, main img").length`); n != 0 || value[string](b, "document.title") != "collectord" {
		t.Error("the vendor's text is taken for markup")
	}
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		if low := value[string](b, contrast); low != "" {
			t.Errorf("dark %t: too little contrast: %s", dark, low)
		}
		b.shoot(map[bool]string{false: "overview-light", true: "overview-dark"}[dark])
	}
	b.clean()

	// Progress moves without a new load, and the focus stays.
	value[bool](b, `(window.same = true, document.querySelector(".streams a").focus(), true)`)
	s.d.live[0].Stats.Keep(1000, 1<<20)
	b.until(`document.body.innerText.includes("19,250 records")`)
	if !value[bool](b, `window.same && document.activeElement === document.querySelector(".streams a")`) {
		t.Error("the page was loaded anew, or lost the focus")
	}

	// Run now asks for the token, and takes it.
	const run = "[data-post='/api/v1/collectors/okta/run']"
	b.click(run)
	b.until(`document.getElementById("said").textContent.includes("Enter the token")`)
	b.enter("#token", "secret-token")
	b.click(run)
	b.until(`document.getElementById("said").textContent.includes("okta has started")`)
	b.click("[data-post='/api/v1/deliveries/retry']")
	b.until(`document.getElementById("said").textContent.includes("every queued delivery is due")`)
	if len(s.d.started) != 1 || s.d.started[0] != "okta" || s.d.delivered != 1 {
		t.Errorf("started %v, delivered %d", s.d.started, s.d.delivered)
	}
	if cookies := value[string](b, "document.cookie"); cookies != "" {
		t.Errorf("a cookie: %s", cookies)
	}

	b.dark(false)
	b.size(360, 740)
	b.fits("the overview on a phone")
	b.shoot("overview-phone")
	b.open(server.URL+"/streams/okta_users", "#data pre")
	b.fits("a stream on a phone")
	b.shoot("stream-phone")
	b.open(server.URL+"/query", "#sql")
	b.fits("the query on a phone")
	b.clean()
}

func TestStreamInABrowser(t *testing.T) {
	t.Parallel()
	s := everyState(t)
	server := s.server("secret-token")
	b := openBrowser(t, server.URL)
	b.size(1280, 800)
	b.open(server.URL+"/streams/okta_users", "#data pre")
	text := value[string](b, `document.body.innerText`)
	for _, want := range []string{hostile, "profile", "STRUCT(", "100 %", "STATUS", "Failures in a row", "The newest 50 runs", "6 tries"} {
		if !strings.Contains(strings.ToUpper(text), strings.ToUpper(want)) {
			t.Errorf("the stream's page does not say %q", want)
		}
	}
	if n := value[int](b, `document.querySelectorAll("main script, main img").length`); n != 0 || !strings.HasPrefix(value[string](b, "document.title"), "okta_users") {
		t.Error("the vendor's text is taken for markup")
	}
	if n := value[int](b, `document.querySelectorAll(".charts svg rect").length`); n < 1000 {
		t.Errorf("%d bars in the charts", n)
	}
	if low := value[string](b, contrast); low != "" {
		t.Errorf("too little contrast: %s", low)
	}
	b.shoot("stream-light")
	b.dark(true)
	if low := value[string](b, contrast); low != "" {
		t.Errorf("dark: too little contrast: %s", low)
	}
	b.shoot("stream-dark")
	b.clean()
	// What is inline stays without effect.
	value[bool](b, `(document.body.appendChild(Object.assign(document.createElement("script"), {textContent: "window.inline = 1"})), true)`)
	if value[bool](b, "window.inline === 1") {
		t.Error("an inline script runs")
	}
}

func TestQueryInABrowser(t *testing.T) {
	t.Parallel()
	server := everyState(t).server("secret-token")
	b := openBrowser(t, server.URL)
	b.size(1280, 800)
	b.open(server.URL+"/query", "#sql")
	b.enter("#token", "secret-token")
	b.enter("#sql", "SELECT id, status, profile.login, profile.email, 42 AS answer FROM okta_users ORDER BY id")
	b.click("#query .main")
	b.until(`document.querySelector("#answer table") !== null`)
	if got := value[string](b, `document.querySelector("#answer table").innerText`); !strings.Contains(got, hostile) || !strings.Contains(got, "NULL") {
		t.Errorf("the answer is %q", got)
	}
	b.shoot("query-light")
	b.clean()
	b.enter("#sql", "SELECT * FROM read_text('/etc/passwd')")
	b.click("#query .main")
	b.until(`document.querySelector("#answer .note") !== null`)
	if got := value[string](b, `document.querySelector("#answer").innerText`); !strings.Contains(got, "disabled by configuration") {
		t.Errorf("the refusal is %q", got)
	}
}
