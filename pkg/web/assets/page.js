// The script of every page. That of the query page imports some of it.
export const $ = (id) => document.getElementById(id);
const tokenBox = $("token");
let token = "";
// The browser itself may send a token, as the password of basic auth.
const granted = "granted" in document.body.dataset;
export const hasToken = () => granted || token !== "";

// The token is kept for this tab only, until it is closed: no cookie, no lasting storage.
const tokenKey = "collectord.token" + document.body.dataset.root;
function storeToken() {
  try { sessionStorage.setItem(tokenKey, token); } catch { /* the browser stores nothing */ }
}
if (tokenBox) {
  try { token = sessionStorage.getItem(tokenKey) || ""; } catch { /* the browser stores nothing */ }
  tokenBox.value = token;
  tokenBox.addEventListener("input", () => { token = tokenBox.value.trim(); storeToken(); });
  // Records may need it.
  tokenBox.addEventListener("change", () => document.querySelectorAll("[data-part]").forEach(loadPart));
  tokenBox.form.addEventListener("submit", (event) => event.preventDefault());
}

const tokenHeaders = () => token ? { "X-Collectord-Token": token } : {};

let hiding = 0;
export function showMessage(text) {
  const said = $("said");
  said.textContent = text;
  said.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { said.hidden = true; }, 6000);
}

async function explain(response) {
  try { return new Error((await response.json()).error || response.statusText); } catch { return new Error(response.statusText); }
}

function requireToken() {
  if (hasToken()) return;
  if (!tokenBox) throw new Error("HTTP_TOKEN is not set, so nothing can be changed here.");
  tokenBox.focus();
  throw new Error("Enter the token first: the value of HTTP_TOKEN.");
}

// Sends a request with the token, and returns its response if it is a success.
export async function send(path, body, method = "POST", signal = undefined) {
  requireToken();
  const headers = tokenHeaders();
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  if (!response.ok) throw await explain(response);
  return response;
}

// Asks whether to go on.
export function confirmed(question, label) {
  const [yes, no] = dialog.querySelectorAll("button");
  $("question").textContent = question;
  yes.textContent = label;
  dialog.showModal();
  no.focus();
  return new Promise((resolve) => { decide = resolve; });
}
const dialog = $("confirm");
let decide = () => {};
dialog.addEventListener("click", (event) => {
  if (!event.target.closest("button")) return;
  dialog.close();
  decide(event.target.value === "yes");
});
dialog.addEventListener("cancel", () => decide(false)); // by the Escape key

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  try {
    requireToken();
    if (button.dataset.confirm && !await confirmed(button.dataset.confirm, button.textContent)) return;
    button.disabled = true;
    const result = await (await send(button.dataset.post)).json();
    const started = result.stream || (result.streams || []).join(", ");
    showMessage(button.dataset.done || (started ? started + (result.streams?.length > 1 ? " have started" : " has started") : result.status));
    button.disabled = false;
    await refresh();
  } catch (err) {
    button.disabled = false;
    showMessage(err.message);
  }
});

export function saveBlob(blob, name) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

export const fileNameOf = (response) => /filename=([^;]+)/.exec(response.headers.get("Content-Disposition"))[1];

// Downloads that need the token.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-download]");
  if (!link) return;
  event.preventDefault();
  try {
    requireToken();
    showMessage("Downloading …");
    const response = await fetch(link.href, { headers: tokenHeaders(), credentials: "same-origin" });
    if (!response.ok) throw await explain(response);
    const name = fileNameOf(response);
    saveBlob(await response.blob(), name);
    showMessage("Downloaded " + name);
  } catch (err) {
    showMessage(err.message);
  }
});

// Adds, removes and orders the rows of a list. Those that stay keep the focus.
function mergeRows(list, then) {
  const rows = [...then.children].filter((row) => row.id);
  const kept = new Set(rows.map((row) => row.id));
  for (const row of [...list.children]) if (row.id && !kept.has(row.id)) row.remove();
  const first = [...list.children].filter((row) => !row.id).length;
  rows.forEach((row, i) => {
    let place = list.children[first + i] || null;
    if (place?.id !== row.id) place = list.insertBefore($(row.id) || document.importNode(row, true), place);
    place.className = row.className;
  });
  list.hidden = then.hidden;
}

// Replaces only the elements that changed, so that nothing flickers and the focus is kept.
function merge(fresh) {
  document.querySelectorAll("[data-rows]").forEach((list) => mergeRows(list, fresh.getElementById(list.id)));
  document.querySelectorAll("[data-live]").forEach((e) => {
    const then = fresh.getElementById(e.id);
    if (!then || e.querySelector(":disabled")) return; // a button in it is at work
    if (e.innerHTML !== then.innerHTML) e.replaceChildren(...document.importNode(then, true).childNodes);
    if (e.hidden !== then.hidden) e.hidden = then.hidden;
  });
}

async function refresh() {
  const link = $("link");
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (response.status === 404) return showLost("This page does not exist any more");
    if (!response.ok) throw new Error(response.statusText);
    merge(new DOMParser().parseFromString(await response.text(), "text/html"));
    link.textContent = "";
    link.className = "link";
  } catch {
    showLost("collectord does not respond; the data is from this time");
  }
}

function showLost(text) {
  $("link").textContent = text;
  $("link").className = "link lost";
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, document.querySelector(".state.running") ? 1000 : 5000);
}
if (!$("query") && !document.querySelector("[data-still]")) {
  setTimeout(watch, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

async function loadPart(element) {
  try {
    const response = await fetch(element.dataset.part, { headers: tokenHeaders(), credentials: "same-origin" });
    if (response.status === 401) throw new Error(token ? "The token is wrong." : "Enter the token to see the records: the value of HTTP_TOKEN.");
    if (!response.ok) throw await explain(response);
    element.replaceChildren(...parseHTML(await response.text()).childNodes);
  } catch (err) {
    element.textContent = err.message;
  }
}
export function parseHTML(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}
document.querySelectorAll("[data-part]").forEach(loadPart);
