//! Selects the engines that a command is for, and connects to them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueHint;
use serde_json::Value;

use crate::api::{ApiError, Call};
use crate::cli::output::{self, When};
use crate::client::{Client, ClientError, RUN_DIRECTORY};
use crate::time::Duration;

/// Heading under which these options are listed in the help of a command.
pub const HEADING: &str = "Global options";

/// Options of every command that speaks to engines; they stand before or after the words.
#[derive(Debug, clap::Args)]
pub struct EngineSelection {
    /// Control socket of the engine; may be repeated where several are asked
    #[arg(
        id = "socket",
        short,
        long = "socket",
        global = true,
        help_heading = HEADING,
        value_name = "PATH",
        value_hint = ValueHint::FilePath,
        conflicts_with = "engine"
    )]
    sockets: Vec<PathBuf>,
    /// Name of the engine: its socket is /run/fwlb/NAME.sock
    #[arg(short, long, global = true, help_heading = HEADING, value_name = "NAME")]
    engine: Option<String>,
    /// Answer in JSON, errors too
    #[arg(long, global = true, help_heading = HEADING)]
    pub json: bool,
    /// Colours, as `ip -c`: auto, on a terminal and without NO_COLOR; always; never
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_name = "WHEN",
        value_enum,
        default_value_t = When::Auto,
        default_missing_value = "always",
        num_args = 0..=1,
        require_equals = true,
        hide_possible_values = true
    )]
    pub color: When,
    /// How long an engine may take for an answer
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        value_name = "TIME",
        default_value = "10s",
        value_parser = output::parse_duration
    )]
    timeout: Duration,
    /// Where the control sockets are; where none of them is, those of a laboratory are found
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIRECTORY",
        env = "FWLB_RUN_DIRECTORY",
        default_value = RUN_DIRECTORY
    )]
    run_directory: PathBuf,
}

/// A running engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Its name, which is the name of its socket.
    pub name: String,
    /// The client of its control socket.
    pub client: Client,
}

impl EngineSelection {
    /// The selected engines: those that were named, or all that run here; at least one.
    pub fn engines(&self) -> anyhow::Result<Vec<Engine>> {
        if !self.sockets.is_empty() {
            return Ok(self.sockets.iter().map(|path| self.at(path)).collect());
        }
        self.engines_called(self.engine.as_deref())
    }

    fn engines_called(&self, name: Option<&str>) -> anyhow::Result<Vec<Engine>> {
        let running = match self.running()? {
            none if none.is_empty() => self.in_a_lab()?,
            running => running,
        };
        let Some(name) = name else {
            if running.is_empty() {
                bail!(
                    "no engine runs here: nobody listens in {}\nstart one with: fwlb run CONFIG; or name its socket with -s PATH",
                    self.run_directory.display()
                );
            }
            return Ok(running);
        };
        match running.iter().find(|engine| engine.name == name) {
            Some(engine) => Ok(vec![engine.clone()]),
            None if running.is_empty() => {
                bail!("engine {name:?} does not run, nor any other\nstart it with: fwlb run CONFIG")
            }
            None => bail!("engine {name:?} does not run; running: {}", names(&running)),
        }
    }

    /// Sockets that engines left behind in the directory of the selected engines, because they ended without cleaning
    /// up. Empty if engines were named.
    pub fn stale_sockets(&self) -> anyhow::Result<Vec<Engine>> {
        if !self.sockets.is_empty() || self.engine.is_some() {
            return Ok(Vec::new());
        }
        let (running, mut dead) = self.sockets_in(&self.run_directory)?;
        if running.is_empty() && dead.is_empty() && self.run_directory == Path::new(RUN_DIRECTORY) {
            for name in crate::lab::list() {
                dead.extend(self.sockets_in(&Path::new(crate::lab::LABS_DIRECTORY).join(name))?.1);
            }
        }
        Ok(dead)
    }

    /// The engines that run here, or those of the running lab; empty if neither can be determined.
    pub fn running_or_in_a_lab(&self) -> Vec<Engine> {
        match self.running() {
            Ok(none) if none.is_empty() => self.in_a_lab().unwrap_or_default(),
            running => running.unwrap_or_default(),
        }
    }

    /// The same selection with another timeout.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The engines of the running lab, if no other engines run.
    fn in_a_lab(&self) -> anyhow::Result<Vec<Engine>> {
        if self.run_directory != Path::new(RUN_DIRECTORY) {
            return Ok(Vec::new());
        }
        let mut standing = Vec::new();
        for name in crate::lab::list() {
            let directory = Path::new(crate::lab::LABS_DIRECTORY).join(&name);
            let engines = self.listening_in(&directory)?;
            if !engines.is_empty() {
                standing.push((name, directory, engines));
            }
        }
        match standing.len() {
            0 | 1 => Ok(standing.pop().map(|(_, _, engines)| engines).unwrap_or_default()),
            _ => {
                let each = standing
                    .iter()
                    .map(|(name, directory, _)| format!("  FWLB_RUN_DIRECTORY={}    lab {name}", directory.display()));
                let each: Vec<_> = each.collect();
                bail!("no engine runs here but those of several labs: choose one by\n{}", each.join("\n"))
            }
        }
    }

    /// The one selected engine; it is an error if there are several.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        let engines = self.engines()?;
        match engines.as_slice() {
            [engine] => Ok(engine.clone()),
            several if !self.sockets.is_empty() => {
                bail!("one engine is asked at a time: name one socket, of {}", names(several))
            }
            several => bail!("several engines run here: {}\nsay which with -e NAME", names(several)),
        }
    }

    /// The engine with this name.
    pub fn engine_called(&self, name: &str) -> anyhow::Result<Engine> {
        if !self.sockets.is_empty() || self.engine.as_ref().is_some_and(|other| other != name) {
            bail!("say once which engine: {name}, or by -s or -e");
        }
        let running = self.engines_called(Some(name))?;
        running.into_iter().next().with_context(|| format!("engine {name:?} does not run"))
    }

    /// The engines whose sockets are in the same directory as that of `engine`.
    pub fn sibling_engines(&self, engine: &Engine) -> anyhow::Result<Vec<Engine>> {
        let own = engine.client.path();
        let directory = own.parent().unwrap_or(&self.run_directory);
        let all = self.listening_in(directory)?;
        Ok(all.into_iter().filter(|other| other.client.path() != own).collect())
    }

    fn running(&self) -> anyhow::Result<Vec<Engine>> {
        self.listening_in(&self.run_directory)
    }

    /// Every socket in a directory on which a process listens, in order of name.
    fn listening_in(&self, directory: &Path) -> anyhow::Result<Vec<Engine>> {
        self.sockets_in(directory).map(|(running, _)| running)
    }

    /// The sockets in a directory, in order of name: those on which a process listens, and those without one.
    fn sockets_in(&self, directory: &Path) -> anyhow::Result<(Vec<Engine>, Vec<Engine>)> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look into {}", directory.display()));
            }
        };
        let sockets = entries.flatten().map(|entry| entry.path());
        let mut sockets: Vec<_> = sockets.filter(|path| path.extension().is_some_and(|sock| sock == "sock")).collect();
        sockets.sort();
        Ok(sockets.iter().map(|path| self.at(path)).partition(|engine| is_alive(engine.client.path())))
    }

    fn at(&self, path: &Path) -> Engine {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Engine { name, client: Client::new(path).timeout(self.timeout) }
    }
}

/// Whether a process listens on the socket. A request then shows whether that is an engine, and if not, why it may not
/// be asked.
fn is_alive(path: &Path) -> bool {
    let path = path.to_owned();
    let (sender, receiver) = std::sync::mpsc::channel();
    // A busy engine with a full backlog makes a connection wait.
    std::thread::spawn(move || {
        let alive = match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        };
        let _ = sender.send(alive);
    });
    receiver.recv_timeout(Duration::from_secs(1)).unwrap_or(true)
}

fn names(engines: &[Engine]) -> String {
    engines.iter().map(|engine| engine.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The answers of several engines: JSON as they wrote it, and understood.
pub type Answers<A> = Vec<(Engine, Value, A)>;

/// Asks all of `engines`. What some of them could not answer comes back beside the answers of the others; it is an
/// error if none answered.
pub async fn ask_all<C: Call>(
    engines: &[Engine],
    call: &C,
) -> Result<(Answers<C::Answer>, Vec<ClientError>), ClientError> {
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    for engine in engines {
        match ask(engine, call).await {
            Ok((value, answer)) => answers.push((engine.clone(), value, answer)),
            Err(error) => failures.push(error),
        }
    }
    match (answers.is_empty(), failures.is_empty()) {
        (true, false) => Err(failures.swap_remove(0)),
        (true, true) | (false, _) => Ok((answers, failures)),
    }
}

/// Asks one engine: JSON as it wrote it, and understood.
pub async fn ask<C: Call>(engine: &Engine, call: &C) -> Result<(Value, C::Answer), ClientError> {
    engine.client.ask_with_json(call).await
}

/// Whether the engine does not know the object in the request.
pub fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Engine(ApiError::NotFound(_)))
}

/// Runs a future that waits for sockets on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    Ok(runtime.block_on(future))
}

/// The user, as the environment claims: the one behind `sudo`, or the current one; empty where the environment has
/// neither, as under cron. The engine learns the user from the kernel, and marks a differing claim as a claim.
pub fn whoami() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().filter_map(|variable| std::env::var(variable).ok());
    named.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}
