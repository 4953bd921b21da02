//! The earlier counts, in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Percentage by which a case may grow before it fails; if it falls by as much, the baseline should be updated.
const TOLERATED: f64 = 5.0;

const HEAD: &str = "\
# Instructions per packet of the forwarder, counted by valgrind; compared by `cargo bench --bench instructions`, written by
# `cargo bench --bench instructions -- --update`.
";

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// The output of `rustc --version`.
    pub rustc: String,
    /// Instructions per packet, by case.
    #[serde(rename = "instructions-per-packet")]
    pub per_packet: BTreeMap<String, f64>,
}

/// The judgement of a count, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// Within what is tolerated.
    Same,
    /// So much less that the baseline should be updated.
    Better,
    /// Too many.
    Worse,
}

impl Baseline {
    /// A baseline without counts.
    pub fn of_this_compiler() -> Result<Self, String> {
        let output = Command::new("rustc").arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { rustc, per_packet: BTreeMap::new() })
    }

    pub fn read() -> Result<Self, String> {
        let path = path();
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn write(&self) -> Result<PathBuf, String> {
        let path = path();
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        std::fs::write(&path, format!("{HEAD}{text}"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }

    /// The judgement of a count, and its change in percent; a case that is missing in the baseline has to be added to
    /// it.
    pub fn judge(&self, case: &str, here: f64) -> (Judgement, Option<f64>) {
        let Some(was) = self.per_packet.get(case) else { return (Judgement::Worse, None) };
        let change = (here / was - 1.0) * 100.0;
        let judgement = if change > TOLERATED {
            Judgement::Worse
        } else if change < -TOLERATED {
            Judgement::Better
        } else {
            Judgement::Same
        };
        (judgement, Some(change))
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/baseline.toml")
}
