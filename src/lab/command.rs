//! Commands of the operating system as values. Their errors show the command and its output.

use std::fmt;
use std::io::Write;
use std::process::{Output, Stdio};

use super::LabError;

/// A program with its arguments and its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Standard input.
    pub input: String,
}

impl Command {
    /// A command without input.
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), input: String::new() }
    }

    /// `ip -batch` with one change per line, in the caller's namespace.
    pub fn ip(lines: &[String]) -> Self {
        Self { words: ["ip", "-batch", "-"].map(String::from).to_vec(), input: lines.join("\n") + "\n" }
    }

    /// `ip -batch` inside a namespace.
    pub fn ip_in(namespace: &str, lines: &[String]) -> Self {
        Self {
            words: ["ip", "-n", namespace, "-batch", "-"].map(String::from).to_vec(),
            input: lines.join("\n") + "\n",
        }
    }

    /// `nft -f` inside a namespace.
    pub fn nft(namespace: &str, ruleset: String) -> Self {
        Self { words: ["ip", "netns", "exec", namespace, "nft", "-f", "-"].map(String::from).to_vec(), input: ruleset }
    }

    /// `sysctl -w` inside a namespace, each setting as `name=value`.
    pub fn sysctl<S: Into<String>>(namespace: &str, settings: impl IntoIterator<Item = S>) -> Self {
        let mut words = ["ip", "netns", "exec", namespace, "sysctl", "-qw"].map(String::from).to_vec();
        words.extend(settings.into_iter().map(Into::into));
        Self { words, input: String::new() }
    }

    /// As [`Command::sysctl`], passing over settings that this kernel does not have.
    pub fn sysctl_if_present<S: Into<String>>(namespace: &str, settings: impl IntoIterator<Item = S>) -> Self {
        let mut command = Self::sysctl(namespace, settings);
        command.words.insert(5, "-e".to_owned());
        command
    }

    /// Runs the command and returns its standard output; fails if the command does.
    pub fn run(&self) -> Result<String, LabError> {
        let output = self.output()?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: self.to_string(),
                status: output.status.to_string(),
                output: combined_output(&output),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the command and returns its output and status.
    pub fn output(&self) -> Result<Output, LabError> {
        let start = |source| LabError::Start { program: self.words[0].clone(), source };
        let mut child = std::process::Command::new(&self.words[0])
            .args(&self.words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let mut stdin = child.stdin.take().expect("piped above");
        // A program that ends before it has read all input explains that in its own output.
        let _ = stdin.write_all(self.input.as_bytes());
        drop(stdin);
        child.wait_with_output().map_err(start)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))?;
        if self.input.is_empty() {
            return Ok(());
        }
        write!(f, " <<END\n{}END", self.input)
    }
}

/// Both outputs of a program that failed, trimmed.
fn combined_output(output: &Output) -> String {
    let text = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    text.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let command =
            Command { words: ["sh", "-c", "cat >&2; exit 3"].map(String::from).to_vec(), input: "no\n".into() };

        let error = command.run().unwrap_err().to_string();

        assert!(error.contains("sh -c cat >&2; exit 3 <<END\nno\nEND"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = Command::new(["fwlb-no-such-program"]).run().unwrap_err().to_string();

        assert!(error.contains("fwlb-no-such-program"), "{error}");
    }

    #[test]
    fn standard_output_is_returned() {
        let command = Command { input: "one\ntwo\n".to_owned(), ..Command::new(["wc", "-l"]) };

        assert_eq!(command.run().unwrap().trim(), "2");
    }
}
