// The report: what was compared, what was found, and what became of it, over a range of time.

import { ask } from "./ask.js";
import * as place from "./place.js";
import { $, chip, el, fill, named, percent, put, resourceLink, span, subject, when, whole } from "./show.js";
import { lives } from "./resource.js";
import { TYPES } from "./types.js";
import { t } from "./words.js";

const HOURS = ["1", "6", "24", "168", "720"];
const hours = () => HOURS.includes(place.get("hours")) ? place.get("hours") : "24";

export async function report() {
  const asked = hours(), said = await ask(`consistency/report?hours=${asked}`);
  if (asked !== hours()) return;
  $("report-body").hidden = false;
  const since = el("span", {}, t("since "), when(said.since));
  fill($("report-since"), [since]);
  fill($("report-troubles"), said.troubles.length
    ? said.troubles.map((one) => el("li", { class: "bad" }, `${one.detail}. `, el("span", { class: "quiet" }, one.hint)))
    : [el("li", {}, t("Nothing is wrong now."))]);
  const lag = said.lag;
  const tile = (value, label, extra = "") => el("div", { class: "tile" }, el("p", { class: "figure" }, el("b", { class: extra }, value)), el("p", { class: "quiet" }, label));
  const low = said.consistency_rate !== null && said.consistency_rate < 0.95;
  fill($("report-tiles"), [
    tile(percent(said.consistency_rate), said.consistency_rate === null ? t("nothing was compared yet") : said.nines === null ? said.inconsistent ? t("of the comparisons ended well: what was found is only late") : t("of the comparisons ended well; nothing was wrong") : t("of the comparisons ended well; {n} nines", { n: (Math.floor(said.nines * 10) / 10).toFixed(1) }), low ? "bad" : ""),
    tile(whole(said.checked), said.runs === 1 ? t("compared, in 1 run") : t("compared, in {n} runs", { n: whole(said.runs) })),
    tile(whole(said.open), t("open now: subjects with something wrong"), said.open ? "bad" : ""),
    tile(`${whole(said.opened)} / ${whole(said.closed)}`, t("findings opened / closed")),
    tile(percent(said.coverage), t("of the resources were seen by the newest full sweep")),
    tile(lag.events ? span(lag.p50_ms) : "–", lag.events ? t("from answer to database over the last {within} s, median; p95 {p95}, p99 {p99}, longest {max}, newest {newest}", { within: lag.within_s, p95: span(lag.p95_ms), p99: span(lag.p99_ms), max: span(lag.max_ms), newest: span(lag.newest_ms) }) : t("no like of the last {within} s arrived at the first attempt", { within: lag.within_s })),
  ]);
  trend(said.trend);
  const none = (id, list) => { $(id).hidden = list.length === 0; $(`${id}-none`).hidden = list.length > 0; };
  none("report-findings", said.findings);
  fill($("report-findings").tBodies[0], lives(said.findings, subject));
  none("report-kinds", said.by_kind);
  fill($("report-kinds").tBodies[0], said.by_kind.map((one) => el("tr", {}, el("td", {}, named(one.kind)), el("td", {}, named(one.verdict)), el("td", { class: "number" }, whole(one.found)), el("td", { class: "number" }, whole(one.repaired)))));
  none("report-where", said.by_resource);
  fill($("report-where").tBodies[0], said.by_resource.map(([name, found]) => {
    const [type, id] = name.split(":");
    return el("tr", {}, el("td", {}, TYPES.includes(type) ? resourceLink(type, id) : name), el("td", { class: "number" }, whole(found)));
  }));
  none("report-runs", said.latest_runs);
  fill($("report-runs").tBodies[0], said.latest_runs.map((run) => el("tr", {},
    el("td", {}, when(run.started_at)),
    el("td", { "data-label": t("Kind") }, named(run.kind)),
    el("td", { "data-label": t("Status") }, chip(run.status, run.status === "aborted" ? "failed" : "none")),
    el("td", { class: "number", "data-label": t("Compared") }, whole(run.checked)),
    el("td", { class: "number", "data-label": t("Found") }, whole(run.inconsistent)),
    el("td", { class: "number", "data-label": t("Repaired") }, whole(run.repaired)),
    el("td", { class: "number", "data-label": t("Covered") }, percent(run.coverage, 1)))));
}

function trend(list) {
  const most = Math.max(1, ...list.map((one) => one.checked));
  $("report-trend").hidden = list.length === 0;
  $("report-trend-none").hidden = list.length > 0;
  fill($("report-trend").tBodies[0], list.map((one) => {
    const hour = new Date(one.hour.replace(" ", "T") + ":00:00Z");
    return el("tr", {},
      el("td", {}, Number.isNaN(hour.getTime()) ? one.hour : hour.toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" })),
      el("td", { class: "number", "data-label": t("Compared") }, whole(one.checked)),
      el("td", { class: "number", "data-label": t("Found") }, el("span", { class: one.inconsistent ? "bad" : "" }, whole(one.inconsistent))),
      el("td", { class: "number", "data-label": t("Repaired") }, whole(one.repaired)),
      el("td", {}, el("meter", { min: 0, max: most, value: one.checked, "aria-label": t("{n} compared", { n: whole(one.checked) }) })));
  }));
}

/// Links to other ranges.
export function showHours() {
  for (const anchor of document.querySelectorAll("#report-ranges a")) {
    anchor.setAttribute("href", place.changed({ hours: anchor.dataset.hours }));
    if (anchor.dataset.hours === hours()) anchor.setAttribute("aria-current", "true"); else anchor.removeAttribute("aria-current");
  }
}
