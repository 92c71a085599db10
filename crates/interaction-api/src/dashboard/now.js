// What is happening now: figures and their charts, parts, processes, ledger, hot resources, what operators did.

import { Refused, ask } from "./ask.js";
import { RANGES, chart } from "./charts.js";
import * as place from "./place.js";
import { $, brief, chip, clock, el, fill, named, percent, put, resourceLink, short, span, to, when, whole, zone } from "./show.js";
import { say, t } from "./words.js";

const charts = {
  rate: chart("rate-chart", [[t("accepted"), "--accent"]], (value) => brief(value)),
  lag: chart("lag-chart", [["p99", "--accent"], [t("median"), "--second"]], span, { most: 10 }),
  journal: chart("journal-chart", [[t("in the journal"), "--accent"], [t("in the queue"), "--second"]], short),
  wrong: chart("wrong-chart", [[t("dead"), "--accent"], [t("failed"), "--second"], [t("subjects"), "--third"]], short),
  consistency: chart("consistency-chart", [[t("consistent"), "--accent"]], (value) => value === null ? "–" : `${value.toFixed(value === 100 ? 0 : 2)} %`, { least: 99, most: 100 }),
};
// Who has said nothing for so long is lost: each says something every five seconds.
const LOST_MS = 10000;
let before = null;
let consistency = null;
// What alerts compare with, by their names: the process's configuration.
export const limits = {};

// Parts of the health of a process: what each of them is.
const PARTS = {
  redis: say("The cache: likes are accepted here."),
  journal: say("The cache in this process: likes are accepted here."),
  mysql: say("The database: likes end up here."),
  database: say("The database: likes end up here."),
  rabbitmq: say("The broker: brings events from servers to consumers."),
  likes: say("Whether likes can be accepted: one of cache and database is enough."),
  flow: say("Whether somebody takes up accepted likes, and whether a bound turns likes away."),
  clocks: say("Whether the clocks of this process and its stores agree."),
  database_history: say("Whether the database still has all that it confirmed."),
  redis_memory: say("Memory of the cache, beside its limit."),
  redis_replicas: say("Replicas of the cache that follow it."),
  redis_shards: say("Shards of a cluster whose primary is unreachable."),
  redis_disk: say("Whether the cache can write its disk."),
  changes: say("Others hear of committed likes by the exchange of changes. What it does not take is noted, and told later."),
  redo_log: say("The stream from which a database that lost something is told again."),
  dead_events: say("Accepted likes that were given up: somebody has to replay or discard them."),
  late_events: say("Accepted likes that failed, or that nobody takes up, for too long."),
  open_findings: say("What the checkers found wrong and nobody put right."),
  journal_fill: say("How full the fullest journal is: a full one refuses likes."),
  connections: say("Whether listeners had no place for somebody within the last minute."),
  tokens: say("Whether the file of tokens can be read."),
  certificates: say("Whether the files of certificates can be read."),
  certificate_expiry: say("How long the certificate is valid."),
  consistency_rate: say("Comparisons that ended well, beside the limit of alerts."),
  like_error_rate: say("Likes that failed, beside the limit of alerts."),
  like_latency: say("How long a like takes, beside the limit of alerts."),
  commit_lag: say("How long likes take to the database, beside the limit of alerts."),
  journal_age: say("How old the oldest entry of the journals is, beside the limit of alerts."),
  ledger_unread: say("Whether ledger and findings could be read lately: without them nobody knows what is wrong."),
  silent_process: say("Whether every process that did not stop says that it runs."),
  moved_events: say("Events that the broker moved to the dead letters by itself."),
  startup: say("Whether the process has started."),
};
// These are read from the database: without it nobody knows.
const FROM_DATABASE = ["dead_events", "late_events", "open_findings", "consistency_rate", "commit_lag"];
// Where to look when one of these is not well.
const CAUSES = {
  dead_events: { view: "events", status: "dead" },
  late_events: { view: "events", status: "failed" },
  open_findings: { view: "report" },
  consistency_rate: { view: "report" },
};

/// What a part is called.
const called = (name) => t(name.replaceAll("_", " "));

/// The sum over all labels; the name with the prefix of the product, or without.
function metric(text, short) {
  for (const name of [`interaction_${short}`, short]) {
    let sum = null;
    for (const line of text.split("\n")) {
      if (line.startsWith(name + " ") || line.startsWith(name + "{")) sum = (sum ?? 0) + Number(line.slice(line.lastIndexOf(" ")));
    }
    if (sum !== null) return sum;
  }
  return null;
}

/// Looks at this process and at the stores.
export async function look() {
  const [health, metrics, overview] = await Promise.all([ask("health"), ask("metrics").catch(() => ""), ask("overview")]);
  const seen = { at: performance.now(), accepted: overview.journal ? overview.journal.accepted : null };
  for (const name of ["likes_total", "publish_batch_size_sum", "publish_batch_size_count", "apply_batch_size_sum", "apply_batch_size_count"]) {
    seen[name] = metric(metrics, name);
  }
  for (const [, name, value] of metrics.matchAll(/^(?:interaction_)?alert_threshold\{alert="(\w+)"\} (\S+)$/gm)) limits[name] = Number(value);
  figures(overview, seen);
  whole_state(health, overview);
  ledger(overview.ledger);
  hot(overview.hot);
  deeds(overview.actions);
  processes(overview.processes, overview.at);
  before = seen;
  put("as-of", t("As of {time}", { time: clock(new Date()) }));
  $("as-of").title = zone;
}

function figures(overview, seen) {
  const since = (key) => before && seen[key] !== null && before[key] !== null ? Math.max(0, seen[key] - before[key]) : null;
  const rate = (key) => since(key) === null ? null : since(key) / (seen.at - before.at) * 1000;

  const answered = rate("likes_total"), accepted = rate("accepted") ?? answered;
  put("rate", brief(accepted));
  put("rate-note", answered === null ? "\u00a0" : t("all servers; this one answers {n} likes and unlikes per second", { n: brief(answered) }));
  charts.rate.live([accepted]);

  const lag = overview.lag, some = lag && lag.events > 0;
  put("lag50", some ? span(lag.p50_ms) : "–");
  put("lag99", some ? span(lag.p99_ms) : "–");
  put("lag-note", some ? t("over the last {within} s: newest {newest}, longest {longest}", { within: lag.within_s, newest: span(lag.newest_ms), longest: span(lag.max_ms) }) : lag ? t("no like of the last {within} s arrived at the first attempt", { within: lag.within_s }) : t("cannot ask the database"));
  charts.lag.live(some ? [lag.p99_ms, lag.p50_ms] : [null, null]);

  const { journal, queue } = overview;
  put("journal", journal ? whole(journal.pending) : "–");
  const count = (status) => overview.ledger?.find((one) => one.status === status)?.count ?? null;
  const dead = count("dead"), waits = count("failed");
  // What left the journal is in the database only if the ledger does not hold it back.
  const held = (waits ?? 0) + (count("processing") ?? 0) + (count("pending") ?? 0);
  const empty = () => !overview.ledger ? t("the journal is empty; cannot ask the database")
    : dead + held > 0 ? t("the journal is empty; in no row yet: {dead} dead, {held} to be tried again", { dead: whole(dead ?? 0), held: whole(held) })
    : t("all of it is in the database");
  put("journal-note", !journal ? t("cannot ask the cache") : journal.oldest_age_ms === null ? empty() : t("the oldest for {span}", { span: span(journal.oldest_age_ms) }));
  $("journal-note").className = dead > 0 ? "bad" : "quiet";
  put("queue", overview.broker ? (queue ? whole(queue.ready) : "–") : "");
  const waiting = queue?.ready === 1 ? t("message in the queue") : t("messages in the queue");
  const taking = queue?.consumers === 1 ? t("1 consumer") : t("{n} consumers", { n: whole(queue?.consumers) });
  put("queue-unit", !overview.broker ? t("no queue: applied directly") : queue ? `${waiting}, ${taking}` : t("cannot ask the broker"));
  $("queue-unit").className = `${overview.broker ? "key second-line" : ""} ${queue && queue.consumers === 0 ? "bad" : ""}`.trim();
  charts.journal.live([journal ? journal.pending : null, queue ? queue.ready : null]);

  put("dead", dead === null ? "–" : whole(dead));
  $("dead").className = dead > 0 ? "bad" : "";
  put("failed", waits === null ? "–" : whole(waits));
  put("open", consistency ? whole(consistency.open) : "–");
  put("open-unit", consistency?.open === 1 ? t("subject") : t("subjects"));
  put("wrong-note", overview.ledger ? "\u00a0" : t("cannot ask the database"));
  charts.wrong.live([dead, waits, consistency ? consistency.open : null]);
  charts.consistency.live([consistency && consistency.rate !== null ? consistency.rate * 100 : null]);

  const batch = (name) => {
    const many = since(name + "_count");
    return many ? since(name + "_sum") / many : seen[name + "_count"] ? seen[name + "_sum"] / seen[name + "_count"] : null;
  };
  $("batch-messages").hidden = !overview.broker;
  put("batch-publish", brief(batch("publish_batch_size")));
  put("batch-apply", brief(batch("apply_batch_size")));
  put("batch-note", since("apply_batch_size_count") || since("publish_batch_size_count") ? t("in the last second") : t("on average since its start"));
}

/// The health of this process, what is wrong with likes, and its parts.
function whole_state(health, overview) {
  const parts = Object.entries(health.parts);
  const others = elsewhere(health, overview);
  // One word for the whole: it is ok only if no line below says otherwise.
  const status = health.status === "ok" && others.length > 0 ? "degraded" : health.status;
  put("health", named(status));
  $("health").className = "chip " + status;
  put("where", t("{service} {version}, {instance}, up {span}", { ...health, span: span(health.uptime_seconds * 1000) }));
  fill($("troubles"), [...parts.filter(([, part]) => part.status !== "ok").map(([name, part]) => {
    const cause = CAUSES[name];
    return el("li", { class: part.status }, el("b", {}, called(name)), ": ", part.detail || named(part.status), cause ? [" ", to(cause, t("show them"))] : null);
  }), ...others]);
  fill($("parts"), parts.map(([name, part]) => {
    const circuit = { redis: "cache", journal: "cache", mysql: "database", database: "database", rabbitmq: "broker" }[name];
    const unknown = part.status === "ok" && FROM_DATABASE.includes(name) && !overview.ledger;
    const word = circuit ? (overview.circuits[circuit] ? t("unreachable") : t("reachable")) : unknown ? t("unknown") : named(part.status);
    const last = part.last_error ? [el("br"), t("last error: "), when(part.last_error.at), ` ${part.last_error.error}`] : null;
    return el("li", {},
      el("details", {}, el("summary", {}, called(name)), el("p", { class: "quiet" }, PARTS[name] ? t(PARTS[name]) : null, last)),
      el("span", { class: `chip ${unknown ? "none" : part.status}` }, word),
      part.status === "ok" ? null : el("p", { class: "quiet" }, part.detail));
  }));
}

/// What other processes say of themselves, and this one does not.
function elsewhere(health, overview) {
  const said = new Set(Object.entries(health.parts).filter(([, part]) => part.status !== "ok").map(([name]) => name));
  const unwell = (overview.processes ?? []).filter((one) => one.status !== "ok" && new Date(overview.at) - new Date(one.seen_at) <= LOST_MS
    && !(one.service === health.service && one.instance === health.instance));
  return unwell.filter((one) => [...(one.detail ?? "").matchAll(/(?:^|; )([a-z_]+): /g)].some(([, name]) => !said.has(name)))
    .map((one) => el("li", { class: one.status }, el("b", {}, `${one.service} ${one.instance}`), ": ", one.detail));
}

function ledger(counts) {
  $("ledger-none").hidden = Boolean(counts);
  $("ledger").hidden = !counts;
  if (!counts) return;
  const most = Math.max(1, ...counts.map((one) => one.count));
  const listed = { failed: "failed", dead: "dead", processing: "processing", discarded: "discarded", completed: "completed", pending: "pending" };
  fill($("ledger").tBodies[0], counts.map((one) => el("tr", {},
    // What is not there is neither good nor bad.
    el("td", {}, to({ view: "events", status: listed[one.status] }, chip(one.status, one.count === 0 ? "none" : one.status))),
    el("td", {}, (one.capped ? "≥ " : "") + whole(one.count)),
    el("td", {}, el("meter", { min: 0, max: most, value: one.count, "aria-label": named(one.status) })))));
}

function hot(resources) {
  $("hot-empty").hidden = resources?.length !== 0;
  $("hot-none").hidden = Boolean(resources);
  $("hot").hidden = !resources?.length;
  if (!resources) return;
  const most = Math.max(1, ...resources.map((one) => one.events));
  fill($("hot").tBodies[0], resources.map((one) => el("tr", {},
    el("td", {}, resourceLink(one.resource_type, one.resource_id)),
    el("td", {}, one.count === 1 ? t("1 like") : t("{n} likes", { n: whole(one.count) })),
    el("td", {}, el("meter", { min: 0, max: most, value: one.events, "aria-label": t("{n} of the newest events", { n: one.events }) })))));
}

function deed(one) {
  const values = { actor: one.actor, action: named(one.action), selection: one.selection || t("events"), n: one.events };
  if (one.action === "replay" || one.action === "discard") return t("{actor}: {action} of {selection}, {n} changed", values);
  // Of an erased user nothing is kept; a resource is named.
  return one.selection ? t("{actor}: {action} of {selection}", values) : t("{actor}: {action}", values);
}

function deeds(actions) {
  $("no-deeds").hidden = actions?.length !== 0;
  $("deeds-none").hidden = Boolean(actions);
  $("deeds").hidden = !actions;
  if (!actions) return;
  fill($("deeds"), actions.map((one) => el("li", {}, when(one.at), " ", deed(one),
    one.reason ? el("span", { class: "quiet" }, ` – ${one.reason}`) : null)));
}

function processes(all, at) {
  $("processes-none").hidden = Boolean(all);
  $("processes").hidden = !all;
  if (!all) return;
  fill($("processes").tBodies[0], all.map((one) => {
    const lost = new Date(at) - new Date(one.seen_at) > LOST_MS;
    return el("tr", {},
      el("td", {}, one.service, " ", el("span", { class: "quiet" }, `${one.instance}, ${one.version}`)),
      el("td", { "data-label": t("State") }, lost ? chip("no word", "down") : chip(one.status), !lost && one.detail ? el("p", { class: "quiet" }, one.detail) : null),
      el("td", { "data-label": t("Last word") }, when(one.seen_at)),
      el("td", { "data-label": t("Running since") }, when(one.started_at)));
  }));
}

// Below it a rate says nothing.
const FEWEST_COMPARED = 100;

/// How well cache and database agree.
export async function agree() {
  const said = await ask("consistency/report?hours=24");
  const rate = said.consistency_rate;
  consistency = { rate, open: said.open };
  put("consistency", percent(rate));
  put("nines", said.nines === null ? "" : t("{n} nines", { n: (Math.floor(said.nines * 10) / 10).toFixed(1) }));
  const few = said.checked < FEWEST_COMPARED, low = !few && rate !== null && rate < limits.consistency_rate;
  $("consistency").className = low ? "bad" : "";
  put("open-findings", said.open === 0 ? t("Nothing is open.") : t("{n} open now", { n: whole(said.open) }));
  $("open-findings").className = said.open === 0 ? "quiet" : "bad";
  const note = { n: whole(said.checked), limit: limits.consistency_rate * 100 };
  put("consistency-note", rate === null ? t("nothing was compared yet") : few ? t("too few to judge: {n} compared in a day", note) : low ? t("below the limit of {limit} %: {n} compared in a day", note) : t("{n} compared in a day", note));
}

/// Nobody knows whether they do.
export function disagree(error) {
  if (!(error instanceof Refused)) return;
  consistency = null;
  put("consistency", "–");
  put("nines", "");
  put("open-findings", t("cannot ask the database"));
  put("consistency-note", "\u00a0");
  $("consistency").className = "";
  $("open-findings").className = "quiet";
}

/// The samples of the last hours, for the ranges of the charts.
export async function remember() {
  const range = place.get("range");
  if (range === "live" || !RANGES[range]) return;
  const said = await ask(`history?minutes=${RANGES[range] / 60}`);
  $("history-note").hidden = said.complete;
  const at = said.samples.map((one) => one.minute * 60);
  const column = (key) => said.samples.map((one) => one[key] === null ? null : Number(one[key]));
  const accepted = said.samples.map((one, i) => {
    const last = said.samples[i - 1];
    if (!last || one.accepted === null || last.accepted === null || Number(one.accepted) < Number(last.accepted)) return null;
    return (Number(one.accepted) - Number(last.accepted)) / (one.minute - last.minute) / 60;
  });
  charts.rate.past([at, accepted]);
  charts.lag.past([at, column("lag_p99_ms"), column("lag_p50_ms")]);
  charts.journal.past([at, column("journal"), column("queue")]);
  charts.wrong.past([at, column("dead"), column("failed"), column("open_findings")]);
  charts.consistency.past([at, column("consistent_ppm").map((value) => value === null ? null : value / 1e4)]);
}

/// The range of the charts, as the address says.
export function showRange() {
  const range = RANGES[place.get("range")] ? place.get("range") : "live";
  for (const one of Object.values(charts)) one.range(range);
  for (const anchor of document.querySelectorAll("#ranges a")) {
    const own = anchor.dataset.range;
    anchor.setAttribute("href", place.changed({ range: own }));
    if (own === range) anchor.setAttribute("aria-current", "true"); else anchor.removeAttribute("aria-current");
  }
  if (range === "live") $("history-note").hidden = true;
}
