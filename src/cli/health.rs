//! `fwlb health`: an exit status for scripts, container engines and boot checks.

use std::process::ExitCode;

use serde_json::Value;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on};
use crate::cli::output::{self, Tone};
use crate::engine::view::HealthView;

/// Say whether the engines forward: they answer, their workers turn, their links are up, nothing stops packets
///
/// Exit status 0: all of them; 1: one does not, or none runs, or one ended without a word and left its socket behind.
/// Other alarms, as of an address that somebody else claims too, are told as warnings and do not count.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(Args {}: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let dead = selection.stale_sockets()?;
    let mut engines = match selection.engines() {
        Err(_) if !dead.is_empty() => Vec::new(),
        running => running?,
    };
    // The answer also says why no process listens on these sockets.
    engines.extend(dead);
    engines.sort_by(|one, other| one.name.cmp(&other.name));
    let asked = block_on(async {
        let mut asked = Vec::new();
        for engine in &engines {
            asked.push((engine.name.clone(), ask(engine, &calls::Health {}).await));
        }
        asked
    })?;
    let (mut text, mut rows, mut healthy) = (String::new(), Vec::new(), true);
    for (name, answer) in asked {
        match answer {
            Ok((value, health)) => {
                healthy &= health.healthy;
                text.push_str(&show(&health));
                rows.push(value);
            }
            Err(error) => {
                healthy = false;
                let reason = error.to_string();
                text.push_str(&format!("{name}: {reason}\n"));
                rows.push(no_answer(&name, &reason));
            }
        }
    }
    match selection.json {
        true => output::print_json(&rows)?,
        false => output::print(&text)?,
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line for each problem, or one that says that there is none; and one for each warning.
fn show(health: &HealthView) -> String {
    let name = &health.engine;
    let problems = health.problems.iter().map(|problem| output::paint(&problem.reason, Tone::Bad));
    let warnings = health.warnings.iter().map(|one| output::paint(&format!("warning: {}", one.reason), Tone::Warn));
    let ok = health.problems.is_empty().then(|| output::paint("ok", Tone::Good));
    problems.chain(ok).chain(warnings).map(|line| format!("{name}: {line}\n")).collect()
}

/// The health of an engine that does not answer.
fn no_answer(name: &str, reason: &str) -> Value {
    serde_json::json!({
        "engine": name,
        "healthy": false,
        "problems": [{ "kind": "no_answer", "subject": name, "reason": reason }],
        "warnings": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::view::ProblemView;

    #[test]
    fn an_engine_that_does_not_answer_is_told_in_the_same_shape() {
        let health: HealthView = serde_json::from_value(no_answer("outer", "it is stopping")).unwrap();
        assert_eq!((health.healthy, show(&health).as_str()), (false, "outer: it is stopping\n"));
        let warning = ProblemView {
            kind: "duplicate_address".to_owned(),
            subject: "clients".to_owned(),
            reason: "duplicate_address clients: 192.0.2.1 is claimed by 02:00:00:00:00:07".to_owned(),
        };
        let well =
            HealthView { engine: "inner".to_owned(), healthy: true, problems: Vec::new(), warnings: vec![warning] };
        assert_eq!(
            show(&well),
            "inner: ok\ninner: warning: duplicate_address clients: 192.0.2.1 is claimed by 02:00:00:00:00:07\n"
        );
    }
}
