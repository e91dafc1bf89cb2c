/* Making elements. What is inside of them is nodes or text: nothing here, or anywhere on the page,
 * takes text for HTML, and no link leads to where a log says. */

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes by name, listeners in `on`, children as nodes or text.
 *
 * null, undefined and false are left out. `href` leads to a place on this page alone. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (name === "style" || name === "srcdoc" || name === "src" || name.startsWith("on")) {
      throw new TypeError(`${name} is not for elements that are made here`);
    } else if (name === "href" && !/^(#|\/(?!\/))/.test(value)) {
      throw new TypeError("a link leads to a place on this page");
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...nodes(children));
  return element;
}

/** Replace what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Fill an element anew without taking the focus away from what has it: by `data-focus`. */
export function refill(element, ...children) {
  const had = element.contains(document.activeElement)
    ? document.activeElement.getAttribute("data-focus")
    : null;
  fill(element, ...children);
  if (had !== null) {
    const same = [...element.querySelectorAll("[data-focus]")].find(
      (one) => one.getAttribute("data-focus") === had,
    );
    same?.focus({ preventScroll: true });
  }
  return element;
}

/** Make one of the page's own pictures: paths of 16 × 16, drawn with the text's colour. */
export function icon(...paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const path of paths) {
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    svg.append(line);
  }
  return svg;
}

/** Say something to who listens instead of looks. */
export function announce(text) {
  const region = document.getElementById("announced");
  if (region && region.textContent !== text) region.textContent = text;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : String(child)));
}
