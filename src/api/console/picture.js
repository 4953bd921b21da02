// Draws the present state of the sandwich: clients, engines, firewalls, servers, and the traffic between them.

import { draw } from "./page.js";
import { duration, short, tone } from "./text.js";

const ROW = 62;
const BOX = { width: 150, height: 50 };
const MOST = 8;
/** The state of an object that several engines report: the first state in this order that one of them reports. */
const WORST = ["down", "maint", "drain", "degraded", "up"];

/** The columns of boxes from left to right; each box of a column is connected with each box of the next. */
function columns(state) {
  const group = state.firewalls[0]?.group;
  const engines = state.engines;
  const serving = engines.find((engine) => state.services.some((service) => service.engine === engine.name));
  if (group === undefined) {
    return [[clients()], engines.map((engine) => engineBox(state, engine)), ...servers(state, serving)];
  }
  const members = engines.filter((engine) => state.firewalls.some((one) => one.engine === engine.name && one.group === group));
  const peer = state.peers.find((one) => one.group === group);
  const right = members.length > 1 ? (members.find((one) => one === serving) ?? members[members.length - 1]) : serving;
  const left = members.find((one) => one !== right);
  const far = peer ? [{ name: peer.name, lines: ["the other engine"], state: peer.state }] : [];
  return [
    [clients()],
    left ? [engineBox(state, left)] : far,
    firewallBoxes(state, group),
    right ? [engineBox(state, right)] : far,
    ...servers(state, right),
  ];
}

const clients = () => ({ name: "clients", lines: [], state: "" });

function engineBox(state, engine) {
  const rate = state.rates.of(`${engine.name} received`);
  return {
    name: engine.name,
    lines: [`${short(rate)} packets/s`, `${engine.sessions} sessions`],
    state: state.silent.has(engine.name) ? "down" : "up",
  };
}

/** One box per firewall, in the worst state that any engine reports. */
function firewallBoxes(state, group) {
  const names = [...new Set(state.firewalls.filter((one) => one.group === group).map((one) => one.name))];
  return limited(names.map((name) => {
    const told = state.firewalls.filter((one) => one.group === group && one.name === name);
    const shown = told.reduce((a, b) => (WORST.indexOf(a.state) <= WORST.indexOf(b.state) ? a : b));
    const rate = Math.max(...told.map((one) => state.rates.of(`${one.engine} firewall ${group}/${name}`) ?? 0));
    const sessions = Math.max(...told.map((one) => one.sessions));
    const news = shown.state === "up" ? "" : ` ${duration(shown.since_ms)}`;
    return { name, lines: [`${shown.state}${news}`, `${short(rate)} p/s, ${sessions} sessions`], state: shown.state, rate };
  }));
}

function servers(state, engine) {
  const all = state.services
    .filter((service) => engine && service.engine === engine.name)
    .flatMap((service) => service.servers.map((server) => ({ service, server })));
  if (all.length === 0) return [[{ name: "servers", lines: [], state: "" }]];
  // A machine with several services is one box.
  const machines = Map.groupBy(all, ({ server }) => server.addresses.join());
  return [limited([...machines.values()].map((places) => {
    const sum = (of) => places.reduce((total, place) => total + of(place), 0);
    const rate = sum(({ service, server }) => state.rates.of(`${service.engine} server ${service.name}/${server.name}`) ?? 0);
    const { server } = places.reduce((a, b) => (WORST.indexOf(a.server.state) <= WORST.indexOf(b.server.state) ? a : b));
    const lines = [`${server.state}${server.backup ? ", backup" : ""}`, `${short(rate)} p/s, ${sum((place) => place.server.sessions)} sessions`];
    return { name: server.name, lines, state: server.state, rate };
  }))];
}

/** The first boxes, failed ones before healthy ones, and a box that counts the others. */
function limited(boxes) {
  if (boxes.length <= MOST) return boxes;
  const sick = [...boxes].sort((a, b) => Number(a.state === "up") - Number(b.state === "up"));
  const more = boxes.length - MOST + 1;
  return [...sick.slice(0, MOST - 1), { name: `${more} more`, lines: ["in the tables below"], state: "" }];
}

/** Draws the picture into `place`, instead of the old one. */
export function picture(place, state) {
  const boxes = columns(state).filter((column) => column.length > 0);
  const rows = Math.max(...boxes.map((column) => column.length));
  const step = boxes.length > 1 ? (1000 - BOX.width) / (boxes.length - 1) : 0;
  const height = rows * ROW + 10;
  const svg = draw("svg", { viewBox: `0 0 1000 ${height}`, role: "img", "aria-label": "clients, engines, firewalls and servers" });
  const place_of = (column, row) => {
    const top = (height - boxes[column].length * ROW) / 2;
    return { x: column * step, y: top + row * ROW + (ROW - BOX.height) / 2 };
  };
  for (let column = 0; column + 1 < boxes.length; column += 1) {
    boxes[column].forEach((from, a) => boxes[column + 1].forEach((to, b) => svg.append(wire(from, to, place_of(column, a), place_of(column + 1, b)))));
  }
  boxes.forEach((column, at) => column.forEach((box, row) => svg.append(boxOf(box, place_of(at, row)))));
  place.replaceChildren(svg);
}

/** A connection whose width shows its traffic and whose colour shows the worse state of its ends. */
function wire(from, to, a, b) {
  const tones = [tone(from.state), tone(to.state)];
  const worse = ["bad", "warn", "good"].find((one) => tones.includes(one)) ?? "";
  const rate = Math.min(...[from.rate, to.rate].filter((rate) => rate !== undefined), Infinity);
  const width = Number.isFinite(rate) ? 1 + Math.min(Math.log10(1 + rate), 6) : 1.5;
  const [x1, y1, x2, y2] = [a.x + BOX.width, a.y + BOX.height / 2, b.x, b.y + BOX.height / 2];
  const middle = (x1 + x2) / 2;
  return draw("path", { class: `wire ${worse}`, "stroke-width": width.toFixed(1), d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

function boxOf(box, { x, y }) {
  const text = (line, at, className) => draw("text", { x: x + BOX.width / 2, y: y + at, "text-anchor": "middle", class: className }, line);
  const shape = draw("rect", { class: `box ${tone(box.state)}`, x, y, width: BOX.width, height: BOX.height, rx: 7 });
  const name = text(box.name, box.lines.length ? 17 : 29, "name");
  const lines = box.lines.map((line, at) => text(line, 31 + at * 13, at === 0 && tone(box.state) !== "good" ? tone(box.state) || "dim" : "dim"));
  return draw("g", {}, shape, name, ...lines);
}
