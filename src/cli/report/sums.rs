//! The sums of a report, by name.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::By;
use super::line::Line;
use super::quantiles::Quantiles;

/// Number of names that are summed separately; further names are summed under [`OTHERS_NAME`].
pub(super) const NAMES_MAX: usize = 100_000;
/// The name under which names beyond the limit, or beyond the requested rows, are summed.
pub(super) const OTHERS_NAME: &str = "(others)";
/// The name where there is none, as of a session without a server.
const NO_NAME: &str = "-";

/// The sums of a report.
#[derive(Debug)]
pub(super) struct Sums {
    by: By,
    names_max: usize,
    sums: BTreeMap<String, Sum>,
    others: Option<Sum>,
    used: u64,
    errors: u64,
    skipped: u64,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    sessions: u64,
    packets: u64,
    bytes: u64,
    duration_ms: u128,
    durations: Quantiles,
}

/// A report to print.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// The sum of all names without a row of their own.
    pub(super) rest: Option<Row>,
    /// Lines read.
    pub(super) lines: u64,
    /// Lines summed.
    pub(super) used: u64,
    /// Lines that do not belong to the log.
    pub(super) errors: u64,
    /// Lines outside the requested times.
    pub(super) passed_over: u64,
    /// The limit on the number of names, if there were more.
    pub(super) limited_to: Option<usize>,
}

/// The sum of one name.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) sessions: u64,
    /// Its share of all sessions, in percent.
    pub(super) share_percent: f64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) mean_ms: u64,
    pub(super) median_ms: u64,
    pub(super) p95_ms: u64,
}

impl Sums {
    pub(super) fn new(by: By) -> Self {
        Self::with(by, NAMES_MAX)
    }

    pub(super) fn with(by: By, names_max: usize) -> Self {
        Self { by, names_max, sums: BTreeMap::new(), others: None, used: 0, errors: 0, skipped: 0 }
    }

    /// Counts a line that does not belong to the log.
    pub(super) fn error(&mut self) {
        self.errors += 1;
    }

    /// Counts a line outside the requested times.
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Adds a session.
    pub(super) fn add(&mut self, line: &Line<'_>) {
        self.used += 1;
        for name in names(self.by, line) {
            self.sum(&name).add(line);
        }
    }

    fn sum(&mut self, name: &str) -> &mut Sum {
        if !self.sums.contains_key(name) {
            if self.sums.len() >= self.names_max {
                return self.others.get_or_insert_default();
            }
            self.sums.insert(name.to_owned(), Sum::default());
        }
        self.sums.get_mut(name).expect("it was entered")
    }

    /// The rows with the most sessions, `top` of them (0: all); hours in their order.
    pub(super) fn report(self, top: usize) -> Report {
        let Self { by, names_max, sums, others, used, errors, skipped: passed_over } = self;
        let mut sums: Vec<(String, Sum)> = sums.into_iter().collect();
        match by {
            By::Hour => {}
            By::Server | By::Firewall | By::Client | By::Service | By::Reason => {
                sums.sort_by_key(|(_, sum)| Reverse(sum.sessions));
            }
        }
        let limited_to = others.is_some().then_some(names_max);
        let mut rest = others;
        if top > 0 && sums.len() > top {
            for (_, sum) in sums.drain(top..) {
                rest.get_or_insert_default().merge(&sum);
            }
        }
        Report {
            rows: sums.into_iter().map(|(name, sum)| sum.row(name, used)).collect(),
            rest: rest.map(|sum| sum.row(OTHERS_NAME.to_owned(), used)),
            lines: used + errors + passed_over,
            used,
            errors,
            passed_over,
            limited_to,
        }
    }
}

/// The names under which a session is counted.
fn names<'a>(by: By, line: &'a Line<'_>) -> Vec<Cow<'a, str>> {
    let name = match by {
        By::Server => match (&line.service, &line.server) {
            (Some(service), Some(server)) => format!("{service}/{server}").into(),
            (_, _) => NO_NAME.into(),
        },
        By::Firewall if line.firewalls.is_empty() => NO_NAME.into(),
        By::Firewall => {
            return line.firewalls.iter().map(|(group, firewall)| format!("{group}/{firewall}").into()).collect();
        }
        By::Client => Cow::Borrowed(&*line.client),
        By::Service => line.service.as_deref().unwrap_or(NO_NAME).into(),
        By::Reason => Cow::Borrowed(&*line.reason),
        By::Hour => line.hour.into(),
    };
    vec![name]
}

impl Sum {
    fn add(&mut self, line: &Line<'_>) {
        self.sessions += 1;
        self.packets = self.packets.saturating_add(line.packets);
        self.bytes = self.bytes.saturating_add(line.bytes);
        self.duration_ms += u128::from(line.duration_ms);
        self.durations.add(line.duration_ms);
    }

    fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.duration_ms += other.duration_ms;
        self.durations.merge(&other.durations);
    }

    fn row(&self, name: String, all: u64) -> Row {
        Row {
            name,
            sessions: self.sessions,
            share_percent: self.sessions as f64 * 100.0 / all.max(1) as f64,
            packets: self.packets,
            bytes: self.bytes,
            mean_ms: u64::try_from(self.duration_ms / u128::from(self.sessions.max(1))).unwrap_or(u64::MAX),
            median_ms: self.durations.quantile(50),
            p95_ms: self.durations.quantile(95),
        }
    }
}
