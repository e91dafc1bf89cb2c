/* A button that copies. */

import { announce, h, icon } from "../base/dom.js";

export function copyButton(text, label) {
  const said = h("span", {}, label);
  const button = h(
    "button",
    { type: "button", class: "quiet copy" },
    icon("M5.5 5.5V3h7.5v7.5h-2.5M3 5.5h7.5V13H3z"),
    said,
  );
  button.addEventListener("click", async () => {
    const done = await copied(text);
    said.textContent = done ? "Copied" : "Not copied";
    announce(done ? "Copied" : "It could not be copied");
    setTimeout(() => {
      said.textContent = label;
    }, 1500);
  });
  return button;
}

/** The clipboard is there for https and localhost alone; elsewhere the old way. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen", "aria-hidden": "true", readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
