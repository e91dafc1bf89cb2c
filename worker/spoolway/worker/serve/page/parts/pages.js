/* Page after page by cursor: older, newer, newest. */

import { changed, hash } from "../base/address.js";
import { h } from "../base/dom.js";

/** Remembers by which cursors one has come, which no page knows. */
export class Pages {
  constructor() {
    this.trail = []; // cursors of the pages before this one; "" is the first
    this.at = "";
  }

  /** Take note of where we are. */
  visit(query) {
    const at = query.get("after") ?? "";
    if (at === this.at) return;
    if (!at) this.trail = [];
    else if (this.trail.at(-1) === at) this.trail.pop();
    else this.trail.push(this.at);
    this.at = at;
  }

  /** Return the links; `next` is the cursor of the older ones, null at the end. */
  links(address, next) {
    const to = (after) => hash(address.view, changed(address.query, { after: after || null }));
    const link = (label, after, focus) =>
      after === null
        ? h("span", { class: "button off", "aria-disabled": "true" }, label)
        : h("a", { class: "button", href: to(after), "data-focus": focus }, label);
    const newer = this.at ? (this.trail.at(-1) ?? "") : null;
    return h(
      "nav",
      { class: "pages", "aria-label": "Pages" },
      link("Newest", this.at ? "" : null, "page-newest"),
      link("← Newer", newer, "page-newer"),
      link("Older →", next, "page-older"),
    );
  }
}
