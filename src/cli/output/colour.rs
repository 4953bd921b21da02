//! Decides whether output is coloured, as `ip -c` and <https://no-color.org> define it, and which state has which
//! colour.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

use clap::ValueEnum;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into a pipe, and whatever NO_COLOR says.
    Always,
    /// Nowhere.
    Never,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// The choice of the command line, as the number of a [`When`].
static COLOUR_MODE: AtomicU8 = AtomicU8::new(When::Auto as u8);

/// Sets the choice; to be called once, before a command runs.
pub fn choose(when: When) {
    COLOUR_MODE.store(when as u8, Ordering::Relaxed);
}

/// Whether output to this stream is coloured.
pub fn shown(stream: Stream) -> bool {
    let chosen = COLOUR_MODE.load(Ordering::Relaxed);
    let is_terminal = match stream {
        Stream::Output => io::stdout().is_terminal(),
        Stream::Error => io::stderr().is_terminal(),
    };
    let is_set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match chosen {
        _ if chosen == When::Always as u8 => true,
        _ if chosen == When::Never as u8 => false,
        _ => is_terminal && !is_set("NO_COLOR") && !is_dumb,
    }
}

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Normal.
    #[default]
    Plain,
    /// Good.
    Good,
    /// Needs attention.
    Warn,
    /// Broken.
    Bad,
    /// Unimportant.
    Dim,
}

impl Tone {
    /// The tone of a state (of a firewall, path, server, service, session or link), of an administrative state, of a
    /// digest, or of the role of a node.
    pub fn of_state(state: &str) -> Self {
        match state {
            "up" | "established" | "two-way" | "same" | "reachable" | "active" => Self::Good,
            "drain" | "maint" | "degraded" | "starting" | "opening" | "incomplete" | "listen" | "leaving" => Self::Warn,
            "down" | "lost" | "differs" | "failed" | "fault" => Self::Bad,
            _ => Self::Plain,
        }
    }
}

/// The text in the colour of its tone, if standard output is coloured.
pub fn paint(text: &str, tone: Tone) -> String {
    let number = match tone {
        _ if !shown(Stream::Output) => None,
        Tone::Plain | Tone::Dim => None,
        Tone::Good => Some(32),
        Tone::Warn => Some(33),
        Tone::Bad => Some(31),
    };
    number.map_or_else(|| text.to_owned(), |number| format!("\u{1b}[{number}m{text}\u{1b}[0m"))
}
