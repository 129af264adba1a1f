package web

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/collectord/collectord/pkg/state"
)

// TestControlsInABrowser reads the controls in each colour scheme and on a phone, filters
// them with the keyboard, and sees a new result without a reload.
func TestControlsInABrowser(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	server := f.startServerWith(withControls(dir, true, func(o *Options) { o.Token = "secret-token" }))
	b := openBrowserAt(t, server.URL, "/", "nav a[href='/controls']")
	b.openURL(evaluate[string](b, `document.querySelector("nav a[href='/controls']").href`), "#controls")
	for id, want := range map[string]string{
		"mfa_enrolled": "red", "dormant_accounts": "green", "patching": "amber", "scan_coverage": "failed", "training": "empty", "backups": "off",
	} {
		if got := evaluate[string](b, `document.getElementById("`+id+`.state").innerText.trim()`); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{hostileText, "no_such_column", "there is no data of knowbe4_enrollments", "It is not measured", "All controls", "1 failed"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`); injected != 0 || evaluate[string](b, "document.title") != "Controls · collectord" {
		t.Error("a text of a file is treated as markup")
	}
	// A bar of another colour has another color: the style of the figures is in force.
	bars := evaluate[int](b, `new Set([...document.querySelectorAll("#controls svg.score rect:not(.track)")].map((e) => getComputedStyle(e).fill)).size`)
	if bars != 3 {
		t.Errorf("the bars have %d colors, want 3", bars)
	}
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("controls-" + scheme)
	}
	b.assertNoViolations()

	// A new result appears without a reload, and the focus stays.
	evaluate[bool](b, `(window.same = true, document.querySelector("#controls a[href='/controls/patching']").focus(), true)`)
	f.recordScore("patching", 97, 100)
	b.waitUntil(`document.getElementById("patching.score").innerText.includes("97.0") && document.getElementById("patching.state").innerText.trim() === "green"`)
	if !evaluate[bool](b, `window.same && document.activeElement.getAttribute("href") === "/controls/patching"`) {
		t.Error("the document was reloaded or lost the focus")
	}

	b.setColorScheme("light")
	b.setSize(360, 740)
	b.assertFits("the controls on a phone")
	b.saveScreenshot("controls-phone")
	b.setSize(1280, 800)

	// The filter is a link, which the keyboard reaches.
	evaluate[bool](b, `(document.querySelector("#frameworks a[href*='NIST']").focus(), true)`)
	b.press("\r")
	b.waitForPage(`location.search.includes("NIST") && document.querySelectorAll("#controls tbody[id^='row.']").length === 1`)
	if got := evaluate[string](b, `document.querySelector("#frameworks [aria-current]").textContent + document.querySelector("#controls tbody[id^='row.']").id`); got != "NIST CSF v2.0row.dormant_accounts" {
		t.Errorf("the filter shows %q", got)
	}
	b.assertNoViolations()
}

// TestControlInABrowser reads the page of a control, opens the days with the keyboard, and
// downloads its resources with the token.
func TestControlInABrowser(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	server := f.startServerWith(withControls(dir, true, func(o *Options) { o.Token, o.Access = "secret-token", Access{} }))
	b := openBrowserAt(t, server.URL, "/controls/mfa_enrolled", "#data")
	b.waitUntil(`document.getElementById("data").textContent.includes("Enter the token")`)
	b.assertNoViolationsBut("401")
	b.setField("#token", "secret-token")
	evaluate[bool](b, `document.getElementById("token").dispatchEvent(new Event("change"))`)
	b.waitUntil(`document.querySelectorAll("#data tbody tr").length === 100`)
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{hostileText, "66.6", "unit 1", "FROM \"okta_users\"", "A.5.17", "How it is measured", "100 of 300 rows", "=cmd|0@example.com"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`); injected != 0 || evaluate[string](b, "document.title") != "mfa_enrolled · Controls · collectord" {
		t.Error("a text of a vendor is treated as markup")
	}
	if n := evaluate[int](b, `document.querySelectorAll("#chart svg rect").length`); n != 80 {
		t.Errorf("%d bars in the chart, want 80", n)
	}
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("control-" + scheme)
	}
	evaluate[bool](b, `(document.querySelector("summary").focus(), true)`)
	b.press("\r")
	b.waitUntil(`document.querySelector("details").open && document.querySelectorAll("#days tr").length === 80`)
	b.setColorScheme("light")
	b.setSize(360, 740)
	b.assertFits("a control on a phone")
	b.saveScreenshot("control-phone")

	downloads := t.TempDir()
	b.allowDownloads(downloads)
	b.click("#download a")
	b.waitForMessage("Downloaded mfa_enrolled_20261124T120000Z.csv")
	path := filepath.Join(downloads, "mfa_enrolled_20261124T120000Z.csv")
	deadline := time.Now().Add(2 * time.Minute)
	for {
		saved, err := os.ReadFile(path)
		if err == nil && strings.Count(string(saved), "'=cmd|") == 100 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file is %.300q, error %v", saved, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.assertNoViolations()
}

// recordScore records a result of a control at shownAt.
func (f *fixture) recordScore(id string, ok float64, total int64) {
	f.Helper()
	if err := f.state.Controls("acme").Record(f.Context(), []state.ControlOutcome{{
		ID: id, Attempt: state.ControlAttempt{Tried: shownAt, Data: shownAt},
		Result: &state.ControlResult{Measured: shownAt, Data: shownAt, OK: ok, Total: total, Rows: total},
	}}); err != nil {
		f.Fatal(err)
	}
}

// press sends a key to the element with the focus.
func (b *browser) press(key string) {
	b.Helper()
	b.execute(chromedp.KeyEvent(key))
}

// assertNoViolationsBut is assertNoViolations without those that contain a text.
func (b *browser) assertNoViolationsBut(text string) {
	b.Helper()
	b.mu.Lock()
	b.violations = slices.DeleteFunc(b.violations, func(v string) bool { return strings.Contains(v, text) })
	b.mu.Unlock()
	b.assertNoViolations()
}

// waitForPage waits until an expression is true on the page that a key or a click opens.
// While the browser opens it, no expression can be evaluated.
func (b *browser) waitForPage(expression string) {
	b.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		reached, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && reached {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%.100s: %v, error %v", expression, reached, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
