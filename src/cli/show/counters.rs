//! `fwlb show counters`: counters with the help texts of `/metrics`, and how fast they grow.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::calls;
use crate::api::metrics::help;
use crate::cli::engines::{Engine, EngineSelection, ask, block_on};
use crate::cli::output::{self, table};
use crate::engine::view::CountersView;

/// The longest time between two readings.
const RATE_MAX: Duration = Duration::from_secs(3600);
/// The shortest time: engines update some of their counters this often.
const RATE_MIN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, clap::Args)]
pub struct CounterArgs {
    /// Only those that are not zero; with --rate those that move
    #[arg(long)]
    nonzero: bool,
    /// Take two readings, so far apart (1s), and say how much each moves in a second
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = between)]
    rate: Option<Duration>,
}

fn between(text: &str) -> Result<Duration, String> {
    match output::parse_duration(text)? {
        time if (RATE_MIN..=RATE_MAX).contains(&time) => Ok(time),
        _ => Err("100ms to 1h".to_owned()),
    }
}

/// A counter of an engine.
#[derive(Debug, PartialEq)]
struct Row {
    engine: String,
    name: String,
    value: u64,
    per_second: Option<f64>,
}

pub fn run(args: &CounterArgs, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    // One flat object has no place for the name of an engine.
    let engines =
        if selection.json && args.rate.is_none() { vec![selection.engine()?] } else { selection.engines()? };
    let mut rows: Vec<Row> = Vec::new();
    let failures = block_on(async {
        let mut failures = Vec::new();
        let mut readings = Vec::new();
        for engine in &engines {
            match read(engine).await {
                Ok(first) => readings.push((engine, first)),
                Err(error) => failures.push(error),
            }
        }
        if let Some(time) = args.rate {
            tokio::time::sleep(time).await;
        }
        for (engine, (at, first)) in readings {
            if args.rate.is_none() {
                rows.extend(first.into_iter().map(|(name, value)| row(engine, name, value, None)));
                continue;
            }
            match read(engine).await {
                Ok((later, second)) => rows.extend(moved(engine, &first, second, later - at)),
                Err(error) => failures.push(error),
            }
        }
        failures
    })?;
    let mut failures = failures.into_iter().peekable();
    if rows.is_empty()
        && let Some(error) = failures.next_if(|_| true)
    {
        return Err(error);
    }
    let is_worth_it = |row: &Row| row.per_second.map_or(row.value != 0, |rate| rate != 0.0);
    rows.retain(|row| !args.nonzero || is_worth_it(row));
    match selection.json {
        true => output::print_json(&as_json(&rows, args.rate.is_some()))?,
        false => output::print(&show(&rows, engines.len() > 1))?,
    }
    if rows.is_empty() && !selection.json {
        output::note(if args.rate.is_some() { "no counter moves" } else { "no counter but zeros" });
    }
    let failed = failures.peek().is_some();
    failures.for_each(|error| output::print_command_error(&error));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(engine: &Engine, name: String, value: u64, per_second: Option<f64>) -> Row {
    Row { engine: engine.name.clone(), name, value, per_second }
}

async fn read(engine: &Engine) -> anyhow::Result<(Instant, CountersView)> {
    let (_, counters) = ask(engine, &calls::Counters {}).await?;
    Ok((Instant::now(), counters))
}

/// The second reading, and the growth per second since the first. A counter that became smaller, because its engine was
/// restarted in between, has no rate.
fn moved(engine: &Engine, first: &CountersView, second: CountersView, after: Duration) -> Vec<Row> {
    let rate = |name: &str, value: u64| {
        let more = value.checked_sub(*first.get(name)?)?;
        Some(more as f64 / after.as_secs_f64())
    };
    second
        .into_iter()
        .map(|(name, value)| {
            let rate = rate(&name, value);
            row(engine, name, value, rate)
        })
        .collect()
}

/// `{ "received": 7, … }`; with rates an array of objects.
fn as_json(rows: &[Row], has_rates: bool) -> Value {
    if !has_rates {
        return Value::Object(rows.iter().map(|row| (row.name.clone(), json!(row.value))).collect());
    }
    let row = |Row { engine, name, value, per_second }: &Row| json!({ "engine": engine, "name": name, "value": value, "per_second": per_second });
    Value::Array(rows.iter().map(row).collect())
}

fn show(rows: &[Row], several: bool) -> String {
    let has_rates = rows.iter().any(|row| row.per_second.is_some());
    let titles: Vec<&str> = [
        if several { &["ENGINE"][..] } else { &[] },
        &["COUNTER", ">VALUE"],
        if has_rates { &[">PER-SECOND"] } else { &[] },
        &["WHAT"],
    ]
    .concat();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|Row { engine, name, value, per_second }| {
            let rate = per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
            [
                if several { vec![engine.clone()] } else { vec![] },
                vec![name.clone(), value.to_string()],
                if has_rates { vec![rate] } else { vec![] },
                vec![help::known(name).unwrap_or_default().to_owned()],
            ]
            .concat()
        })
        .collect();
    table(&titles, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_between_two_readings_and_there_is_none_after_a_restart() {
        let engine = Engine { name: "outer".to_owned(), client: crate::client::Client::new("/nowhere") };
        let reading = |numbers: [(&str, u64); 3]| numbers.map(|(name, value)| (name.to_owned(), value)).into();
        let first: CountersView = reading([("received", 100), ("forwarded", 90), ("dropped", 5)]);
        let second = reading([("received", 400), ("forwarded", 90), ("dropped", 4)]);
        let rates: Vec<_> = moved(&engine, &first, second, Duration::from_secs(2))
            .into_iter()
            .map(|row| (row.name, row.per_second))
            .collect();
        let expected = [("dropped", None), ("forwarded", Some(0.0)), ("received", Some(150.0))];
        assert_eq!(rates, expected.map(|(name, rate)| (name.to_owned(), rate)));
    }
}
