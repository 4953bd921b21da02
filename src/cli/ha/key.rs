//! `fwlb ha key`: a new secret for the nodes of a cluster.

use std::process::ExitCode;

use anyhow::Context;

use crate::cli::output;
use crate::io::secret;

/// Print a new secret for `key` of `[ha]`, which is the same on all nodes
///
/// Write it to a file that only the engine can read, and copy that to every node.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(Args {}: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let key = secret::new_key().context("cannot make a key")?;
    match json {
        true => output::print_json(&serde_json::json!({ "key": key }))?,
        false => output::print(&format!("{key}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_long_enough_for_a_cluster() {
        assert!(secret::new_key().unwrap().len() >= crate::ha::association::KEY_MIN);
    }
}
