// Makes elements without parsing HTML: whatever an engine sends is shown as text.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An HTML element with a class and children. */
export function make(name, className = "", ...content) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

/** An SVG element. */
export function draw(name, attributes = {}, ...content) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

/** A bar chart of the last minute. */
export function sparkline(trend) {
  const svg = draw("svg", { class: "spark", viewBox: "0 0 90 18", role: "img", "aria-label": "packets per second, last minutes" });
  const top = Math.max(...trend, 1);
  const step = 90 / 59;
  const from = 60 - trend.length;
  const points = trend.map((rate, at) => `${((from + at) * step).toFixed(1)},${(16.5 - (rate / top) * 15).toFixed(1)}`);
  if (points.length > 1) svg.append(draw("polyline", { points: points.join(" ") }));
  return svg;
}

/**
 * Puts a table into `place`. A column is `{title, unseen, number, cell}`; `cell` makes text or an element of a row, or
 * `{text, tone}`.
 */
export function table(place, columns, rows, { nothing = "none" } = {}) {
  if (rows.length === 0) {
    place.replaceChildren(make("p", "dim", nothing));
    return;
  }
  const head = make("tr");
  // A column without a visible title has one for screen readers.
  for (const column of columns) {
    head.append(make("th", column.number ? "number" : "", column.unseen ? make("span", "unseen", column.title) : column.title));
  }
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const column of columns) {
      const cell = column.cell(row);
      const written = cell?.text !== undefined ? make("span", cell.tone, cell.text) : (cell ?? "");
      line.append(make("td", column.number ? "number" : column.wide ? "wide" : "", written));
    }
    body.append(line);
  }
  place.replaceChildren(make("table", "", make("thead", "", head), body));
}
