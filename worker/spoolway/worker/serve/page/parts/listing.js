/* What every list has: filters above, tools in the bar, its rows, and the way to older ones below. */

import { h } from "../base/dom.js";
import { loading } from "./notice.js";
import { Pages } from "./pages.js";

export class Listing {
  constructor(title) {
    this.title = title;
    this.pages = new Pages();
    this.form = h("div", {});
    this.tools = h("div", { class: "end" });
    this.body = h("div", { "aria-busy": "true" }, loading());
    this.foot = h("div", { class: "foot" });
    this.element = h(
      "div",
      { class: "list" },
      h("h1", { class: "unseen", tabindex: "-1" }, title),
      this.form,
      this.body,
      this.foot,
    );
  }

  close() {}
}
