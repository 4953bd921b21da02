// Fetches the engines' state every two seconds and shows it.

import { ask, askSome, hasToken, list, post, put, Refused, signIn, useToken } from "./calls.js";
import * as nodes from "./nodes.js";
import { $, make } from "./page.js";
import { picture } from "./picture.js";
import { Rates } from "./rates.js";
import * as tables from "./tables.js";
import { duration } from "./text.js";

const INTERVAL = 2000;
const EVENTS = 500;

const state = {
  engines: [],
  clusters: [],
  firewalls: [],
  peers: [],
  services: [],
  links: [],
  counters: [],
  events: [],
  seen: new Map(),
  silent: new Set(),
  rates: new Rates(),
  operator: false,
  change,
  showChecks,
};

async function refresh() {
  const status = list(await ask("status"));
  const names = status.map((one) => one.name);
  const rows = (what) => ask(what).then((answer) => list(answer).map((row) => ({ engine: names[0], ...row })));
  const [firewalls, peers, services, links] = await Promise.all(["firewalls", "peers", "services", "links"].map(rows));
  const counters = await Promise.all(names.map((engine) => ask("counters", { engine }).then((counters) => ({ engine, counters }))));
  const clusters = (await Promise.all(names.map(clusterOf))).flat();
  const news = await Promise.all(names.map((engine) => newEvents(engine)));
  Object.assign(state, { engines: status, clusters, firewalls, peers, services, links, counters });
  state.events = [...state.events, ...news.flat()].sort((a, b) => a.at.localeCompare(b.at)).slice(-EVENTS);
  note();
}

/** The cluster of an engine, if it has one. An engine whose thread of the role stands still has an alarm instead. */
async function clusterOf(engine) {
  try {
    return list(await ask("ha", { engine }));
  } catch (error) {
    if (error instanceof Refused && error.status === 503) return [];
    throw error;
  }
}

/** Fetches the events of an engine that are not yet shown. */
async function newEvents(engine) {
  const seen = state.seen.get(engine) ?? 0;
  const news = await ask("events", { engine, after: seen });
  if (news.length > 0) state.seen.set(engine, news[news.length - 1].seq);
  return news.map((event) => ({ ...event, engine }));
}

function note() {
  const { rates } = state;
  rates.begin(performance.now());
  for (const { engine, counters } of state.counters) {
    for (const [name, value] of Object.entries(counters)) rates.note(`${engine} ${name}`, value);
  }
  for (const one of state.firewalls) rates.note(`${one.engine} firewall ${one.group}/${one.name}`, one.packets);
  for (const service of state.services) {
    for (const server of service.servers) rates.note(`${service.engine} server ${service.name}/${server.name}`, server.packets);
  }
  for (const link of state.links) {
    for (const what of ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"]) rates.note(`${link.engine} link ${link.name} ${what}`, link[what]);
  }
}

function show() {
  $("engines").replaceChildren(...state.engines.map((one) => {
    const share = one.capacity ? ((one.sessions / one.capacity) * 100).toFixed(1) : "0.0";
    return make("span", "chip", `${one.name} ${one.role}, up ${duration(one.uptime_ms)}, ${one.sessions} sessions (${share} %), ${one.version}`);
  }));
  $("alarms").replaceChildren(...state.engines.flatMap((one) => one.alarms.map((alarm) =>
    make("p", "alarm", `${one.name}: ${alarm.kind} ${alarm.subject} for ${duration(alarm.since_ms)}: ${alarm.reason}`))));
  $("nodes-section").hidden = state.clusters.length === 0;
  $("firewalls-section").hidden = state.firewalls.length === 0;
  $("services-section").hidden = state.services.length === 0;
  picture($("picture"), state);
  nodes.nodes($("nodes"), state);
  tables.firewalls($("firewalls"), state);
  tables.services($("services"), state);
  tables.links($("links"), state);
  tables.drops($("drops"), state);
  tables.events($("events"), state);
  const choices = state.engines.map((one) => one.name);
  if ([...$("explain-engine").options].map((option) => option.value).join() !== choices.join()) {
    $("explain-engine").replaceChildren(...choices.map((name) => new Option(name, name)));
    $("explain-engine").hidden = choices.length < 2;
  }
}

function online(text, className) {
  $("link").textContent = text;
  $("link").className = className;
}

/** Refreshes the page again and again; a round begins after the one before has ended. */
async function run() {
  for (;;) {
    // A hidden page fetches nothing.
    if (!document.hidden) {
      try {
        await refresh();
        show();
        online("live", "good");
        document.body.dataset.ready = "yes";
      } catch (error) {
        complain(error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

function complain(error) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    $("sign-in").hidden = false;
    $("refused").textContent = hasToken() ? error.message : "";
    online("a token is needed", "warn");
  } else {
    online(`no answer: ${error.message}`, "bad");
  }
}

async function findSessions() {
  const text = $("find-text").value.trim();
  try {
    const { rows, total } = await askSome("sessions", { [$("find-end").value]: text, limit: 200 });
    tables.sessions($("sessions"), state, rows);
    $("found").textContent = `${rows.length} of ${total} sessions`;
  } catch (error) {
    $("found").textContent = error.message;
  }
}

/** The last checks of a server or a firewall, in a window of their own. */
async function showChecks(subject, engine) {
  $("checks-title").textContent = `${subject}: last checks by ${engine}`;
  $("checks").replaceChildren(make("p", "dim", "asking"));
  if (!$("checks-window").open) $("checks-window").showModal();
  try {
    tables.checks($("checks"), await ask("checks", { subject, engine }));
  } catch (error) {
    $("checks").replaceChildren(make("p", "bad", error.message));
  }
}

/** Where a flow goes, or why it is dropped, in a few words. */
function course(told) {
  if (told.drop) return `dropped as ${told.drop}${told.active_node ? `: ${told.active_node} is active` : ""}`;
  return told.firewall ?? told.server ?? told.egress?.link ?? "nowhere";
}

async function explain() {
  try {
    const told = await ask("explain", { flow: $("explain-flow").value.trim(), engine: $("explain-engine").value });
    const candidates = told.candidates.map((one) => `${one.name} ${one.state} weight ${one.weight} score ${one.score}`);
    $("explained").replaceChildren(
      make("p", "", make("strong", "", course(told)), `, decided by ${told.decided_by}`),
      make("ol", "story", ...told.story.map((line) => make("li", "", line))),
      ...(candidates.length ? [make("p", "dim", `Candidates: ${candidates.join("; ")}`)] : []),
    );
  } catch (error) {
    $("explained").replaceChildren(make("p", "bad", error.message));
  }
}

/** Shows the result of a change, its consequences, and who else holds the object. */
function say(answer) {
  const held = (answer.held ?? []).map((order) =>
    `still ${order.admin === "maint" ? "in maint" : "drained"}: set at ${order.engine} by ${order.by ?? "its file"}${order.reason ? `: "${order.reason}"` : ""}; undo it there`);
  const beyond = [...(answer.warnings ?? []), ...held];
  $("said").replaceChildren(make("p", beyond.length ? "said warn" : "said", [answer.done, ...beyond].join("; ")));
}

/** Shows who is signed in. */
function showCaller(caller) {
  state.operator = caller !== null && caller.role === "operator";
  $("who").textContent = caller === null ? "Read-only without an operator's token." : `Signed in as ${caller.name} (${caller.role}).`;
  $("operator").hidden = caller !== null;
  $("log-out").hidden = caller === null;
}

/** The text of the question that is asked before a change. */
function question(subject) {
  if (subject.kind === "node") return nodes.question(subject);
  const name = [subject.group ?? subject.service, subject.name].filter(Boolean).join("/");
  const what = `${subject.kind} ${name}`;
  // A change of a firewall goes to every engine of this process that has it.
  const engines = state.firewalls.filter((one) => one.group === subject.group && one.name === subject.name).map((one) => one.engine);
  const where = subject.kind === "firewall" && engines.length > 1 ? ` on ${engines.join(" and ")}` : "";
  if (subject.weight !== undefined) return `Set the weight of ${what}? 0 takes no new sessions.`;
  switch (subject.admin) {
    case "drain": return `Drain ${what}${where}? ${subject.sessions} sessions stay, new ones go elsewhere.`;
    case "maint": return `Take ${what} out at once${where}? ${subject.sessions} sessions are cut or moved.`;
    default: return `Enable ${what}${where}? It takes new sessions again.`;
  }
}

/**
 * Sends a change to the engine; `force` also takes the last firewall or server out of service, or gives the role to a
 * node that lacks copies of sessions.
 */
function order(subject, reason, force) {
  const { admin, group, service, name, engine } = subject;
  const forced = force ? { force } : {};
  if (subject.kind === "node" && subject.order === "failover") return post("ha/failover", { to: subject.to, reason, ...forced }, { engine });
  if (subject.kind === "node") return put("ha/maintenance", { maintenance: subject.order === "maint", reason }, { engine });
  if (subject.kind === "firewall") return put("firewalls/admin", { group, name, admin, reason, ...forced });
  if (subject.kind === "service") return put("services/admin", { name, admin, reason }, { engine });
  const what = subject.weight === undefined ? { admin } : { admin: null, weight: subject.weight };
  return put("servers/admin", { service, name, ...what, reason, ...forced }, { engine });
}

/** Asks the operator to confirm a change, and sends it. */
function change(subject, refusal = "") {
  $("question").textContent = refusal ? `${refusal.split("\n")[0]}. Do it all the same?` : question(subject);
  $("reason").value = refusal ? $("reason").value : "";
  $("weight-label").hidden = subject.weight === undefined;
  $("weight").value = subject.weight ?? "";
  const dialog = $("ask");
  dialog.onclose = async () => {
    // A question is answered once.
    dialog.onclose = null;
    if (dialog.returnValue !== "yes") return;
    const asked = subject.weight === undefined ? subject : { ...subject, weight: Number($("weight").value) };
    try {
      say(await order(asked, $("reason").value || null, refusal !== ""));
      await refresh();
      show();
    } catch (error) {
      // Of what nodes refuse, only what copies of sessions would be lost by can be done all the same.
      const mayForce = subject.kind !== "node" || (subject.lacking && refusal === "");
      if (error instanceof Refused && error.status === 409 && mayForce) {
        change(subject, error.message);
        return;
      }
      complain(error);
      online(error.message, "bad");
    }
  };
  dialog.returnValue = "no";
  dialog.showModal();
}

function listen(form, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

listen("find", findSessions);
listen("explain", explain);
listen("sign-in", async () => {
  try {
    const caller = await signIn($("secret").value);
    showCaller(caller.name === null ? null : caller);
    $("sign-in").hidden = true;
    $("refused").textContent = "";
  } catch (error) {
    $("refused").textContent = error.message;
  }
  $("secret").value = "";
});
$("log-out").addEventListener("click", () => {
  useToken("");
  showCaller(null);
  show();
});
$("operator").addEventListener("click", () => {
  $("sign-in").hidden = false;
  $("secret").focus();
});
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = shown === "dark" ? "light" : "dark";
});

run();
