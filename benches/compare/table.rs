//! The rows of the table: what is compared with what, and the goal.

use serde::Serialize;

use crate::stats::Quartiles;

/// The unit of a row's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Ours divided by theirs, of the same round.
    Ratio,
    /// Nanoseconds per packet.
    Nanoseconds,
    /// Microseconds more than the peer needs.
    Microseconds,
    /// Events per second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Allocations per packet.
    Allocations,
}

/// Which side of the goal is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// More is better.
    AtLeast,
    /// Less is better.
    AtMost,
    /// More is better, and there is no goal: the row is shown for comparison with another one.
    Shown,
}

/// The goal of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal {
    /// Which side is good.
    pub sense: Sense,
    /// The goal.
    pub goal: f64,
    /// A goal that we would like to reach.
    pub stretch: Option<f64>,
    /// The unit of both goals, and of the measurement.
    pub unit: Unit,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Its name, for `--rows`.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// The peer.
    pub against: &'static str,
    /// The placement: see [`crate::placement`].
    pub placement: &'static str,
    /// The goal.
    pub goal: Goal,
    /// Whether `--quick` measures it.
    pub quick: bool,
}

/// The result of one party.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The party.
    pub who: String,
    /// The amount: the median of the rounds.
    pub amount: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// The result of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A value to compare with the goal.
    Measured {
        /// The value.
        value: Quartiles,
        /// The results of the parties.
        shares: Vec<Share>,
        /// Notes that a reader needs.
        notes: Vec<String>,
    },
    /// There is no value, for this reason.
    Skipped(String),
}

/// How a value compares with the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It reaches the stretch goal too.
    Stretch,
    /// It reaches the goal.
    Met,
    /// It reaches neither.
    Missed,
    /// There is no goal.
    Shown,
    /// Not measured.
    Skipped,
}

impl Goal {
    /// A goal of at least `goal` times the peer.
    pub const fn ratio(goal: f64, stretch: Option<f64>) -> Self {
        Self { sense: Sense::AtLeast, goal, stretch, unit: Unit::Ratio }
    }

    /// A goal of at most this value.
    pub const fn at_most(goal: f64, unit: Unit) -> Self {
        Self { sense: Sense::AtMost, goal, stretch: None, unit }
    }

    /// No goal: the ratio is shown.
    pub const fn none() -> Self {
        Self { sense: Sense::Shown, goal: 1.0, stretch: None, unit: Unit::Ratio }
    }

    fn reached(&self, limit: f64, value: f64) -> bool {
        match self.sense {
            Sense::AtLeast | Sense::Shown => value >= limit,
            Sense::AtMost => value <= limit,
        }
    }

    /// How good a value is: 1 just meets the goal, 2 is twice as good.
    pub fn score(&self, value: f64) -> f64 {
        match self.sense {
            Sense::AtLeast | Sense::Shown => value / self.goal,
            // A value below zero, as of a round trip that is shorter than the peer's, is as good as can be.
            Sense::AtMost if value <= 0.0 => f64::INFINITY,
            Sense::AtMost => self.goal / value,
        }
    }
}

impl Outcome {
    /// Compares the value with the goal.
    pub fn verdict(&self, goal: &Goal) -> Verdict {
        let Self::Measured { value, .. } = self else { return Verdict::Skipped };
        if goal.sense == Sense::Shown {
            Verdict::Shown
        } else if goal.stretch.is_some_and(|stretch| goal.reached(stretch, value.median)) {
            Verdict::Stretch
        } else if goal.reached(goal.goal, value.median) {
            Verdict::Met
        } else {
            Verdict::Missed
        }
    }

    /// A result with the parties' amounts.
    pub fn measured(value: Quartiles, shares: Vec<Share>) -> Self {
        Self::Measured { value, shares, notes: Vec::new() }
    }

    /// Adds a note that a reader needs.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Self::Measured { notes, .. } = &mut self {
            notes.push(note.into());
        }
        self
    }
}

impl Share {
    /// The result of the party `who`.
    pub fn new(who: impl Into<String>, amount: f64, unit: &'static str) -> Self {
        Self { who: who.into(), amount, unit }
    }
}

impl Verdict {
    /// The word for the verdict.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stretch => "met, stretch",
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Shown => "shown",
            Self::Skipped => "skipped",
        }
    }
}
