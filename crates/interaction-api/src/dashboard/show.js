// How things look: elements, numbers, times, words with a colour, links.

import * as place from "./place.js";
import { TYPES } from "./types.js";
import { say, t } from "./words.js";

export const $ = (id) => document.getElementById(id);

export const present = (children) => children.flat().filter((child) => child !== null && child !== undefined && child !== false);

/// An element with attributes and children; strings become text, never markup.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...present(children));
  return node;
}

export function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

/// Replaces what is in a node, unless it would look the same: what somebody is about to press stays.
export function fill(node, children) {
  const wanted = present(children);
  const copy = node.cloneNode(false);
  copy.append(...wanted);
  const open = [...node.querySelectorAll("details")].map((one) => one.open);
  const shape = (one) => { const twin = one.cloneNode(true); for (const details of twin.querySelectorAll("details")) details.open = false; for (const moving of twin.querySelectorAll("[data-ago], [data-until]")) moving.textContent = ""; return twin; };
  if (shape(copy).isEqualNode(shape(node))) return;
  node.replaceChildren(...copy.childNodes);
  node.querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? false; });
}

// ---- numbers ----

export const whole = (value) => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
export const brief = (value) => value === null || !Number.isFinite(value) ? "–" : value >= 100 ? whole(value) : value.toFixed(value >= 10 ? 1 : value === 0 ? 0 : 2);
export const short = (value) => value === null ? "–" : value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
/// Cut off, not rounded: what is not all is not 100 %.
export const percent = (part, digits = 4) => part === null || part === undefined ? "–" : (Math.floor(part * 10 ** (digits + 2)) / 10 ** digits).toFixed(part === 1 ? 0 : digits) + " %";

/// A length of time.
export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  const seconds = ms / 1000;
  if (seconds < 1) return t("{n} ms", { n: Math.round(ms) });
  if (seconds < 120) return t("{n} s", { n: seconds.toFixed(seconds < 10 ? 1 : 0) });
  if (seconds < 7200) return t("{n} min", { n: Math.round(seconds / 60) });
  if (seconds < 172800) return t("{n} h", { n: Math.round(seconds / 3600) });
  return t("{n} days", { n: Math.round(seconds / 86400) });
}

// ---- times ----

export const clock = (date) => date.toLocaleTimeString("en-GB");
const offset = new Intl.DateTimeFormat("en-GB", { timeZoneName: "shortOffset" }).formatToParts().find((part) => part.type === "timeZoneName").value;
export const zone = `${Intl.DateTimeFormat().resolvedOptions().timeZone} (${offset})`;

function absolute(date) {
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(date) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function ago(date) {
  const ms = Date.now() - date;
  return ms >= 0 ? t("{span} ago", { span: span(ms) }) : t("in {span}", { span: span(-ms) });
}

/// A time: by the clock, and how long ago; in full, with its zone, to whoever points at it. Nobody knows when: a dash.
export function when(text) {
  if (!text) return el("span", {}, "–");
  const date = new Date(text);
  const full = date.toLocaleString("en-GB", { dateStyle: "full", timeStyle: "long" });
  return el("time", { datetime: text, title: full }, el("span", { class: "nowrap" }, absolute(date)), " ", el("small", { class: "quiet nowrap", "data-ago": text }, ago(date)));
}

/// How long until something; counts down.
export const until = (text) => el("span", { class: "quiet nowrap", "data-until": text }, countdown(text));

function countdown(text) {
  const left = new Date(text) - Date.now();
  return left > 0 ? t("next try in {span}", { span: span(left) }) : t("due now");
}

/// Once a second: what says how long ago is made right again.
export function tick() {
  for (const node of document.querySelectorAll("[data-ago]")) node.textContent = ago(new Date(node.dataset.ago));
  for (const node of document.querySelectorAll("[data-until]")) node.textContent = countdown(node.dataset.until);
}

// ---- words ----

// What the server calls its things, for people.
export const NAMES = {
  ok: say("ok"), degraded: say("degraded"), down: say("down"),
  pending: say("pending"), processing: say("processing"), completed: say("completed"), failed: say("failed"), dead: say("dead"), discarded: say("discarded"),
  consistent: say("consistent"), in_flight: say("in flight"), drift: say("drift"), stuck: say("stuck"), lost: say("lost"),
  like: say("like"), unlike: say("unlike"), video: say("video"), comment: say("comment"),
  replay: say("replay"), discard: say("discard"),
  erase_user: say("erasure of a user"), delete_resource: say("deletion"), restore_resource: say("restoration"),
  cached_count: say("cached count"), stored_count: say("stored count"), row: say("row"), history: say("history"), cached_pair: say("cached pair"), ledger: say("ledger"), journal: say("journal"), accounting: say("accounting"),
  "no word": say("no word"), running: say("running"), finished: say("finished"), aborted: say("aborted"), repaired: say("repaired"),
  full: say("full sweep"), hot: say("hot resources"), demand: say("on demand"),
};
export const named = (word) => NAMES[word] ? t(NAMES[word]) : String(word).replaceAll("_", " ");

for (const choice of document.querySelectorAll("select[data-types]")) choice.append(...TYPES.map((type) => el("option", { value: type }, named(type))));

/// A word in the colour of what it means.
export const chip = (word, extra, attributes = {}) => el("span", { class: "chip " + (extra || word), ...attributes }, named(word));

/// A link to a place of this page.
export const to = (wanted, ...children) => el("a", { href: place.link(wanted) }, ...children);

export const resourceLink = (type, id) => to({ view: "resource", resource: `${type}:${id}` }, el("span", { class: "nowrap" }, `${type}:${id}`));
export const userLink = (type, id, user) => to({ view: "resource", resource: `${type}:${id}`, user: String(user) }, el("span", { class: "nowrap" }, t("user {id}", { id: user })));

/// What a shard, a resource or the whole is called, as a link where there is a view of it.
export function subject(one) {
  if (!TYPES.includes(one.resource_type)) return el("span", {}, `${one.resource_type} ${one.resource_id}`);
  return el("span", {}, resourceLink(one.resource_type, one.resource_id), one.user_id ? [" ", userLink(one.resource_type, one.resource_id, one.user_id)] : null);
}

export function notice(text) {
  $("notice").hidden = !text;
  put("notice", text || "");
}

export function failed(node, error) {
  node.replaceChildren(el("p", { class: "bad" }, error.message));
}
