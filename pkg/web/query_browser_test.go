package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// A requestLog has what a server or a proxy can see of the requests in its log.
type requestLog struct {
	mu    sync.Mutex
	lines []string
}

// count returns how many of the requests contain a text.
func (r *requestLog) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// startLoggingServer starts a server with the token "secret-token" and queries of the operator.
func (f *fixture) startLoggingServer() (*httptest.Server, *requestLog) {
	f.Helper()
	handler := f.newHandler(func(o *Options) { o.Token, o.Offered = "secret-token", NewQueryFiles(f.writeQueries(), zap.NewNop()) })
	log := &requestLog{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.mu.Lock()
		log.lines = append(log.lines, r.Method+" "+r.RequestURI+" "+r.Referer())
		log.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	f.Cleanup(server.Close)
	return server, log
}

// enterToken types the token, as a person who leaves the field afterwards.
func (b *browser) enterToken() {
	b.Helper()
	b.setField("#token", "secret-token")
	evaluate[bool](b, `document.querySelector("#token").dispatchEvent(new Event("change"))`)
}

// runQuery runs a query and waits for its result.
func (b *browser) runQuery(sql string) {
	b.Helper()
	b.setField("#sql", sql)
	b.click("#query .main")
	b.waitForResult()
}

// waitForResult waits until the query that was started has a result or an error.
func (b *browser) waitForResult() {
	b.Helper()
	b.waitUntil(`document.getElementById("query").getAttribute("aria-busy") === "false" && document.querySelector("#result > *") !== null`)
}

// requireText fails the test unless an element has a text.
func (b *browser) requireText(element, want string) {
	b.Helper()
	if got := evaluate[string](b, fmt.Sprintf("document.querySelector(%q).innerText", element)); !strings.Contains(got, want) {
		b.Errorf("%s has the text %q, want %q", element, got, want)
	}
}

// requireField fails the test unless a field has a value.
func (b *browser) requireField(element, want string) {
	b.Helper()
	if got := evaluate[string](b, fmt.Sprintf("document.querySelector(%q).value", element)); got != want {
		b.Errorf("%s has the value %q, want %q", element, got, want)
	}
}

// pressKey presses a key where the focus is.
func (b *browser) pressKey(key string) {
	b.Helper()
	b.execute(chromedp.KeyEvent(key))
}

func TestQueryInABrowser(t *testing.T) {
	t.Parallel()
	server, _ := newFullFixture(t).startLoggingServer()
	b := openBrowserAt(t, server.URL, "/query", "#sql")
	b.setField("#sql", "SELECT 1")
	b.click("#query .main")
	b.waitForResult()
	b.requireText("#result", "Enter the token first")
	b.enterToken()
	b.runQuery("SELECT id, status, profile.login, profile.email, 42 AS number FROM okta_users ORDER BY id")
	got := evaluate[string](b, `document.querySelector("#result table").innerText`)
	if !strings.Contains(got, hostileText) || !strings.Contains(got, "NULL") {
		t.Errorf("the result is %q", got)
	}
	b.requireText("#outcome", "2 rows in ")
	b.requireText("#outcome", "okta_users as of 2026-11-24 07:00:00 UTC")
	b.click("[data-stream=okta_users]")
	b.waitUntil(`document.querySelector("[data-insert='profile.login']") !== null`)
	b.click("#result th button")
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("query-" + scheme)
	}
	for _, width := range []int64{360, 768, 1001} {
		b.setSize(width, 740)
		b.assertFits(fmt.Sprintf("the query at a width of %d", width))
		b.saveScreenshot(fmt.Sprintf("query-%d", width))
	}
	if injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`); injected != 0 {
		t.Error("a text is treated as markup")
	}
	b.assertNoViolations()
	b.runQuery("SELECT * FROM read_text('/etc/passwd')")
	b.requireText("#result .note", "disabled by configuration")
	b.requireText("#outcome", "")
}

// waitForQueries waits until the service is running queries, or none.
func (f *fixture) waitForQueries(running bool) {
	f.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(f.dir, "query", "collectord-query-*", "lock"))
		if err != nil {
			f.Fatal(err)
		}
		if len(found) > 0 == running {
			return
		}
		if time.Since(began) > 10*time.Minute {
			f.Fatalf("that queries are running should be %v: %q", running, found)
		}
	}
}

// TestQueryIsCancelledInABrowser cancels a query and an export that would run for an hour:
// the service ends their processes, and the page can run others.
func TestQueryIsCancelledInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server, _ := f.startLoggingServer()
	b := openBrowserAt(t, server.URL, "/query", "#sql")
	b.enterToken()
	b.waitUntil(`document.getElementById("cancel").checkVisibility() === false`)
	for _, button := range []string{"#query .main", "[data-format=csv]"} {
		b.runQuery("SELECT 40 + 2 AS n")
		b.setField("#sql", "SELECT count(*) FROM range(10000000) a, range(10000000) b")
		b.click(button)
		b.waitUntil(`document.getElementById("cancel").checkVisibility()`)
		f.waitForQueries(true)
		b.click("#cancel")
		b.waitUntil(`document.getElementById("query").getAttribute("aria-busy") === "false"`)
		b.waitUntil(`document.getElementById("cancel").checkVisibility() === false`)
		b.requireText("#said", "The query is cancelled.")
		if notes := evaluate[int](b, `document.querySelectorAll("#result .note").length`); notes != 0 {
			t.Errorf("%s: a query that was cancelled has an error", button)
		}
		f.waitForQueries(false)
	}
	b.runQuery("SELECT 40 + 2 AS n")
	b.requireText("#result", "42")
	b.assertNoViolations()
}

// columnTexts is an expression of the texts of a column of the result, from the first row on.
func columnTexts(column int) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#result tbody tr")].map((row) => row.cells[%d].textContent)`, column)
}

// TestSortInABrowser sorts a result by columns of each kind.
func TestSortInABrowser(t *testing.T) {
	t.Parallel()
	b := openBrowserAt(t, newFullFixture(t).startServer("secret-token").URL, "/query", "#sql")
	b.enterToken()
	b.runQuery(`SELECT * FROM (VALUES
		(9, 1.5, 9007199254740993, 'nan'::DOUBLE, 'host10', '2026-11-24 07:00:00.5'::TIMESTAMP, [10]),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(10, 10.25, 9007199254740992, '-inf'::DOUBLE, 'Host9', '2026-11-24 07:00:00.123'::TIMESTAMP, [9]),
		(-1, -2, 5, 3, 'alpha', '2025-01-01'::TIMESTAMP, [-1])) AS t(i, d, h, f, t, s, l)`)
	for _, tc := range []struct {
		name       string
		column     int
		ascending  []string
		descending []string
	}{
		{"integers", 0, []string{"-1", "9", "10", "NULL"}, []string{"10", "9", "-1", "NULL"}},
		{"decimals", 1, []string{"-2.00", "1.50", "10.25", "NULL"}, []string{"10.25", "1.50", "-2.00", "NULL"}},
		{"large integers", 2, []string{"5", "9007199254740992", "9007199254740993", "NULL"}, []string{"9007199254740993", "9007199254740992", "5", "NULL"}},
		{"floats", 3, []string{"-inf", "3.0", "nan", "NULL"}, []string{"nan", "3.0", "-inf", "NULL"}},
		{"text", 4, []string{"alpha", "Host9", "host10", "NULL"}, []string{"host10", "Host9", "alpha", "NULL"}},
		{
			"times", 5,
			[]string{"2025-01-01 00:00:00", "2026-11-24 07:00:00.123", "2026-11-24 07:00:00.5", "NULL"},
			[]string{"2026-11-24 07:00:00.5", "2026-11-24 07:00:00.123", "2025-01-01 00:00:00", "NULL"},
		},
		{"lists", 6, []string{"[-1]", "[9]", "[10]", "NULL"}, []string{"[10]", "[9]", "[-1]", "NULL"}},
	} {
		received := evaluate[[]string](b, columnTexts(tc.column))
		header := fmt.Sprintf("#result th:nth-child(%d)", tc.column+1)
		evaluate[bool](b, fmt.Sprintf("(document.querySelector(%q).focus(), true)", header+" button"))
		for i, want := range []struct {
			direction string
			texts     []string
		}{{"ascending", tc.ascending}, {"descending", tc.descending}, {"", received}} {
			if i == 0 { // by keyboard
				b.pressKey("\r")
			} else {
				b.click(header + " button")
			}
			b.waitUntil(fmt.Sprintf(`(document.querySelector(%q).getAttribute("aria-sort") ?? "") === %q`, header, want.direction))
			if diff := cmp.Diff(want.texts, evaluate[[]string](b, columnTexts(tc.column))); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", tc.name, want.direction, diff)
			}
			sorted := 1
			if want.direction == "" {
				sorted = 0
			}
			if n := evaluate[int](b, `document.querySelectorAll("[aria-sort]").length`); n != sorted {
				t.Errorf("%s %s: %d columns are marked as sorted, want %d", tc.name, want.direction, n, sorted)
			}
		}
	}
	// Another column takes the mark over, and all rows that were received are sorted.
	b.runQuery("SELECT range AS n, 1 AS one FROM range(5000)")
	b.requireText("#outcome", "1,000 rows in ")
	b.requireText("#outcome", "The result has more rows. These are the first, and sorting orders only them; an export has all.")
	b.click("#result th:nth-child(2) button")
	b.click("#result th:nth-child(1) button")
	b.click("#result th:nth-child(1) button")
	texts := evaluate[[]string](b, columnTexts(0))
	if len(texts) != 1000 || texts[0] != "999" || texts[999] != "0" {
		t.Errorf("%d rows from %q to %q, want 1000 from 999 to 0", len(texts), texts[0], texts[len(texts)-1])
	}
	if n := evaluate[int](b, `document.querySelectorAll("[aria-sort]").length`); n != 1 {
		t.Errorf("%d columns are marked as sorted", n)
	}
	b.runQuery("SELECT 1 AS n")
	b.requireText("#outcome", "1 row in ")
	b.assertNoViolations()
}

// TestLinkInABrowser opens a link with a query while the tab has the token.
func TestLinkInABrowser(t *testing.T) {
	t.Parallel()
	server, log := newFullFixture(t).startLoggingServer()
	b := openBrowserAt(t, server.URL, "/query", "#sql")
	b.enterToken()
	const sql = "SELECT 'a+b & c=d # 100%' AS t -- ü\nFROM okta_users"
	fragment := "#" + url.Values{"sql": {sql}, "name": {hostileText}}.Encode()
	b.openURL("about:blank", "body")
	b.openURL(server.URL+"/query"+fragment, "#origin")
	b.requireField("#sql", sql)
	b.requireField("#name", hostileText)
	b.requireField("#token", "secret-token")
	b.requireText("#origin", "It has not run")
	// If the page ran the query by itself, the second request would not be the only one.
	b.setField("#sql", sql+" LIMIT 1")
	if evaluate[bool](b, `document.getElementById("origin").checkVisibility()`) {
		t.Error("the note stays when the query is changed")
	}
	b.click("#query .main")
	b.waitForResult()
	b.requireText("#result td", "a+b & c=d # 100%")
	if n := log.count("POST /api/v1/query"); n != 1 {
		t.Errorf("%d queries were sent, want the one that was run", n)
	}
	if n := log.count("okta_users"); n != 0 {
		t.Errorf("%d requests have the query in their address", n)
	}

	// The link has what is in the box. A reload fills the box with what ran.
	evaluate[bool](b, `(Object.defineProperty(navigator, "clipboard", { configurable: true, value: { writeText: async (text) => { window.copied = text; } } }), true)`)
	b.setField("#sql", "SELECT 7 AS seven")
	b.click("#copy")
	b.waitForMessage("The link is copied")
	if got := evaluate[string](b, "window.copied"); got != server.URL+"/query#sql=SELECT+7+AS+seven" {
		t.Errorf("the link is %q", got)
	}
	b.execute(chromedp.Reload())
	b.waitUntil(`document.querySelector("#sql").value === "SELECT 7 AS seven" && document.getElementById("origin").checkVisibility()`)
	// Without permission to copy, the address bar has the link.
	evaluate[bool](b, `(Object.defineProperty(navigator, "clipboard", { configurable: true, value: undefined }), true)`)
	b.setField("#sql", "SELECT 8")
	b.click("#copy")
	b.waitForMessage("The link is in its address bar")
	if got := evaluate[string](b, "location.hash"); got != "#sql=SELECT+8" {
		t.Errorf("the address has %q", got)
	}
	// A link that is opened in the same tab.
	evaluate[bool](b, `(location.hash = "#sql=SELECT+9", true)`)
	b.waitUntil(`document.querySelector("#sql").value === "SELECT 9"`)
	b.requireField("#name", "")
	if n := log.count("POST /api/v1/query"); n != 1 {
		t.Errorf("%d queries were sent", n)
	}
	b.assertNoViolations()
}

// savedQueries is an expression of the saved queries that the page lists.
const savedQueries = `[...document.querySelectorAll("#saved a")].map((a) => a.textContent)`

// requireSaved fails the test unless the page lists saved queries with these names.
func (b *browser) requireSaved(names ...string) {
	b.Helper()
	if got := evaluate[[]string](b, savedQueries); !slices.Equal(got, names) {
		b.Errorf("the saved queries are %q, want %q", got, names)
	}
}

// saveQuery saves a query under a name.
func (b *browser) saveQuery(name, sql string) {
	b.Helper()
	b.setField("#sql", sql)
	b.setField("#name", name)
	b.click("#save")
}

func TestSavedQueriesInABrowser(t *testing.T) {
	t.Parallel()
	server, log := newFullFixture(t).startLoggingServer()
	b := openBrowserAt(t, server.URL, "/query", "#sql")
	b.requireText("#unsaved", "None yet")
	b.saveQuery("", "SELECT 1")
	b.waitForMessage("Give the query a name first")
	b.saveQuery("users 10", "SELECT 10")
	b.waitForMessage("users 10 is saved in this browser")
	b.saveQuery("users 9", "SELECT 9")
	b.waitForMessage("users 9 is saved")
	b.saveQuery(hostileText, "SELECT '"+hostileText+"'")
	b.waitForMessage("<script>")
	b.requireSaved(hostileText, "users 9", "users 10")

	// They stay after a reload, and a click fills the box. Back returns to what was there.
	b.openURL("about:blank", "body")
	b.openURL(server.URL+"/query", "#saved a")
	b.requireSaved(hostileText, "users 9", "users 10")
	b.setField("#sql", "SELECT 'typed'")
	b.click("#saved li:nth-child(2) a")
	b.requireField("#sql", "SELECT 9")
	b.requireField("#name", "users 9")
	evaluate[bool](b, "(history.back(), true)")
	b.waitUntil(`document.querySelector("#sql").value === "SELECT 'typed'"`)
	if href := evaluate[string](b, `document.querySelector("#saved li:nth-child(2) a").href`); href != server.URL+"/query#sql=SELECT+9&name=users+9" {
		t.Errorf("the link of a saved query is %q", href)
	}

	// Another text under the same name needs consent, the same text does not.
	b.setField("#sql", "SELECT 99")
	b.setField("#name", "users 9")
	if question := b.confirmAction("#save", "Cancel"); question != "Replace the saved query users 9?" {
		t.Errorf("the question is %q", question)
	}
	b.click("#saved li:nth-child(2) a")
	b.requireField("#sql", "SELECT 9")
	b.saveQuery("users 9", "SELECT 99")
	b.confirmAction("body", "Replace") // the question is open
	b.waitForMessage("users 9 is saved")
	b.requireSaved(hostileText, "users 9", "users 10")

	// Renaming, which can be cancelled and needs consent to replace.
	const second = "#saved li:nth-child(2)"
	b.click(second + " button:nth-of-type(1)")
	b.setField(second+" input", "unused")
	b.click(second + " button[type=button]")
	b.requireSaved(hostileText, "users 9", "users 10")
	b.click(second + " button:nth-of-type(1)")
	b.setField(second+" input", "active")
	b.click(second + " form button")
	b.waitForMessage("users 9 is now active")
	b.requireSaved(hostileText, "active", "users 10")
	b.click(second + " button:nth-of-type(1)")
	b.setField(second+" input", "users 10")
	if question := b.confirmAction(second+" form button", "Cancel"); !strings.Contains(question, "Replace the saved query users 10") {
		t.Errorf("the question is %q", question)
	}
	b.click(second + " button[type=button]")
	b.requireSaved(hostileText, "active", "users 10")

	b.setColorScheme("dark")
	b.saveScreenshot("saved-dark")
	if question := b.confirmAction("#saved li:nth-child(1) button:nth-of-type(2)", "Delete"); !strings.Contains(question, "Only this browser has it") {
		t.Errorf("the question is %q", question)
	}
	b.waitForMessage("is deleted")
	b.requireSaved("active", "users 10")
	if injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`); injected != 0 || evaluate[string](b, "document.title") != "Query · collectord" {
		t.Error("the name of a query is treated as markup")
	}
	if n := log.count("SELECT") + log.count("POST"); n != 0 {
		t.Errorf("%d requests have something of the saved queries", n)
	}

	// What another program has put into the storage does not break the page.
	for _, stored := range []string{"nonsense", "7", `[null, 1, {"name": 1, "sql": "x"}]`} {
		evaluate[bool](b, fmt.Sprintf(`(localStorage.setItem("collectord.queries", %q), true)`, stored))
		b.execute(chromedp.Reload())
		b.waitUntil(`document.querySelector("#unsaved")?.checkVisibility() && document.readyState === "complete"`)
		b.requireSaved()
	}
	b.assertNoViolations()
}

func TestOfferedQueriesInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server, log := f.startLoggingServer()
	b := openBrowserAt(t, server.URL, "/query", "#sql")
	b.requireText("#offers", "Enter the token to see them")
	b.enterToken()
	b.waitUntil(`document.querySelectorAll("#offered a").length === 2`)
	b.requireText("#offered", "Suspended users\n"+hostileText)
	b.requireText("#offers", "30-untitled.sql: the first line is not a comment")
	b.click("#offered a")
	b.requireField("#sql", "-- Suspended users\nSELECT id, profile.login\nFROM okta_users WHERE status = 'SUSPENDED'")
	if n := log.count("POST"); n != 0 {
		t.Errorf("%d queries were sent by the click on a link", n)
	}
	b.click("#query .main")
	b.waitForResult()
	b.requireText("#result tbody", "00u2\tbob")
	b.saveScreenshot("offered")
	if injected := evaluate[int](b, `document.querySelectorAll("main script, main img").length`); injected != 0 {
		t.Error("the title of a query is treated as markup")
	}
	b.assertNoViolations()

	// A service without HTTP_QUERIES says nothing of it.
	b.openURL("about:blank", "body")
	without := f.startServer("secret-token")
	b.host = without.URL
	b.openURL(without.URL+"/query", "#sql")
	if evaluate[bool](b, `document.getElementById("offered") !== null`) {
		t.Error("a service without queries of the operator lists them")
	}
}

// TestColumnsInABrowser inserts tables and columns into the query.
func TestColumnsInABrowser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addCollector("odd", time.Hour, "odd_names")
	f.addSuccess("odd", "odd_names", time.Hour, nil,
		`{"id":1,"first name":"a","order":{"a,b (c)":{"x\"y":[{"z":1}],"plain":true}},"<b>bold</b>":"x","list":[1,2]}`)
	b := openBrowserAt(t, f.startServer("secret-token").URL, "/query", "#sql")
	b.click("[data-stream=odd_names]")
	b.waitUntil(`document.querySelector(".columns").textContent.includes("Enter the token first")`)
	b.enterToken()
	b.click("[data-stream=odd_names]") // closes it
	b.click("[data-stream=odd_names]")
	b.waitUntil(`document.querySelector(".columns button") !== null`)
	const inserts = `[...document.querySelectorAll(".columns button")].map((e) => e.textContent)`
	want := []string{
		"id BIGINT", `"first name" VARCHAR`, `"order" STRUCT`, `"order"."a,b (c)" STRUCT`, `"order"."a,b (c)"."x""y" STRUCT(z BIGINT)[]`,
		`"order"."a,b (c)".plain BOOLEAN`, `"<b>bold</b>" VARCHAR`, "list BIGINT[]", "_tenancy VARCHAR", "_upload_timestamp TIMESTAMP", "_upload_id UUID",
	}
	if diff := cmp.Diff(want, evaluate[[]string](b, inserts)); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	// Every column can be selected by the text that is inserted.
	b.setField("#sql", "SELECT ")
	evaluate[bool](b, `(document.querySelector("#sql").setSelectionRange(7, 7), true)`)
	for i := range want {
		if i > 0 {
			evaluate[bool](b, `(document.execCommand("insertText", false, ","), true)`)
		}
		b.click(fmt.Sprintf(".columns button:nth-child(%d)", i+1))
	}
	evaluate[bool](b, `(document.execCommand("insertText", false, " FROM"), true)`)
	b.click("[data-insert=odd_names]")
	sql := evaluate[string](b, `document.querySelector("#sql").value`)
	if !strings.HasPrefix(sql, `SELECT id,"first name","order",`) || !strings.HasSuffix(sql, `,_upload_id FROM odd_names`) {
		t.Errorf("the query is %q", sql)
	}
	b.click("#query .main")
	b.waitForResult()
	if n := evaluate[int](b, `document.querySelectorAll("#result td").length`); n != len(want) {
		t.Errorf("%s: the result has %d values, want %d", sql, n, len(want))
	}
	// With the focus in the box, Ctrl+Z takes the last insertion back.
	evaluate[bool](b, `(document.querySelector("#sql").focus(), document.execCommand("undo"))`)
	b.waitUntil(`!document.querySelector("#sql").value.endsWith("odd_names")`)
	b.click("[data-stream=odd_names]")
	if evaluate[bool](b, `document.querySelector(".columns").checkVisibility()`) {
		t.Error("the columns stay open")
	}
	b.assertNoViolations()
}

// TestExportInABrowser downloads a result that is larger than what the page shows.
func TestExportInABrowser(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	b := openBrowserAt(t, f.startServer("secret-token").URL, "/query", "#sql")
	b.enterToken()
	dir := t.TempDir()
	b.allowDownloads(dir)
	b.setField("#sql", "SELECT '=' || range AS formula FROM range(1500), okta_users WHERE status = 'ACTIVE'")
	for _, tc := range []struct{ format, file, begin, end string }{
		{"csv", "query_okta_users_20261124T120000Z.csv", "formula\n'=0\n'=1\n", "'=1499\n"},
		{"json", "query_okta_users_20261124T120000Z.json", "[\n{\"formula\":\"=0\"},\n", "{\"formula\":\"=1499\"}\n]\n"},
		{"parquet", "query_okta_users_20261124T120000Z.parquet", "PAR1", "PAR1"},
	} {
		b.click("[data-format=" + tc.format + "]")
		b.waitForMessage("Downloaded " + tc.file + ": 1,500 rows")
		b.requireDownload(filepath.Join(dir, tc.file), tc.begin, tc.end)
	}
	// A saved query names the file.
	b.saveQuery("../a: b", "SELECT 1 AS n")
	b.click("[data-format=csv]")
	b.waitForMessage("Downloaded a- b_20261124T120000Z.csv: 1 row")
	b.requireDownload(filepath.Join(dir, "a- b_20261124T120000Z.csv"), "n\n1\n", "n\n1\n")
	// An export that fails leaves the result.
	b.runQuery("SELECT 7 AS n")
	b.setField("#sql", "SELECT x")
	b.click("[data-format=csv]")
	b.waitUntil(`document.querySelector("#result > .note")?.textContent.includes('"x" was not found')`)
	b.requireText("#result td", "7")
	b.setField("#sql", "SELECT 1; SELECT 2")
	b.click("[data-format=parquet]")
	b.waitUntil(`document.querySelector("#result > .note")?.textContent.includes("several statements")`)
}

// requireDownload waits for a file and compares its beginning and its end.
func (b *browser) requireDownload(path, begin, end string) {
	b.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		text, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(text), begin) && strings.HasSuffix(string(text), end) {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s is %.200q, error %v", path, text, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
