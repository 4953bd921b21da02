//! `fwlb upgrade`: another program takes a running engine over.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use anyhow::{Context, anyhow};
use serde::Serialize;

use crate::api::calls;
use crate::cli::engines::{Engine, EngineSelection, ask, block_on, whoami};
use crate::cli::output;
use crate::config::value::format_duration;
use crate::engine::view::UpgradeView;
use crate::io::thread::enter_network_of;
use crate::time::Duration;

/// Replace the program of a running engine: no session is lost, and on AF_PACKET no packet
///
/// The new program is started beside the running one, reads the engine's own file, and gets all sessions, verdicts and
/// orders. Then the running one stops and ends, and the new one goes on with the next packet. If the new program does not
/// start or refuses the file, the running one goes on as if nothing had happened, and the exit status is 1. With the same
/// program it is a restart that nobody notices. A node of a cluster refuses: there another node takes over.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the engine, as with -e
    #[arg(value_name = "ENGINE")]
    name: Option<String>,
    /// The new program; default: the one that carries out this command
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    binary: Option<PathBuf>,
    /// How long the new program may take until it has everything
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = output::parse_duration)]
    wait: Duration,
    /// Why: one line, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Upgraded {
    engine: String,
    pid: u32,
    version: String,
    former_pid: u32,
    former_version: String,
}

/// How long the new program may take until it answers at the control socket.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often it is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = match &args.name {
        Some(name) => selection.engine_called(name)?,
        None => selection.engine()?,
    };
    let binary = match &args.binary {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("there is no program {}", path.display()))?,
        None => std::env::current_exe().context("this program does not find itself: say --binary PATH")?,
    };
    let call = calls::Upgrade { reason: args.reason.clone(), by: Some(whoami()) };
    let (_, view) = block_on(ask(&engine, &call))??;
    let pid = match start(&binary, &view).and_then(|mut child| wait(&mut child, args.wait).map(|()| child.id())) {
        Ok(pid) => pid,
        Err(error) => {
            // Whoever connects and says nothing ends the waiting for the new program.
            drop(UnixStream::connect(&view.socket));
            let UpgradeView { engine, version, pid, .. } = view;
            return Err(anyhow!("engine {engine} goes on in process {pid}, version {version}\n{error:#}"));
        }
    };
    let version = version_of(&engine)?;
    let UpgradeView { engine, version: former_version, pid: former_pid, .. } = view;
    if selection.json {
        output::print_json(&serde_json::to_value(Upgraded { engine, pid, version, former_pid, former_version })?)?;
    } else {
        output::print(&format!(
            "engine {engine} runs in process {pid}, version {version}; process {former_pid}, version {former_version}, has \
             handed over to it\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the new program as the running one was started.
fn start(binary: &Path, view: &UpgradeView) -> anyhow::Result<Child> {
    let process = PathBuf::from(format!("/proc/{}", view.pid));
    let mut command = Command::new(binary);
    command.arg("run").arg(&view.config).args(view.takes_default_route.then_some("--take"));
    command.arg("--take-over").arg(&view.socket);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal to this command is none to the engine.
    command.process_group(0);
    // It says where the service manager listens.
    let environment = std::fs::read(process.join("environ"))
        .with_context(|| format!("cannot read the environment of process {}: run this as root", view.pid))?;
    command.env_clear().envs(environment_of(&environment));
    if let Ok(directory) = std::fs::read_link(process.join("cwd")) {
        command.current_dir(directory);
    }
    // In the network namespace of the running program, whatever this command runs in.
    let spawned = thread::scope(|scope| {
        let spawning = scope.spawn(|| enter_network_of(view.pid).and_then(|()| command.spawn()));
        spawning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let child = spawned.with_context(|| format!("cannot start {}", binary.display()))?;
    let own = PathBuf::from(format!("/proc/{}", child.id()));
    // Under a service manager it belongs to the same service, and is spared like it when memory is short. Whoever may not
    // do that starts it all the same.
    if let Some(group) = control_group(&process).filter(|group| control_group(&own).as_ref() != Some(group)) {
        let _ = std::fs::write(group.join("cgroup.procs"), child.id().to_string());
    }
    if let Ok(score) = std::fs::read(process.join("oom_score_adj")) {
        let _ = std::fs::write(own.join("oom_score_adj"), score);
    }
    Ok(child)
}

/// The variables of an environment as in `/proc/PID/environ`, but for the one that names the process itself.
fn environment_of(environment: &[u8]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    use std::os::unix::ffi::OsStrExt;
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let os = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
        Some((os(&variable[..at]), os(&variable[at + 1..])))
    });
    variables.filter(|(name, _)| name != "WATCHDOG_PID").collect()
}

/// The directory of a process's control group (cgroups(7), version 2).
fn control_group(process: &Path) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

/// Waits until the new program says that it has taken over. If it does not, it is ended.
fn wait(child: &mut Child, longest: Duration) -> anyhow::Result<()> {
    let (errors, said) = (child.stderr.take(), words(child.stdout.take()));
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.map(|mut errors| errors.read_to_string(&mut text));
        text
    });
    let outcome = said.recv_timeout(longest);
    if outcome.as_deref() == Ok("taken over") {
        return Ok(());
    }
    let is_late = outcome == Err(RecvTimeoutError::Timeout);
    let _ = child.kill();
    let status = child.wait();
    // A program that it has started may still have the pipe.
    let text = if is_late { String::new() } else { errors.join().unwrap_or_default() };
    let text = text.trim().trim_start_matches("error: ").to_owned();
    Err(match (is_late, text.is_empty(), status) {
        (true, _, _) => anyhow!("the new program did not take over within {}", format_duration(longest)),
        (false, false, _) => anyhow!(text),
        (false, true, Ok(status)) => anyhow!("the new program ended at once: {status}"),
        (false, true, Err(error)) => anyhow!("the new program ended at once: {error}"),
    })
}

/// The lines that a program prints.
fn words(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, said) = channel();
    thread::spawn(move || {
        for line in output.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    said
}

/// The version of the program that answers at the control socket.
fn version_of(engine: &Engine) -> anyhow::Result<String> {
    let answered = block_on(async {
        let begin = tokio::time::Instant::now();
        loop {
            match ask(engine, &calls::Status {}).await {
                Ok((_, status)) => return Ok(status),
                Err(error) if begin.elapsed() >= ANSWERS_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    })?;
    Ok(answered.map(|status| status.version)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn only_the_word_of_the_new_program_is_success() {
        let longest = Duration::from_secs(10);
        let fails = |script: &str| wait(&mut program(script), longest).unwrap_err().to_string();

        wait(&mut program("echo taken over; exec sleep 0.1"), longest).unwrap();
        assert_eq!(fails("echo error: it rains >&2; exit 1"), "it rains");
        assert!(fails("exit 3").contains("ended at once") && fails("exit 3").contains('3'));
        assert!(fails("echo something else").contains("ended at once"));

        let late = wait(&mut program("exec sleep 60"), Duration::from_millis(100)).unwrap_err().to_string();
        assert_eq!(late, "the new program did not take over within 100ms");
    }

    #[test]
    fn the_environment_is_kept_but_for_the_process_that_the_watchdog_names() {
        let environment = environment_of(b"NOTIFY_SOCKET=/run/n\0WATCHDOG_PID=7\0WATCHDOG_USEC=1=0\0broken\0");
        let text = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
            (name.to_str().unwrap().to_owned(), value.to_str().unwrap().to_owned())
        };
        let expected = [("NOTIFY_SOCKET", "/run/n"), ("WATCHDOG_USEC", "1=0")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment.iter().map(text).collect::<Vec<_>>(), expected);
        assert!(control_group(Path::new("/proc/self")).is_none_or(|group| group.starts_with("/sys/fs/cgroup")));
    }
}
