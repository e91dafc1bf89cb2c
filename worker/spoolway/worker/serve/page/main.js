/* The page: which view is shown, and what is around it. */

import { token } from "./base/api.js";
import { hash, kept, read } from "./base/address.js";
import { announce, fill, h, icon } from "./base/dom.js";
import { FilterBar } from "./parts/filters.js";
import { failed } from "./parts/notice.js";
import { isMoving } from "./parts/period.js";
import { Errors } from "./views/errors.js";
import { Logs } from "./views/logs.js";
import { Overview } from "./views/overview.js";
import { Request } from "./views/request.js";

const VIEWS = { overview: Overview, logs: Logs, errors: Errors, request: Request };
const NAMED = [["overview", "Overview"], ["logs", "Requests"], ["errors", "Errors"]];
const REFRESH_MS = 20_000;
const THEME = "spoolway.theme";
const REFRESH = "spoolway.refresh";

const main = document.getElementById("main");
const bar = new FilterBar(document.getElementById("bar"));
let shown = null; // {name, id, view}
let loading = new AbortController();
let timer = 0;

function route() {
  const address = read();
  if (!Object.hasOwn(VIEWS, address.view)) address.view = "overview";
  const isNew = shown?.name !== address.view || shown.id !== address.id;
  if (isNew) open(address);
  chrome(address);
  load(address);
  if (isNew) arrive();
}

function open({ view: name, id }) {
  shown?.view.close();
  shown = { name, id, view: new VIEWS[name](), isFirst: shown === null };
  fill(main, shown.view.element);
}

/** Who reads with the keyboard or by ear comes to the new view's beginning. */
function arrive() {
  document.title = `${shown.view.title} · Spoolway`;
  if (shown.isFirst) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
  announce(shown.view.title);
}

async function load(address) {
  loading.abort();
  loading = new AbortController();
  clearTimeout(timer);
  const { signal } = loading;
  try {
    await shown.view.load(address, signal);
  } catch (failure) {
    if (failure.name === "AbortError") return;
    // A mistake of the page's own: what a log says must never leave it blank.
    fill(main, failed({ kind: "page", message: `This cannot be shown: ${failure.message}` }, route));
    shown = null;
    throw failure;
  }
  if (!signal.aborted) schedule(address);
}

/** Ask again by and by, while somebody looks and the period goes on. */
function schedule(address) {
  clearTimeout(timer);
  if (!shown?.view.isMoving || !refreshes() || !isMoving(address.query)) return;
  timer = setTimeout(() => (document.hidden ? schedule(address) : load(address)), REFRESH_MS);
}

const refreshes = () => localStorage.getItem(REFRESH) !== "off";

function chrome(address) {
  const at = address.view === "request" ? "logs" : address.view;
  fill(document.getElementById("views"), NAMED.map(([name, label]) =>
    h("a", { href: hash(name, kept(address.query)), "aria-current": name === at ? "page" : null }, label)));
  document.querySelector(".brand").setAttribute("href", hash("overview", kept(address.query)));
  if (shown.view.filters) bar.show(address, shown.view.filters, shown.view.isMoving ? refresher(address) : shown.view.tools);
  else bar.hide();
}

function refresher(address) {
  const button = h("button", {
    type: "button", class: "quiet refresh", "aria-pressed": String(refreshes()), "data-focus": "refresh",
    title: "Numbers come anew every 20 seconds",
  }, h("i", { class: "lamp", "aria-hidden": "true" }), "Auto-refresh");
  button.addEventListener("click", () => {
    localStorage.setItem(REFRESH, refreshes() ? "off" : "on");
    button.setAttribute("aria-pressed", String(refreshes()));
    if (refreshes()) load(address);
    else clearTimeout(timer);
  });
  return button;
}

function tools() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const theme = h("button", { type: "button", class: "quiet square" });
  const draw = () => {
    fill(theme, isDark() ? icon("M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1") : icon("M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z"));
    theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    theme.title = theme.getAttribute("aria-label");
    dispatchEvent(new Event("spoolway-theme"));
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME, document.documentElement.dataset.theme);
    draw();
  });
  dark.addEventListener("change", draw);
  draw();
  const forget = h("button", { type: "button", class: "quiet", hidden: !token.get() }, "Forget token");
  forget.addEventListener("click", () => {
    token.set("");
    location.reload();
  });
  addEventListener("spoolway-token", () => {
    forget.hidden = !token.get();
  });
  fill(document.getElementById("tools"), forget, theme);
}

/** One popover at a time; Escape closes it, and "/" goes to the search. */
function keys() {
  document.addEventListener("click", (event) => {
    for (const drop of document.querySelectorAll("details.drop[open]")) {
      if (!drop.contains(event.target)) drop.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const drop = document.querySelector("details.drop[open]");
    if (event.key === "Escape" && drop) {
      drop.open = false;
      drop.querySelector("summary").focus();
    }
    const isTyping = event.target.closest("input, select, textarea, dialog");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.querySelector('[aria-keyshortcuts="/"]');
      if (!search) return;
      event.preventDefault();
      search.focus();
    }
  });
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is where we are
    main.focus();
  });
}

tools();
keys();
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && shown?.view.isMoving && refreshes()) load(read());
});
route();
