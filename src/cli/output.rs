//! Writes to the terminal or a pipe: text or JSON, tables, durations.

mod colour;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::api::Done;
use crate::client::ClientError;
use crate::time::Duration;

pub use crate::time::in_words as duration_ms;
pub use colour::{Stream, Tone, When, choose, paint, shown};
pub use table::{Columns, table};

/// Whether `--json` was given: standard error gets JSON too, one line per message.
static JSON: AtomicBool = AtomicBool::new(false);

/// Switches answers and errors to JSON for the rest of the process.
pub fn set_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether [`set_json`] was called.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes to standard output. If the reader is gone, this is an error that [`is_broken_pipe`] recognises and that is
/// not reported.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes a value as JSON with a newline.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Writes what an engine did: in words and with its warnings on standard error, or as JSON, which contains both.
pub fn print_done(answer: &Value, done: &Done) -> anyhow::Result<()> {
    if is_json() {
        return print_json(answer);
    }
    print(&format!("{}\n", done.done))?;
    done.warnings.iter().for_each(|warning| print_failure(&format!("warning: {warning}")));
    Ok(())
}

/// Reports a failure on standard error.
pub fn print_failure(text: &str) {
    write_line(&format!("fwlb: {}\n", text.trim_end()), || json!({ "error": "failed", "message": text.trim_end() }));
}

/// Reports on standard error why a command failed; in JSON with the kind of the error if an engine gave one.
pub fn print_command_error(error: &anyhow::Error) {
    match error.downcast_ref() {
        Some(error) => print_client_error(error),
        None => print_failure(&format!("{error:#}")),
    }
}

/// Reports the error of a request to an engine.
pub fn print_client_error(error: &ClientError) {
    match error {
        ClientError::Engine(refused) => {
            write_line(&format!("fwlb: {refused}\n"), || serde_json::to_value(refused).unwrap_or_default());
        }
        other => print_failure(&other.to_string()),
    }
}

/// Reports on standard error that the arguments make no sense together; returns the exit status for that.
pub fn usage_error(text: &str) -> ExitCode {
    write_line(&format!("fwlb: {}\n", text.trim_end()), || json!({ "error": "usage", "message": text.trim_end() }));
    ExitCode::from(2)
}

/// Writes a note to standard error: no error, but not visible in the answer.
pub fn note(text: &str) {
    write_line(&format!("{text}\n"), || json!({ "note": text }));
}

/// Writes an error to standard error, unless the JSON answer contains it too.
pub fn print_error(text: &str) {
    if !is_json() {
        write_error(text);
    }
}

fn write_line(text: &str, json: impl FnOnce() -> Value) {
    match is_json() {
        true => write_error(&format!("{}\n", json())),
        false => write_error(text),
    }
}

fn write_error(text: &str) {
    // If standard error is closed, the exit status is all that is left.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether the error is a reader that has ended, as `head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The text, or `-` if there is none.
pub fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// Formats a round-trip time.
pub fn round_trip(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1000 => format!("{us}us"),
        Some(us) => format!("{}.{:02}ms", us / 1000, us % 1000 / 10),
    }
}

/// Parses a duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::value::duration(text).map_err(|refused| refused.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_have_the_unit_that_fits() {
        assert_eq!([None, Some(312), Some(12_345)].map(round_trip), ["-", "312us", "12.34ms"]);
    }
}
