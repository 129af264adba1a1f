package web

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/schedule"
)

var screenshots = flag.String("shots", "", "write screenshots of the status page into this directory")

// browser is Debian's Chromium with one tab. It records violations: requests to other hosts,
// exceptions and console messages.
type browser struct {
	*testing.T
	ctx  context.Context
	host string

	mu         sync.Mutex
	violations []string
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
	if err := chromedp.Listen(ctx, b.recordViolation); err != nil {
		t.Fatal(err)
	}
	return b
}

// recordViolation handles the events of the browser.
func (b *browser) recordViolation(event any) {
	violation := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		url := e.Request.URL
		if !strings.HasPrefix(url, b.host+"/") && !strings.HasPrefix(url, "about:") && !strings.HasPrefix(url, "blob:"+b.host) {
			violation = "a request to " + url
		}
	case *runtime.EventExceptionThrown:
		violation = "an exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		violation = "console." + string(e.Type)
	case *cdplog.EventEntryAdded:
		violation = string(e.Entry.Level) + ": " + e.Entry.Text + " " + e.Entry.URL
	}
	if violation != "" {
		b.mu.Lock()
		b.violations = append(b.violations, violation)
		b.mu.Unlock()
	}
}

// assertNoViolations fails the test for each violation since the last call.
func (b *browser) assertNoViolations() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.violations {
		b.Error(w)
	}
	b.violations = nil
}

// execute executes an action.
func (b *browser) execute(action chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, action); err != nil {
		b.Fatal(err)
	}
}

// openURL loads an address and waits for an element.
func (b *browser) openURL(address, element string) {
	b.Helper()
	b.execute(chromedp.Navigate(address))
	b.waitUntil("document.querySelector(" + strconv.Quote(element) + ")?.checkVisibility() === true")
}

// setField sets the text of a field.
func (b *browser) setField(element, text string) {
	b.Helper()
	const expression = "(() => { const e = document.querySelector(%q); e.value = %q; return e.dispatchEvent(new Event('input')); })()"
	evaluate[bool](b, fmt.Sprintf(expression, element, text))
}

// click clicks an element.
func (b *browser) click(element string) {
	b.Helper()
	evaluate[bool](b, fmt.Sprintf("(document.querySelector(%q).click(), true)", element))
}

// evaluate returns the value of a JavaScript expression.
func evaluate[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%.100s: %v", expression, err)
	}
	return v
}

// waitUntil waits until an expression is true.
func (b *browser) waitUntil(expression string) {
	b.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(2*time.Minute))); err != nil {
		b.Fatalf("%.100s: %v\n%.3000s", expression, err, evaluate[string](b, "document.body.innerText"))
	}
}

// setSize sets the size of the window.
func (b *browser) setSize(width, height int64) {
	b.Helper()
	b.execute(chromedp.EmulateViewport(width, height))
}

// setColorScheme sets the color scheme, "dark" or "light".
func (b *browser) setColorScheme(scheme string) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		b.Fatal(err)
	}
}

// saveScreenshot writes a screenshot if -shots is set.
func (b *browser) saveScreenshot(name string) {
	b.Helper()
	if *screenshots == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o600); err != nil {
		b.Fatal(err)
	}
}

// assertFits checks that nothing is wider than the window.
func (b *browser) assertFits(what string) {
	b.Helper()
	if wide := evaluate[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		b.Errorf("%s: %d pixels too wide", what, wide)
	}
}

// lowContrast is an expression that lists the texts whose contrast with the background is below
// 4.5.
const lowContrast = `(() => {
  const luminance = (c) => {
    const v = c.match(/[\d.]+/g).slice(0, 3).map((x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2];
  };
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$/.test(c)) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const e of document.querySelectorAll("main *, header *, footer *")) {
    if (!e.offsetParent || e.disabled || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const a = luminance(getComputedStyle(e).color), b = luminance(background(e)), r = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (r < 4.5) low.push(e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 20) + " " + r.toFixed(2));
  }
  return low.join("; ");
})()`

func TestOverviewInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServer("secret-token")
	b := openBrowser(t, server.URL)
	b.setSize(1280, 800)
	b.openURL(server.URL+"/", "table.off")
	for stream, want := range map[string]freshness.Label{
		"crowdstrike_hosts": freshness.Fresh, "crowdstrike_vulnerabilities": freshness.Late, "crowdstrike_zta": freshness.Never,
		"okta_users":     freshness.Failing,
		"tenable_assets": freshness.Running, "tenable_was": freshness.Restored, "manual_stream": freshness.Off,
	} {
		if got := evaluate[string](b, `document.getElementById("`+stream+`.state").textContent`); got != string(want) {
			t.Errorf("%s is %q, want %q", stream, got, want)
		}
	}
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{
		"SNYK_TOKEN", "COLLECTORS does not name it", "18,250 records", "250/s", "connection refused", "next attempt in 7", hostileText,
		"Vulnerabilities: read", "from the backup", "stored 1\u202fh ago",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`)
	if injected != 0 || evaluate[string](b, "document.title") != "collectord" {
		t.Error("the text of the vendor is treated as markup")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("overview-" + scheme)
	}
	b.assertNoViolations()

	// Progress is updated without a reload, and the focus stays.
	evaluate[bool](b, `(window.same = true, document.querySelector(".streams a").focus(), true)`)
	f.daemon.active[0].Stats.CountBatch(1000, 1<<20)
	b.waitUntil(`document.body.innerText.includes("19,250 records")`)
	if !evaluate[bool](b, `window.same && document.activeElement === document.querySelector(".streams a")`) {
		t.Error("the document was reloaded or lost the focus")
	}

	// "Run now" needs the token.
	const run = "[data-post='/api/v1/streams/okta_users/run']"
	b.click(run)
	b.waitUntil(`document.getElementById("said").textContent.includes("Enter the token")`)
	b.setField("#token", "secret-token")
	b.click(run)
	b.waitUntil(`document.getElementById("said").textContent.includes("okta_users has started")`)
	// The first stream of a collector with several has an action for all of them.
	const all = "[data-post='/api/v1/collectors/tenable/run']"
	if n := evaluate[float64](b, `document.querySelectorAll("[data-post^='/api/v1/collectors/']").length`); n != 2 {
		t.Errorf("%v collectors can be run as a whole, want crowdstrike and tenable", n)
	}
	b.click(all)
	b.waitUntil(`document.getElementById("said").textContent.includes("tenable_a, tenable_b have started")`)
	b.click("[data-post='/api/v1/deliveries/retry']")
	b.waitUntil(`document.getElementById("said").textContent.includes("every queued delivery is due")`)
	if strings.Join(f.daemon.started, ", ") != "okta_users, all of tenable" || f.daemon.delivered != 1 {
		t.Errorf("started %v, delivered %d", f.daemon.started, f.daemon.delivered)
	}
	if cookies := evaluate[string](b, "document.cookie"); cookies != "" {
		t.Errorf("a cookie: %s", cookies)
	}

	b.setColorScheme("light")
	b.setSize(360, 740)
	b.assertFits("the overview on a phone")
	b.saveScreenshot("overview-phone")
	b.openURL(server.URL+"/streams/okta_users", "#data pre")
	b.assertFits("a stream on a phone")
	b.saveScreenshot("stream-phone")
	b.openURL(server.URL+"/query", "#sql")
	b.assertFits("the query on a phone")
	b.assertNoViolations()
}

func TestStreamInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServer("secret-token")
	b := openBrowser(t, server.URL)
	b.setSize(1280, 800)
	b.openURL(server.URL+"/streams/okta_users", "#data pre")
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{
		hostileText, "profile", "STRUCT(", "100 %", "STATUS", "Failures in a row", "The newest 50 runs", "6 attempts",
	} {
		if !strings.Contains(strings.ToUpper(text), strings.ToUpper(want)) {
			t.Errorf("the status page of the stream does not say %q", want)
		}
	}
	injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`)
	if injected != 0 || !strings.HasPrefix(evaluate[string](b, "document.title"), "okta_users") {
		t.Error("the text of the vendor is treated as markup")
	}
	if n := evaluate[int](b, `document.querySelectorAll(".charts svg rect").length`); n < 1000 {
		t.Errorf("%d bars in the charts", n)
	}
	if low := evaluate[string](b, lowContrast); low != "" {
		t.Errorf("the contrast is too low: %s", low)
	}
	b.saveScreenshot("stream-light")
	b.setColorScheme("dark")
	if low := evaluate[string](b, lowContrast); low != "" {
		t.Errorf("dark: the contrast is too low: %s", low)
	}
	b.saveScreenshot("stream-dark")
	b.assertNoViolations()
	// Inline scripts have no effect.
	const script = `Object.assign(document.createElement("script"), {textContent: "window.inline = 1"})`
	evaluate[bool](b, "(document.body.appendChild("+script+"), true)")
	if evaluate[bool](b, "window.inline === 1") {
		t.Error("an inline script runs")
	}
}

// openBrowserAt opens a browser of a usual size on a page and waits for an element.
func openBrowserAt(t *testing.T, host, path, element string) *browser {
	t.Helper()
	b := openBrowser(t, host)
	b.setSize(1280, 800)
	b.openURL(host+path, element)
	return b
}

// confirmAction clicks a button and responds to the question with the text of a button.
func (b *browser) confirmAction(button, response string) (question string) {
	b.Helper()
	b.click(button)
	b.waitUntil(`document.getElementById("confirm").open`)
	question = evaluate[string](b, `document.getElementById("question").textContent`)
	evaluate[bool](b, fmt.Sprintf(`([...document.querySelectorAll("#confirm button")].find((e) => e.textContent === %q).click(), true)`, response))
	b.waitUntil(`!document.getElementById("confirm").open`)
	return question
}

// waitForMessage waits until the page says a text.
func (b *browser) waitForMessage(text string) {
	b.Helper()
	b.waitUntil(fmt.Sprintf(`document.getElementById("said").textContent.includes(%q)`, text))
}

// TestOperationsInABrowser accepts a held snapshot, delivers and drops on the page of a
// stream, after a question each time, and keeps the token on the next page.
func TestOperationsInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	f.addHeld("okta", "okta_users")
	server := f.startServer("secret-token")
	b := openBrowserAt(t, server.URL, "/streams/okta_users", "#data pre")
	const accept = "[data-post='/api/v1/streams/okta_users/accept']"
	notes := evaluate[string](b, `document.getElementById("notes").textContent`)
	if strings.Count(notes, "1 record, the last-known snapshot has 2") != 1 || !strings.Contains(notes, "collectord accept okta_users") {
		t.Errorf("the notes are %q", notes)
	}
	b.click(accept)
	b.waitForMessage("Enter the token")
	b.setField("#token", "secret-token")
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		b.click(accept)
		b.waitUntil(`document.getElementById("confirm").open`)
		b.saveScreenshot("confirm-" + scheme)
		b.click("#confirm button:not(.main)")
	}
	if held, err := f.isHeld("okta_users"); err != nil || !held {
		t.Fatalf("without consent: held %v, error %v", held, err)
	}
	evaluate[bool](b, "window.same = true")
	if question := b.confirmAction(accept, "Accept"); !strings.Contains(question, "the 2 records of before are gone") {
		t.Errorf("the question is %q", question)
	}
	b.waitForMessage("The held snapshot of okta_users is accepted")
	b.waitUntil(`document.querySelector("` + accept + `") === null`)
	if held, err := f.isHeld("okta_users"); err != nil || held {
		t.Errorf("held %v, error %v", held, err)
	}
	const redeliver = "[data-post='/api/v1/deliveries?destination=postgres&stream=okta_users']"
	b.confirmAction(redeliver, "Deliver again")
	b.waitForMessage("okta_users is queued for postgres")
	const drop = "[data-post^='/api/v1/deliveries/drop?destination=postgres&stream=okta_users&upload_id=']"
	b.waitUntil(`document.querySelector("` + drop + `") !== null`)
	if question := b.confirmAction(drop, "Drop"); !strings.Contains(question, "postgres never receives its 1 records") {
		t.Errorf("the question is %q", question)
	}
	b.waitForMessage("is dropped for postgres")
	b.waitUntil(`document.querySelector("` + drop + `") === null`)
	undelivered, err := f.state.Queue.ListUndelivered(t.Context(), "acme", 10)
	if err != nil || len(undelivered) != 1 || undelivered[0].Sink != "postgres" {
		t.Errorf("undelivered %+v, error %v", undelivered, err)
	}
	if !evaluate[bool](b, "window.same") {
		t.Error("the document was reloaded")
	}
	b.openURL(server.URL+"/", "#streams")
	if got := evaluate[string](b, `document.getElementById("token").value`); got != "secret-token" {
		t.Errorf("the token on the next page is %q", got)
	}
	b.click("[data-post='/api/v1/streams/okta_users/run']")
	b.waitForMessage("okta_users has started")
	if kept := evaluate[int](b, "localStorage.length"); kept != 0 || evaluate[string](b, "document.cookie") != "" {
		t.Errorf("%d values are kept for longer than the tab", kept)
	}
	b.assertNoViolations()
}

// isHeld reports whether a snapshot of a stream is held.
func (f *fixture) isHeld(stream string) (held bool, err error) {
	all, err := f.state.Streams(f.Context())
	for _, s := range all {
		held = held || s.Stream == stream && s.Held
	}
	return held, err
}

// TestRowsInABrowser has streams and a disabled collector come and go: the page shows that
// without a reload, and the focus stays.
func TestRowsInABrowser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := openBrowserAt(t, f.startServer("secret-token").URL, "/", "#summary")
	if got := evaluate[string](b, `document.querySelector("h1").textContent`); got != "No collector is on" {
		t.Errorf("without streams the page says %q", got)
	}
	b.setField("#token", "secret-token")
	evaluate[bool](b, "window.same = true")
	requireRows := func(want string, statuses ...schedule.CollectorStatus) {
		t.Helper()
		f.daemon.setStatuses(statuses)
		b.waitUntil(`[...document.querySelectorAll("#streams th a")].map((a) => a.textContent).join(" ") === "` + want + `"`)
	}
	status := func(collector string, streams ...string) (c schedule.CollectorStatus) {
		c.Collector = collector
		for _, name := range streams {
			c.Streams = append(c.Streams, schedule.StreamStatus{Stream: name, Schedule: "@daily", Zone: "UTC", Interval: 24 * time.Hour, Next: shownAt.Add(time.Hour)})
		}
		return c
	}
	requireRows("okta_users", status("okta", "okta_users"))
	evaluate[bool](b, `(document.querySelector("#streams a").focus(), true)`)
	requireRows("crowdstrike_hosts okta_users", status("crowdstrike", "crowdstrike_hosts"), status("okta", "okta_users"))
	requireRows("crowdstrike_hosts okta_users snyk_issues", status("crowdstrike", "crowdstrike_hosts"), status("okta", "okta_users"), status("snyk", "snyk_issues"))
	if got := evaluate[string](b, `document.activeElement.textContent`); got != "okta_users" {
		t.Errorf("the focus is on %q", got)
	}
	requireRows("okta_users snyk_issues", status("okta", "okta_users"), status("snyk", "snyk_issues"))
	b.click("[data-post='/api/v1/streams/snyk_issues/run']")
	b.waitForMessage("snyk_issues has started")
	requireRows("")
	if evaluate[bool](b, `document.getElementById("streams").checkVisibility()`) || !evaluate[bool](b, "window.same") {
		t.Error("the empty table is visible, or the document was reloaded")
	}
	b.assertNoViolations()
}

// TestPrefixInABrowser uses the page behind a proxy that passes paths below a prefix on.
func TestPrefixInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	const prefix = "/security/collectord"
	server := f.startServerWith(func(o *Options) { o.Prefix, o.Token = prefix, "secret-token" })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != prefix && !strings.HasPrefix(r.URL.Path, prefix+"/") {
			http.Error(w, "not below the prefix", http.StatusTeapot)
			return
		}
		server.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	b := openBrowserAt(t, proxy.URL, prefix, "table.off")
	b.setField("#token", "secret-token")
	b.openURL(evaluate[string](b, `document.querySelector("#streams th a[href$=okta_users]").href`), "#data pre")
	b.click("[data-post$='/streams/okta_users/run']")
	b.waitForMessage("okta_users has started")
	b.openURL(evaluate[string](b, `document.querySelector("nav a[href$=query]").href`), "#sql")
	b.setField("#sql", "SELECT 41 + 1 AS n")
	b.click("#query .main")
	b.waitUntil(`document.querySelector("#result td")?.textContent === "42"`)
	b.assertNoViolations()
}

// TestActionWithoutTokenInABrowser clicks an action on a page of a server without a token,
// such as one that was shown before a restart.
func TestActionWithoutTokenInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	b := openBrowserAt(t, f.startServer("").URL, "/", "#streams")
	evaluate[bool](b, `(document.getElementById("main").append(Object.assign(document.createElement("button"), {id: "old"})), true)`)
	evaluate[bool](b, `(document.getElementById("old").dataset.post = "/api/v1/streams/okta_users/run", true)`)
	b.click("#old")
	b.waitForMessage("HTTP_TOKEN is not set")
	b.assertNoViolations()
}

// TestMissingPageInABrowser waits on a page that does not exist: it does not say that the
// service is gone.
func TestMissingPageInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServer("secret-token")
	b := openBrowserAt(t, server.URL, "/streams/none", "h1")
	evaluate[bool](b, "(window.dispatchEvent(new Event('visibilitychange')), document.dispatchEvent(new Event('visibilitychange')))")
	b.waitUntil("performance.now() > 3000")
	if got := evaluate[string](b, `document.querySelector("h1").textContent + document.getElementById("link").textContent`); got != "No such stream" {
		t.Errorf("the page says %q", got)
	}
	// A stream without data that is removed from the settings has no page any more.
	b.openURL(server.URL+"/streams/crowdstrike_zta", "#facts")
	f.daemon.setStatuses(nil)
	b.waitUntil(`document.getElementById("link").textContent.includes("does not exist any more")`)
}

// TestProtectedDownloadInABrowser downloads where the download needs the token.
func TestProtectedDownloadInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServerWith(func(o *Options) { o.Token, o.Access = "secret-token", Access{} })
	b := openBrowserAt(t, server.URL, "/streams/okta_users", "#download a")
	dir := t.TempDir()
	b.allowDownloads(dir)
	b.click("#download a")
	b.waitForMessage("Enter the token")
	b.setField("#token", "secret-token")
	b.click("#download a")
	path := filepath.Join(dir, "okta_users_20261124T070000Z.ndjson")
	b.waitUntil(`document.getElementById("said").textContent.includes("Downloaded")`)
	deadline := time.Now().Add(2 * time.Minute)
	for {
		text, err := os.ReadFile(path)
		if err == nil && strings.Count(string(text), "\n") == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file is %q, error %v", text, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// allowDownloads lets the browser save downloads in a directory.
func (b *browser) allowDownloads(dir string) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{Behavior: "allow", DownloadPath: dir}); err != nil {
		b.Fatal(err)
	}
}
