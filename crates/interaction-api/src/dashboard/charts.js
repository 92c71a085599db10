"use strict";
// The charts of the page: the last two minutes of a few numbers, drawn by uPlot. Whoever cannot see them finds the same in
// the figures above them and in their labels.

const CHART_SECONDS = 120;

/// A chart in the element of this id. `lines` are [name, CSS variable of its colour]; `show` makes text of a value.
function chart(id, lines, show) {
  const node = document.getElementById(id), title = node.getAttribute("aria-label");
  const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
  const data = [[], ...lines.map(() => [])];
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const size = () => ({ width: Math.max(node.clientWidth, 120), height: node.clientHeight });

  function hover(plot) {
    const { idx, left } = plot.cursor;
    tip.hidden = idx === null || idx === undefined || left < 0;
    if (tip.hidden) return;
    const words = lines.map(([name], i) => `${lines.length > 1 ? name + " " : ""}${show(data[i + 1][idx] ?? null)}`);
    tip.textContent = [clock(data[0][idx]), ...words].join(" · ");
    const at = plot.over.offsetLeft + plot.valToPos(data[0][idx], "x");
    tip.style.left = `${Math.max(0, Math.min(at - tip.offsetWidth / 2, node.clientWidth - tip.offsetWidth))}px`;
  }

  const axis = { stroke: colour("--quiet"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  // None at the ends: the zero of the other axis is at the left, and at the right it would be cut off.
  const times = (plot, at) => at.map((one) => {
    const left = plot.valToPos(one, "x"), end = plot.valToPos(plot.scales.x.max, "x");
    return left < 24 || left > end - 16 ? "" : clock(one);
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
      x: { range: () => { const now = data[0].at(-1) ?? Date.now() / 1000; return [now - CHART_SECONDS, now]; } },
      // From zero; what is all zero lies on the ground.
      y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 24, gap: 8, space: 72, incrs: [10, 20, 30, 60], values: times },
      { ...axis, grid, size: 54, gap: 6, space: 32, values: (_, at) => at.map((value) => show(value)) },
    ],
    series: [{}, ...lines.map(([name, own], i) => ({
      label: name, stroke: colour(own), width: 1.75, points: { show: false }, fill: i === 0 ? colour("--wash") : undefined,
    }))],
    hooks: { setCursor: [hover] },
  }, data, node);
  node.append(tip);
  new ResizeObserver(() => plot.setSize(size())).observe(node);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw(false));

  /// Adds a value for each line; null where there is none.
  return (values) => {
    const now = Date.now() / 1000;
    [now, ...values].forEach((value, i) => data[i].push(value));
    while (data[0][0] < now - CHART_SECONDS) for (const line of data) line.shift();
    plot.setData(data);
    const known = data.slice(1).flat().filter((value) => value !== null);
    const range = known.length ? `: between ${show(Math.min(...known))} and ${show(Math.max(...known))}` : "";
    node.setAttribute("aria-label", title + range);
    node.dataset.points = data[0].length;
  };
}
