// What is shown, as the address says it: whoever gets the link sees the same.

import { TYPES } from "./types.js";

const DEFAULTS = {
  view: "now", range: "live", hours: "24", resource: "", user: "", lang: "",
  status: "failed+dead", type: TYPES[0], id: "", by: "", q: "", group: "", within: "", since: "", until: "", event: "", after: "",
};
// Of the filter of events.
const FILTER = ["status", "type", "id", "by", "q", "group", "within", "since", "until", "event", "after"];

const listeners = [];

export const get = (key) => new URLSearchParams(location.search).get(key) ?? DEFAULTS[key];

/// The address of a place: what is not said has its default. The language stays.
export function link(wanted) {
  const query = new URLSearchParams();
  const all = { lang: get("lang"), ...wanted };
  for (const key of Object.keys(DEFAULTS)) {
    if (all[key] !== undefined && all[key] !== DEFAULTS[key]) query.set(key, all[key]);
  }
  return "?" + query.toString().replaceAll("%3A", ":");
}

/// The same place with something changed.
export function changed(wanted) {
  const here = Object.fromEntries(Object.keys(DEFAULTS).map((key) => [key, get(key)]));
  return link({ ...here, ...wanted });
}

/// The filter of events, all of it, for another view.
export const filter = () => Object.fromEntries(FILTER.map((key) => [key, get(key)]));

export function go(address, replace = false) {
  const same = new URL(address, location.href).search === location.search;
  if (replace || same) history.replaceState(null, "", address); else history.pushState(null, "", address);
  tell();
}

export function onChange(listener) { listeners.push(listener); }

export function tell() { for (const listener of listeners) listener(); }

addEventListener("popstate", tell);

// Links to places of this page are followed without loading it again; with a modifier the browser does what it always does.
document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href^='?']");
  if (!anchor || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
  const target = anchor.dataset.to && document.getElementById(anchor.dataset.to);
  if (target) { target.focus({ preventScroll: true }); target.scrollIntoView({ block: "start" }); } else scrollTo(0, 0);
});
