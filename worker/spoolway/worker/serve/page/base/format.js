/* Numbers and times for a person to read. null is "–": what is not known is not nothing. */

export const NONE = "–";
const LOCALE = "en-GB";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", {
  notation: "compact", minimumSignificantDigits: 3, maximumSignificantDigits: 3,
});
const shortest = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const day = new Intl.DateTimeFormat(LOCALE, {
  timeZone: "UTC", day: "numeric", month: "short", year: "numeric",
});
const MOST_DIGITS = 10_000_000;

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 1,234,567; from ten millions on 12.3M. */
export function count(value) {
  if (!known(value)) return NONE;
  return Math.abs(value) < MOST_DIGITS ? whole.format(value) : short.format(value);
}

/** 950, 1.2K, 12.3M: beside a number that is there in full, and on an axis. */
export const compact = (value) => (known(value) ? shortest.format(value) : NONE);

/** 1,234,567,890, however long. */
export const exact = (value) => (known(value) ? whole.format(value) : NONE);

/** An amount of money, in the currency of the price list: cents, and more where it is less. */
export function money(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0.00";
  const size = Math.abs(value);
  if (size >= MOST_DIGITS) return short.format(value);
  const digits = size >= 1 ? 2 : Math.min(2 - Math.floor(Math.log10(size)), 10);
  return new Intl.NumberFormat(LOCALE, {
    minimumFractionDigits: 2, maximumFractionDigits: Math.max(digits, 2),
  }).format(value);
}

/** A share of 100. */
export function percent(value) {
  if (!known(value)) return NONE;
  const digits = value === 0 || value === 100 ? 0 : Math.abs(value) < 10 ? 2 : 1;
  return `${value.toFixed(digits)} %`;
}

export const mass = (kg) => scaled(kg, ["µg", "mg", "g", "kg", "t"], 1e9);
export const energy = (kwh) => scaled(kwh, ["mWh", "Wh", "kWh", "MWh", "GWh"], 1e6);

/** A range, as one where both ends read the same. */
export function range(least, most, format) {
  const [low, high] = [format(least), format(most)];
  if (low === high || least === null || least === undefined) return high;
  const [number, unit] = low.split(" ");
  return high.endsWith(` ${unit}`) ? `${number}–${high}` : `${low} – ${high}`;
}

function scaled(value, units, factor) {
  if (!known(value)) return NONE;
  let amount = value * factor;
  let unit = 0;
  while (Math.abs(amount) >= 1000 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  if (amount === 0) return `0 ${units[2]}`;
  const digits = Math.abs(amount) >= 100 ? 0 : Math.abs(amount) >= 10 ? 1 : 2;
  return `${digits ? amount.toFixed(digits) : whole.format(amount)} ${units[unit]}`;
}

/** Milliseconds: 147 ms, 2.35 s, 61.4 s, 3 min 20 s. */
export function duration(ms) {
  if (!known(ms)) return NONE;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 119_950) return `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`;
  return span(ms / 1000);
}

/** Seconds that have passed: 4 s, 3 min 20 s, 5 h 2 min, 3 d 4 h. */
export function span(seconds) {
  if (!known(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(s, 60, "min", 1, "s");
  if (s < 86_400) return pair(s, 3600, "h", 60, "min");
  return pair(s, 86_400, "d", 3600, "h");
}

function pair(s, large, largeName, small, smallName) {
  const rest = Math.floor((s % large) / small);
  return `${Math.floor(s / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** 1.4 MB */
export function bytes(value) {
  if (!known(value)) return NONE;
  if (value < 1000) return `${whole.format(value)} B`;
  return scaled(value, ["B", "kB", "MB", "GB", "TB"], 1);
}

/** Tokens in a second of the answer. */
export const speed = (value) => (known(value) ? `${value.toFixed(value < 100 ? 1 : 0)}/s` : NONE);

/** Return a Date of what the API sends; null where it is none. */
export function date(value) {
  if (value === null || value === undefined || value === "") return null;
  const text = typeof value === "string" && !/(Z|[+-]\d\d:?\d\d)$/.test(value) ? `${value}Z` : value;
  const made = new Date(text);
  return Number.isNaN(made.getTime()) ? null : made;
}

const iso = (made) => made.toISOString();

/** 14:03:27, with the day where it is not today's. */
export function clock(value, now = new Date()) {
  const made = date(value);
  if (made === null) return NONE;
  const time = iso(made).slice(11, 19);
  return iso(made).slice(0, 10) === iso(now).slice(0, 10) ? time : `${iso(made).slice(5, 10)} ${time}`;
}

/** 2026-11-22 14:03:27.123 UTC */
export function moment(value) {
  const made = date(value);
  return made === null ? NONE : `${iso(made).slice(0, 23).replace("T", " ")} UTC`;
}

/** 22 Nov 2026, or 22 Nov 2026 14:00 where a bucket is an hour. */
export function bucket(seconds, step) {
  const made = new Date(seconds * 1000);
  return step >= 86_400 ? day.format(made) : `${day.format(made)}, ${iso(made).slice(11, 16)} UTC`;
}

/** 22 Nov 14:00 */
export function hour(value) {
  const made = date(value);
  if (made === null) return NONE;
  return `${day.format(made).replace(/ \d{4}$/, "")} ${iso(made).slice(11, 16)}`;
}

/** "12 s ago" */
export function ago(value, now = Date.now()) {
  const made = date(value);
  if (made === null) return NONE;
  const seconds = (now - made.getTime()) / 1000;
  if (seconds < 1) return "now";
  return `${span(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}
