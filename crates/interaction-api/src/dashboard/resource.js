// One resource: its count wherever it is kept, what is on its way, what was found wrong with it, its newest events; a check of
// it now; and the story of one user's likes of it.

import { ask, post } from "./ask.js";
import * as place from "./place.js";
import { $, chip, el, failed, fill, named, put, span, to, userLink, when, whole } from "./show.js";
import { TYPES } from "./types.js";
import { say, t } from "./words.js";

const EVENTS = 20;

/// The resource of the address: type and id; the id is text, always.
function chosen() {
  const [type, id] = place.get("resource").split(":");
  return TYPES.includes(type) && /^[1-9][0-9]{0,18}$/.test(id ?? "") ? { type, id } : null;
}

/// Shows the resource of the address, if there is one.
export async function resource() {
  const of = chosen();
  $("resource-body").hidden = !of;
  $("resource-ask").hidden = Boolean(of);
  if (!of) return;
  const name = `${of.type}:${of.id}`, query = { resource_type: of.type, resource_id: of.id };
  put("resource-name", name);
  const [said, events] = await Promise.all([
    ask("resource?" + new URLSearchParams(query)),
    ask("events?" + new URLSearchParams({ ...query, page_size: EVENTS })).catch(() => null),
  ]);
  if (JSON.stringify(chosen()) !== JSON.stringify(of)) return;
  counts(said.cache, said.database, said.counters);
  unfinished(of, said.database);
  findings(said.database);
  newest(of, events);
}

// What is wrong with a counter, as a check of the server judges it.
const WRONG = {
  stored_count: say("The stored count is not the number of rows."),
  drift: say("Nothing is on its way, and cache and database differ."),
  stale: say("The cache has not heard the newest of the database."),
  stuck: say("Likes of it are on their way for too long."),
  orphan: say("The cache waits for likes that no journal has."),
  went_back: say("The cache has heard more than the database has."),
};

function counts(cache, database, counters) {
  const held = cache?.count, stored = database?.count;
  const line = (where, value, note) => el("tr", {}, el("th", { scope: "row" }, where), el("td", { class: "number" }, value), el("td", { class: "quiet" }, note));
  fill($("counts").tBodies[0], [
    line(t("What callers see"), held ? whole(held.served) : database ? whole(stored?.count ?? 0) : "–", cache ? held ? t("served by the cache") : t("not cached: the database's count") : t("cannot ask the cache")),
    line(t("On its way"), held ? whole(held.pending) : "–", t("accepted, and not settled yet: entries of the journal")),
    line(t("Stored, as the cache knows it"), held ? whole(held.stored) : "–", held ? t("revision {n}", { n: held.stored_revision }) : ""),
    line(t("Stored"), stored ? whole(stored.count) : database ? "0" : "–", database ? stored ? t("in the database; revision {n}", { n: stored.revision }) : t("no counter: nobody has liked it") : t("cannot ask the database")),
    line(t("Rows of likes that hold"), database ? whole(database.live) : "–", t("what the stored count must be")),
  ]);
  const words = (counters ?? []).filter((one) => one.verdict !== "in_flight").map((one) => t(WRONG[one.kind] ?? WRONG[one.verdict] ?? named(one.verdict)));
  const unfinished = (...of) => (database?.unfinished ?? []).filter((one) => of.includes(one.status)).reduce((sum, one) => sum + one.count, 0);
  const dead = unfinished("dead"), waits = unfinished("failed", "processing", "pending");
  if (dead === 1) words.push(t("1 accepted like of it is dead: its user sees it, and the count lacks it."));
  if (dead > 1) words.push(t("{n} accepted likes of it are dead: their users see them, and the count lacks them.", { n: whole(dead) }));
  if (waits === 1) words.push(t("1 accepted like of it is to be tried again: the count lacks it until then."));
  if (waits > 1) words.push(t("{n} accepted likes of it are to be tried again: the count lacks them until then.", { n: whole(waits) }));
  const known = cache && database && counters;
  $("counts-verdict").className = words.length ? "bad" : "quiet";
  put("counts-verdict", words.length ? words.join(" ") : !known ? t("One side cannot be asked.") : held?.pending || counters.length ? t("They may differ by what is on its way.") : t("Cache and database say the same."));
}

function unfinished(of, database) {
  const some = database?.unfinished.filter((one) => one.count > 0) ?? [];
  fill($("unfinished"), database ? some.length ? some.map((one) => el("li", {},
    to({ view: "events", status: one.status, type: of.type, id: of.id }, chip(one.status), ` ${whole(one.count)}${one.capped ? "+" : ""}`)))
    : [el("li", { class: "quiet" }, t("no event waits, failed or is dead"))] : [el("li", { class: "quiet" }, t("cannot ask the database"))]);
}

/// Findings as rows: here and in the report.
export function lives(list, name) {
  const side = (value) => value === null ? "–" : whole(Number(value));
  return list.map((one) => el("tr", {},
    name ? el("td", {}, name(one)) : null,
    el("td", { "data-label": t("Compared") }, named(one.kind)),
    el("td", { "data-label": t("Verdict") }, chip(one.verdict, one.closed_at ? "none" : "wrong"), !name && one.user_id ? [" ", userLink(one.resource_type, one.resource_id, one.user_id)] : null),
    el("td", { class: "number", "data-label": t("Cache") }, side(one.cache_value)),
    el("td", { class: "number", "data-label": t("Database") }, side(one.stored_value)),
    el("td", { "data-label": t("First seen") }, when(one.opened_at)),
    el("td", { "data-label": t("State") }, one.closed_at
      ? el("span", {}, one.outcome === "repaired" ? t("repaired") : t("seen consistent"), " ", when(one.closed_at))
      : one.sightings === 1 ? el("span", { class: "bad" }, t("open, seen once"))
      : el("span", { class: "bad" }, t("open for {span}, seen {n} times", { span: span(new Date(one.seen_at) - new Date(one.opened_at)), n: one.sightings })),
      one.earlier > 0 ? el("small", { class: "quiet" }, " ", one.earlier === 1 ? t("found once before") : t("found {n} times before", { n: one.earlier })) : null)));
}

function findings(database) {
  const list = database?.findings ?? [];
  $("resource-findings").hidden = list.length === 0;
  put("no-findings", database ? list.length ? "" : t("Nothing was ever found wrong with it.") : t("cannot ask the database"));
  fill($("resource-findings").tBodies[0], lives(list));
}

function newest(of, page) {
  const list = page?.events ?? [];
  $("resource-events").hidden = list.length === 0;
  put("no-resource-events", page ? list.length ? "" : page.next_page_token ? t("None among the newest events of the ledger.") : t("The ledger has no event of it.") : t("cannot ask the database"));
  fill($("resource-events").tBodies[0], list.map((one) => el("tr", {},
    el("td", {}, when(one.accepted_at)),
    el("td", { "data-label": t("What") }, `${named(one.action)} `, userLink(of.type, of.id, one.user_id)),
    el("td", { "data-label": t("Status") }, to({ view: "events", event: one.id, status: one.status }, chip(one.status))),
    el("td", { class: "error", "data-label": t("Error") }, one.error ?? "–"))));
}

// ---- check and explain ----

async function check() {
  const node = $("check-result");
  node.replaceChildren(el("p", { class: "quiet" }, t("looking …")));
  try {
    const body = { resource_type: $("c-type").value, resource_id: $("c-id").value.trim() };
    const said = await post("consistency/check", body);
    const fine = said.verdict === "consistent" || said.verdict === "in_flight";
    const side = (one) => one ? `${one.value}${one.pending ? ` (${t("{n} on their way", { n: one.pending })})` : ""}` : t("nothing");
    node.replaceChildren(
      el("p", {}, to({ view: "resource", resource: `${body.resource_type}:${body.resource_id}` }, `${body.resource_type}:${body.resource_id}`), ` ${t("is")} `, chip(said.verdict, fine ? said.verdict : "wrong")),
      el("ul", {}, ...said.findings.map((one) => el("li", {},
        t("{kind}: {verdict}; cache {cache}, database {stored}.", { kind: named(one.kind), verdict: named(one.verdict), cache: side(one.cache), stored: side(one.stored) }), ` ${one.detail || ""}`,
        one.repair ? el("span", { class: "quiet" }, ` ${named(one.repair.action)}: ${named(one.repair.outcome)}`) : null))));
  } catch (error) {
    failed(node, error);
  }
}

async function explain() {
  const node = $("explain-result");
  node.replaceChildren(el("p", { class: "quiet" }, t("looking …")));
  try {
    const query = new URLSearchParams({ user_id: $("e-user").value.trim(), resource_type: $("e-type").value, resource_id: $("e-id").value.trim() });
    const told = await ask("explain?" + query);
    const state = (one) => one ? t("{liked}, version {version}", { liked: one.liked ? t("liked") : t("not liked"), version: one.version }) : t("none");
    let of = null;
    const steps = told.timeline.map((step) => {
      const first = step.event_id !== of;
      of = step.event_id;
      return el("li", { class: `${step.step}${first ? " first" : ""}${step.at ? " at" : ""}` }, el("b", {}, step.step), " ", step.at ? when(step.at) : el("span", { class: "quiet" }, t("time unknown")), el("div", { class: "quiet" }, step.detail));
    });
    const cached = told.cache ? told.cache.count ? t("{served}, {pending} on their way", { served: told.cache.count.served, pending: told.cache.count.pending }) : t("none") : t("cannot ask the cache");
    const now = [
      [t("row"), state(told.row)],
      [t("stored count"), t("{count}, revision {revision}", told.stored_count)],
      [t("cached pair"), told.cache ? state(told.cache.pair) : t("cannot ask the cache")],
      [t("cached count"), cached],
    ];
    const end = told.conclusion;
    node.replaceChildren(...[
      el("p", { class: end.fine ? "" : "bad" }, end.says + "."),
      end.hint ? el("p", { class: "quiet" }, end.hint) : null,
      steps.length ? el("ol", { class: "story" }, ...steps) : el("p", {}, t("No event of it is known.")),
      told.searched_since ? el("p", { class: "quiet" }, t("Completed events before this time may be missing: "), when(told.searched_since)) : null,
      el("dl", { class: "facts" }, ...now.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    ].filter(Boolean));
  } catch (error) {
    failed(node, error);
  }
}

let shown = "";

/// The forms show what the address says; a user in it has the story told at once.
export function showForms() {
  const of = chosen(), user = place.get("user"), here = `${place.get("view")} ${place.get("resource")} ${user}`;
  // Before anybody has signed in nothing is asked.
  if (here === shown || !document.body.dataset.role) return;
  shown = here;
  if (place.get("view") !== "resource") return;
  $("check-result").replaceChildren();
  $("explain-result").replaceChildren();
  if (!of) return;
  $("r-type").value = $("c-type").value = $("e-type").value = of.type;
  $("r-id").value = $("c-id").value = $("e-id").value = of.id;
  $("e-user").value = user;
  if (/^[1-9][0-9]{0,18}$/.test(user)) explain();
}

const submitted = (id, work) => $(id).addEventListener("submit", (event) => { event.preventDefault(); work(); });

export function begin() {
  submitted("check", check);
  submitted("explain", explain);
  submitted("resource-form", () => place.go(place.link({ view: "resource", resource: `${$("r-type").value}:${$("r-id").value.trim()}` })));
}
