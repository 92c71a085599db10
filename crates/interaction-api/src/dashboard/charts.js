// The charts of the page, drawn by uPlot: the last two minutes as this page saw them, or the samples of the last hours. Whoever
// cannot see them finds the same in the figures above them and in their labels.

import { $, clock } from "./show.js";
import { t } from "./words.js";

const LIVE_SECONDS = 120;
/// Ranges by their names, in seconds.
export const RANGES = { live: LIVE_SECONDS, "1h": 3600, "6h": 21600, "24h": 86400 };
// Samples come each minute; where two of them are further apart, one is missing.
const GAP_SECONDS = 90;

const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const minute = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

/// A chart in the element of this id. `lines` are [name, CSS variable of its colour]; `show` makes text of a value; `least` is
/// where the axis begins unless a value is below it; `most` where it ends at least.
export function chart(id, lines, show, { least = 0, most = 1 } = {}) {
  const node = $(id), title = node.getAttribute("aria-label");
  const live = [[], ...lines.map(() => [])];
  let past = [[], ...lines.map(() => [])], range = "live", data = live;
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const none = Object.assign(document.createElement("p"), { className: "none" });
  // A line needs two points; one or two are dots, so that the first is seen.
  const few = (plot, at) => plot.data[at].filter((value) => value !== null).length < 3;
  const size = () => ({ width: Math.max(node.clientWidth, 120), height: node.clientHeight });
  const label = (seconds) => range === "live" ? clock(new Date(seconds * 1000)) : minute(seconds);

  function hover(plot) {
    const { idx, left } = plot.cursor;
    tip.hidden = idx === null || idx === undefined || left < 0 || data[0][idx] === undefined;
    if (tip.hidden) return;
    const words = lines.map(([name], i) => `${lines.length > 1 ? name + " " : ""}${show(data[i + 1][idx] ?? null)}`);
    tip.textContent = [label(data[0][idx]), ...words].join(" · ");
    const at = plot.over.offsetLeft + plot.valToPos(data[0][idx], "x");
    tip.style.left = `${Math.max(0, Math.min(at - tip.offsetWidth / 2, node.clientWidth - tip.offsetWidth))}px`;
  }

  const axis = { stroke: colour("--quiet"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  // None at the ends: the zero of the other axis is at the left, and at the right it would be cut off.
  const times = (plot, at) => at.map((one) => {
    const left = plot.valToPos(one, "x"), end = plot.valToPos(plot.scales.x.max, "x");
    return left < 24 || left > end - 16 ? "" : label(one);
  });
  const grid = { stroke: colour("--edge"), width: 1 };
  const plot = new uPlot({
    ...size(),
    padding: [6, 10, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      sync: { key: "charts" },
      points: { size: 7, width: 0, fill: (_, i) => colour(lines[i - 1][1])() },
    },
    scales: {
      x: { range: () => { const now = range === "live" ? data[0].at(-1) ?? Date.now() / 1000 : Date.now() / 1000; return [now - RANGES[range], now]; } },
      // What is all zero lies on the ground.
      y: { range: (_, low, high) => [Math.min(least, low ?? least), Math.max(most, high > 0 ? least + (high - least) * 1.1 : 1)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 24, gap: 8, space: 72, incrs: [10, 20, 30, 60, 300, 600, 900, 1800, 3600, 7200, 14400, 21600], values: times },
      { ...axis, grid, size: 54, gap: 6, space: 32, values: (_, at) => at.map((value) => show(value)) },
    ],
    series: [{}, ...lines.map(([name, own], i) => ({
      label: name, stroke: colour(own), width: 1.75, points: { show: few, size: 6 }, spanGaps: false, fill: i === 0 && least === 0 ? colour("--wash") : undefined,
    }))],
    hooks: { setCursor: [hover] },
  }, data, node);
  node.append(tip, none);
  new ResizeObserver(() => plot.setSize(size())).observe(node);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw(false));

  function draw() {
    plot.setData(data);
    const known = data.slice(1).flat().filter((value) => value !== null);
    const ends = { least: known.length ? show(Math.min(...known)) : "", most: known.length ? show(Math.max(...known)) : "" };
    const words = range === "live" ? t("{title}, the last two minutes", { title }) : t("{title}, the last {range}", { title, range: range.replace("h", " h") });
    node.setAttribute("aria-label", known.length ? t("{words}: between {least} and {most}", { words, ...ends }) : t("{words}: nothing is known", { words }));
    none.hidden = known.length > 0;
    none.textContent = none.hidden ? "" : range === "live" ? t("nothing to be seen at present") : t("nothing yet: the first minute is not over");
    node.dataset.points = known.length ? data[0].length : 0;
  }

  return {
    /// Adds a value of now for each line; null where there is none.
    live(values) {
      const now = Date.now() / 1000;
      [now, ...values].forEach((value, i) => live[i].push(value));
      while (live[0][0] < now - LIVE_SECONDS) for (const line of live) line.shift();
      if (range === "live") draw();
    },
    /// Takes samples: times in seconds, then a list of values for each line. Between samples that are too far apart is a gap.
    past(columns) {
      const [at, ...values] = columns;
      past = [[], ...lines.map(() => [])];
      at.forEach((time, i) => {
        if (i > 0 && time - at[i - 1] > GAP_SECONDS) { past[0].push(at[i - 1] + 1); past.slice(1).forEach((line) => line.push(null)); }
        past[0].push(time);
        values.forEach((line, n) => past[n + 1].push(line[i]));
      });
      if (range !== "live") { data = past; draw(); }
    },
    /// Shows a range, by its name.
    range(name) {
      if (name === range) return;
      range = name;
      data = range === "live" ? live : past;
      draw();
    },
  };
}
