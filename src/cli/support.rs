//! `fwlb support`: everything that a helper would ask for, in one archive.

mod archive;
mod machine;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::api::{EventFilter, Request, SessionRequest, calls};
use crate::cli::engines::{Engine, EngineSelection, ask, block_on};
use crate::cli::output;
use crate::config;
use crate::engine::view::ConfigView;
use crate::io::clock::Clock;

use archive::Archive;

/// Write an archive for whoever helps: configuration without secrets, all that `fwlb show` knows, counters twice, logs,
/// the machine
///
/// Nothing is sent anywhere. Seeds, tokens and private keys are left out, wherever they stand; addresses, names and the
/// last log lines are in it. It is made whether engines run or not, and says of each why it did not answer. It reads
/// more as root.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration files of engines that do not answer; default: those in /etc/fwlb
    #[arg(value_name = "CONFIG")]
    configs: Vec<PathBuf>,
    /// The archive, - is standard output; default: fwlb-support-HOST-TIME.tar.gz here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time between the two looks at the counters, 1min at most
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = output::parse_duration)]
    between: Duration,
}

/// The longest time between two readings of the counters.
const BETWEEN_MAX: Duration = Duration::from_secs(60);
/// Number of sessions of each engine.
const SESSIONS_MAX: usize = 1000;
/// Directory of the configurations, unless others are named.
const CONFIG_DIRECTORY: &str = "/etc/fwlb";

/// The requests to each engine, by the name of their file.
fn requests() -> Vec<(&'static str, Request)> {
    vec![
        ("status", calls::Status {}.into()),
        ("health", calls::Health {}.into()),
        ("links", calls::Links {}.into()),
        ("neighbors", calls::Neighbors {}.into()),
        ("firewalls", calls::Firewalls {}.into()),
        ("peers", calls::Peers {}.into()),
        ("services", calls::Services {}.into()),
        ("ha", calls::Ha {}.into()),
        ("sessions", SessionRequest { limit: Some(SESSIONS_MAX), ..SessionRequest::default() }.into()),
        ("events", EventFilter::default().into()),
        ("configs", calls::Configs {}.into()),
        ("measures", calls::Metrics {}.into()),
    ]
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        bail!(
            "an archive is no text for a terminal\npipe it, as in: fwlb support -o - | ssh HOST 'cat > x.tar.gz'; or name a file"
        );
    }
    let now = Clock::new().wall_time();
    let root = format!("fwlb-support-{}-{}", machine::host(), compact_time(now));
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut archive = Archive::default();
    archive.add("version.txt", concat!("fwlb ", env!("CARGO_PKG_VERSION"), "\n"));
    collect(args, selection, &mut archive)?;

    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{root}.tar.gz")));
    let cannot = || format!("cannot write {}", path.display());
    if to_stdout {
        let inside = archive.write(&root, seconds, io::stdout().lock())?;
        output::note(&contents_text(&inside));
        return Ok(ExitCode::SUCCESS);
    }
    // Nobody else may read it, even if it existed before.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(cannot)?;
    file.set_permissions(Permissions::from_mode(0o600)).with_context(cannot)?;
    let inside = archive.write(&root, seconds, &file).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    let size = file.metadata().with_context(cannot)?.len();
    match selection.json {
        true => {
            let names: Vec<_> = inside.iter().map(|(name, _)| name).collect();
            output::print_json(&json!({ "file": path.display().to_string(), "bytes": size, "inside": names }))?;
        }
        false => output::print(&format!(
            "{}\n{}: {size} bytes, without secrets; look into it before you send it\n",
            contents_text(&inside),
            path.display()
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `20260102T030405Z`.
fn compact_time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

/// A line for each directory: `outer: status health ...`.
fn contents_text(inside: &[(String, usize)]) -> String {
    let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, _) in inside {
        let (directory, name) = name.rsplit_once('/').unwrap_or(("", name));
        let short = name.split_once('.').map_or(name, |(short, _)| short);
        of.entry(directory).or_default().push(short);
    }
    let line = |(directory, names): (&str, Vec<&str>)| match directory {
        "" => names.join(", "),
        directory => format!("{directory}: {}", names.join(", ")),
    };
    of.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn collect(args: &Args, selection: &EngineSelection, archive: &mut Archive) -> anyhow::Result<()> {
    let between = args.between.min(BETWEEN_MAX);
    // Without an engine, the machine and the log may show why there is none.
    let mut silent = String::new();
    let engines = selection.engines().unwrap_or_else(|error| {
        silent += &format!("{error:#}\n");
        Vec::new()
    });
    let dead = selection.stale_sockets().unwrap_or_default();
    configurations(args, archive);
    block_on(async {
        for engine in &engines {
            add_engine(archive, engine).await;
        }
        for engine in &dead {
            if let Err(error) = ask(engine, &calls::Status {}).await {
                silent += &format!("{}: {error}\n", engine.name);
            }
        }
        machine::add_machine(archive).await;
        tokio::time::sleep(if engines.is_empty() { Duration::ZERO } else { between }).await;
        for engine in &engines {
            counters(archive, engine, "counters-2").await;
        }
    })?;
    if !silent.is_empty() {
        archive.add("engines-without-answer.txt", silent);
    }
    Ok(())
}

/// The configurations on disk without their secrets, which are hidden in all other files too.
fn configurations(args: &Args, archive: &mut Archive) {
    let entries = || fs::read_dir(CONFIG_DIRECTORY).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths = args.configs.clone();
    if paths.is_empty() {
        paths = entries().filter(|path| path.extension().is_some_and(|is| is == "toml")).collect();
        paths.sort();
    }
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match fs::read_to_string(&path) {
            Ok(text) => {
                hide_secrets_of(&text, archive);
                archive.add(&format!("files/{name}"), config::hide_secrets(&text));
            }
            Err(error) => archive.add(&format!("files/{name}"), format!("cannot read {}: {error}\n", path.display())),
        }
    }
}

/// Hides the secrets of a configuration everywhere in the archive, including those in files.
fn hide_secrets_of(text: &str, archive: &mut Archive) {
    for secret in config::secrets(text) {
        match secret.strip_prefix("file:") {
            None => archive.hide(&secret),
            Some(path) => archive.hide(&fs::read_to_string(path).unwrap_or_default()),
        }
    }
}

/// Adds everything that one engine reports.
async fn add_engine(archive: &mut Archive, engine: &Engine) {
    counters(archive, engine, "counters-1").await;
    for (all, name) in [(false, "config"), (true, "config-all")] {
        let text = match ask(engine, &calls::Config { all }).await {
            Ok((_, ConfigView { text, settings: _ })) => {
                hide_secrets_of(&text, archive);
                // The engine hides them too; an older version may not know every key.
                config::hide_secrets(&text)
            }
            Err(error) => format!("{error}\n"),
        };
        if !all {
            archive.add(&format!("{}/check.txt", engine.name), check(&text));
        }
        archive.add(&format!("{}/{name}.toml", engine.name), text);
    }
    for (name, request) in requests() {
        let answer = engine.client.ask_json(&request).await;
        archive.add(&format!("{}/{name}.json", engine.name), shown(answer));
    }
}

async fn counters(archive: &mut Archive, engine: &Engine, name: &str) {
    let answer = engine.client.ask_json(&calls::Counters {}.into()).await;
    archive.add(&format!("{}/{name}.json", engine.name), shown(answer));
}

fn shown(answer: Result<Value, impl std::fmt::Display>) -> String {
    match answer {
        Ok(value) => serde_json::to_string_pretty(&value).unwrap_or_default() + "\n",
        Err(error) => format!("{error}\n"),
    }
}

/// The output of `fwlb check` for a text without secrets. Secrets in files are read for the check, and not shown.
fn check(text: &str) -> String {
    let mut read = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let outcome = config::load("config.toml", text, &mut read);
    match outcome.config {
        Some(config) => format!("{}\n{}", outcome.diagnostics, config::requirements(&config)),
        None => outcome.diagnostics.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_a_line_for_each_engine() {
        let inside = ["version.txt", "outer/status.json", "outer/config-all.toml", "machine/kernel.txt"];
        let inside: Vec<_> = inside.iter().map(|name| ((*name).to_owned(), 7)).collect();
        assert_eq!(contents_text(&inside), "version\nmachine: kernel\nouter: status, config-all");
        assert_eq!(compact_time(SystemTime::UNIX_EPOCH), "19700101T000000Z");
    }
}
