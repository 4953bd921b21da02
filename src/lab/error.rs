//! What can go wrong with a laboratory, in words that say what to do.

use std::io;
use std::path::PathBuf;

/// Why the laboratory cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A topology that cannot be built.
    #[error("{0}")]
    Topology(String),
    /// Namespaces need root.
    #[error("the laboratory makes network namespaces: run it as root (sudo fwlb lab …)")]
    NotRoot,
    /// A lab of this name stands already.
    #[error(
        "lab {0} stands already: play with it (`fwlb lab status --name {0}`), or remove it with `fwlb lab down --name {0}`"
    )]
    Exists(String),
    /// No lab of this name.
    #[error("no lab {0} stands here: build it with `fwlb lab up --name {0}`")]
    Missing(String),
    /// No such station.
    #[error("no station {name:?} in this lab; it has {known}")]
    NoNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A program that is not there.
    #[error("cannot run {program}: {source}; it may be missing (packages iproute2, nftables, procps, iputils-ping)")]
    Start {
        /// Program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("{command}\nended with {status}: {output}")]
    Command {
        /// The command with its input.
        command: String,
        /// Exit status.
        status: String,
        /// What it said.
        output: String,
    },
    /// A file of the lab.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An engine ended or does not become ready.
    #[error("engine {engine} {what}; it said:\n{log}")]
    Engine {
        /// Which.
        engine: String,
        /// What is wrong.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// An engine was not reached or said no.
    #[error(transparent)]
    Client(#[from] crate::client::ClientError),
    /// The user has seen enough.
    #[error("interrupted")]
    Interrupted,
    /// An answer that is not what the contract says.
    #[error("{what} answered something else than expected: {answer}")]
    Answer {
        /// Who was asked what.
        what: String,
        /// The answer.
        answer: String,
    },
}
