// The nodes of clusters, each once: as its own engine describes it, if this page has that engine, and as others hear it.

import { make, table } from "./page.js";
import { duration, tone } from "./text.js";

const least = (ages) => (ages.length ? Math.min(...ages) : null);

/** Time since the node was heard on any path; null if it is not heard. */
const age = (seen) => (seen.role === null ? null : least(seen.heard.map((heard) => heard.age_ms)));

/** The nodes of each cluster in the order of their names, from what engines say of their clusters. */
export function nodesOf(views) {
  const clusters = new Map();
  for (const view of views) {
    const names = [view.node, ...view.nodes.map((node) => node.name)].sort();
    const known = clusters.get(names.join()) ?? new Map(names.map((name) => [name, { name, own: null, heardBy: [], size: names.length }]));
    clusters.set(names.join(), known);
    known.get(view.node).own = view;
    for (const node of view.nodes) known.get(node.name).heardBy.push({ by: view, ...node });
  }
  const nodes = [...clusters.values()].flatMap((known) => [...known.values()]);
  // Whoever heard it last knows best.
  for (const node of nodes) node.heardBy.sort((a, b) => (age(a) ?? Infinity) - (age(b) ?? Infinity));
  return nodes.map((node) => ({ ...node, seen: node.heardBy[0] ?? null }));
}

function role({ own, seen }) {
  if (own) return { text: own.role, tone: tone(own.role) };
  if (seen.role !== null) return { text: seen.role, tone: tone(seen.role) };
  // A router of VRRP alone speaks while it is active only.
  return { text: "not heard", tone: seen.kind === "vrrp" ? "dim" : "bad" };
}

function ready({ own, seen }) {
  if (!own && (seen.role === null || seen.kind === "vrrp")) return "-";
  return (own ?? seen).ready ? "yes" : { text: "no", tone: "warn" };
}

function priority({ own, seen }) {
  const taken = own ? own.deductions.reduce((sum, one) => sum + one.points, 0) : seen.deductions;
  const { priority: now, base } = own ?? seen;
  return taken ? `${now} = ${base} - ${taken}` : String(now);
}

function heard({ own, heardBy }) {
  const texts = heardBy.map((seen) => (age(seen) === null
    ? `not by ${seen.by.node}`
    : `${duration(age(seen))} ago by ${seen.by.node} on ${seen.heard.map((one) => one.path).join(", ")}`));
  return texts.join("; ") || (own ? "this engine" : "-");
}

/** What is wrong with a node; of one with nothing wrong, why it has its role. */
function why({ own, heardBy }) {
  const faults = own?.faults ?? [];
  const wrong = [
    ...faults,
    ...(own?.deductions ?? []).map((one) => `- ${one.points}, ${one.kind} ${one.subject}: ${one.detail}`),
    ...heardBy.filter((seen) => seen.config.length).map((seen) => `its file differs from that of ${seen.by.node}: ${seen.config.join(", ")}`),
  ];
  if (wrong.length) return { text: wrong.join("; "), tone: faults.length ? "bad" : "warn" };
  return own?.reason ?? "";
}

/**
 * The copies of sessions that a node holds, of how many, and how far behind, as the active node says; else how many it
 * says itself. Null where there are none.
 */
function copies({ own, seen, heardBy }) {
  const told = heardBy.find((one) => one.by.role === "active" && one.full_passes > 0);
  if (told) {
    const pass = told.pass ? `, all are being told: ${Math.floor((told.pass.done * 100) / Math.max(told.pass.of, 1))} %` : "";
    return `${told.sessions_held} of ${told.by.sessions_needed}, ${duration(told.behind_ms)} behind${pass}`;
  }
  const held = own ? own.sessions_held : seen.sessions_held;
  return held > 0 ? String(held) : null;
}

/** Buttons for the orders that would have an effect. An order goes to the node's own engine. */
function orders(state, node, nodes) {
  const button = (text, subject) => {
    const element = make("button", "", text);
    element.type = "button";
    element.addEventListener("click", () => state.change({ kind: "node", ...subject }));
    return element;
  };
  const { own, seen, name } = node;
  const active = nodes.find((one) => one.own?.role === "active" && one.own.nodes.some((other) => other.name === name));
  const isReady = (one) => one.kind === "vrrp" || (one.role === "standby" && one.ready);
  // Of two nodes there is only one that the role can go to, and a VRRP router takes no orders.
  const isChoice = active && node.size > 2 && seen.kind === "fwlb" && seen.role === "standby";
  return make("span", "",
    ...(own?.role === "active" ? [button("Failover", { name, engine: own.engine, order: "failover", to: null, lacking: !own.nodes.some(isReady) })] : []),
    ...(isChoice ? [button("Failover to it", { name: active.name, engine: active.own.engine, order: "failover", to: name, lacking: !seen.ready })] : []),
    ...(own && !own.maintenance ? [button("Maint", { name, engine: own.engine, order: "maint", active: own.role === "active" })] : []),
    ...(own && own.faults.length ? [button("Ready", { name, engine: own.engine, order: "ready" })] : []));
}

/** The table of nodes. Copies of sessions have a column where a node holds some. */
export function nodes(place, state) {
  const rows = nodesOf(state.clusters);
  table(place, [
    { title: "Node", cell: (row) => ({ text: row.name, tone: "name" }) },
    { title: "Role", cell: role },
    { title: "Ready", cell: ready },
    { title: "Priority", cell: priority },
    { title: "Term", number: true, cell: ({ own, seen }) => String((own ?? seen).term) },
    { title: "Since", number: true, cell: ({ own }) => (own ? duration(own.since_ms) : "-") },
    { title: "Version", cell: ({ own, seen }) => (own ?? seen).version ?? "-" },
    ...(rows.some((row) => copies(row) !== null) ? [{ title: "Copies", cell: (row) => copies(row) ?? "-" }] : []),
    { title: "Heard", cell: heard },
    ...(state.operator ? [{ title: "Change", unseen: true, cell: (row) => orders(state, row, rows) }] : []),
    { title: "Why", wide: true, cell: why },
  ], rows);
}

/** The text of the question that is asked before an order. */
export function question({ name, order, to, active }) {
  switch (order) {
    case "failover": return `Give the active role of ${name} to ${to ?? "the node with the best claim"}?`;
    case "maint": return `Take node ${name} out of service? ${active ? "It gives the active role away as soon as another node can take it" : "It does not take the active role"}, also after a restart, until it is set ready.`;
    default: return `Let node ${name} be active again?`;
  }
}
