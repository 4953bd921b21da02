//! `fwlb show`: what engines tell about themselves.

pub mod tables;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api::{Answer, Request, SessionFilter, address_or_prefix};
use crate::cli::output;
use crate::cli::reach::{Answers, Engine, Reach, ask, ask_all, block_on};

/// How often `--follow` asks for news.
const FOLLOW: Duration = Duration::from_millis(250);

/// Show what engines know: status (default), links, neighbors, firewalls, peers, services, sessions, counters, events, config
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
    #[command(visible_alias = "firewall")]
    Firewalls,
    /// The engines on the far side
    #[command(visible_alias = "peer")]
    Peers,
    /// Virtual services, their servers and how these do
    #[command(visible_alias = "service")]
    Services,
    /// Live sessions, the firewalls that they are pinned to and the servers that they are at
    #[command(visible_alias = "session")]
    Sessions(SessionArgs),
    /// Everything that is counted
    Counters,
    /// The last state changes
    Events {
        /// Stay and print what happens
        #[arg(short, long)]
        follow: bool,
    },
    /// The configuration in force, without secrets
    ///
    /// As the file was written, or with --all every key with its value, those that the file leaves to their defaults marked. What
    /// each key means is in fwlb.toml(5).
    Config {
        /// Every key with its value; `fwlb check` reads it again
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct SessionArgs {
    /// Whose source is this address, or lies in this prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    source: Option<ipnet::IpNet>,
    /// Whose destination is this address, or lies in this prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    destination: Option<ipnet::IpNet>,
    /// That are pinned to this firewall
    #[arg(long, value_name = "[GROUP/]FIREWALL")]
    firewall: Option<String>,
    /// Of this virtual service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// At this real server
    #[arg(long, value_name = "[SERVICE/]SERVER")]
    server: Option<String>,
    /// In this state
    #[arg(long, value_parser = ["opening", "established", "closing", "one-way", "two-way"])]
    state: Option<String>,
    /// At most so many of each engine
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

fn prefix(text: &str) -> Result<ipnet::IpNet, String> {
    address_or_prefix(text).map_err(|error| error.to_string())
}

impl What {
    fn request(&self) -> Request {
        match self {
            Self::Status => Request::Status,
            Self::Links => Request::Links,
            Self::Neighbors => Request::Neighbors,
            Self::Firewalls => Request::Firewalls,
            Self::Peers => Request::Peers,
            Self::Services => Request::Services,
            Self::Sessions(filter) => Request::Sessions(SessionFilter {
                source: filter.source,
                destination: filter.destination,
                firewall: filter.firewall.clone(),
                service: filter.service.clone(),
                server: filter.server.clone(),
                state: filter.state.clone(),
                limit: Some(filter.limit),
            }),
            Self::Counters => Request::Counters,
            Self::Events { .. } => Request::Events { after: 0 },
            Self::Config { all } => Request::Config { all: *all },
        }
    }
}

pub fn run(args: &Args, reach: &Reach) -> anyhow::Result<ExitCode> {
    let what = args.what.clone().unwrap_or(What::Status);
    let engines = match what {
        // A sum over engines would count packets twice, and a flat object has no place for a name.
        What::Counters => vec![reach.engine()?],
        What::Status
        | What::Links
        | What::Neighbors
        | What::Firewalls
        | What::Peers
        | What::Services
        | What::Sessions(_)
        | What::Events { .. }
        | What::Config { .. } => reach.engines()?,
    };
    if let What::Events { follow: true } = what {
        return block_on(follow(&engines, reach.json))?;
    }
    let (answers, failures) = block_on(ask_all(&engines, &what.request()))??;
    if reach.json {
        output::print_json(&merged(&answers, engines.len() > 1))?;
    } else {
        output::print(&tables::render(&answers))?;
    }
    for failure in &failures {
        output::complain(&failure.to_string());
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One engine's answer as it is; of several, one array whose rows have `engine`.
fn merged(answers: &Answers, several: bool) -> Value {
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

fn named(row: &Value, engine: &str) -> Value {
    let mut row = row.clone();
    if let Some(object) = row.as_object_mut() {
        object.entry("engine").or_insert_with(|| json!(engine));
    }
    row
}

/// Prints events as they come, until the reader or the last engine is gone; JSON stands one event to a line.
async fn follow(engines: &[Engine], json: bool) -> anyhow::Result<ExitCode> {
    let mut seen = vec![0; engines.len()];
    loop {
        let mut answered = false;
        let mut last = None;
        for (engine, seen) in engines.iter().zip(&mut seen) {
            let (value, answer) = match ask(engine, &Request::Events { after: *seen }).await {
                Ok(answer) => answer,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            answered = true;
            let Answer::Events(events) = &answer else { continue };
            *seen = events.iter().map(|event| event.seq).max().unwrap_or(*seen);
            let several = engines.len() > 1;
            for (event, row) in events.iter().zip(value.as_array().into_iter().flatten()) {
                let line = match json {
                    true if several => named(row, &engine.name).to_string(),
                    true => row.to_string(),
                    false => tables::event_line(several.then_some(&engine.name), event),
                };
                output::print(&format!("{line}\n"))?;
            }
        }
        if let (false, Some(error)) = (answered, last) {
            return Err(error.into());
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, value: Value, request: &Request) -> (Engine, Value, Answer) {
        let answer = Answer::from_json(request, value.clone()).unwrap();
        (Engine { name: name.to_owned(), client: crate::client::Client::new("/nowhere") }, value, answer)
    }

    #[test]
    fn one_engine_answers_with_its_own_object_and_several_with_rows_that_name_them() {
        let event = json!({ "seq": 1, "at": "x", "kind": "link", "subject": "clients", "from": null, "to": "up",
            "reason": null, "by": null, "a_key_of_a_later_version": 7 });
        let request = Request::Events { after: 0 };
        let one = answer("outer", json!([event]), &request);
        let two = answer("inner", json!([event]), &request);

        assert_eq!(merged(&vec![one.clone()], false), json!([event]));
        let rows = merged(&vec![one, two], true);
        assert_eq!(rows[0]["engine"], "outer");
        assert_eq!(rows[1]["engine"], "inner");
        assert_eq!(rows[1]["a_key_of_a_later_version"], 7);
    }

    #[test]
    fn an_engine_that_names_itself_keeps_its_name_in_merged_rows() {
        assert_eq!(named(&json!({ "engine": "inner" }), "socket-name")["engine"], "inner");
    }
}
