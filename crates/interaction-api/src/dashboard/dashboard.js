"use strict";
// The page of one server: asks its ops HTTP again and again, and shows what it says. Nothing is loaded from elsewhere.

const LOOK_MS = 1000, EVENTS_MS = 3000, REPORT_MS = 15000, PAGE = 20;
const $ = (id) => document.getElementById(id);

// ---- asking ----

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = "Bearer " + token;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
  const text = await answer.text();
  const json = (answer.headers.get("content-type") || "").startsWith("application/json");
  const body = json ? JSON.parse(text) : text;
  // Health says 503 with a body that is worth showing.
  if (answer.ok || (path === "/health" && json)) return body;
  if (answer.status === 401 || answer.status === 403) $("access").open = true;
  throw new Refused(answer.status, (json && body.error) || `${path} answered ${answer.status}`);
}

const post = (path, body) => ask(path, {
  method: "POST",
  headers: { "content-type": "application/json", "x-requested-with": "dashboard" },
  body: JSON.stringify(body),
});

// ---- showing ----

const present = (children) => children.filter((child) => child !== null && child !== undefined);

/// An element with attributes and children; strings become text, never markup.
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...present(children));
  return node;
}

const whole = (value) => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
const brief = (value) => value === null || !Number.isFinite(value) ? "–" : value >= 100 ? whole(value) : value.toFixed(value >= 10 ? 1 : value === 0 ? 0 : 2);
const short = (value) => value === null ? "–" : value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
const span = (ms) => ms === null || ms === undefined ? "–" : ms < 1000 ? `${Math.round(ms)} ms` : ms < 120000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60000)} min`;
const chip = (word, extra) => el("span", { class: "chip " + (extra || word) }, word.replace("_", " "));

function when(text) {
  if (!text) return el("span", {}, "–");
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return el("time", { datetime: text, title: text, class: "nowrap" }, shown);
}

function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

function notice(text) {
  $("notice").hidden = !text;
  put("notice", text || "");
}

// ---- the numbers ----

const charts = {
  rate: chart("rate-chart", [["accepted", "--accent"]], brief),
  lag: chart("lag-chart", [["p99", "--accent"], ["median", "--second"]], span),
  journal: chart("journal-chart", [["in the journal", "--accent"]], short),
};
let before = null;
// What alerts compare with, by their names: the process's configuration.
const limits = {};

function metric(text, short) {
  const name = "interaction_" + short;
  let sum = null;
  for (const line of text.split("\n")) {
    if (line.startsWith(name + " ") || line.startsWith(name + "{")) sum = (sum ?? 0) + Number(line.slice(line.lastIndexOf(" ")));
  }
  return sum;
}

async function look() {
  const [health, metrics, overview] = await Promise.all([ask("/health"), ask("/metrics").catch(() => ""), ask("/overview")]);
  const seen = { at: performance.now(), accepted: overview.journal ? overview.journal.accepted : null };
  for (const name of ["likes_total", "publish_batch_size_sum", "publish_batch_size_count", "apply_batch_size_sum", "apply_batch_size_count"]) {
    seen[name] = metric(metrics, name);
  }
  for (const [, name, value] of metrics.matchAll(/^interaction_alert_threshold\{alert="(\w+)"\} (\S+)$/gm)) limits[name] = Number(value);
  const since = (key) => before && seen[key] !== null && before[key] !== null ? Math.max(0, seen[key] - before[key]) : null;
  const rate = (key) => since(key) === null ? null : since(key) / (seen.at - before.at) * 1000;

  const answered = rate("likes_total"), accepted = rate("accepted") ?? answered;
  put("rate", brief(accepted));
  put("rate-note", answered === null ? "\u00a0" : `all servers; this one answers ${brief(answered)} likes and unlikes per second`);
  charts.rate([accepted]);

  const lag = overview.lag;
  put("lag50", lag && lag.events ? span(lag.p50_ms) : "–");
  put("lag99", lag && lag.events ? span(lag.p99_ms) : "–");
  put("lag-note", lag && lag.events ? `of the newest ${whole(lag.events)} events; longest ${span(lag.max_ms)}` : "no event in the ledger yet");
  charts.lag(lag && lag.events ? [lag.p99_ms, lag.p50_ms] : [null, null]);

  put("journal", overview.journal ? whole(overview.journal.pending) : "–");
  put("journal-note", overview.journal ? (overview.journal.oldest_age_ms === null ? "all of it is in the database" : `the oldest for ${span(overview.journal.oldest_age_ms)}`) : "the cache is unreachable");
  charts.journal([overview.journal ? overview.journal.pending : null]);
  put("queue", overview.broker ? (overview.queue ? whole(overview.queue.ready) : "–") : "");
  put("queue-unit", overview.broker ? (overview.queue ? `messages in the queue, ${overview.queue.consumers} consumers` : "the queue cannot be asked") : "no queue: applied directly");

  const batch = (name) => {
    const count = since(name + "_count");
    return count ? since(name + "_sum") / count : seen[name + "_count"] ? seen[name + "_sum"] / seen[name + "_count"] : null;
  };
  $("batch-messages").hidden = !overview.broker;
  put("batch-publish", brief(batch("publish_batch_size")));
  put("batch-apply", brief(batch("apply_batch_size")));
  put("batch-note", since("apply_batch_size_count") || since("publish_batch_size_count") ? "in the last second" : "on average since its start");

  put("health", health.status);
  $("health").className = "chip " + health.status;
  put("where", `${health.service} ${health.version}, ${health.instance}, up ${span(health.uptime_seconds * 1000)}`);
  const parts = Object.entries(health.parts).map(([name, part]) => {
    const circuit = { redis: "cache", journal: "cache", mysql: "database", database: "database", rabbitmq: "broker" }[name];
    const open = circuit && overview.circuits[circuit];
    const last = part.last_error ? `last error ${part.last_error.at}: ${part.last_error.error}` : "";
    return el("li", { title: [part.detail, last].filter(Boolean).join("; ") || null }, name.replaceAll("_", " "), chip(circuit ? (open ? "unreachable" : "reachable") : part.status, part.status),
      part.status === "ok" ? null : el("span", { class: "quiet" }, part.detail));
  });
  $("parts").replaceChildren(...parts);

  ledger(overview.ledger);
  hot(overview.hot);
  deeds(overview.actions);
  before = seen;
}

function ledger(counts) {
  if (!counts) return;
  const most = Math.max(1, ...counts.map((one) => one.count));
  $("ledger").tBodies[0].replaceChildren(...counts.map((one) => el("tr", {},
    el("td", {}, chip(one.status)),
    el("td", {}, (one.capped ? "≥ " : "") + whole(one.count)),
    el("td", {}, el("meter", { min: 0, max: most, value: one.count, "aria-label": one.status })))));
}

function hot(resources) {
  $("hot-empty").hidden = !resources || resources.length > 0;
  if (!resources) return;
  const most = Math.max(1, ...resources.map((one) => one.events));
  $("hot").tBodies[0].replaceChildren(...resources.map((one) => {
    const name = `${one.resource_type}:${one.resource_id}`;
    return el("tr", {}, el("td", {}, name), el("td", {}, `${whole(one.count)} likes`),
      el("td", {}, el("meter", { min: 0, max: most, value: one.events, "aria-label": `${one.events} of the newest events` })));
  }));
}

function deeds(actions) {
  if (!actions) return;
  $("no-deeds").hidden = actions.length > 0;
  $("deeds").replaceChildren(...actions.map((one) => el("li", {}, when(one.at), ` ${one.actor}: ${one.action} of ${one.selection || "events"}, ${one.events} changed`,
    one.reason ? el("span", { class: "quiet" }, ` – ${one.reason}`) : null)));
}

// Below it a rate says nothing.
const FEWEST_COMPARED = 100;

async function report() {
  const said = await ask("/consistency/report?hours=24");
  const rate = said.consistency_rate;
  // Cut off, not rounded: what is not all is not 100 %.
  put("consistency", rate === null ? "–" : (Math.floor(rate * 1e6) / 1e4).toFixed(rate === 1 ? 0 : 4) + " %");
  put("nines", said.nines === null ? "" : `${(Math.floor(said.nines * 10) / 10).toFixed(1)} nines`);
  const few = said.checked < FEWEST_COMPARED, low = !few && rate !== null && rate < limits.consistency_rate;
  $("consistency").className = low ? "bad" : "";
  put("open-findings", said.open === 0 ? "Nothing is open." : `${whole(said.open)} open now`);
  $("open-findings").className = said.open === 0 ? "quiet" : "bad";
  const verdict = few ? "too few to judge: " : low ? `below the limit of ${limits.consistency_rate * 100} %: ` : "";
  put("consistency-note", rate === null ? "nothing was compared yet" : verdict + `${whole(said.checked)} compared in a day`);
}

// ---- events ----

const chosen = new Set();
let page = { statuses: ["failed", "dead"], token: "", events: [], next: "" };

function wanted(status) {
  const filter = { status };
  const id = $("f-id").value.trim(), user = $("f-user").value.trim();
  if (id) { filter.resource_type = $("f-type").value; filter.resource_id = id; }
  if (user) filter.user_id = user;
  return filter;
}

async function events() {
  const statuses = $("f-status").value.split("+");
  const pages = await Promise.all(statuses.map((status) => {
    const query = new URLSearchParams({ ...wanted(status), page_size: PAGE, page_token: page.token });
    return ask("/events?" + query);
  }));
  // Newest first: ids begin with the time they were made. What one status shows down to, the other must reach too.
  let found = pages.flatMap((one) => one.events).sort((a, b) => a.id < b.id ? 1 : -1);
  const more = pages.some((one) => one.next_page_token);
  if (statuses.length > 1) found = found.slice(0, PAGE);
  const last = found.at(-1);
  page = { ...page, statuses, events: found, next: more || found.length < pages.reduce((n, one) => n + one.events.length, 0) ? (last ? "e-" + last.id.replaceAll("-", "") : pages.map((one) => one.next_page_token).sort().at(-1)) : "" };
  rows();
}

function rows() {
  const body = $("event-list").tBodies[0];
  const held = document.activeElement && body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...body.querySelectorAll("details[open]")].map((one) => one.dataset.id));
  for (const id of [...chosen]) if (!page.events.some((one) => one.id === id && givenUp(one))) chosen.delete(id);
  // What shows the same stays the same node: a press that has begun on it is not lost.
  const before = new Map([...body.rows].map((node) => [node.dataset.id, node]));
  const nodes = page.events.map((one) => {
    const text = JSON.stringify(one), node = before.get(one.id);
    return node?.shows === text ? node : Object.assign(row(one, open.has(one.id)), { shows: text });
  });
  for (const node of before.values()) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, at) => { if (body.rows[at] !== node) body.insertBefore(node, body.rows[at] ?? null); });
  for (const box of body.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(box.closest("tr").dataset.id);
  if (held) body.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  $("event-list").hidden = page.events.length === 0;
  $("no-events").hidden = page.events.length > 0 || Boolean(page.next);
  $("older").hidden = !page.next;
  $("newest").hidden = !page.token;
  choice();
}

const givenUp = (one) => one.status === "dead" || one.status === "failed";

function row(one, open) {
  const name = `${one.action} of ${one.resource_type}:${one.resource_id} by user ${one.user_id}`;
  const button = (word, extra, handler) => el("button", { type: "button", class: extra, "data-key": `${word}-${one.id}`, "aria-label": `${word} the ${name}`, on: { click: handler } }, word);
  const box = givenUp(one) ? el("input", { type: "checkbox", "data-key": `box-${one.id}`, "aria-label": `Choose the ${name}`, on: { change: (event) => {
    if (event.target.checked) chosen.add(one.id); else chosen.delete(one.id);
    choice();
  } } }) : null;
  const last = one.operators.at(-1);
  const facts = [["event", one.id], ["version", one.version], ["origin", one.origin], ["last change", one.updated_at], ...one.operators.map((deed) => [deed.action, `${deed.actor}, ${deed.at}${deed.reason ? ": " + deed.reason : ""}`])];
  return el("tr", { "data-id": one.id },
    el("td", {}, box),
    el("td", {}, chip(one.status)),
    el("td", { "data-label": "" }, `${one.action} `, el("span", { class: "nowrap" }, `${one.resource_type}:${one.resource_id}`), el("span", { class: "quiet nowrap" }, ` user ${one.user_id}`)),
    el("td", { "data-label": "accepted" }, when(one.accepted_at)),
    el("td", { "data-label": "retries" }, one.max_retries ? el("span", { class: "nowrap" }, `${one.retry_count} of ${one.max_retries}`) : "–", one.next_retry_at ? el("span", { class: "quiet nowrap" }, " next ", when(one.next_retry_at)) : null),
    el("td", { class: "error" }, el("details", { open, "data-id": one.id }, el("summary", { "data-key": `more-${one.id}` }, one.error || (last ? `${last.action} by ${last.actor}` : "details")),
      el("dl", { class: "facts" }, ...facts.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, String(value))])))),
    el("td", { class: "act" },
      givenUp(one) ? button("Replay", "", () => operate("replay", { ids: [one.id] }, `the ${name}`)) : null,
      givenUp(one) ? button("Discard", "danger", () => operate("discard", { ids: [one.id] }, `the ${name}`)) : null,
      button("Explain", "", () => { $("e-user").value = one.user_id; $("e-type").value = one.resource_type; $("e-id").value = one.resource_id; $("explain").requestSubmit(); $("explain").scrollIntoView({ block: "center" }); })));
}

function choice() {
  const some = chosen.size > 0, all = page.statuses.every((status) => status === "dead" || status === "failed");
  $("replay-chosen").disabled = $("discard-chosen").disabled = !some;
  put("chosen", some ? `${chosen.size} chosen` : "");
  $("bulk").hidden = !all || page.events.length === 0;
  const open = page.events.filter(givenUp);
  $("all").checked = open.length > 0 && open.every((one) => chosen.has(one.id));
  $("all").disabled = open.length === 0;
}

function done(text, failed = false) {
  $("done").className = failed ? "done failed" : "done";
  put("done", text);
}

// ---- replay and discard ----

let pending = null;

async function operate(deed, ...selections) {
  const what = selections.pop();
  const asked = selections.flat();
  let count = 0, more = false;
  try {
    for (const selection of asked) {
      const would = await post("/events/" + deed, { ...selection, dry_run: true });
      count += would.count;
      more ||= Boolean(would.next_page_token);
    }
  } catch (error) {
    return done(error.message, true);
  }
  if (count === 0) return done("Nothing to " + deed + ": it is neither failed nor dead any more.");
  const discard = deed === "discard", number = `${whole(count)}${more ? " or more" : ""} event${count === 1 ? "" : "s"}`;
  pending = { deed, asked };
  $("confirm").className = discard ? "danger" : "";
  put("confirm-title", discard ? `Discard ${number}?` : `Replay ${number}?`);
  put("confirm-text", `This is about ${what}. ` + (discard
    ? "Discarding is for good: the like is never applied, and the cache shows again what the database says."
    : "It is tried again within seconds. What took effect already, or was changed since, changes nothing."));
  put("reason-label", discard ? "Why (must be given)" : "Why");
  $("reason").required = discard;
  put("go", discard ? "Discard" : "Replay");
  $("confirm-error").hidden = true;
  $("actor").value = sessionStorage.getItem("actor") || "";
  $("reason").value = "";
  $("confirm").showModal();
  $(discard ? "reason" : "go").focus();
}

async function confirmed() {
  const { deed, asked } = pending;
  const actor = $("actor").value.trim(), reason = $("reason").value.trim();
  sessionStorage.setItem("actor", actor);
  $("go").disabled = true;
  let count = 0, skipped = 0;
  try {
    for (const selection of asked) {
      let token = "";
      do {
        const answer = await post("/events/" + deed, selection.ids ? { ...selection, actor, reason } : { ...selection, actor, reason, page_token: token });
        count += answer.count;
        skipped += answer.skipped.length;
        token = answer.next_page_token;
      } while (token);
    }
    $("confirm").close();
    chosen.clear();
    done(`${whole(count)} event${count === 1 ? "" : "s"} ${deed === "discard" ? "discarded" : "replayed"}${skipped ? `, ${skipped} left alone` : ""}.`);
  } catch (error) {
    put("confirm-error", error.message);
    $("confirm-error").hidden = false;
  } finally {
    $("go").disabled = false;
    soon();
  }
}

// ---- check and explain ----

function failed(node, error) {
  node.replaceChildren(el("p", { class: "bad" }, error.message));
}

async function check() {
  const node = $("check-result");
  node.replaceChildren(el("p", { class: "quiet" }, "looking …"));
  try {
    const body = { resource_type: $("c-type").value, resource_id: $("c-id").value.trim() };
    const said = await post("/consistency/check", body);
    const fine = said.verdict === "consistent" || said.verdict === "in_flight";
    const side = (one) => one ? `${one.value}${one.pending ? ` (${one.pending} pending)` : ""}` : "nothing";
    node.replaceChildren(
      el("p", {}, `${body.resource_type}:${body.resource_id} is `, chip(said.verdict, fine ? said.verdict : "wrong")),
      el("ul", {}, ...said.findings.map((one) => el("li", {},
        `${one.kind.replaceAll("_", " ")}: ${one.verdict.replaceAll("_", " ")}; cache ${side(one.cache)}, database ${side(one.stored)}. ${one.detail || ""}`,
        one.repair ? el("span", { class: "quiet" }, ` ${one.repair.action}: ${one.repair.outcome}`) : null))));
  } catch (error) {
    failed(node, error);
  }
}

async function explain() {
  const node = $("explain-result");
  node.replaceChildren(el("p", { class: "quiet" }, "looking …"));
  try {
    const query = new URLSearchParams({ user_id: $("e-user").value.trim(), resource_type: $("e-type").value, resource_id: $("e-id").value.trim() });
    const told = await ask("/explain?" + query);
    const state = (one) => one ? (one.liked ? "liked" : "not liked") + `, version ${one.version}` : "none";
    let of = null;
    const steps = told.timeline.map((step) => {
      const first = step.event_id !== of;
      of = step.event_id;
      return el("li", { class: `${step.step}${first ? " first" : ""}${step.at ? " at" : ""}` }, el("b", {}, step.step), " ", step.at ? when(step.at) : el("span", { class: "quiet" }, "time unknown"), el("div", { class: "quiet" }, step.detail));
    });
    const now = [
      ["row", state(told.row)],
      ["stored count", `${told.stored_count.count}, revision ${told.stored_count.revision}`],
      ["cached pair", told.cache ? state(told.cache.pair) : "the cache is unreachable"],
      ["cached count", told.cache ? (told.cache.count ? `${told.cache.count.served}, ${told.cache.count.pending} pending` : "none") : "the cache is unreachable"],
    ];
    const end = told.conclusion;
    node.replaceChildren(...present([
      el("p", { class: end.fine ? "" : "bad" }, end.says + "."),
      end.hint ? el("p", { class: "quiet" }, end.hint) : null,
      steps.length ? el("ol", { class: "story" }, ...steps) : el("p", {}, "No event of it is known."),
      told.searched_since ? el("p", { class: "quiet" }, "Completed events before ", when(told.searched_since), " may be missing.") : null,
      el("dl", { class: "facts" }, ...now.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    ]));
  } catch (error) {
    failed(node, error);
  }
}

// ---- again and again ----

let paused = false;
const timers = [];

/// Repeats a look; the next one begins only after the last one ended.
function every(ms, work) {
  const timer = { due: 0, busy: false };
  timers.push(timer);
  setInterval(async () => {
    if (timer.busy || paused || document.hidden || performance.now() < timer.due) return;
    timer.busy = true;
    try {
      await work();
      if (timer.failing) notice("");
      timer.failing = false;
    } catch (error) {
      timer.failing = true;
      put("health", "no answer");
      $("health").className = "chip down";
      notice(error instanceof Refused ? error.message : `The server does not answer (${error.message}); trying on.`);
    } finally {
      timer.busy = false;
      timer.due = performance.now() + ms;
    }
  }, 100);
}

function soon() { for (const timer of timers) timer.due = 0; }

function submitted(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    work();
  });
}

submitted("check", check);
submitted("explain", explain);
submitted("confirm-form", confirmed);
submitted("filter", () => { page.token = ""; chosen.clear(); done(""); soon(); });
submitted("token-form", () => {
  const token = $("token").value.trim();
  if (token) sessionStorage.setItem("token", token); else sessionStorage.removeItem("token");
  $("token").value = "";
  $("access").open = false;
  notice("");
  soon();
});
$("f-status").addEventListener("change", () => $("filter").requestSubmit());
$("cancel").addEventListener("click", () => $("confirm").close());
$("older").addEventListener("click", () => { page.token = page.next; chosen.clear(); soon(); });
$("newest").addEventListener("click", () => { page.token = ""; chosen.clear(); soon(); });
$("all").addEventListener("change", (event) => {
  for (const one of page.events.filter(givenUp)) if (event.target.checked) chosen.add(one.id); else chosen.delete(one.id);
  rows();
});
$("replay-chosen").addEventListener("click", () => operate("replay", { ids: [...chosen] }, "what you chose"));
$("discard-chosen").addEventListener("click", () => operate("discard", { ids: [...chosen] }, "what you chose"));
$("replay-all").addEventListener("click", () => operate("replay", page.statuses.map((status) => ({ filter: wanted(status), limit: 1000 })), "everything that matches the filter"));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  put("pause", paused ? "Go on" : "Pause");
  soon();
});
document.addEventListener("visibilitychange", soon);

every(LOOK_MS, look);
every(EVENTS_MS, events);
every(REPORT_MS, report);
