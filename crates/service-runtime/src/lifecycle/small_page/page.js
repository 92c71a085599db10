"use strict";
// The page of a consumer or a checker: asks its health and its metrics again and again. Nothing is loaded from elsewhere.

const EVERY_MS = 2000, STALE_MS = 6000;
const $ = (id) => document.getElementById(id);
const place = new URL(location.href);
const chinese = (place.searchParams.get("lang") ?? navigator.language).startsWith("zh");
const t = (text) => chinese ? CHINESE[text] ?? text : text;

const ABOUT = {
  "sync-consumer": t("Consumer: brings accepted likes from the queue to the database."),
  "consistency-checker": t("Checker: compares cache and database, and repairs what differs."),
};
const whole = (value) => Math.round(value).toLocaleString("en");
const seconds = (value) => value < 120 ? `${value.toFixed(1)} s` : value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;

// Zero: there was none.
const lag = (value) => value === 0 ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : seconds(value);

// What is shown of the metrics: of which service (none: of every one), name, heading, explanation, and how.
const FIGURES = [
  ["sync-consumer", "applied_events_total", t("Events applied"), t("per second, committed to the database"), (value, rate) => rate === null ? "–" : `${rate.toFixed(1)} /s`],
  ["sync-consumer", "apply_batch_size", t("Events of a transaction"), t("on average since the start"), (value) => value.toFixed(1)],
  [null, "journal_entries", t("In the journals"), t("accepted likes that are not in the database yet, all processes"), whole],
  [null, "journal_oldest_age_seconds", t("Oldest of them"), t("since it was accepted"), seconds],
  [null, "commit_lag_p50_seconds", t("From like to database, median"), t("of likes accepted within the last minute, all processes"), lag],
  [null, "commit_lag_p99_seconds", t("From like to database, p99"), t("of likes accepted within the last minute, all processes"), lag],
  ["sync-consumer", "queue_ready_messages", t("In the queue"), t("messages that nobody has taken yet"), whole],
  ["sync-consumer", "dead_letters", t("Dead letters"), t("messages in the dead-letter queue"), whole],
  ["consistency-checker", "consistency_checked_total", t("Compared"), t("things since the start"), whole],
  ["consistency-checker", "consistency_coverage", t("Covered"), t("part of the resources that the current or last full sweep saw"), (value) => `${(Math.floor(value * 1000) / 10).toFixed(1)} %`],
  [null, "consistency_open_findings", t("Open findings"), t("subjects with something wrong now"), whole],
  [null, "process_resident_memory_bytes", t("Memory"), t("resident"), (value) => `${(value / 1048576).toFixed(0)} MiB`],
];

function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/// The sum over all labels; the name with or without the prefix of the product.
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

let before = null, seenAt = null, signedIn = null;

async function ask(path, options = {}) {
  return fetch(path, { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(10000), ...options });
}

function showHealth(health) {
  document.title = health.service;
  $("service").textContent = health.service;
  $("about").textContent = ABOUT[health.service] ?? "";
  $("status").textContent = t(health.status);
  $("status").className = `chip ${health.status}`;
  $("where").textContent = `${health.instance}, ${t("version")} ${health.version}, ${t("up")} ${seconds(health.uptime_seconds)}`;
  $("report").hidden = health.service !== "consistency-checker";
  $("parts").replaceChildren(...Object.entries(health.parts).map(([name, part]) => el("tr", {},
    el("td", {}, name.replaceAll("_", " ")), el("td", {}, el("span", { class: `chip ${part.status}` }, t(part.status))),
    el("td", {}, [part.detail, part.last_error ? `${part.last_error.at}: ${part.last_error.error}` : null].filter(Boolean).join("; ") || "–"))));
}

function showFigures(service, text) {
  const now = { at: performance.now() };
  const shown = [];
  for (const [of, name, title, meaning, show] of FIGURES) {
    if (of && of !== service) continue;
    let value = metric(text, name);
    if (name === "apply_batch_size") {
      const count = metric(text, `${name}_count`);
      value = count ? metric(text, `${name}_sum`) / count : null;
    }
    now[name] = value;
    if (value === null) continue;
    const rate = before && before[name] !== null && before[name] !== undefined ? Math.max(0, value - before[name]) / (now.at - before.at) * 1000 : null;
    shown.push(el("dt", {}, title, el("small", {}, meaning)), el("dd", {}, show(value, rate)));
  }
  $("figures").replaceChildren(...shown);
  before = now;
}

async function look() {
  const answer = await ask("health");
  const health = await answer.json();
  showHealth(health);
  const session = await (await ask("session")).json();
  signedIn = session.signed_in;
  $("sign-in").hidden = !session.needs_token || signedIn;
  $("sign-out").hidden = !session.needs_token || !signedIn;
  if (signedIn) {
    const metrics = await ask("metrics");
    if (metrics.ok) showFigures(health.service, await metrics.text());
  } else {
    $("figures").replaceChildren();
  }
  seenAt = new Date();
  $("notice").hidden = true;
  document.body.classList.remove("stale");
  $("as-of").textContent = `${t("As of")} ${seenAt.toLocaleTimeString("en-GB")}`;
}

async function again() {
  try {
    if (!document.hidden) await look();
  } catch {
    $("notice").hidden = false;
    $("notice").textContent = t("The process does not answer; trying on.");
    if (!seenAt || Date.now() - seenAt > STALE_MS) {
      document.body.classList.add("stale");
      $("status").textContent = t("no answer");
      $("status").className = "chip down";
      if (seenAt) $("as-of").textContent = `${t("no answer since")} ${seenAt.toLocaleTimeString("en-GB")}`;
    }
  }
  setTimeout(again, EVERY_MS);
}

async function session(method, body) {
  const answer = await ask("session", { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) });
  $("token").value = "";
  if (!answer.ok) {
    const said = await answer.json();
    $("notice").hidden = false;
    $("notice").textContent = t(said.error);
    return;
  }
  await look();
}

if (chinese) {
  document.documentElement.lang = "zh";
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.textContent);
}
$("language").textContent = chinese ? "English" : "中文";
$("language").lang = chinese ? "en" : "zh";
$("language").addEventListener("click", () => {
  place.searchParams.set("lang", chinese ? "en" : "zh");
  location.replace(place);
});
$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  session("POST", { token: $("token").value.trim() });
});
$("sign-out").addEventListener("click", () => session("DELETE"));
again();
