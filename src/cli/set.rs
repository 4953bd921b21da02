//! `fwlb set`: overrides the file by an operator's decision.

mod drain;
pub mod warnings;

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::bail;
use clap::builder::PossibleValue;
use clap::{Subcommand, ValueEnum};

use crate::api::WEIGHT_MAX;
use crate::api::{ApiError, Call, Done, ServerChange, SessionFilter, calls};
use crate::cli::completions::live;
use crate::cli::engines::{Engine, EngineSelection, ask, block_on, is_unknown, whoami};
use crate::cli::output;
use crate::cli::show::named;
use crate::client::ClientError;
use crate::config::AdminState;

/// Override the administrative state of a firewall, server or service until `default`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take a firewall out of service or put it back, on every engine that knows it
    #[command(visible_alias = "fw")]
    Firewall(FirewallArgs),
    /// Take a real server out of its service or put it back, or change its weight
    Server(ServerArgs),
    /// Take a virtual service out or put it back
    Service(ServiceArgs),
}

#[derive(Debug, clap::Args)]
struct FirewallArgs {
    /// The firewall
    #[arg(value_name = "[GROUP/]NAME", add = live::firewalls())]
    name: String,
    /// ready: in service; drain: no new flows; maint: out at once; default: as the file says
    state: AdminChoice,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// The server
    #[arg(value_name = "SERVICE/NAME", value_parser = server_name, add = live::servers())]
    name: (String, String),
    /// ready: in service; drain: no new sessions; maint: out at once; weight=N: 0..=256; default: as the file says, the
    /// weight too
    #[arg(value_name = SERVER_CHOICES.as_str(), value_parser = ChangeParser)]
    change: ServerChange,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct ServiceArgs {
    /// The service
    #[arg(add = live::services())]
    name: String,
    /// ready: in service; drain: no new sessions; maint: out at once; default: as the file says
    state: AdminChoice,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Why: one line; it is shown with the state, on every engine that it is told to
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// With maint: also if it is the last firewall of its group or the last server of its service
    #[arg(long)]
    force: bool,
    /// With drain: wait until it has no sessions, at most this long; on a terminal a line tells how many are left
    #[arg(long, value_name = "TIME", value_parser = output::parse_duration)]
    wait: Option<Duration>,
}

/// An administrative state to set; `None` is `default`, the state in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AdminChoice(Option<AdminState>);

impl AdminChoice {
    const ALL: [Self; AdminState::ALL.len() + 1] = {
        let mut all = [Self(None); AdminState::ALL.len() + 1];
        let mut index = 0;
        while index < AdminState::ALL.len() {
            all[index] = Self(Some(AdminState::ALL[index]));
            index += 1;
        }
        all
    };

    fn name(self) -> &'static str {
        self.0.map_or("default", AdminState::name)
    }
}

impl ValueEnum for AdminChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// The form of [`server_choices`].
static SERVER_CHOICES: LazyLock<String> = LazyLock::new(|| server_choices("weight=N").collect::<Vec<_>>().join("|"));

/// What a server can be set to: the states, and weights.
fn server_choices(weight: &'static str) -> impl Iterator<Item = &'static str> {
    AdminChoice::ALL.into_iter().map(AdminChoice::name).chain([weight, "weight=default"])
}

fn server_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((service, name)) if !service.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((service.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err("expected SERVICE/NAME, as in web/s1".to_owned()),
    }
}

/// Parses a state or a weight. It is a type, because shells complete the states, which a function could not list.
#[derive(Debug, Clone)]
struct ChangeParser;

impl clap::builder::TypedValueParser for ChangeParser {
    type Value = ServerChange;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<ServerChange, clap::Error> {
        change(&value.to_string_lossy())
            .map_err(|why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, why).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(server_choices("weight=0").map(PossibleValue::new)))
    }
}

fn change(text: &str) -> Result<ServerChange, String> {
    if let Some(weight) = text.strip_prefix("weight=") {
        return match weight.parse::<u16>() {
            _ if weight == "default" => Ok(ServerChange::Weight(None)),
            Ok(weight) if weight <= WEIGHT_MAX => Ok(ServerChange::Weight(Some(weight))),
            Ok(_) | Err(_) => Err(format!("a weight is 0..={WEIGHT_MAX} or default, found {weight:?}\n")),
        };
    }
    let choice = AdminChoice::from_str(text, false).map_err(|_| {
        let choices: Vec<_> = server_choices("weight=N").collect();
        format!("expected one of {}, found {text:?}\n", choices.join(", "))
    })?;
    Ok(ServerChange::Admin(choice.0))
}

/// The object to change.
enum Target<'a> {
    Firewall { group: Option<&'a str>, name: &'a str },
    Server { service: &'a str, name: &'a str },
    Service { name: &'a str },
}

/// The progress of a drain, by the answer of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remaining {
    sessions: u64,
    /// New flows still go to it, because no other takes them.
    takes_new: bool,
}

impl Target<'_> {
    /// The words of `fwlb set` that name the object.
    fn command(&self, title: &str) -> String {
        match self {
            Self::Firewall { .. } => format!("set firewall {title}"),
            Self::Server { .. } => format!("set server {title}"),
            Self::Service { .. } => format!("set service {title}"),
        }
    }

    /// The filter of its sessions.
    fn filter(&self) -> SessionFilter {
        let mut filter = SessionFilter::default();
        match self {
            Self::Firewall { group, name } => {
                filter.firewall = Some(group.map_or_else(|| (*name).to_owned(), |group| format!("{group}/{name}")));
            }
            Self::Server { service, name } => filter.server = Some(format!("{service}/{name}")),
            Self::Service { name } => filter.service = Some((*name).to_owned()),
        }
        filter
    }

    /// How far it is on an engine; `None` if that does not know it.
    async fn remaining(&self, engine: &Engine) -> Result<Option<Remaining>, ClientError> {
        let quiet = |sessions| Remaining { sessions, takes_new: false };
        Ok(match self {
            Self::Firewall { group, name } => {
                let (_, all) = ask(engine, &calls::Firewalls {}).await?;
                let meant = all.iter().filter(|one| one.name == *name && group.is_none_or(|group| group == one.group));
                let left = meant.map(|one| Remaining { sessions: one.sessions, takes_new: one.new_flows });
                left.reduce(|a, b| Remaining {
                    sessions: a.sessions + b.sessions,
                    takes_new: a.takes_new || b.takes_new,
                })
            }
            Self::Server { service, name } => {
                let (_, all) = ask(engine, &calls::Services {}).await?;
                let servers = all.iter().filter(|of| of.name == *service).flat_map(|of| &of.servers);
                servers.filter(|server| server.name == *name).map(|server| quiet(server.sessions)).next()
            }
            Self::Service { name } => {
                let (_, all) = ask(engine, &calls::Services {}).await?;
                all.iter().find(|service| service.name == *name).map(|service| quiet(service.sessions))
            }
        })
    }
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let (how, admin) = match &args.what {
        What::Firewall(args) => (&args.how, args.state.0),
        What::Service(args) => (&args.how, args.state.0),
        What::Server(ServerArgs { change: ServerChange::Admin(admin), how, .. }) => (how, *admin),
        What::Server(ServerArgs { change: ServerChange::Weight(_), how, .. }) => (how, None),
    };
    if how.wait.is_some() && admin != Some(AdminState::Drain) {
        return Ok(output::usage_error("--wait is for drain: everything else takes effect at once"));
    }
    if how.force && admin != Some(AdminState::Maint) {
        return Ok(output::usage_error("--force is for maint: everything else is done without it"));
    }
    let engines = selection.engines()?;
    let json = selection.json;
    let (reason, force) = (how.reason.clone(), how.force);
    block_on(async {
        match &args.what {
            What::Firewall(args) => {
                let (group, name) = match args.name.split_once('/') {
                    Some((group, name)) => (Some(group), name),
                    None => (None, args.name.as_str()),
                };
                let call = calls::SetFirewall {
                    group: group.map(str::to_owned),
                    name: name.to_owned(),
                    admin,
                    reason,
                    by: Some(whoami()),
                    force,
                };
                set(&call, &engines, &Target::Firewall { group, name }, name, how.wait, json).await
            }
            What::Server(args) => {
                let (service, name) = (&args.name.0, &args.name.1);
                let target = Target::Server { service, name };
                let title = format!("{service}/{name}");
                let engine = only_one(&engines, &target, &title).await?;
                let by = Some(whoami());
                let call = calls::SetServer { reason, by, force, ..calls::SetServer::new(service, name, args.change) };
                set(&call, &[engine], &target, &title, how.wait, json).await
            }
            What::Service(args) => {
                let target = Target::Service { name: &args.name };
                let engine = only_one(&engines, &target, &args.name).await?;
                let call = calls::SetService { name: args.name.clone(), admin, reason, by: Some(whoami()) };
                set(&call, &[engine], &target, &args.name, how.wait, json).await
            }
        }
    })?
}

/// The engine that has a service: a service of the same name on another engine is another service. If none has it, the
/// first engine is asked, whose error lists the services that it has.
async fn only_one(engines: &[Engine], target: &Target<'_>, title: &str) -> anyhow::Result<Engine> {
    // The answer may list thousands of servers, and it is not needed where there is no choice.
    if let [one] = engines {
        return Ok(one.clone());
    }
    let mut known = Vec::new();
    let mut first_error = None;
    for engine in engines {
        match target.remaining(engine).await {
            Ok(Some(_)) => known.push(engine),
            Ok(None) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match (known.as_slice(), first_error) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(error)) => Err(error.into()),
        ([], None) => bail!("no engine has {title}; asked were {}", names(engines.iter())),
        (several, _) => {
            bail!("several engines have {title}: {}\nsay which with -e NAME", names(several.iter().copied()))
        }
    }
}

fn names<'a>(engines: impl Iterator<Item = &'a Engine>) -> String {
    engines.map(|engine| engine.name.as_str()).collect::<Vec<_>>().join(", ")
}

async fn set(
    call: &impl Call<Answer = Done>,
    engines: &[Engine],
    target: &Target<'_>,
    title: &str,
    wait: Option<Duration>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut done: Vec<(String, Done)> = Vec::new();
    let mut changed = Vec::new();
    let mut unknown = None;
    let mut failed = false;
    let mut rows = Vec::new();
    for engine in engines {
        match ask(engine, call).await {
            Ok((value, what)) => {
                match json {
                    true => rows.push(named(&value, &engine.name)),
                    false => output::print(&format!("{}: {}\n", engine.name, what.done))?,
                }
                done.push((engine.name.clone(), what));
                changed.push(engine.clone());
            }
            Err(error) if is_unknown(&error) => unknown = Some(error),
            // A conflict at the first engine ends the command, so that it is not carried out on some engines only.
            Err(error @ ClientError::Engine(ApiError::Conflict(_))) if done.is_empty() => return Err(error.into()),
            Err(error) => {
                failed = true;
                output::print_client_error(&error);
            }
        }
    }
    if json && !rows.is_empty() {
        output::print_json(&rows)?;
    } else {
        warnings::warning_lines(&done, &target.command(title)).iter().for_each(|line| output::print_failure(line));
    }
    match (changed.is_empty(), unknown) {
        (true, Some(error)) if !failed => return Err(error.into()),
        (true, _) => return Ok(ExitCode::FAILURE),
        (false, _) => {}
    }
    let drained = match wait {
        Some(wait) => drain::wait(&changed, target, title, wait).await?,
        None => true,
    };
    Ok(if failed || !drained { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
