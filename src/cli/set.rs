//! `fwlb set`: what an operator decides against the file.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::api::{Answer, Request};
use crate::cli::output;
use crate::cli::reach::{Engine, Reach, ask, block_on, is_unknown, whoami};
use crate::client::ClientError;
use crate::config::Admin;

/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Override the administrative state of a firewall until `default`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take a firewall out of service or put it back, on every engine that knows it
    Firewall(FirewallArgs),
}

#[derive(Debug, clap::Args)]
struct FirewallArgs {
    /// The firewall
    #[arg(value_name = "[GROUP/]NAME")]
    name: String,
    /// ready: in service; drain: no new flows; maint: out at once; default: as the file says
    state: State,
    /// Why; it is shown with the state
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// With drain: wait until it has no sessions, at most this long
    #[arg(long, value_name = "TIME", value_parser = output::parse_duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Ready,
    Drain,
    Maint,
    Default,
}

pub fn run(args: &Args, reach: &Reach) -> anyhow::Result<ExitCode> {
    let What::Firewall(args) = &args.what;
    if args.wait.is_some() && args.state != State::Drain {
        output::complain("--wait is for drain: the other states take effect at once");
        return Ok(ExitCode::from(2));
    }
    let engines = reach.engines()?;
    block_on(firewall(args, &engines))?
}

async fn firewall(args: &FirewallArgs, engines: &[Engine]) -> anyhow::Result<ExitCode> {
    let (group, name) = match args.name.split_once('/') {
        Some((group, name)) => (Some(group.to_owned()), name.to_owned()),
        None => (None, args.name.clone()),
    };
    let admin = match args.state {
        State::Ready => Some(Admin::Ready),
        State::Drain => Some(Admin::Drain),
        State::Maint => Some(Admin::Maint),
        State::Default => None,
    };
    let request = Request::SetFirewall {
        group: group.clone(),
        name: name.clone(),
        admin,
        reason: args.reason.clone(),
        by: whoami(),
    };
    let mut changed = Vec::new();
    let mut unknown = None;
    let mut failed = false;
    for engine in engines {
        match ask(engine, &request).await {
            Ok((_, Answer::Done { done })) => {
                output::print(&format!("{}: {done}\n", engine.name))?;
                changed.push(engine.clone());
            }
            Ok(_) => {}
            Err(error) if is_unknown(&error) => unknown = Some(error),
            Err(error) => {
                failed = true;
                output::complain(&error.to_string());
            }
        }
    }
    match (changed.is_empty(), unknown) {
        (true, Some(error)) if !failed => return Err(error.into()),
        (true, _) => return Ok(ExitCode::FAILURE),
        (false, _) => {}
    }
    let drained = match args.wait {
        Some(wait) => drain(&changed, group.as_deref(), &name, wait).await?,
        None => true,
    };
    Ok(if failed || !drained { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits until no engine has sessions on the firewall; answers whether that came in time.
async fn drain(engines: &[Engine], group: Option<&str>, name: &str, wait: Duration) -> anyhow::Result<bool> {
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let left = sessions(engines, group, name).await?;
        if left == 0 {
            output::print(&format!("{name} has no sessions\n"))?;
            return Ok(true);
        }
        if tokio::time::Instant::now() >= deadline {
            let after = output::duration_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            output::complain(&format!(
                "{name} still has {left} sessions after {after}; they stay, and no new ones come"
            ));
            return Ok(false);
        }
        tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + LOOK)).await;
    }
}

/// The most sessions that one engine has on the firewall: both sides count the same ones.
async fn sessions(engines: &[Engine], group: Option<&str>, name: &str) -> Result<u64, ClientError> {
    let mut most = 0;
    for engine in engines {
        if let (_, Answer::Firewalls(firewalls)) = ask(engine, &Request::Firewalls).await? {
            let meant = firewalls.iter().filter(|one| one.name == name && group.is_none_or(|group| group == one.group));
            most = most.max(meant.map(|one| one.sessions).sum());
        }
    }
    Ok(most)
}
