//! The background programs of a lab: engines and servers, each with a log file and a file with its process id.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use super::{Lab, LabError, pause};

impl Lab {
    /// Starts a command in the background with its output in a file of the lab.
    pub(super) fn spawn(&mut self, name: &str, mut command: std::process::Command) -> Result<(), LabError> {
        let path = self.directory.join(format!("{name}.log"));
        let open = || fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = |source| LabError::File { path: path.clone(), source };
        let (out, err) = (open().map_err(file)?, open().map_err(file)?);
        // A process group of its own, because Ctrl-C on the terminal is for the program that drives the lab.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command
            .spawn()
            .map_err(|source| LabError::Start { program: self.program.display().to_string(), source })?;
        self.write(&format!("{name}.pid"), &format!("{}\n", child.id()))?;
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    /// Polls `done` until it is true, the named program ends, or `patience` is over.
    pub(super) fn wait_for(
        &mut self,
        patience: Duration,
        name: &str,
        complaint: &str,
        mut done: impl FnMut(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.children.get_mut(name).and_then(|child| child.try_wait().ok().flatten()) {
                let what = format!("ended at once ({status})");
                return Err(LabError::Engine { engine: name.to_owned(), what, log: self.log(name) });
            }
            let outcome = done(self);
            if matches!(outcome, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = outcome.err().map(|error| format!(" ({error})")).unwrap_or_default();
                let what = format!("{complaint} within {} s{why}", patience.as_secs());
                return Err(LabError::Engine { engine: name.to_owned(), what, log: self.log(name) });
            }
            pause(Duration::from_millis(50));
        }
    }

    /// The last lines of a program's log.
    pub fn log(&self, name: &str) -> String {
        let text = fs::read(self.directory.join(format!("{name}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
