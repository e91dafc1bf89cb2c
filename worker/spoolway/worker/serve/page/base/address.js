/* Where we are, all of it in the URL's hash: a link shows the same to whoever opens it. */

export const DIMENSIONS = [
  "model", "provider", "outcome", "user", "key", "organization", "project",
];
const KEPT = ["from", "to", ...DIMENSIONS]; // from view to view
const START = "overview";
const PERIOD = "24h";

/** Return {view, id, query} of a hash such as "#/logs?from=24h&model=gpt-4o" or "#/request/<id>". */
export function read(hash = location.hash) {
  const [path, query = ""] = split(hash.replace(/^#\/?/, ""), "?");
  const [view, id = ""] = split(path, "/");
  return { view: view || START, id: decoded(id), query: new URLSearchParams(query) };
}

/** Return the hash of a view with a query. */
export function hash(view, query = new URLSearchParams(), id = "") {
  const asked = query.toString();
  return `#/${view}${id && `/${encodeURIComponent(id)}`}${asked && `?${asked}`}`;
}

/** Return what of a query goes along to another view: period and dimensions. */
export function kept(query) {
  return new URLSearchParams([...query].filter(([name]) => KEPT.includes(name)));
}

/** Return a query with other values of some parameters; null or "" takes one away. It begins at the
 * first page again. */
export function changed(query, changes) {
  const next = new URLSearchParams(query);
  next.delete("after");
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && (one !== "" || Array.isArray(value))) next.append(name, one);
    }
  }
  return next;
}

/** Return a query that has one more value of a dimension; "" is "without". */
export function narrowed(query, dimension, value) {
  const values = query.getAll(dimension);
  return values.includes(value) ? query : changed(query, { [dimension]: [...values, value] });
}

/** Return a query without one value of a dimension. */
export function widened(query, dimension, value) {
  return changed(query, { [dimension]: query.getAll(dimension).filter((one) => one !== value) });
}

/** Return the period that is asked for; the last 24 hours where none is. */
export function period(query) {
  return { from: query.get("from") || PERIOD, to: query.get("to") || "" };
}

/** Go there; `quietly` leaves no step for the browser's way back. */
export function go(where, { quietly = false } = {}) {
  if (quietly) {
    history.replaceState(null, "", where);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = where;
  }
}

function split(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a hash that somebody typed
  }
}
