//! Errors of the lab, in words that say what to do.

use std::io;
use std::path::PathBuf;

/// Why the lab cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology cannot be built.
    #[error("{0}")]
    Topology(String),
    /// The process is not root, which namespaces need.
    #[error("the laboratory makes network namespaces: run it as root (sudo fwlb lab …)")]
    NotRoot,
    /// A lab of this name exists already.
    #[error(
        "lab {0} stands already: play with it (`fwlb lab status --name {0}`), or remove it with `fwlb lab down --name {0}`"
    )]
    Exists(String),
    /// There is no lab of this name.
    #[error("no lab {0} stands here: build it with `fwlb lab up --name {0}`")]
    Missing(String),
    /// There is no such station.
    #[error("no station {name:?} in this lab; it has {known}")]
    NoNode {
        /// The name that was given.
        name: String,
        /// The existing stations.
        known: String,
    },
    /// A program cannot be started.
    #[error("cannot run {program}: {source}; it may be missing (packages iproute2, nftables, procps, iputils-ping)")]
    Start {
        /// The program.
        program: String,
        /// The error of the system call.
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
        /// Output of the command.
        output: String,
    },
    /// No key can be made for a pair of engines.
    #[error("the kernel has no random numbers for the key of a pair")]
    NoRandomNumbers,
    /// A file of the lab cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// An engine ended or does not become ready.
    #[error("engine {engine} {what}; it said:\n{log}")]
    Engine {
        /// Name of the engine.
        engine: String,
        /// What is wrong.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// An engine could not be reached, or refused the request.
    #[error(transparent)]
    Client(#[from] crate::client::ClientError),
    /// The user has interrupted the lab.
    #[error("interrupted")]
    Interrupted,
    /// An answer is not of the expected kind.
    #[error("{what} answered something else than expected: {answer}")]
    Answer {
        /// Who was asked what.
        what: String,
        /// The answer.
        answer: String,
    },
}
