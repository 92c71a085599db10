// The page of a server: what it asks, how often, for whom, and what it shows when nobody answers.

import { Refused, ask, post, remove, whenStrange } from "./ask.js";
import * as events from "./events.js";
import * as now from "./now.js";
import * as operate from "./operate.js";
import * as place from "./place.js";
import * as report from "./report.js";
import * as resource from "./resource.js";
import { $, clock, notice, put, tick, zone } from "./show.js";
import { t } from "./words.js";

const LOOK_MS = 1000, EVENTS_MS = 3000, GROUPS_MS = 10000, AGREE_MS = 15000, RESOURCE_MS = 5000, REPORT_MS = 30000, HISTORY_MS = 30000;
// What was seen longer ago is old.
const STALE_MS = 5000;
const VIEWS = ["now", "events", "resource", "report"];

// ---- who ----

let session = null;

async function who() {
  session = await ask("session");
  showSession();
}

function showSession() {
  const { needs_token, signed_in, name, role } = session;
  document.body.dataset.role = role ?? "";
  document.body.classList.toggle("stranger", !signed_in);
  $("sign-in").hidden = signed_in;
  $("content").hidden = !signed_in;
  $("sign-out").hidden = !(needs_token && signed_in);
  put("me", needs_token && signed_in ? t("{name}, role {role}", { name, role }) : "");
  if (signed_in) operate.callMe(name);
  else { put("health", t("signed out")); $("health").className = "chip"; }
}

function stranger() {
  if (session && !session.signed_in) return;
  session = { needs_token: true, signed_in: false, name: null, role: null };
  showSession();
}

async function signed(work) {
  try {
    session = await work();
    notice("");
    showSession();
    show();
  } catch (error) {
    notice(error instanceof Refused ? t(error.message) : t("The server does not answer ({why}); trying on.", { why: error.message }));
  }
}

// ---- again and again ----

let paused = false, seenAt = null;
const timers = [];
const failing = new Map();

/// Repeats a look while somebody looks at one of these views; the next one begins only after the last one ended.
function every(ms, views, work, without) {
  const timer = { due: 0, busy: false };
  timers.push(timer);
  setInterval(async () => {
    const wanted = views.length === 0 || views.includes(view());
    if (timer.busy || paused || document.hidden || !wanted || !session?.signed_in || performance.now() < timer.due) return;
    timer.busy = true;
    try {
      await work();
      failing.delete(work);
    } catch (error) {
      // Whoever has to sign in is told so by the form.
      if (error.status !== 401) failing.set(work, error);
      without?.(error);
    } finally {
      timer.busy = false;
      timer.due = performance.now() + ms;
      complain();
    }
  }, 100);
}

function complain() {
  const [error] = failing.values();
  if (!error) return notice("");
  notice(error instanceof Refused ? error.message : t("The server does not answer ({why}); trying on.", { why: error.message }));
}

function soon() { for (const timer of timers) timer.due = 0; }

/// What was seen a while ago is grey: nothing of it is sure, least of all what was green.
function age() {
  tick();
  if (!session?.signed_in || !seenAt) return;
  const stale = Date.now() - seenAt > STALE_MS;
  document.body.classList.toggle("stale", stale);
  if (!stale) return;
  const time = clock(seenAt);
  put("as-of", paused ? t("Paused at {time}", { time }) : t("No answer since {time}", { time }));
  put("health", paused ? t("paused") : t("no answer"));
  $("health").className = paused ? "chip" : "chip down";
}

async function look() {
  await now.look();
  seenAt = new Date();
  document.body.classList.remove("stale");
}

function lost(error) {
  if (error.status === 401) return;
  if (seenAt && Date.now() - seenAt <= STALE_MS) return;
  put("health", t("no answer"));
  $("health").className = "chip down";
}

// ---- where ----

const view = () => VIEWS.includes(place.get("view")) ? place.get("view") : "now";

function show() {
  document.body.dataset.view = view();
  for (const section of document.querySelectorAll("[data-views]")) section.hidden = !section.dataset.views.split(" ").includes(view());
  for (const anchor of document.querySelectorAll("#views a")) {
    const of = anchor.dataset.view;
    anchor.setAttribute("href", place.link({ view: of, ...(of === "events" ? place.filter() : {}), ...(of === "resource" ? { resource: place.get("resource"), user: place.get("user") } : {}) }));
    if (of === view()) anchor.setAttribute("aria-current", "page"); else anchor.removeAttribute("aria-current");
  }
  now.showRange();
  events.showFilter();
  report.showHours();
  resource.showForms();
  soon();
}

// ---- begin ----

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  signed(() => post("session", { token }));
});
$("sign-out").addEventListener("click", () => signed(() => remove("session")));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  put("pause", paused ? t("Go on") : t("Pause"));
  soon();
});
document.addEventListener("visibilitychange", soon);
whenStrange(stranger);
place.onChange(show);
operate.changes(soon);
put("zone", t("Times are in {zone}.", { zone }));
for (const part of [events, operate, resource]) part.begin();
show();

every(LOOK_MS, [], look, lost);
every(EVENTS_MS, ["now", "events"], events.events, events.unasked);
every(GROUPS_MS, ["now", "events"], events.groups);
every(AGREE_MS, ["now"], now.agree, now.disagree);
every(HISTORY_MS, ["now"], now.remember);
every(RESOURCE_MS, ["resource"], resource.resource);
every(REPORT_MS, ["report"], report.report);
setInterval(age, 1000);

async function begin() {
  try {
    await who();
    show();
  } catch (error) {
    lost(error);
    notice(t("The server does not answer ({why}); trying on.", { why: error.message }));
    setTimeout(begin, 2000);
  }
}
begin();
