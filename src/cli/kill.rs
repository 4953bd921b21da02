//! `fwlb kill`: ends sessions.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

use crate::api::{SessionFilter, SessionRequest, calls};
use crate::cli::engines::{Engine, EngineSelection, ask, block_on, is_unknown, whoami};
use crate::cli::filter::FilterArgs;
use crate::cli::output;
use crate::engine::view::KillView;

/// Ending more sessions than this has to be confirmed.
const CONFIRM_ABOVE: u64 = 10;

/// End live sessions
///
/// Every session that matches all of the filter is forgotten at once, by every engine that knows the names in it unless
/// -s or -e picks one; its next packet is that of an unknown flow. More than ten are counted first and asked about.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Every session, instead of a filter
    #[arg(long)]
    all: bool,
    /// TCP: tell the ends by a reset, each by the engine on its side
    #[arg(long)]
    reset: bool,
    /// End more than ten without asking
    #[arg(short, long)]
    yes: bool,
    /// Why; it is told with the event
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// An engine that knows the names in the filter, and how many of its sessions match.
struct SelectedSessions {
    engine: Engine,
    sessions: u64,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let filter = args.filter.filter();
    match (filter.is_all(), args.all) {
        (true, false) => return Ok(output::usage_error("say which sessions, as with --source ADDRESS, or --all")),
        (false, true) => return Ok(output::usage_error("either a filter or --all, not both")),
        (true, true) | (false, false) => {}
    }
    let engines = selection.engines()?;
    block_on(async {
        let meant = count(engines, &filter).await?;
        let total: u64 = meant.iter().map(|one| one.sessions).sum();
        if total > CONFIRM_ABOVE && !args.yes && !confirm(&meant, total)? {
            output::print_failure("nothing was ended");
            return Ok(ExitCode::FAILURE);
        }
        kill(args, selection, meant, &filter).await
    })?
}

/// Counts the matching sessions at every engine that knows the names in `filter`; at least one engine has to.
async fn count(engines: Vec<Engine>, filter: &SessionFilter) -> anyhow::Result<Vec<SelectedSessions>> {
    let mut meant = Vec::new();
    let mut unknown = None;
    for engine in engines {
        let first = SessionRequest { filter: filter.clone(), limit: Some(1), ..SessionRequest::default() };
        match ask(&engine, &first).await {
            Ok((_, page)) => {
                let sessions = page.total.unwrap_or(page.rows.len() as u64);
                meant.push(SelectedSessions { engine, sessions });
            }
            Err(error) if is_unknown(&error) => unknown = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match unknown {
        Some(error) if meant.is_empty() => Err(error.into()),
        Some(_) | None => Ok(meant),
    }
}

/// Asks on the terminal; without one it is an error.
fn confirm(meant: &[SelectedSessions], total: u64) -> anyhow::Result<bool> {
    let parts: Vec<_> = meant.iter().map(|one| format!("{} {}", one.engine.name, one.sessions)).collect();
    let parts = parts.join(", ");
    if output::is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!(
            "{total} sessions match ({parts}); nothing was ended\nto end more than {CONFIRM_ABOVE} without being asked, say --yes"
        );
    }
    eprint!("End {total} sessions ({parts})? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn kill(
    args: &Args,
    selection: &EngineSelection,
    meant: Vec<SelectedSessions>,
    filter: &SessionFilter,
) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut ended = 0;
    let mut failures = Vec::new();
    for SelectedSessions { engine, sessions } in meant {
        let (reason, by) = (args.reason.clone(), Some(whoami()));
        let call = calls::Kill { filter: filter.clone(), reset: args.reset, reason, by };
        let (value, killed) = if sessions == 0 {
            let none = KillView { engine: engine.name.clone(), killed: 0, resets: 0 };
            (serde_json::to_value([&none])?, vec![none])
        } else {
            match ask(&engine, &call).await {
                Ok(answer) => answer,
                Err(error) => {
                    failures.push(error);
                    continue;
                }
            }
        };
        for KillView { engine, killed, resets } in killed {
            ended += killed;
            if !selection.json {
                let told = if args.reset { format!(", {resets} resets sent") } else { String::new() };
                output::print(&format!("{engine}: {killed} sessions ended{told}\n"))?;
            }
        }
        rows.extend(value.as_array().into_iter().flatten().cloned());
    }
    if selection.json {
        output::print_json(&Value::Array(rows))?;
    }
    for failure in &failures {
        output::print_client_error(failure);
    }
    if ended == 0 && failures.is_empty() {
        output::note("no sessions match");
    }
    Ok(if ended > 0 && failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
