//! `fwlb show`: prints the state of engines.

pub mod cluster;
mod counters;
pub mod nodes;
mod sessions;
pub mod tables;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api::{Call, EventFilter, EventTime, calls};
use crate::cli::engines::{Answers, Engine, EngineSelection, ask, ask_all, block_on, is_unknown};
use crate::cli::output;
use crate::client::ClientError;
use counters::CounterArgs;
use sessions::SessionArgs;

/// How often `--follow` asks for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Show what engines know: status (default), links, neighbors, firewalls, peers, services, checks, ha, sessions,
/// counters, events, config
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Version, uptime, sessions, alarms, overrides
    Status,
    /// Links with their counters, as `ip -s link`
    #[command(visible_alias = "link")]
    Links,
    /// Who answers at which hardware address, as `ip neigh`
    #[command(visible_aliases = ["neighbours", "neigh"])]
    Neighbors,
    /// Firewalls, their traffic and their paths
    #[command(visible_aliases = ["firewall", "fw"])]
    Firewalls,
    /// The engines on the far side
    #[command(visible_alias = "peer")]
    Peers,
    /// Virtual services, their servers and how these do
    #[command(visible_alias = "service")]
    Services,
    /// The last 20 checks of each server and of each path through a firewall: when, how they ended, how long they took
    ///
    /// Probes through firewalls are many a second: those in a row that ended alike are one line, with their number and
    /// the time of the last. A probe of an operator's own (fwlb probe) is not among them.
    #[command(visible_alias = "check")]
    Checks(CheckArgs),
    /// The nodes of the cluster and their roles
    Ha,
    /// Live sessions, the firewalls that they are pinned to and the servers that they are at
    #[command(visible_alias = "session")]
    Sessions(Box<SessionArgs>),
    /// Everything that is counted, with a word for each; --rate says what moves now
    Counters(CounterArgs),
    /// The last state changes; what operators did is kept over restarts
    Events(EventArgs),
    /// The configuration in force, without secrets
    ///
    /// As the file was written, or with --all every key with its value, those that the file leaves to their defaults
    /// marked. What each key means is in fwlb.toml(5).
    Config {
        /// Every key with its value; `fwlb check` reads it again
        #[arg(long)]
        all: bool,
    },
    /// The last ten configurations, and what was different between them
    #[command(visible_alias = "history")]
    Configs,
}

#[derive(Debug, Clone, clap::Args)]
struct CheckArgs {
    /// Of this alone: web/s1, web, s1, perimeter/fw1, perimeter, fw1
    subject: Option<String>,
    /// The last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
}

#[derive(Debug, Clone, clap::Args)]
struct EventArgs {
    /// Stay and print what happens, after the last 10 lines (or as -n says)
    #[arg(short, long)]
    follow: bool,
    /// Since then: 10m ago, or a date as 2026-11-21 or 2026-11-21T11:00:00Z (UTC)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<EventTime>,
    /// Of these kinds: admin, alarm, check, config, engine, firewall, kill, link, neighbor, path, peer, role,
    /// server, service
    #[arg(long, value_name = "KIND[,KIND]", value_delimiter = ',')]
    kind: Vec<String>,
    /// About this: fw1, perimeter/fw1, web/s1, perimeter
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
}

/// Lines that `--follow` begins with.
const FOLLOW_LINES: usize = 10;

impl EventArgs {
    fn filter(&self) -> EventFilter {
        let (kinds, subject) = (self.kind.clone(), self.subject.clone());
        EventFilter { after: 0, since: self.since, kinds, subject, limit: self.lines }
    }
}

fn since(text: &str) -> Result<EventTime, String> {
    text.parse().map_err(|error: crate::api::ApiError| error.to_string())
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    match args.what.as_ref().unwrap_or(&What::Status) {
        What::Status => show(selection, &calls::Status {}, None, tables::status),
        What::Links => show(selection, &calls::Links {}, Some("links"), tables::links),
        What::Neighbors => show(selection, &calls::Neighbors {}, Some("neighbours"), tables::neighbors),
        What::Firewalls => show(selection, &calls::Firewalls {}, Some("firewalls"), tables::firewalls),
        What::Peers => show(selection, &calls::Peers {}, Some("peers"), tables::peers),
        What::Services => show(selection, &calls::Services {}, Some("services"), tables::services),
        What::Ha => show(selection, &calls::Ha {}, Some("clusters"), cluster::text),
        What::Checks(CheckArgs { subject, lines }) => {
            let call = calls::Checks { subject: subject.clone(), limit: *lines };
            show_edited(selection, &call, Some("checks"), tables::checks, |answers, failures| {
                // One engine has the server or the firewall; the others need not know it.
                failures.retain(|failure| !is_unknown(failure));
                lines.iter().for_each(|lines| last_of_all(answers, *lines, |result| &result.at));
            })
        }
        What::Sessions(asked) => block_on(sessions::run(asked, &selection.engines()?, selection.json))?,
        What::Counters(args) => counters::run(args, selection),
        What::Events(args) if args.follow => block_on(follow(&selection.engines()?, args, selection.json))?,
        What::Events(args) => show_edited(selection, &args.filter(), Some("events"), tables::events, |answers, _| {
            args.lines.iter().for_each(|lines| last_of_all(answers, *lines, |event| &event.at));
        }),
        What::Config { all } => show(selection, &calls::Config { all: *all }, None, tables::config),
        What::Configs => show(selection, &calls::Configs {}, Some("configurations"), tables::configs),
    }
}

/// Asks all engines and prints their answers as JSON or as `draw` shows them; says so if there are no `rows` at all.
fn show<C: Call>(
    selection: &EngineSelection,
    call: &C,
    rows: Option<&str>,
    draw: fn(&Answers<C::Answer>) -> String,
) -> anyhow::Result<ExitCode> {
    show_edited(selection, call, rows, draw, |_, _| {})
}

/// The same after `edit` of the answers and failures.
fn show_edited<C: Call>(
    selection: &EngineSelection,
    call: &C,
    rows: Option<&str>,
    draw: fn(&Answers<C::Answer>) -> String,
    edit: impl FnOnce(&mut Answers<C::Answer>, &mut Vec<ClientError>),
) -> anyhow::Result<ExitCode> {
    let engines = selection.engines()?;
    let (mut answers, mut failures) = block_on(ask_all(&engines, call))??;
    edit(&mut answers, &mut failures);
    if selection.json {
        output::print_json(&merged(&answers, engines.len() > 1))?;
    } else {
        output::print(&draw(&answers))?;
        if let Some(rows) = rows.filter(|_| answers.iter().all(|(_, value, _)| *value == json!([]))) {
            output::note(&format!("no {rows}"));
        }
    }
    for failure in &failures {
        output::print_client_error(failure);
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One engine's answer as it is; of several, one array whose rows have `engine`.
pub fn merged<A>(answers: &Answers<A>, several: bool) -> Value {
    match answers.as_slice() {
        [(_, value, _)] if !several => value.clone(),
        answers => {
            let rows = answers.iter().flat_map(|(engine, value, _)| match value {
                Value::Array(rows) => rows.iter().map(|row| named(row, &engine.name)).collect(),
                other => vec![named(other, &engine.name)],
            });
            Value::Array(rows.collect())
        }
    }
}

/// The row with the name of its engine.
pub fn named(row: &Value, engine: &str) -> Value {
    let mut row = row.clone();
    if let Some(object) = row.as_object_mut() {
        object.entry("engine").or_insert_with(|| json!(engine));
    }
    row
}

/// Keeps the last `lines` rows of all engines together, in order of their time `at`.
fn last_of_all<R>(answers: &mut Answers<Vec<R>>, lines: usize, at: fn(&R) -> &String) {
    // RFC 3339 in UTC sorts as text. What one engine tells of one moment stays in its order.
    let mut all: Vec<(String, usize, usize)> = Vec::new();
    for (engine, (_, _, rows)) in answers.iter().enumerate() {
        all.extend(rows.iter().enumerate().map(|(place, row)| (at(row).clone(), engine, place)));
    }
    all.sort();
    let mut stay = vec![BTreeSet::new(); answers.len()];
    for (_, engine, place) in all.split_off(all.len().saturating_sub(lines)) {
        stay[engine].insert(place);
    }
    for ((_, value, rows), stay) in answers.iter_mut().zip(stay) {
        if let Some(rows) = value.as_array_mut() {
            retain_rows(rows, &stay);
        }
        retain_rows(rows, &stay);
    }
}

/// Keeps the rows at these positions.
fn retain_rows<T>(rows: &mut Vec<T>, places: &BTreeSet<usize>) {
    let mut place = 0..;
    rows.retain(|_| place.next().is_some_and(|place| places.contains(&place)));
}

/// Prints events as they arrive, after the last few, until the reader or the last engine is gone; in JSON one event a
/// line.
async fn follow(engines: &[Engine], args: &EventArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mut seen = vec![0; engines.len()];
    let history = args.lines.unwrap_or(FOLLOW_LINES);
    // The number of the last event has to be known even if none is to be shown.
    let begin = EventFilter { limit: Some(history.max(1)), ..args.filter() };
    let (mut answers, _) = ask_all(engines, &begin).await?;
    for (engine, _, events) in &answers {
        let place = engines.iter().position(|one| one.name == engine.name);
        let last = events.iter().map(|event| event.seq).max();
        if let (Some(place), Some(last)) = (place, last) {
            seen[place] = last;
        }
    }
    last_of_all(&mut answers, history, |event| &event.at);
    if json {
        let rows = merged(&answers, engines.len() > 1);
        let mut rows = rows.as_array().cloned().unwrap_or_default();
        rows.sort_by_key(|row| row["at"].as_str().unwrap_or_default().to_owned());
        rows.iter().try_for_each(|row| output::print(&format!("{row}\n")))?;
    } else {
        output::print(&tables::events(&answers))?;
    }
    loop {
        let mut answered = false;
        let mut last = None;
        for (engine, seen) in engines.iter().zip(&mut seen) {
            let news = EventFilter { after: *seen, since: None, limit: None, ..args.filter() };
            let (value, events) = match ask(engine, &news).await {
                Ok(answer) => answer,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            answered = true;
            *seen = events.iter().map(|event| event.seq).max().unwrap_or(*seen);
            let several = engines.len() > 1;
            for (event, row) in events.iter().zip(value.as_array().into_iter().flatten()) {
                let line = match json {
                    true if several => named(row, &engine.name).to_string(),
                    true => row.to_string(),
                    false => tables::painted_event_line(several.then_some(&engine.name), event),
                };
                output::print(&format!("{line}\n"))?;
            }
        }
        if let (false, Some(error)) = (answered, last) {
            return Err(error.into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::view::EventView;

    fn answer(name: &str, value: Value) -> (Engine, Value, Vec<EventView>) {
        let answer = serde_json::from_value(value.clone()).unwrap();
        (Engine { name: name.to_owned(), client: crate::client::Client::new("/nowhere") }, value, answer)
    }

    #[test]
    fn one_engine_answers_with_its_own_object_and_several_with_rows_that_name_them() {
        let event = json!({ "seq": 1, "at": "x", "kind": "link", "subject": "clients", "from": null, "to": "up",
            "reason": null, "by": null, "a_key_of_a_later_version": 7 });
        let one = answer("outer", json!([event]));
        let two = answer("inner", json!([event]));

        assert_eq!(merged(&vec![one.clone()], false), json!([event]));
        let rows = merged(&vec![one, two], true);
        assert_eq!(rows[0]["engine"], "outer");
        assert_eq!(rows[1]["engine"], "inner");
        assert_eq!(rows[1]["a_key_of_a_later_version"], 7);
    }

    #[test]
    fn the_last_lines_are_the_last_of_all_engines_together() {
        let event = |seq: u64, at: &str| {
            json!({ "seq": seq, "at": at, "kind": "link", "subject": "clients", "from": null, "to": "up",
                "reason": null, "by": null })
        };
        let outer = answer("outer", json!([event(1, "1"), event(2, "4"), event(3, "5")]));
        let inner = answer("inner", json!([event(1, "2"), event(2, "3")]));
        let last = |lines| {
            let mut answers = vec![outer.clone(), inner.clone()];
            last_of_all(&mut answers, lines, |event| &event.at);
            assert_eq!(answers[0].2.len(), answers[0].1.as_array().unwrap().len(), "rows and events agree");
            let mut left: Vec<_> =
                merged(&answers, true).as_array().unwrap().iter().map(|row| row["at"].clone()).collect();
            left.sort_by_key(ToString::to_string);
            left
        };
        assert_eq!(last(3), ["3", "4", "5"]);
        assert_eq!(last(1), ["5"]);
        assert_eq!(last(99).len(), 5);
        assert_eq!(last(0), [""; 0]);
    }

    #[test]
    fn an_engine_that_names_itself_keeps_its_name_in_merged_rows() {
        assert_eq!(named(&json!({ "engine": "inner" }), "socket-name")["engine"], "inner");
    }
}
