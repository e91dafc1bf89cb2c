/* Asking for the token. It is kept for this tab alone, until that is closed. */

import { h } from "./dom.js";

let asking = null;

/** Return the token that is typed in; "" if nobody wants to. Whoever asks meanwhile waits along. */
export function askForToken(wasWrong) {
  asking ??= dialog(wasWrong).finally(() => {
    asking = null;
  });
  return asking;
}

function dialog(wasWrong) {
  const input = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "token-says",
  });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "token-title" }, "Token"),
    h(
      "p",
      { id: "token-says", role: wasWrong ? "alert" : null },
      wasWrong
        ? "This token was not accepted. Another one?"
        : "This server answers those who have a token: the one of SPOOLWAY_API_TOKEN, or one of api_tokens in its configuration.",
    ),
    h("label", { for: "token" }, "Token"),
    input,
    h("p", { class: "dim" }, "Kept in this tab until it is closed."),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", value: "", on: { click: () => element.close("") } }, "Not now"),
      h("button", { type: "submit", class: "primary" }, "Continue"),
    ),
  );
  const element = h("dialog", { class: "dialog", "aria-labelledby": "token-title" }, form);
  document.body.append(element);
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      element.close(input.value.trim());
    });
    element.addEventListener("close", () => {
      element.remove();
      resolve(element.returnValue);
    });
    element.showModal();
    input.focus();
  });
}
