// The script of the query page.
import { $, confirmed, fileNameOf, hasToken, parseHTML, saveBlob, send, showMessage } from "./page.js";

const form = $("query"), box = $("sql"), nameBox = $("name"), output = $("result");
const collator = new Intl.Collator(undefined, { numeric: true });

// A link has the query in its fragment, which browsers send to no server.
let shown = { name: "", sql: "" }; // the named query that the box was filled with
const currentName = () => box.value === shown.sql ? shown.name : "";
function fragmentOf({ name, sql }) {
  const parameters = new URLSearchParams({ sql });
  if (name) parameters.set("name", name);
  return "#" + parameters;
}
function readFragment() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  return { name: parameters.get("name") || "", sql: parameters.get("sql") || "" };
}

// Fills the box. It never runs the query, which may come from anyone: that takes the person.
function fillBox(query) {
  shown = query;
  box.value = query.sql;
  nameBox.value = query.name;
  $("origin").hidden = true;
}
function fillFromFragment() {
  const query = readFragment();
  if (!query.sql || query.sql === box.value) return;
  fillBox(query);
  $("origin").hidden = false;
}
function keepInAddress() {
  if (box.value.trim()) history.replaceState(null, "", fragmentOf({ name: currentName(), sql: box.value }));
}
addEventListener("hashchange", fillFromFragment);
box.addEventListener("input", () => { $("origin").hidden = true; });

async function copyLink() {
  if (!box.value.trim()) return box.focus();
  keepInAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    showMessage("The link is copied. It has the query, but neither its result nor the token.");
  } catch {
    showMessage("The browser does not allow to copy here. The link is in its address bar.");
  }
}
$("copy").addEventListener("click", copyLink);

// The saved queries are in the storage of the browser, for this service.
const savedKey = "collectord.queries" + document.body.dataset.prefix;
function readSaved() {
  try {
    const all = JSON.parse(localStorage.getItem(savedKey));
    return all.filter((q) => typeof q.name === "string" && typeof q.sql === "string").sort((a, b) => collator.compare(a.name, b.name));
  } catch {
    return []; // none, or the browser stores nothing
  }
}
function writeSaved(all) {
  try {
    localStorage.setItem(savedKey, JSON.stringify(all));
    return true;
  } catch (err) {
    showMessage("The browser does not store it: " + err.message);
    return false;
  } finally {
    renderSaved();
  }
}

const createElement = (tag, properties, ...children) => {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
};
const createLink = (query) => createElement("a", { href: fragmentOf(query), className: "load" }, query.name);

function renderSaved() {
  const all = readSaved();
  $("saved").replaceChildren(...all.map((q) => {
    const item = createElement("li", {}, createLink(q),
      createElement("button", { type: "button", ariaLabel: "Rename " + q.name, onclick: () => editName(item, q) }, "Rename"),
      createElement("button", { type: "button", ariaLabel: "Delete " + q.name, onclick: () => deleteSaved(q) }, "Delete"));
    return item;
  }));
  $("unsaved").hidden = all.length > 0;
}

// Replaces the item of a saved query with a field for its name.
function editName(item, query) {
  const field = createElement("input", { value: query.name, maxLength: 100, ariaLabel: "New name of " + query.name });
  const rename = createElement("form", { onsubmit: (event) => { event.preventDefault(); renameSaved(query, field.value.trim()); } },
    field, createElement("button", {}, "Save"), createElement("button", { type: "button", onclick: renderSaved }, "Cancel"));
  field.addEventListener("keydown", (event) => { if (event.key === "Escape") renderSaved(); });
  item.replaceChildren(rename);
  field.select();
}
async function renameSaved(query, name) {
  if (!name || name === query.name) return renderSaved();
  if (!await mayReplace(name)) return;
  if (!writeSaved([...readSaved().filter((q) => q.name !== name && q.name !== query.name), { name, sql: query.sql }])) return;
  if (shown.name === query.name) fillBox({ name, sql: shown.sql });
  showMessage(query.name + " is now " + name);
}
async function deleteSaved(query) {
  if (!await confirmed(`Delete the saved query ${query.name}?\n\nOnly this browser has it.`, "Delete")) return;
  if (writeSaved(readSaved().filter((q) => q.name !== query.name))) showMessage(query.name + " is deleted");
}
async function saveQuery() {
  const name = nameBox.value.trim(), sql = box.value;
  if (!sql.trim()) return box.focus();
  if (!name) {
    nameBox.focus();
    return showMessage("Give the query a name first.");
  }
  if (!await mayReplace(name, sql)) return;
  if (!writeSaved([...readSaved().filter((q) => q.name !== name), { name, sql }])) return;
  shown = { name, sql };
  showMessage(name + " is saved in this browser");
}
// Asks before a saved query with another text is replaced.
async function mayReplace(name, sql) {
  const old = readSaved().find((q) => q.name === name);
  return !old || old.sql === sql || await confirmed(`Replace the saved query ${name}?`, "Replace");
}
$("save").addEventListener("click", saveQuery);
nameBox.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); saveQuery(); }
});
addEventListener("storage", (event) => { if (event.key === savedKey) renderSaved(); }); // another tab

// A click on a query fills the box. What was in it stays reachable with the button Back.
document.querySelector("aside").addEventListener("click", (event) => {
  const link = event.target.closest("a.load");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  keepInAddress();
  history.pushState(null, "", link.href);
  fillBox(readFragment());
  box.focus();
});

async function loadOffered() {
  const list = $("offered"), notes = $("offers");
  if (!list || !hasToken()) return;
  try {
    const { queries, errors = [] } = await (await send(list.dataset.path, undefined, "GET")).json();
    list.replaceChildren(...queries.map((q) => createElement("li", {}, createLink({ name: q.title, sql: q.sql }))));
    notes.replaceChildren(...errors.map((text) => createElement("p", { className: "note warning" }, text)));
    if (queries.length + errors.length === 0) notes.append(createElement("p", { className: "dim" }, "None yet."));
  } catch (err) {
    notes.replaceChildren(createElement("p", { className: "note error" }, err.message));
  }
}
$("token")?.addEventListener("change", loadOffered);

// DuckDB does not take these words as names without quotes.
const reserved = new Set(("all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create default deferrable desc " +
  "describe distinct do else end except false fetch for foreign from grant group having in initially intersect into lambda lateral leading limit not null " +
  "offset on only or order pivot pivot_longer pivot_wider placing primary qualify references returning select show some summarize symmetric table then to " +
  "trailing true union unique unpivot using variadic when where window with").split(" "));
const quoteName = (name) => /^[a-z_]\w*$/i.test(name) && !reserved.has(name.toLowerCase()) ? name : '"' + name.replaceAll('"', '""') + '"';

// Returns the members of a type such as STRUCT(login VARCHAR, "first name" VARCHAR).
function membersOf(type) {
  const members = [];
  if (!/^STRUCT\(.*\)$/s.test(type)) return members;
  let depth = 0, quoted = false, from = 7;
  for (let i = from; i < type.length; i++) {
    const c = type[i];
    if (c === '"') quoted = !quoted;
    if (quoted) continue;
    if (c === "(") depth++;
    if (c === ")") depth--;
    if (depth < 0 || depth === 0 && c === ",") {
      const [, name, kind] = /^\s*("(?:[^"]|"")*"|\S+)\s+(.*)$/s.exec(type.slice(from, i)) || [];
      if (name) members.push({ name: name.replace(/^"|"$/g, "").replaceAll('""', '"'), type: kind });
      from = i + 1;
    }
  }
  return members;
}

// Returns the columns with their members, each with the text that names it in SQL.
function listColumns(columns, before = "") {
  return columns.flatMap(({ name, type }) => {
    const path = before + quoteName(name), members = membersOf(type);
    return [{ path, type: members.length > 0 ? "STRUCT" : type }, ...listColumns(members, path + ".")];
  });
}
const maxColumns = 1000;

async function loadColumns(button) {
  const list = $(button.getAttribute("aria-controls"));
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", open);
  list.hidden = !open;
  if (!open || list.dataset.loaded) return;
  list.textContent = "Reading the columns …";
  try {
    const response = await send(form.dataset.path, JSON.stringify({ sql: "DESCRIBE " + quoteName(button.dataset.stream) }));
    const columns = listColumns((await response.json()).map((c) => ({ name: c.column_name, type: c.column_type })));
    list.replaceChildren(...columns.slice(0, maxColumns).map(({ path, type }) => {
      const insert = createElement("button", { type: "button", className: "insert", title: type }, path, " ", createElement("span", { className: "type" }, type));
      insert.dataset.insert = path;
      return insert;
    }));
    if (columns.length > maxColumns) list.append(createElement("p", { className: "dim" }, `and ${columns.length - maxColumns} more`));
    list.dataset.loaded = "yes";
  } catch (err) {
    list.textContent = err.message;
  }
}
function insertText(text) {
  const before = box.value.slice(0, box.selectionStart);
  if (/[^\s(.,]$/.test(before)) text = " " + text;
  box.focus();
  // Unlike setRangeText, this can be undone by the person.
  if (!document.execCommand("insertText", false, text)) box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
}
document.querySelector("aside").addEventListener("click", (event) => {
  const insert = event.target.closest("[data-insert]"), fold = event.target.closest("[data-stream]");
  if (insert) insertText(insert.dataset.insert);
  if (fold) loadColumns(fold);
});

// The rows of the table in the order in which they were received.
let received = [];

function showResult(html) {
  const part = parseHTML(html);
  $("outcome").replaceChildren(...part.querySelector("p").childNodes);
  output.replaceChildren(part.querySelector(".wide"));
  received = [...output.querySelector("tbody").rows];
}

const numberOf = (text) => ({ inf: Infinity, "-inf": -Infinity, nan: NaN })[text] ?? Number(text);
// Compares numbers as DuckDB does: NaN is the greatest.
function compareNumbers(a, b) {
  const x = numberOf(a), y = numberOf(b);
  if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
  if (x !== y) return x < y ? -1 : 1;
  if (a === b || !/^-?\d+$/.test(a) || !/^-?\d+$/.test(b)) return 0;
  return BigInt(a) < BigInt(b) ? -1 : 1; // the difference is below the precision of Number
}
const comparisons = { number: compareNumbers, text: collator.compare, code: (a, b) => a < b ? -1 : a > b ? 1 : 0 };

// Sorts by a column: ascending, then descending, then as received. NULL is always last.
function sortRows(header) {
  const next = { ascending: "descending", descending: "" }[header.getAttribute("aria-sort")] ?? "ascending";
  header.parentElement.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  let rows = received;
  if (next) {
    header.setAttribute("aria-sort", next);
    const compare = comparisons[header.dataset.order], sign = next === "ascending" ? 1 : -1, i = header.cellIndex;
    const isNull = (cell) => cell.classList.contains("null");
    rows = received.map((row) => ({ row, cell: row.cells[i], text: row.cells[i].textContent }))
      .sort((a, b) => isNull(a.cell) - isNull(b.cell) || sign * compare(a.text, b.text)).map(({ row }) => row);
  }
  output.querySelector("tbody").replaceChildren(...rows);
  $("sorted").textContent = next ? `Sorted by ${header.textContent}, ${next}` : "As received";
}
output.addEventListener("click", (event) => {
  const header = event.target.closest("th");
  if (header) sortRows(header);
});

// The name of the file has that of the query, or those of its streams.
function exportName(response) {
  const given = fileNameOf(response);
  const name = currentName().replace(/[\p{Cc}\p{Cf}"*/:<>?\\|]+/gu, "-").replace(/^[. -]+|[. -]+$/g, "");
  return name ? name + /_\d+T\d+Z\.\w+$/.exec(given)[0] : given;
}

// A request that is cancelled ends its connection, which makes the service end the query.
let running;
$("cancel").addEventListener("click", () => running?.abort());

async function runQuery(format) {
  if (!box.value.trim()) return box.focus();
  if (form.getAttribute("aria-busy") === "true") return;
  const isExport = format !== "html";
  form.setAttribute("aria-busy", "true");
  running = new AbortController();
  $("cancel").hidden = false;
  keepInAddress();
  $("origin").hidden = true;
  output.querySelector(":scope > .note")?.remove();
  if (!isExport) $("outcome").textContent = "Running …";
  try {
    const response = await send(form.dataset.path, JSON.stringify({ sql: box.value, format, complete: isExport }), "POST", running.signal);
    if (!isExport) return showResult(await response.text());
    const name = exportName(response), rows = Number(response.headers.get("X-Collectord-Rows"));
    saveBlob(await response.blob(), name);
    showMessage(`Downloaded ${name}: ${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}`);
  } catch (err) {
    if (!isExport) {
      $("outcome").textContent = "";
      output.replaceChildren();
    }
    if (running.signal.aborted) showMessage("The query is cancelled.");
    else output.prepend(createElement("p", { className: "note error", role: "alert" }, err.message));
  } finally {
    if (document.activeElement === $("cancel")) box.focus(); // which is not hidden
    $("cancel").hidden = true;
    form.setAttribute("aria-busy", "false");
  }
}
form.addEventListener("submit", (event) => { event.preventDefault(); runQuery("html"); });
form.addEventListener("click", (event) => { if (event.target.dataset.format) runQuery(event.target.dataset.format); });
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); runQuery("html"); }
});

renderSaved();
fillFromFragment();
loadOffered();
