//! The rows of the table: what is measured against what, and what the goal is.

use serde::Serialize;

use crate::stats::Quartiles;

/// What the value of a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Ours divided by theirs, of the same round.
    Ratio,
    /// Nanoseconds per packet.
    Nanoseconds,
    /// Microseconds more than the peer.
    Microseconds,
    /// How often in a second.
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
    /// More is better, and there is no goal: the row is there to hold another one against. Its goal is to be as good.
    Shown,
}

/// What a row has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal {
    /// Which side is good.
    pub sense: Sense,
    /// The goal.
    pub goal: f64,
    /// What we would like to reach.
    pub stretch: Option<f64>,
    /// Of both, and of what was measured.
    pub unit: Unit,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Its name, for `--rows`.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// Against whom.
    pub against: &'static str,
    /// Where who runs: see [`crate::placement`].
    pub placement: &'static str,
    /// What has to come out.
    pub goal: Goal,
    /// Whether `--quick` measures it.
    pub quick: bool,
}

/// What a party did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Who.
    pub who: String,
    /// How much: the median of the rounds.
    pub amount: f64,
    /// Of what.
    pub unit: &'static str,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A value to hold against the goal.
    Measured {
        /// The value.
        value: Quartiles,
        /// What the parties did.
        shares: Vec<Share>,
        /// What a reader has to know of this row.
        notes: Vec<String>,
    },
    /// Nothing, and why.
    Skipped(String),
}

/// How the value stands to the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The stretch goal too.
    Stretch,
    /// The goal.
    Met,
    /// Neither.
    Missed,
    /// There is no goal.
    Shown,
    /// Not measured.
    Skipped,
}

impl Goal {
    /// At least `goal` times the peer.
    pub const fn ratio(goal: f64, stretch: Option<f64>) -> Self {
        Self { sense: Sense::AtLeast, goal, stretch, unit: Unit::Ratio }
    }

    /// At most so much.
    pub const fn at_most(goal: f64, unit: Unit) -> Self {
        Self { sense: Sense::AtMost, goal, stretch: None, unit }
    }

    /// None: the ratio is shown.
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
            // What is below nothing, as a round trip that is shorter than the peer's, is as good as can be.
            Sense::AtMost if value <= 0.0 => f64::INFINITY,
            Sense::AtMost => self.goal / value,
        }
    }
}

impl Outcome {
    /// How it stands to the goal.
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

    /// The parties' amounts, and how they compare.
    pub fn measured(value: Quartiles, shares: Vec<Share>) -> Self {
        Self::Measured { value, shares, notes: Vec::new() }
    }

    /// With something that a reader has to know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Self::Measured { notes, .. } = &mut self {
            notes.push(note.into());
        }
        self
    }
}

impl Share {
    /// What `who` did.
    pub fn new(who: impl Into<String>, amount: f64, unit: &'static str) -> Self {
        Self { who: who.into(), amount, unit }
    }
}

impl Verdict {
    /// The word for it.
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
