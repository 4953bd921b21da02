//! The measured programs: each runs in a namespace, on a core, and ends when its value is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::ground::Namespace;
use crate::placement::NICE;

/// A measured program, see the module.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on a core, with priority over ordinary programs. Its output goes to a file in `directory`.
    pub fn start(directory: &Path, namespace: &Namespace, core: usize, program: &Path, words: &[&str]) -> Result<Self> {
        Self::start_on(directory, namespace, &core.to_string(), program, words)
    }

    /// As [`Process::start`], on several cores, in the format of `taskset`.
    pub fn start_on(
        directory: &Path,
        namespace: &Namespace,
        cores: &str,
        program: &Path,
        words: &[&str],
    ) -> Result<Self> {
        crate::ground::go_on()?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = directory.join(format!("{name}-{}.log", namespace.name()));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Ends the children if the benchmark is killed: they die with it.
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), "setpriv", "--pdeathsig", "KILL", "nice", "-n", NICE])
            .args(["taskset", "-c", cores])
            .arg(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A process group of its own: Ctrl-C is for the benchmark, which ends its children in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with its last output if it has ended.
    pub fn lives(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_words()),
        }
    }

    /// Whether its output contains this.
    pub fn has_said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }

    /// Its output so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end, this long at most, and returns its output.
    pub fn finish(mut self, millis: u64) -> Result<String> {
        let mut status = None;
        crate::ground::wait_until(millis, &format!("{} does not end", self.name), || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        match status.is_some_and(|status| status.success()) {
            true => Ok(self.said()),
            false => bail!("{} failed: {}", self.name, self.last_words()),
        }
    }

    /// Stops it while others are measured.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Continues it.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("a process number")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    fn last_words(&self) -> String {
        let text = self.said();
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of resident memory, from the `status` file of a process.
pub fn resident(status: &str) -> Result<u64> {
    let text = std::fs::read_to_string(status).with_context(|| format!("cannot read {status}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 =
        line.split_whitespace().next().and_then(|word| word.parse().ok()).context("no number after VmRSS")?;
    Ok(kib * 1024)
}
