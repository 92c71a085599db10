// English and Chinese. The English stands in the page and its scripts; `chinese.js` has the rest.

import { CHINESE } from "./chinese.js";
import * as place from "./place.js";

const asked = place.get("lang") || navigator.language || "en";
export const chinese = asked.toLowerCase().startsWith("zh");

/// A word in the reader's language; `{name}` is replaced by the value of that name.
export function t(text, values = {}) {
  const known = chinese ? CHINESE[text] ?? text : text;
  return known.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/// A word that is looked up later.
export const say = (text) => text;

/// The page's own words; before anything reads them.
function translate() {
  document.documentElement.lang = chinese ? "zh" : "en";
  const other = document.getElementById("language");
  other.textContent = chinese ? "English" : "中文";
  other.lang = chinese ? "en" : "zh";
  other.addEventListener("click", () => location.assign(place.changed({ lang: chinese ? "en" : "zh" })));
  if (!chinese) return;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.textContent);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  for (const node of document.querySelectorAll("[data-t-title]")) node.title = t(node.dataset.tTitle);
}

translate();
