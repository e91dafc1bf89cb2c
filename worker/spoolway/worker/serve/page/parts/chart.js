/* Charts over time, by uPlot: bars or lines, the numbers under the pointer, and all of them as a
 * table for who does not look. Times are UTC, as the buckets are. */

/* global uPlot */
import { fill, h } from "../base/dom.js";
import { bucket } from "../base/format.js";

const HEIGHT = 132;
const SHARED = "overview"; // the pointer of one chart shows in all
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const colours = new Map();
const probe = h("span", { class: "unseen", "aria-hidden": "true" });
const charts = new Set();

addEventListener("spoolway-theme", () => {
  colours.clear();
  for (const chart of charts) chart.redraw();
});

/** One chart. `series`: {label, colour (a custom property), shape ("bars" or "line"), dashed}; `format`
 * is how its numbers are shown, and `scale` how on the axis. */
export class Chart {
  constructor({ title, series, format, scale = format }) {
    this.series = series;
    this.format = format;
    this.scale = scale;
    this.plot = null;
    this.data = [[], ...series.map(() => [])];
    this.step = 3600;
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.canvas = h("div", { class: "canvas", role: "img", "aria-label": title }, this.tip);
    this.numbers = h("div", { class: "scroll" });
    this.table = h(
      "details",
      { class: "numbers", on: { toggle: () => this.tabulate() } },
      h("summary", { "aria-label": `${title}: numbers` }, "Numbers"),
      this.numbers,
    );
    this.element = h("div", { class: "chart" }, this.canvas, this.legend(), this.table);
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.canvas);
    charts.add(this);
  }

  /** Show these: times in seconds, a list of numbers (null: none) for each series, seconds of a bucket. */
  show(times, columns, step) {
    this.data = [times, ...columns];
    this.step = step;
    if (this.plot) this.plot.setData(this.data);
    else this.fit();
    this.canvas.setAttribute("aria-label", this.summary());
    this.tabulate();
  }

  redraw() {
    this.plot?.redraw(false);
  }

  close() {
    charts.delete(this);
    this.sizes.disconnect();
    this.plot?.destroy();
  }

  fit() {
    const width = Math.floor(this.canvas.clientWidth);
    if (!width || !this.data[0].length) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.plot = new uPlot(this.options(width), this.data, this.canvas);
  }

  options(width) {
    const dim = () => colour("--dim");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const isFlat = { show: false };
    return {
      width,
      height: HEIGHT,
      padding: [10, 16, 0, 0], // half of the last time, which stands below the end
      legend: isFlat,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { show: false },
        sync: { key: SHARED, setSeries: false },
      },
      scales: {
        x: { range: (_plot, least, most) => [least, Math.max(most, least) + this.step] },
        y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        {
          stroke: dim, font, size: 24, gap: 4, grid: isFlat, space: 56,
          ticks: { stroke: () => colour("--line"), width: 1, size: 4 },
          incrs: [3600, 7200, 10_800, 21_600, 43_200, ...[1, 2, 5, 7, 10, 14, 30, 60, 90].map((n) => n * 86_400)],
          values: (_plot, splits, _axis, _space, step) => splits.map((split) => tick(split, step)),
        },
        {
          stroke: dim, font, size: 52, gap: 6, space: 34, ticks: isFlat,
          grid: { stroke: () => colour("--line"), width: 1 },
          values: (_plot, splits) => splits.map((split) => this.scale(split)),
        },
      ],
      series: [{}, ...this.series.map((one) => drawn(one))],
      hooks: { setCursor: [(plot) => this.point(plot)] },
    };
  }

  /** Show the numbers of the bucket that the pointer is in; also when it is in another chart. */
  point(plot) {
    const { left, idx: at } = plot.cursor;
    this.tip.hidden = at === null || at === undefined || left < 0;
    if (this.tip.hidden) return;
    fill(
      this.tip,
      h("p", { class: "when" }, bucket(this.data[0][at], this.step)),
      this.series.map((one, index) =>
        h("p", {}, key(one), h("span", {}, one.label), h("b", {}, this.number(index, at))),
      ),
    );
    const room = this.canvas.clientWidth - this.tip.offsetWidth - 4;
    const right = plot.bbox.left / devicePixelRatio + left + 12;
    const fits = right <= room ? right : right - this.tip.offsetWidth - 24;
    this.tip.style.setProperty("transform", `translateX(${Math.max(0, Math.round(fits))}px)`);
  }

  number(index, at) {
    return this.format(this.data[index + 1][at]);
  }

  legend() {
    if (this.series.length < 2) return null;
    return h(
      "ul",
      { class: "legend", "aria-hidden": "true" },
      this.series.map((one) => h("li", {}, key(one), one.label)),
    );
  }

  summary() {
    const [times] = this.data;
    const span = times.length
      ? `${bucket(times[0], this.step)} to ${bucket(times.at(-1), this.step)}`
      : "no data";
    return `Chart of ${this.series.map((one) => one.label).join(", ")}: ${span}; the numbers follow as a table`;
  }

  tabulate() {
    if (!this.table.open) return;
    const [times] = this.data;
    fill(
      this.numbers,
      h(
        "table",
        { class: "small" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, this.step >= 86_400 ? "Day" : "Hour"),
          this.series.map((one) => h("th", { scope: "col", class: "number" }, one.label)))),
        h("tbody", {}, times.map((time, at) =>
          h("tr", {}, h("th", { scope: "row" }, bucket(time, this.step)),
            this.series.map((_one, index) => h("td", { class: "number" }, this.number(index, at)))))),
      ),
    );
  }
}

function drawn({ colour: name, shape, dashed }) {
  const stroke = () => colour(name);
  if (shape === "bars") {
    return {
      stroke, fill: stroke, width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [0.78, 48, 1], align: 1, radius: 0.12 }),
    };
  }
  return {
    stroke, width: 1.75, dash: dashed ? [5, 4] : undefined, spanGaps: false,
    points: { show: true, size: 5, fill: stroke, filter: alone },
  };
}

/** Return where a line has no neighbour to be drawn to. */
function alone(plot, series) {
  const values = plot.data[series];
  const has = (at) => values[at] !== null && values[at] !== undefined;
  return values.map((_value, at) => at).filter((at) => has(at) && !has(at - 1) && !has(at + 1));
}

function key({ colour: name, shape, dashed }) {
  const mark = h("i", { class: `key ${shape}${dashed ? " dashed" : ""}`, "aria-hidden": "true" });
  mark.style.setProperty("--key", `var(${name})`);
  return mark;
}

/** Return a custom property's colour as it is now: a canvas knows no variables. */
function colour(name) {
  if (!colours.has(name)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.setProperty("color", `var(${name})`);
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

function tick(seconds, step) {
  const time = new Date(seconds * 1000);
  const hour = time.getUTCHours();
  if (step < 86_400 && hour) return `${String(hour).padStart(2, "0")}:00`;
  return `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]}`;
}
