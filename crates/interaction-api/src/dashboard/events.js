// Events of the ledger: found by status, time, error, resource and user; grouped by their errors; replayed and discarded.

import { Refused, ask } from "./ask.js";
import { done, operate, settled } from "./operate.js";
import * as place from "./place.js";
import { $, chip, el, fill, named, put, resourceLink, to, until, userLink, when, whole } from "./show.js";
import { t } from "./words.js";

const PAGE = 20;
const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const chosen = new Set();
let page = { statuses: ["failed", "dead"], events: [], next: "" };

const statuses = () => place.get("status").split(/[+ ]/).filter(Boolean);
const WITHIN = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400 };

/// The filter of the address, as the server takes it.
function wanted(status) {
  const filter = { status };
  const [id, by, q] = [place.get("id"), place.get("by"), place.get("q").trim()];
  if (id) { filter.resource_type = place.get("type"); filter.resource_id = id; }
  if (by) filter.user_id = by;
  if (UUID.test(q)) filter.id = q; else if (q) filter.error = q;
  if (place.get("group")) filter.error_group = place.get("group");
  const within = WITHIN[place.get("within")];
  if (within) filter.since = new Date(Date.now() - within * 1000).toISOString();
  for (const end of ["since", "until"]) {
    const time = place.get(end) && new Date(place.get(end));
    if (!within && time && !Number.isNaN(time.getTime())) filter[end] = time.toISOString();
  }
  return filter;
}

export async function events() {
  const asked = location.search, of = statuses(), one = place.get("event");
  const pages = one
    ? [await ask("events?" + new URLSearchParams({ id: one }))]
    : await Promise.all(of.map((status) => ask("events?" + new URLSearchParams({ ...wanted(status), page_size: PAGE, page_token: place.get("after") }))));
  // Somebody has gone on meanwhile.
  if (asked !== location.search) return;
  // Newest first: ids begin with the time they were made. What one status shows down to, the other must reach too.
  let found = pages.flatMap((answer) => answer.events).sort((a, b) => a.id < b.id ? 1 : -1);
  const all = found.length, more = pages.some((answer) => answer.next_page_token);
  if (pages.length > 1) found = found.slice(0, PAGE);
  const last = found.at(-1);
  const next = last ? "e-" + last.id.replaceAll("-", "") : pages.map((answer) => answer.next_page_token).sort().at(-1);
  page = { statuses: of, events: found, next: !one && (more || found.length < all) ? next : "" };
  rows();
  able(true);
}

/// What went wrong, each kind of error once.
export async function groups() {
  const asked = location.search, of = statuses().filter((status) => status === "failed" || status === "dead");
  const one = place.get("event") || UUID.test(place.get("q").trim());
  const answers = one ? [] : await Promise.all(of.map(async (status) => {
    const { error_group: _, ...filter } = wanted(status);
    return { status, ...await ask("events/groups?" + new URLSearchParams(filter)) };
  }));
  if (asked !== location.search) return;
  const byName = new Map();
  for (const { status, groups: list } of answers) {
    for (const group of list) {
      const known = byName.get(group.group) ?? { ...group, events: 0, of: [] };
      byName.set(group.group, { ...known, events: known.events + group.events, of: [...known.of, status], first: [known.first, group.first].filter(Boolean).sort()[0], last: [known.last, group.last].filter(Boolean).sort().at(-1) });
    }
  }
  const all = [...byName.values()].sort((a, b) => b.events - a.events);
  const capped = answers.some((answer) => answer.capped);
  $("groups").hidden = all.length === 0;
  fill($("group-list").tBodies[0], all.slice(0, 20).map((group) => {
    const button = (word, name, extra, handler) => el("button", { type: "button", class: extra, "data-needs": "operate", "aria-label": t("{word}: all events with the error {error}", { word, error: group.group }), "data-act": name, on: { click: handler } }, word);
    const selections = () => group.of.map((status) => ({ filter: { ...wanted(status), error_group: group.group }, limit: 1000 }));
    const what = t("all events with the error {error}", { error: group.group });
    return el("tr", {},
      el("td", { class: "error" }, el("a", { href: place.changed({ group: group.group, after: "", event: "" }), title: group.example }, group.group)),
      el("td", { class: "number", "data-label": t("Events") }, (capped ? "≥ " : "") + whole(group.events)),
      el("td", { "data-label": t("Newest") }, when(group.last)),
      el("td", { class: "act" },
        button(t("Replay"), "replay", "", () => operate("replay", selections(), what)),
        button(t("Discard"), "discard", "danger", () => operate("discard", selections(), what))));
  }));
}

function rows() {
  const body = $("event-list").tBodies[0], wantedOne = place.get("event");
  const held = document.activeElement && body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...body.querySelectorAll("details[open]")].map((one) => one.dataset.id));
  for (const id of [...chosen]) if (!page.events.some((one) => one.id === id && givenUp(one))) chosen.delete(id);
  // What shows the same stays the same node: a press that has begun on it is not lost.
  const before = new Map([...body.rows].map((node) => [node.dataset.id, node]));
  const nodes = page.events.map((one) => {
    const text = JSON.stringify(one), node = before.get(one.id);
    return node?.shows === text ? node : Object.assign(row(one, open.has(one.id) || one.id === wantedOne), { shows: text });
  });
  for (const node of before.values()) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, at) => { if (body.rows[at] !== node) body.insertBefore(node, body.rows[at] ?? null); });
  for (const box of body.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(box.closest("tr").dataset.id);
  if (held) body.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  $("event-list").hidden = page.events.length === 0;
  $("no-events").hidden = page.events.length > 0 || Boolean(page.next);
  $("events-none").hidden = true;
  $("older").hidden = !page.next;
  $("newest").hidden = !place.get("after");
  choice();
}

let known = true;

/// Nothing is replayed or discarded while the database cannot be asked: a button that does nothing says so.
function able(yes) {
  if (yes !== known) {
    known = yes;
    const why = yes ? "" : t("cannot ask the database: nothing can be replayed or discarded now");
    put("no-operating", why);
    $("no-operating").hidden = yes;
    $("replay-all").title = why;
  }
  choice();
  for (const button of $("events").querySelectorAll("td.act button")) button.disabled = !yes;
}

/// The database cannot be asked: what is shown is old, and what is not shown may be there.
export function unasked(error) {
  // Without an answer of the server all of it is grey anyway.
  if (!(error instanceof Refused) || error.status === 401) return;
  $("no-events").hidden = true;
  $("events-none").hidden = false;
  put("events-none", error.status >= 500 ? t("cannot ask the database") : error.message);
  able(error.status < 500);
}

const givenUp = (one) => one.status === "dead" || one.status === "failed";

function row(one, open) {
  const name = t("{action} of {resource} by user {user}", { action: named(one.action), resource: `${one.resource_type}:${one.resource_id}`, user: one.user_id });
  const button = (word, extra, handler) => el("button", { type: "button", class: extra, "data-needs": "operate", "data-key": `${word}-${one.id}`, "aria-label": t("{word}: {name}", { word, name }), on: { click: handler } }, word);
  const box = givenUp(one) ? el("input", { type: "checkbox", "data-needs": "operate", "data-key": `box-${one.id}`, "aria-label": t("Choose the {name}", { name }), on: { change: (event) => {
    if (event.target.checked) chosen.add(one.id); else chosen.delete(one.id);
    choice();
  } } }) : null;
  const last = one.operators.at(-1);
  const facts = [
    [t("event"), to({ view: "events", event: one.id, status: one.status }, one.id)], [t("version"), one.version], [t("origin"), one.origin], [t("last change"), when(one.updated_at)],
    ...one.operators.map((deed) => [named(deed.action), el("span", {}, `${deed.actor}, `, when(deed.at), deed.reason ? `: ${deed.reason}` : null)]),
  ];
  const about = { view: "resource", resource: `${one.resource_type}:${one.resource_id}`, user: one.user_id };
  return el("tr", { "data-id": one.id },
    el("td", {}, box),
    el("td", {}, to({ view: "events", status: one.status }, chip(one.status))),
    el("td", { "data-label": "" }, `${named(one.action)} `, resourceLink(one.resource_type, one.resource_id), " ", userLink(one.resource_type, one.resource_id, one.user_id)),
    el("td", { "data-label": t("accepted") }, when(one.accepted_at)),
    el("td", { "data-label": t("retries") }, one.max_retries ? el("span", { class: "nowrap" }, t("{n} of {most}", { n: one.retry_count, most: one.max_retries })) : "–", one.status === "failed" && one.next_retry_at ? [" ", until(one.next_retry_at)] : null),
    el("td", { class: "error" }, el("details", { open, "data-id": one.id }, el("summary", { "data-key": `more-${one.id}` }, one.error || (last ? t("{action} by {actor}", { action: named(last.action), actor: last.actor }) : t("details"))),
      el("dl", { class: "facts" }, ...facts.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])))),
    el("td", { class: "act" },
      givenUp(one) ? button(t("Replay"), "", () => operate("replay", [{ ids: [one.id] }], name)) : null,
      givenUp(one) ? button(t("Discard"), "danger", () => operate("discard", [{ ids: [one.id] }], name)) : null,
      el("a", { class: "button", href: place.link(about), "data-to": "explain-title", "aria-label": t("{word}: {name}", { word: t("Explain"), name }) }, t("Explain"))));
}

function choice() {
  const some = chosen.size > 0, all = page.statuses.every((status) => status === "dead" || status === "failed");
  $("replay-chosen").disabled = $("discard-chosen").disabled = !some || !known;
  $("replay-all").disabled = !known;
  put("chosen", some ? t("{n} chosen", { n: chosen.size }) : "");
  $("bulk").hidden = !all || page.events.length === 0;
  const open = page.events.filter(givenUp);
  $("all").checked = open.length > 0 && open.every((one) => chosen.has(one.id));
  $("all").disabled = open.length === 0;
}

// ---- the form and the address say the same ----

const FIELDS = { "f-status": "status", "f-type": "type", "f-id": "id", "f-user": "by", "f-q": "q", "f-within": "within", "f-since": "since", "f-until": "until" };

/// The form shows what the address says.
export function showFilter() {
  for (const [id, key] of Object.entries(FIELDS)) if (document.activeElement !== $(id)) $(id).value = place.get(key).replace("failed dead", "failed+dead");
  for (const id of ["own-since", "own-until"]) $(id).hidden = $("f-within").value !== "own";
  const narrowed = place.get("group") || place.get("event");
  $("narrowed").hidden = !narrowed;
  put("narrowed-what", place.get("event") ? t("one event: {id}", { id: place.get("event") }) : t("errors like: {group}", { group: place.get("group") }));
  $("narrowed-all").setAttribute("href", place.changed({ group: "", event: "", after: "" }));
}

function filtered() {
  const values = Object.fromEntries(Object.entries(FIELDS).map(([id, key]) => [key, $(id).value.trim()]));
  if (values.within !== "own") values.since = values.until = "";
  chosen.clear();
  done("");
  place.go(place.changed({ ...values, group: "", event: "", after: "" }));
}

export function begin() {
  $("filter").addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
  $("f-status").addEventListener("change", filtered);
  $("f-within").addEventListener("change", () => { for (const id of ["own-since", "own-until"]) $(id).hidden = $("f-within").value !== "own"; if ($("f-within").value !== "own") filtered(); });
  $("older").addEventListener("click", () => { chosen.clear(); place.go(place.changed({ after: page.next })); });
  $("newest").addEventListener("click", () => { chosen.clear(); place.go(place.changed({ after: "" })); });
  $("all").addEventListener("change", (event) => {
    for (const one of page.events.filter(givenUp)) if (event.target.checked) chosen.add(one.id); else chosen.delete(one.id);
    rows();
  });
  $("replay-chosen").addEventListener("click", () => operate("replay", [{ ids: [...chosen] }], t("what you chose")));
  $("discard-chosen").addEventListener("click", () => operate("discard", [{ ids: [...chosen] }], t("what you chose")));
  const all = () => page.statuses.map((status) => ({ filter: wanted(status), limit: 1000 }));
  $("replay-all").addEventListener("click", () => operate("replay", all(), t("everything that matches the filter")));
  settled(() => chosen.clear());
}
