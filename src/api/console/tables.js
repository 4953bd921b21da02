// The tables of the page.

import { make, sparkline, table } from "./page.js";
import { duration, roundTrip, short, tone, withPort } from "./text.js";

const stateOf = (row) => ({ text: row.state, tone: tone(row.state) });
const commanded = (row) => (row.override ? { text: `${row.override}*`, tone: "warn" } : row.admin);
const since = (row) => duration(row.since_ms);
const reason = { title: "Reason", wide: true, cell: (row) => row.reason ?? "" };

/** The columns, preceded by the engine if there are several. */
const named = (state, columns) => (state.engines.length > 1 ? [{ title: "Engine", cell: (row) => row.engine }, ...columns] : columns);

/** Buttons for the changes that would have an effect; each asks before it acts. */
function buttons(state, subject, row) {
  const button = (text, change) => {
    const element = make("button", "", text);
    element.type = "button";
    element.addEventListener("click", () => state.change({ ...subject, ...change }));
    return element;
  };
  const holds = row.override ?? row.admin;
  const orders = row.orders ?? [];
  const isHeld = holds !== "ready" || orders.some((order) => order.admin !== null && order.admin !== "ready");
  // To set a server back to the file's state would also reset its weight, which is to stay.
  const enable = row.admin === "ready" && !orders.some((order) => order.weight !== null) ? null : "ready";
  return make("span", "",
    ...(holds === "drain" ? [] : [button("Drain", { admin: "drain" })]),
    ...(holds === "maint" ? [] : [button("Maint", { admin: "maint" })]),
    ...(isHeld ? [button("Enable", { admin: enable })] : []),
    ...(subject.kind === "server" ? [button("Weight", { weight: row.weight })] : []));
}

/** The column of buttons; no column without an operator's token. */
const operate = (state, subject) => (state.operator ? [{ title: "Change", unseen: true, cell: (row) => buttons(state, subject(row), row) }] : []);

/** A column of buttons that show the last checks of `subject`. */
const lastChecks = (state, subject) => ({ title: "Checks", unseen: true, cell: (row) => {
  const name = subject(row);
  if (name === null) return "";
  const element = make("button", "", "Checks");
  element.type = "button";
  element.addEventListener("click", () => state.showChecks(name, row.engine));
  return element;
} });

/** How often it fell, and how long it was down. */
const falls = (row) => (row.downtime_ms ? `${row.falls} (${duration(row.downtime_ms)})` : String(row.falls ?? 0));

/** How many servers are up, backups apart. */
function serversUp(service) {
  const of = (backup) => service.servers.filter((server) => server.backup === backup);
  const count = (servers) => `${servers.filter((server) => server.state === "up").length} of ${servers.length}`;
  const backups = of(true);
  return `${count(of(false))} up${backups.length ? `, ${count(backups)} backups up` : ""}`;
}

/** The longest round trip of all paths; null if none was measured. */
function slowest(checks) {
  const measured = checks.map((check) => check.rtt_us).filter((rtt) => rtt !== null);
  return measured.length > 0 ? Math.max(...measured) : null;
}

export function firewalls(place, state) {
  const rate = (row) => state.rates.of(`${row.engine} firewall ${row.group}/${row.name}`);
  table(place, named(state, [
    { title: "Firewall", cell: (row) => `${row.group}/${row.name}` },
    { title: "State", cell: stateOf },
    { title: "Admin", cell: commanded },
    { title: "Weight", number: true, cell: (row) => `${row.weight}${row.spare ? " spare" : ""}` },
    { title: "Sessions", number: true, cell: (row) => String(row.sessions) },
    { title: "Packets/s", number: true, cell: (row) => short(rate(row)) },
    { title: "Trend", unseen: true, cell: (row) => sparkline(state.rates.trend(`${row.engine} firewall ${row.group}/${row.name}`)) },
    { title: "Round trip", number: true, cell: (row) => roundTrip(slowest(row.checks)) },
    { title: "Since", number: true, cell: since },
    lastChecks(state, (row) => `${row.group}/${row.name}`),
    ...operate(state, (row) => ({ kind: "firewall", group: row.group, name: row.name, engine: row.engine, sessions: row.sessions })),
    reason,
  ]), state.firewalls);
}

export function services(place, state) {
  const rows = state.services.flatMap((service) => [
    { ...service, service: null, reason: [`${service.mode}, ${service.scheduler}, ${serversUp(service)}`, service.reason].filter(Boolean).join("; ") },
    ...service.servers.map((server) => ({ ...server, engine: service.engine, service: service.name })),
  ]);
  const key = (row) => `${row.engine} server ${row.service}/${row.name}`;
  const addresses = (row) => row.addresses.map((address) => withPort(address, row.service === null ? row.ports.join(",") : row.port)).join(" ");
  table(place, named(state, [
    { title: "Service, server", cell: (row) => ({ text: row.name, tone: row.service === null ? "name" : "inset" }) },
    { title: "Address", cell: addresses },
    { title: "State", cell: stateOf },
    { title: "Admin", cell: commanded },
    { title: "Weight", number: true, cell: (row) => (row.service === null ? "-" : `${row.weight}${row.backup ? " backup" : ""}`) },
    { title: "Sessions", number: true, cell: (row) => String(row.sessions) },
    { title: "Packets/s", number: true, cell: (row) => (row.service === null ? "" : short(state.rates.of(key(row)))) },
    { title: "Trend", unseen: true, cell: (row) => (row.service === null ? "" : sparkline(state.rates.trend(key(row)))) },
    { title: "Since", number: true, cell: since },
    { title: "Falls", number: true, cell: falls },
    lastChecks(state, (row) => (row.service === null ? null : `${row.service}/${row.name}`)),
    ...operate(state, (row) => ({ kind: row.service === null ? "service" : "server", service: row.service, name: row.name, engine: row.engine, sessions: row.sessions })),
    reason,
  ]), rows);
}

/** The last results of checks, the newest first. */
export function checks(place, rows) {
  table(place, [
    { title: "At", cell: (row) => row.at.replace("T", " ") },
    ...(rows.some((row) => row.peer !== null) ? [{ title: "To", cell: (row) => row.peer ?? "" }] : []),
    { title: "Family", cell: (row) => row.family },
    { title: "Result", cell: (row) => ({ text: row.result, tone: row.result === "passed" ? "good" : "bad" }) },
    { title: "Times", number: true, cell: (row) => String(row.times) },
    { title: "Duration", number: true, cell: (row) => roundTrip(row.duration_us) },
    { title: "State after", cell: stateOf },
    { title: "Detail", wide: true, cell: (row) => row.detail ?? "" },
  ], rows.toReversed(), { nothing: "no check has ended yet" });
}

export function sessions(place, state, rows) {
  table(place, named(state, [
    { title: "Protocol", cell: (row) => row.protocol },
    { title: "Source", cell: (row) => row.source },
    { title: "Destination", cell: (row) => row.destination },
    { title: "Firewall", cell: (row) => row.pins.map((pin) => `${pin.firewall} (${pin.pinned_by}, ${pin.state})`).join("; ") || "-" },
    { title: "Server", cell: (row) => (row.server ? `${row.service}/${row.server}` : "-") },
    { title: "State", cell: stateOf },
    { title: "Age", number: true, cell: (row) => duration(row.age_ms) },
    { title: "Idle", number: true, cell: (row) => duration(row.idle_ms) },
    { title: "Packets", number: true, cell: (row) => short(row.packets) },
    { title: "Bytes", number: true, cell: (row) => short(row.bytes) },
  ]), rows, { nothing: "no session matches" });
}

export function links(place, state) {
  const rate = (row, what) => state.rates.of(`${row.engine} link ${row.name} ${what}`);
  const bits = (row, what) => { const bytes = rate(row, what); return bytes === null ? "-" : short(bytes * 8); };
  table(place, named(state, [
    { title: "Link", cell: (row) => row.name },
    { title: "Device", cell: (row) => row.device + (row.vlan === null ? "" : `.${row.vlan}`) },
    { title: "State", cell: stateOf },
    reason,
    { title: "In p/s", number: true, cell: (row) => short(rate(row, "rx_packets")) },
    { title: "In bit/s", number: true, cell: (row) => bits(row, "rx_bytes") },
    { title: "Out p/s", number: true, cell: (row) => short(rate(row, "tx_packets")) },
    { title: "Out bit/s", number: true, cell: (row) => bits(row, "tx_bytes") },
    { title: "Ring drops", number: true, cell: (row) => ({ text: String(row.ring_dropped), tone: row.ring_dropped ? "warn" : "" }) },
  ]), state.links);
}

export function drops(place, state) {
  const rows = state.counters.flatMap(({ engine, counters }) => Object.entries(counters)
    .filter(([name, count]) => count > 0 && /^(punt_)?drop_/.test(name))
    .map(([name, count]) => ({ engine, name, count })));
  rows.sort((a, b) => b.count - a.count);
  table(place, named(state, [
    { title: "Counter", cell: (row) => row.name },
    { title: "Per second", number: true, cell: (row) => short(state.rates.of(`${row.engine} ${row.name}`)) },
    { title: "Total", number: true, cell: (row) => String(row.count) },
  ]), rows, { nothing: "no packet was dropped" });
}

export function events(place, state) {
  const change = (row) => {
    if (row.from !== null && row.to !== null) return `${row.from} \u2192 ${row.to}`;
    return row.to ?? (row.from === null ? "" : `no longer ${row.from}`);
  };
  table(place, named(state, [
    { title: "At", cell: (row) => row.at.replace("T", " ").replace(/\.\d+Z$/, "Z") },
    { title: "What", cell: (row) => `${row.kind} ${row.subject}` },
    { title: "Change", cell: (row) => ({ text: change(row), tone: tone(row.to) }) },
    { title: "By", cell: (row) => row.by ?? "" },
    reason,
  ]), state.events.slice(-100).reverse());
}
