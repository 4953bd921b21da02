//! Metrics of an engine as a whole, of its links, workers and tables, and of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Process;
use super::family::{Labels, Page, bytes, of, seconds};
use super::help;
use crate::engine::view::{AlarmKind, LinkView, MeasuresView, OperState};

/// Counters that form a family: prefix of their names, name of the family, its label, and its help text.
const FAMILIES: [(&str, &str, &str, &str); 6] = [
    ("drop_", "drops", "reason", "Frames dropped, by reason."),
    ("punt_drop_", "punt_drops", "reason", "Frames that the controller was given and gave up, by reason."),
    ("pin_", "pin_changes", "change", "Changes of a session's firewall, by kind."),
    ("ha_advert_", "ha_adverts", "result", "VRRP advertisements that were sent or received, by what they were."),
    ("ha_hello_", "ha_hellos", "result", "Hellos that were sent or received, by what they were."),
    ("ha_unopened_", "ha_unopened", "reason", "Datagrams to the port of hellos without effect, by reason."),
];

pub(super) fn encode(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    page.infos(of("build", "The program that runs."), [(vec![], vec![("version", version)])])?;
    let each = || engines.iter().map(|engine| (vec![("engine", name(engine))], engine));
    let digests = each().map(|(labels, engine)| (labels, vec![("digest", engine.status.config_digest.as_str())]));
    page.infos(of("config", "The configuration in force, by the digest of its text."), digests)?;
    page.gauges(
        of("config_epoch", "Publications of what the packet workers look at."),
        each().map(|(labels, engine)| (labels, engine.status.epoch)),
    )?;
    page.fractional_gauges(
        seconds("uptime", "Time since the engine started."),
        each().map(|(labels, engine)| (labels, engine.status.uptime_ms as f64 / 1000.0)),
    )?;
    page.gauges(
        of("workers", "Packet workers."),
        each().map(|(labels, engine)| (labels, engine.status.workers as u64)),
    )?;
    page.gauges(
        of("sessions", "Live sessions."),
        each().map(|(labels, engine)| (labels, engine.status.sessions as u64)),
    )?;
    page.gauges(
        of("sessions_capacity", "Sessions that fit."),
        each().map(|(labels, engine)| (labels, engine.status.capacity as u64)),
    )?;
    page.gauges(
        of("overrides", "Administrative states and weights set by command."),
        each().map(|(labels, engine)| (labels, engine.status.overrides.len() as u64)),
    )?;
    page.gauges(of("alarms", "Alarms that are raised, by kind."), engines.iter().flat_map(alarms))?;
    counters(page, engines)?;
    links(page, engines)?;
    workers(page, engines)?;
    tables(page, engines)?;
    page.histograms(
        seconds("control_lag", "How late the controller's timers were served."),
        each().map(|(labels, engine)| (labels, &engine.control_lag)),
    )
}

fn name(engine: &MeasuresView) -> &str {
    &engine.status.name
}

fn alarms(engine: &MeasuresView) -> Vec<(Labels<'_>, u64)> {
    // Every kind has a series, also while it is not raised.
    let mut raised: BTreeMap<&str, u64> = AlarmKind::NAMES.into_iter().map(|kind| (kind, 0)).collect();
    for alarm in &engine.status.alarms {
        *raised.entry(alarm.kind.name()).or_default() += 1;
    }
    raised.into_iter().map(|(kind, count)| (vec![("engine", name(engine)), ("kind", kind)], count)).collect()
}

/// Writes every counter of `show counters` that belongs to no family.
fn counters(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let in_family = |counter: &str| FAMILIES.iter().any(|(prefix, ..)| counter.starts_with(prefix));
    let names: BTreeSet<_> = engines.iter().flat_map(|engine| engine.counters.keys()).collect();
    for counter in names.into_iter().filter(|counter| !in_family(counter) && !help::can_shrink(counter)) {
        let samples =
            engines.iter().filter_map(|engine| Some((vec![("engine", name(engine))], *engine.counters.get(counter)?)));
        let help = help::of_counter(counter);
        let family = match counter.strip_suffix("_bytes") {
            Some(counted) => bytes(counted, &help),
            None => of(counter, &help),
        };
        page.counters(family, samples)?;
    }
    for (prefix, family, label, help) in FAMILIES {
        let of_engine = |engine| of_family(engine, prefix, label);
        page.counters(of(family, help), engines.iter().flat_map(of_engine))?;
    }
    Ok(())
}

fn of_family<'a>(engine: &'a MeasuresView, prefix: &str, label: &'static str) -> Vec<(Labels<'a>, u64)> {
    let named = engine.counters.iter().filter_map(|(counter, value)| Some((counter.strip_prefix(prefix)?, *value)));
    named.map(|(word, value)| (vec![("engine", name(engine)), (label, word)], value)).collect()
}

type OfLink = fn(&LinkView) -> u64;

fn links(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || {
        engines.iter().flat_map(|engine| {
            engine.links.iter().map(|link| (vec![("engine", name(engine)), ("link", link.name.as_str())], link))
        })
    };
    page.gauges(
        of("link_up", "Whether the link carries frames."),
        each().map(|(labels, link)| (labels, u64::from(link.state == OperState::Up))),
    )?;
    let counted: [(_, OfLink); 7] = [
        (of("link_receive_packets", "Frames received on the link."), |link| link.rx_packets),
        (bytes("link_receive", "Bytes received on the link."), |link| link.rx_bytes),
        (of("link_receive_drops", "Frames received on the link and dropped."), |link| link.rx_dropped),
        (of("link_ring_drops", "Frames that the rings of the link's device had no room for."), |link| {
            link.ring_dropped
        }),
        (of("link_transmit_packets", "Frames sent on the link."), |link| link.tx_packets),
        (bytes("link_transmit", "Bytes sent on the link."), |link| link.tx_bytes),
        (of("link_transmit_errors", "Frames that the link's device refused."), |link| link.tx_errors),
    ];
    for (family, value) in counted {
        page.counters(family, each().map(|(labels, link)| (labels, value(link))))?;
    }
    Ok(())
}

fn workers(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let most = engines.iter().map(|engine| engine.workers.len()).max().unwrap_or(0);
    let numbers: Vec<_> = (0..most).map(|number| number.to_string()).collect();
    let each = || {
        engines.iter().flat_map(|engine| {
            let numbered = engine.workers.iter().zip(&numbers);
            numbered.map(|(worker, number)| (vec![("engine", name(engine)), ("worker", number.as_str())], worker))
        })
    };
    page.counters(
        of("worker_received", "Frames that the packet worker took from its rings."),
        each().map(|(labels, worker)| (labels, worker.received)),
    )?;
    page.histograms(
        of("worker_batch_frames", "Frames in a batch of the packet worker; full batches are a busy worker."),
        each().map(|(labels, worker)| (labels, &worker.batches)),
    )?;
    let rings = each().flat_map(|(labels, worker)| {
        worker.rings.iter().map(move |ring| {
            let mut labels = labels.clone();
            labels.push(("device", ring.device.as_str()));
            (labels, ring.dropped)
        })
    });
    page.counters(of("worker_ring_drops", "Frames that the packet worker's ring of a device had no room for."), rings)
}

fn tables(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || {
        engines.iter().flat_map(|engine| {
            engine.tables.iter().map(|table| (vec![("engine", name(engine)), ("table", table.name.as_str())], table))
        })
    };
    page.gauges(
        of("table_entries", "Entries of a table or queue in use, by its name in [limits]."),
        each().map(|(labels, table)| (labels, table.used)),
    )?;
    page.gauges(
        of("table_capacity", "Entries of a table or queue that fit, by its name in [limits]."),
        each().map(|(labels, table)| (labels, table.capacity)),
    )
}

pub(super) fn encode_process(page: &mut Page<'_>, process: &Process) -> fmt::Result {
    let Process { cpu_seconds, resident_bytes, virtual_bytes, open_fds, max_fds, threads, start_seconds } = *process;
    page.counter(seconds("process_cpu", "CPU time that the process took."), cpu_seconds)?;
    let one = |value| [(Labels::new(), value)];
    page.gauges(bytes("process_resident_memory", "Memory of the process that is in RAM."), one(resident_bytes))?;
    page.gauges(bytes("process_virtual_memory", "Address space of the process."), one(virtual_bytes))?;
    page.gauges(of("process_open_fds", "File descriptors in use."), one(open_fds))?;
    page.gauges(of("process_max_fds", "File descriptors that the process may use."), one(max_fds))?;
    page.gauges(of("process_threads", "Threads of the process."), one(threads))?;
    let started = [(Labels::new(), start_seconds)];
    page.fractional_gauges(seconds("process_start_time", "When the process started, since 1970."), started)
}
