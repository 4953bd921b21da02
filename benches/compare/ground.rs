//! What every measurement needs: commands, namespaces that are removed afterwards, pauses that Ctrl-C ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fwlb::io::clock::Clock;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Prefix of the names of all namespaces of this program; the process id follows.
const PREFIX: &str = "fwlbcmp";

static STOP: AtomicBool = AtomicBool::new(false);

/// From the first Ctrl-C or SIGTERM on, every pause ends with an error, so that everything is removed.
pub fn watch_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let [interrupt, terminate, hangup] = &mut signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            STOP.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

/// Fails once the user wants to stop.
pub fn go_on() -> Result<()> {
    ensure!(!STOP.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Waits; fails as soon as the user wants to stop.
pub fn pause(millis: u64) -> Result<()> {
    let clock = Clock::new();
    loop {
        go_on()?;
        let left = millis.saturating_sub(clock.now().as_millis());
        if left == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(left.min(100)));
    }
}

/// Waits until `done` is true, for this long at most.
pub fn wait_until(millis: u64, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let clock = Clock::new();
    loop {
        if done()? {
            return Ok(());
        }
        ensure!(clock.now().as_millis() < millis, "{what} within {} s", millis.div_ceil(1000));
        pause(20)?;
    }
}

/// Runs a program to its end and returns what it printed.
pub fn run(program: &str, words: &[&str]) -> Result<String> {
    run_with_input(program, words, "")
}

/// As [`run`], with text for standard input.
pub fn run_with_input(program: &str, words: &[&str], input: &str) -> Result<String> {
    go_on()?;
    run_always(program, words, input)
}

/// As [`run_with_input`], even when the user wants to stop: for cleaning up.
fn run_always(program: &str, words: &[&str], input: &str) -> Result<String> {
    let shown = || format!("{program} {}", words.join(" "));
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything explains that in its own output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(shown)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!("{}: {}: {}{}", shown(), output.status, errors.trim(), printed.trim())
}

/// Runs several `ip` commands, one a line.
pub fn ip(lines: &str) -> Result<()> {
    run_with_input("ip", &["-batch", "-"], lines).map(drop)
}

/// A network namespace, which is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name no other run has, because it contains the process id.
    pub fn new(suffix: &str) -> Result<Self> {
        let namespace = Self { name: format!("{PREFIX}{}{suffix}", std::process::id()) };
        ip(&format!("netns add {0}\n-n {0} link set lo up\n", namespace.name)).or_else(|_| {
            // Older versions of `ip` do not accept `-n` in a batch.
            run("ip", &["-n", &namespace.name, "link", "set", "lo", "up"]).map(drop)
        })?;
        namespace.sysctl(&["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs several `ip` commands inside, one a line.
    pub fn ip(&self, lines: &str) -> Result<()> {
        run_with_input("ip", &["-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// Runs a program inside, to its end.
    pub fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend(words);
        run("ip", &all)
    }

    /// Sets these kernel settings, as `name=value`.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        let mut words = vec!["-qw"];
        words.extend(settings);
        self.run("sysctl", &words).map(drop)
    }

    /// Loads filter rules.
    pub fn nft(&self, rules: &str) -> Result<()> {
        run_with_input("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], rules).map(drop)
    }

    /// Writes a file of `/sys`, which shows the devices of the namespace.
    pub fn write_sys(&self, path: &str, value: &str) -> Result<()> {
        self.run("sh", &["-c", &format!("echo {value} > /sys/class/net/{path}")]).map(drop)
    }

    /// Runs `f` in a thread inside. Descriptors that it opens belong to the namespace for ever.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let moved = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            f()
        };
        std::thread::scope(|scope| scope.spawn(moved).join())
            .map_err(|_| anyhow!("a thread in a namespace panicked"))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What could not be removed is removed by the next run.
        let _ = run_always("ip", &["netns", "del", &self.name], "");
    }
}

/// Removes the namespaces of runs that were killed.
pub fn remove_what_dead_runs_left() -> Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !Path::new("/proc").join(&pid).exists() {
            run("ip", &["netns", "del", &name])?;
        }
    }
    Ok(())
}
