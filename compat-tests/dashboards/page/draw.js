// Draws the panels of one dashboard from DATA (data.js, written by pictures_test.go): its panels as they stand in the
// dashboard's JSON, each query with the series Prometheus answered.
"use strict";

const palette = ["#3b76c4", "#e08a1e", "#3c9d5d", "#c4423f", "#8a5cc2", "#2aa3a3", "#b8629b", "#8c7a3d", "#5d6b82", "#7fb13a", "#d66a4c", "#4c5fd0"];
const named = { green: "#3c9d5d", yellow: "#d9a400", red: "#cf3b3b" };
const cell = { w: 1408 / 24, h: 36, gap: 8 };

const powersOfTwo = Array.from({ length: 41 }, (_, i) => 2 ** i);

function trim(n, digits) {
  const text = n.toFixed(digits);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
function scaled(n, base, names) {
  let i = 0;
  for (; Math.abs(n) >= base && i < names.length - 1; i++) n /= base;
  return trim(n, Math.abs(n) < 10 ? 2 : 1) + names[i];
}
function format(n, unit) {
  if (n === null || n === undefined || !isFinite(n)) return "–";
  const short = () => (n !== 0 && Math.abs(n) < 0.01 ? n.toPrecision(2) : scaled(n, 1000, ["", " K", " M", " G"]));
  switch (unit) {
    case "s":
      if (n === 0) return "0 s";
      if (Math.abs(n) < 1e-3) return trim(n * 1e6, 0) + " µs";
      if (Math.abs(n) < 1) return trim(n * 1e3, n < 0.1 ? 1 : 0) + " ms";
      return Math.abs(n) < 120 ? trim(n, 1) + " s" : trim(n / 60, 1) + " min";
    case "bytes": return scaled(n, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
    case "decbytes": return scaled(n, 1000, [" B", " kB", " MB", " GB", " TB"]);
    case "Bps": return scaled(n, 1000, [" B/s", " kB/s", " MB/s", " GB/s"]);
    case "percentunit": return trim(n * 100, 1) + " %";
    case "currencyUSD": return "$" + (n !== 0 && Math.abs(n) < 0.01 ? n.toPrecision(2) : scaled(n, 1000, ["", " K", " M"]));
    case "recps": return short() + " rec/s";
    case "reqps": return short() + " req/s";
    case "ops": return short() + " ops/s";
    case "cps": return short() + " /s";
    default: return short();
  }
}

function element(parent, tag, text, css) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (css) e.className = css;
  parent.appendChild(e);
  return e;
}

function legendOf(target, labels) {
  if (!target.legendFormat) return "";
  return target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] || "");
}

function linesOf(panel) {
  const lines = [];
  for (const target of panel.targets) {
    for (const s of target.series || []) {
      if (s.Values.some((v) => v !== null)) lines.push({ name: legendOf(target, s.Labels), times: s.Times, values: s.Values });
    }
  }
  return lines;
}

function color(steps, value) {
  let c = steps[0].color;
  for (const s of steps) if (s.value !== null && value >= s.value) c = s.color;
  return named[c] || c;
}

function drawGraph(box, panel, width, height) {
  const lines = linesOf(panel);
  if (!lines.length) return void element(box, "div", "no data in this time", "none");
  const defaults = panel.fieldConfig.defaults;
  const unit = defaults.unit;
  const custom = defaults.custom || {};
  const stacked = custom.stacking && custom.stacking.mode === "normal";
  const steps = (defaults.thresholds && defaults.thresholds.steps) || [];
  const marks = custom.thresholdsStyle && custom.thresholdsStyle.mode !== "off" ? steps.filter((s) => s.value !== null) : [];

  const times = [];
  for (let t = DATA.from; t <= DATA.to + 1e-6; t += DATA.step) times.push(Math.round(t));
  const columns = lines.map((line) => {
    const at = new Map(line.times.map((t, i) => [Math.round(t), line.values[i]]));
    return times.map((t) => (at.has(t) ? at.get(t) : null));
  });
  const drawn = columns.map((c) => c.slice());
  if (stacked) {
    for (let i = 1; i < drawn.length; i++) drawn[i] = drawn[i].map((v, k) => (v ?? 0) + (drawn[i - 1][k] ?? 0));
  }
  const max = Math.max(...drawn.flat().filter((v) => v !== null && isFinite(v)));
  const min = Math.min(...drawn.flat().filter((v) => v !== null && isFinite(v)));
  const top = defaults.max ?? (max > 0 ? max * 1.08 : 1);
  const bottom = defaults.min ?? Math.min(min * 1.08, 0);

  // Two columns, unless a narrow panel would cut names off.
  const across = width < 600 && Math.max(...lines.map((l) => l.name.length)) > 16 ? 1 : 2;
  const rows = Math.min(Math.ceil(lines.length / across), 4);
  const chart = element(box, "div", undefined, "chart");
  const series = [{}];
  const bands = [];
  lines.forEach((line, i) => {
    const c = palette[i % palette.length];
    series.push({ stroke: c, width: 1.3, fill: !stacked ? c + "14" : i === 0 ? c + "55" : undefined, points: { show: false } });
    if (stacked && i > 0) bands.push({ series: [i + 1, i], fill: c + "55" });
  });
  new uPlot({
    width: width - 22, height: height - 38 - rows * 16,
    series, bands,
    legend: { show: false }, cursor: { show: false },
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
    scales: { x: { range: [DATA.from, DATA.to] }, y: { range: [bottom, top] } },
    axes: [
      { font: "11px sans-serif", stroke: "#5b6070", grid: { stroke: "#eceef2" }, ticks: { show: false }, size: 22, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
      { font: "11px sans-serif", stroke: "#5b6070", grid: { stroke: "#eceef2" }, ticks: { show: false }, size: 74, ...(custom.axisLabel ? { label: custom.axisLabel, labelSize: 16, labelFont: "11px sans-serif", size: 58 } : {}), ...(unit === "bytes" ? { incrs: powersOfTwo } : {}), values: (_, ticks) => ticks.map((v) => format(v, unit)) },
    ],
    hooks: {
      draw: [(u) => {
        for (const m of marks) {
          if (m.value > top || m.value < bottom) continue;
          const y = u.valToPos(m.value, "y", true);
          u.ctx.save();
          u.ctx.strokeStyle = named[m.color] || m.color;
          u.ctx.lineWidth = 1.5 * devicePixelRatio;
          u.ctx.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
          u.ctx.beginPath();
          u.ctx.moveTo(u.bbox.left, y);
          u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
          u.ctx.stroke();
          u.ctx.restore();
        }
      }],
    },
  }, [times, ...drawn], chart);

  // The highest lines first: what is always 0 may be left out.
  const legend = element(box, "div", undefined, "legend");
  legend.style.columns = across;
  const entries = lines.map((line, i) => {
    const known = columns[i].filter((v) => v !== null);
    return { name: line.name, color: palette[i % palette.length], last: known[known.length - 1], max: Math.max(...known) };
  });
  const room = rows * across;
  if (lines.length > room) entries.sort((a, b) => b.max - a.max);
  const shown = lines.length > room ? room - 1 : lines.length;
  for (const entry of entries.slice(0, shown)) {
    const item = element(legend, "div");
    element(item, "i").style.background = entry.color;
    element(item, "span", entry.name);
    element(item, "b", width < 600 ? `max ${format(entry.max, unit)}` : `last ${format(entry.last, unit)}, max ${format(entry.max, unit)}`);
  }
  if (shown < lines.length) element(element(legend, "div"), "span", `and ${lines.length - shown} more`);
}

function drawNumber(box, panel) {
  const lines = linesOf(panel);
  const defaults = panel.fieldConfig.defaults;
  if (!lines.length) return void element(box, "div", "no data", "none");
  const byName = panel.options.textMode === "name";
  const value = lines[0].values[lines[0].values.length - 1];
  const text = byName ? lines.map((l) => l.name).join(", ") : format(value, defaults.unit);
  const stat = element(box, "div", text, text.length > 9 ? "stat small" : "stat");
  if (panel.options.colorMode.startsWith("background")) {
    stat.style.background = color(defaults.thresholds.steps, value);
    stat.style.color = "#fff";
  }
}

function drawTable(box, panel, height) {
  const renamed = panel.transformations[0].options.renameByName;
  const names = Object.keys(renamed).filter((n) => n !== "Value");
  const order = ["group_id", "topic", "partition"].filter((n) => names.includes(n));
  const rows = panel.targets[0].series.slice().sort((a, b) => b.Values[b.Values.length - 1] - a.Values[a.Values.length - 1]);
  const table = element(box, "table");
  const head = element(table, "tr");
  for (const n of order) element(head, "th", renamed[n]);
  element(head, "th", renamed.Value, "n");
  for (const s of rows.slice(0, Math.floor((height - 60) / 24))) {
    const tr = element(table, "tr");
    for (const n of order) element(tr, "td", s.Labels[n]);
    const value = s.Values[s.Values.length - 1];
    element(tr, "td", format(value, panel.fieldConfig.defaults.unit), "n").style.color = color(panel.fieldConfig.defaults.thresholds.steps, value);
  }
}

document.querySelector("h1").textContent = DATA.title;
document.querySelector("header p").textContent = DATA.note;
const grid = document.getElementById("grid");
let bottom = 0;
for (const panel of DATA.panels) {
  const p = panel.gridPos;
  const box = element(grid, "div", undefined, panel.type === "row" ? "row" : "panel");
  const width = p.w * cell.w - cell.gap;
  const height = p.h * cell.h - cell.gap;
  Object.assign(box.style, { left: p.x * cell.w + "px", top: p.y * cell.h + "px", width: width + "px", height: height + "px" });
  bottom = Math.max(bottom, (p.y + p.h) * cell.h);
  if (panel.type === "row") {
    box.textContent = panel.title;
    continue;
  }
  element(box, "h2", panel.title);
  if (panel.type === "stat") drawNumber(box, panel);
  else if (panel.type === "table") drawTable(box, panel, height);
  else drawGraph(box, panel, width, height);
}
grid.style.height = bottom + "px";
