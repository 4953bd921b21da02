//! `fwlb show sessions`: page by page, so that a million sessions take no memory here or in the engine.

use std::process::ExitCode;

use serde_json::Value;

use super::named;
use crate::api::sessions::parse_word;
use crate::api::{SessionFilter, SessionRequest, SessionSort, TalkerRequest, TalkersBy};
use crate::cli::engines::{Engine, ask};
use crate::cli::filter::FilterArgs;
use crate::cli::output::{self, Columns, duration_ms, or_dash};
use crate::client::ClientError;
use crate::engine::view::{SessionView, TalkerView};

/// Rows per request.
const PIECE_ROWS: usize = 1000;

#[derive(Debug, Clone, clap::Args)]
pub struct SessionArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many of each engine; 0: all
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
    /// Those with the most of this, the most first; rate is in bits, packet-rate in packets per second
    #[arg(long, value_name = "WHAT", value_parser = SessionSort::NAMES)]
    sort: Option<String>,
    /// Instead of sessions, their sums for each source, destination, ..., the largest first
    #[arg(long, value_name = "WHAT", value_parser = TalkersBy::NAMES)]
    by: Option<String>,
}

/// Asks all of `engines` and prints their answers.
pub async fn run(args: &SessionArgs, engines: &[Engine], json: bool) -> anyhow::Result<ExitCode> {
    let filter = args.filter.filter();
    let sort = args.sort.as_deref().map(|sort| parse_word("sort", sort, &SessionSort::CHOICES)).transpose()?;
    let by = args.by.as_deref().map(|by| parse_word("by", by, &TalkersBy::CHOICES)).transpose()?;
    let mut printer = Printer::new(json, engines.len() > 1);
    let mut list = List { shown: 0, matched: Some(0), failures: Vec::new() };
    for engine in engines {
        let result = match by {
            Some(by) => {
                let sort = sort.unwrap_or(SessionSort::Bytes);
                let question = TalkerRequest { filter: filter.clone(), by, sort, limit: Some(args.limit) };
                list.talkers(engine, question, &mut printer).await
            }
            None => list.sessions(engine, &filter, sort, args.limit, &mut printer).await,
        };
        result?;
    }
    let List { shown, matched, mut failures } = list;
    if failures.len() == engines.len() {
        return Err(failures.swap_remove(0).into());
    }
    printer.end()?;
    for failure in &failures {
        output::print_client_error(failure);
    }
    note(shown, matched.filter(|_| by.is_none()), sort, json);
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Notes on standard error what the list leaves out.
fn note(shown: u64, matched: Option<u64>, sort: Option<SessionSort>, json: bool) {
    match (matched, sort) {
        (Some(matched), None) if matched > shown => {
            output::note(&format!("{shown} of {matched} sessions (--limit 0 for all)"));
        }
        (Some(matched), Some(sort)) if matched > shown => {
            output::note(&format!("{shown} of {matched} sessions, those with the most {sort}"));
        }
        _ if shown == 0 && !json => output::note("no sessions"),
        _ => {}
    }
}

/// The rows that were printed so far.
struct List {
    shown: u64,
    /// Number of matching sessions at all engines; `None` if one did not say.
    matched: Option<u64>,
    failures: Vec<ClientError>,
}

impl List {
    /// Prints the sessions of one engine, as many as requested.
    async fn sessions(
        &mut self,
        engine: &Engine,
        filter: &SessionFilter,
        sort: Option<SessionSort>,
        limit: usize,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        let mut left = if limit == 0 && sort.is_none() { usize::MAX } else { limit };
        let mut after = None;
        loop {
            // A sorted list comes in one page.
            let piece = if sort.is_some() { left } else { left.min(PIECE_ROWS) };
            let is_first = after.is_none();
            let question = SessionRequest { filter: filter.clone(), sort, limit: Some(piece), after };
            let (value, page) = match ask(engine, &question).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.failures.push(error);
                    return Ok(());
                }
            };
            if is_first {
                self.matched = self.matched.zip(page.total).map(|(sum, more)| sum + more);
            }
            self.shown += page.rows.len() as u64;
            left = left.saturating_sub(page.rows.len());
            let goes_on = page.next.is_some() && left > 0;
            printer.sessions(engine, &value, &page.rows, goes_on)?;
            match page.next {
                Some(next) if goes_on => after = Some(next),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Prints the sums of one engine.
    async fn talkers(&mut self, engine: &Engine, question: TalkerRequest, printer: &mut Printer) -> anyhow::Result<()> {
        match ask(engine, &question).await {
            Ok((value, rows)) => {
                self.shown += rows.len() as u64;
                printer.talkers(engine, &value, &rows)?;
            }
            Err(error) => self.failures.push(error),
        }
        Ok(())
    }
}

/// Prints rows as they arrive: one JSON array, or one table.
struct Printer {
    json: bool,
    several: bool,
    has_rows: bool,
    columns: Option<Columns>,
    /// Whether the table has columns for services.
    served: bool,
}

impl Printer {
    fn new(json: bool, several: bool) -> Self {
        Self { json, several, has_rows: false, columns: None, served: false }
    }

    fn sessions(
        &mut self,
        engine: &Engine,
        value: &Value,
        sessions: &[SessionView],
        goes_on: bool,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.json(engine, value);
        }
        if sessions.is_empty() {
            return Ok(());
        }
        if self.columns.is_none() {
            // Sessions of services may follow on a later page.
            self.served = goes_on || self.several || sessions.iter().any(|session| session.service.is_some());
        }
        let has_rates = sessions.iter().any(|session| session.bits_per_second.is_some());
        let titles =
            [SESSIONS, if has_rates { RATES } else { &[] }, PINS, if self.served { SERVED } else { &[] }].concat();
        let served = self.served;
        self.table(engine, &titles, sessions.iter().map(|one| session(one, has_rates, served)).collect())
    }

    fn talkers(&mut self, engine: &Engine, value: &Value, rows: &[TalkerView]) -> anyhow::Result<()> {
        if self.json {
            return self.json(engine, value);
        }
        let Some(first) = rows.first() else { return Ok(()) };
        let has_rates = first.bits_per_second.is_some();
        let subject = first.by.to_uppercase();
        let titles = [&[subject.as_str()][..], TALKERS, if has_rates { RATES } else { &[] }].concat();
        self.table(engine, &titles, rows.iter().map(|one| talker(one, has_rates)).collect())
    }

    fn table(&mut self, engine: &Engine, titles: &[&str], mut rows: Vec<Vec<String>>) -> anyhow::Result<()> {
        let mut titles = titles.to_vec();
        if self.several {
            titles.insert(0, "ENGINE");
            rows.iter_mut().for_each(|row| row.insert(0, engine.name.clone()));
        }
        let columns = self.columns.get_or_insert_with(|| Columns::new(&titles));
        output::print(&columns.add(&rows))
    }

    fn json(&mut self, engine: &Engine, value: &Value) -> anyhow::Result<()> {
        let mut text = String::new();
        for row in value.as_array().into_iter().flatten() {
            let row = if self.several { named(row, &engine.name) } else { row.clone() };
            text += if self.has_rows { ",\n" } else { "[\n" };
            self.has_rows = true;
            // A string in JSON contains no line break of its own.
            text += &format!("  {}", serde_json::to_string_pretty(&row)?.replace('\n', "\n  "));
        }
        output::print(&text)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match (self.json, self.has_rows) {
            (true, true) => output::print("\n]\n"),
            (true, false) => output::print("[]\n"),
            (false, _) => Ok(()),
        }
    }
}

const SESSIONS: &[&str] =
    &["PROTOCOL", "SOURCE", "DESTINATION", "STATE", "AGE", "IDLE", "EXPIRES", ">PACKETS", ">BYTES"];
const RATES: &[&str] = &[">PKT/S", ">BIT/S"];
const PINS: &[&str] = &["PINS"];
/// Columns of sessions where some belong to virtual services.
const SERVED: &[&str] = &["SERVER", "TRANSLATED"];
const TALKERS: &[&str] = &[">SESSIONS", ">PACKETS", ">BYTES"];

fn rates(packets: Option<u64>, bits: Option<u64>) -> [String; 2] {
    [packets, bits].map(|rate| or_dash(rate.map(|rate| rate.to_string()).as_deref()))
}

fn session(one: &SessionView, has_rates: bool, served: bool) -> Vec<String> {
    let pins = one
        .pins
        .iter()
        .map(|pin| format!("{}/{} toward {} ({}, {})", pin.group, pin.firewall, pin.toward, pin.pinned_by, pin.state));
    let identifier = one.identifier.map(|identifier| format!(" {identifier}")).unwrap_or_default();
    let mut row = vec![
        one.protocol.clone(),
        one.source.clone(),
        // As `fwlb explain` takes it.
        format!("{}{identifier}", one.destination),
        one.state.to_string(),
        duration_ms(one.age_ms),
        duration_ms(one.idle_ms),
        duration_ms(one.expires_ms),
        one.packets.to_string(),
        one.bytes.to_string(),
    ];
    if has_rates {
        row.extend(rates(one.packets_per_second, one.bits_per_second));
    }
    row.push(or_dash(Some(pins.collect::<Vec<_>>().join("; ")).as_deref().filter(|pins| !pins.is_empty())));
    if served {
        let server = one.service.as_ref().map(|service| format!("{service}/{}", or_dash(one.server.as_deref())));
        row.push(or_dash(server.as_deref()));
        let (source, destination) = (one.translated_source.as_ref(), one.translated_destination.as_ref());
        row.push(match (source, destination) {
            (None, None) => match &one.tunnel {
                Some(server) => format!("inside packets to {server}"),
                None => "-".to_owned(),
            },
            (None, Some(destination)) => format!("to {destination}"),
            (Some(source), None) => format!("from {source}"),
            (Some(source), Some(destination)) => format!("from {source} to {destination}"),
        });
    }
    row
}

fn talker(one: &TalkerView, has_rates: bool) -> Vec<String> {
    let numbers = [one.sessions, one.packets, one.bytes].map(|number| number.to_string());
    let mut row = vec![one.subject.clone()];
    row.extend(numbers);
    if has_rates {
        row.extend(rates(one.packets_per_second, one.bits_per_second));
    }
    row
}
