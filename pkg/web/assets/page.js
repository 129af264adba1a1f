"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const tokenBox = $("token");
  let token = "";

  // The token stays in this tab's memory: no cookie, no storage.
  if (tokenBox) tokenBox.addEventListener("input", () => { token = tokenBox.value.trim(); });

  if (tokenBox) tokenBox.form.addEventListener("submit", (event) => event.preventDefault());

  let hiding = 0;
  function say(text) {
    const said = $("said");
    said.textContent = text;
    said.hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { said.hidden = true; }, 6000);
  }

  async function send(path, body) {
    if (!token) {
      tokenBox.focus();
      throw new Error("Enter the token first: it is what HTTP_TOKEN is set to.");
    }
    const headers = { "X-Collectord-Token": token };
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method: "POST", headers, body, credentials: "same-origin" });
    if (answer.ok) return answer;
    let why = answer.statusText;
    try { why = (await answer.json()).error || why; } catch { /* no JSON */ }
    throw new Error(why);
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button) return;
    button.disabled = true;
    try {
      const answer = await (await send(button.dataset.post)).json();
      say(answer.collector ? answer.collector + " has started" : answer.status);
      await refresh();
    } catch (err) {
      say(err.message);
    } finally {
      button.disabled = false;
    }
  });

  // Only the parts that changed are touched, so nothing flickers and the
  // focus stays. When rows came or went, the page is loaded anew.
  function merge(fresh) {
    const now = document.querySelectorAll("[data-live]");
    const then = fresh.querySelectorAll("[data-live]");
    if (now.length !== then.length || Array.from(now).some((e, i) => e.id !== then[i].id)) {
      if (!token && !document.activeElement.closest("input, textarea, button")) location.reload();
      return;
    }
    now.forEach((e, i) => {
      if (e.innerHTML !== then[i].innerHTML) e.replaceChildren(...document.importNode(then[i], true).childNodes);
      if (e.hidden !== then[i].hidden) e.hidden = then[i].hidden;
    });
  }

  async function refresh() {
    const link = $("link");
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (!answer.ok) throw new Error(answer.statusText);
      merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
      link.textContent = "";
      link.className = "link";
    } catch {
      link.textContent = "no answer from collectord; what is shown is from then";
      link.className = "link lost";
    }
  }

  async function watch() {
    if (!document.hidden) await refresh();
    setTimeout(watch, document.querySelector(".state.running") ? 1000 : 5000);
  }
  if (!$("query")) setTimeout(watch, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !$("query")) refresh(); });

  async function part(place) {
    try {
      const answer = await fetch(place.dataset.part, { credentials: "same-origin" });
      show(place, await answer.text());
    } catch (err) {
      place.textContent = err.message;
    }
  }
  const show = (place, html) => place.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  document.querySelectorAll("[data-part]").forEach(part);

  const form = $("query");
  if (!form) return;
  async function ask(format) {
    const answer = $("answer");
    if (!$("sql").value.trim()) return $("sql").focus();
    try {
      answer.setAttribute("aria-busy", "true");
      const got = await send("/api/v1/query", JSON.stringify({ sql: $("sql").value, format }));
      if (format === "html") return show(answer, await got.text());
      const a = document.createElement("a");
      a.href = URL.createObjectURL(await got.blob());
      a.download = "answer." + format;
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 10000);
      if (got.headers.get("X-Collectord-Truncated") === "true") say("The answer is longer: 100,000 rows or 32 MiB were given");
    } catch (err) {
      const p = document.createElement("p");
      p.className = "note error";
      p.textContent = err.message;
      answer.replaceChildren(p);
    } finally {
      answer.removeAttribute("aria-busy");
    }
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); ask("html"); });
  form.addEventListener("click", (event) => { if (event.target.dataset.format) ask(event.target.dataset.format); });
  $("sql").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask("html"); }
  });
})();
