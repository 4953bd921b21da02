//! The search for the highest rate without loss (RFC 2544 section 26.1): bisection with short trials, then trials of
//! full length at the rate that is left, each a little lower, until one loses nothing. It is a value: its owner sends
//! the packets.

/// The next trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Packets per second to offer.
    pub rate: f64,
    /// Whether this is a trial of full length, which decides.
    pub full: bool,
}

/// How the search ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// At this rate a trial of full length lost nothing.
    Found(f64),
    /// Every trial of full length lost something; the lowest was at this rate.
    Lossy(f64),
}

/// Short trials end when the passed and the failed rate are this close.
const CLOSE: f64 = 1.06;
/// Factor by which a failed trial of full length lowers the rate.
const STEP_DOWN: f64 = 0.9;
/// Number of trials of full length.
const FULL_TRIALS: u32 = 5;
/// The share of the start rate below which short trials give up halving.
const FLOOR: f64 = 1.0 / 64.0;

/// How far from the result of an earlier search the next one searches.
const AROUND: f64 = 1.3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Halving { passed: f64, failed: f64 },
    Confirming { rate: f64, left: u32 },
    Ended(End),
}

/// A search, see the module.
#[derive(Debug, Clone)]
pub struct Search {
    floor: f64,
    stage: Stage,
}

impl Search {
    /// A search below `ceiling`, a rate in packets per second that is known to lose.
    pub fn below(ceiling: f64) -> Self {
        Self { floor: ceiling * FLOOR, stage: Stage::Halving { passed: 0.0, failed: ceiling } }
    }

    /// A search around a rate that an earlier search found.
    pub fn around(rate: f64) -> Self {
        let (passed, failed) = (rate / AROUND, rate * AROUND);
        Self { floor: passed * FLOOR, stage: Stage::Halving { passed, failed } }
    }

    /// The next trial, or how it ended.
    pub fn next(&self) -> Result<Trial, End> {
        match self.stage {
            Stage::Halving { passed, failed } => Ok(Trial { rate: (passed + failed) / 2.0, full: false }),
            Stage::Confirming { rate, left: _ } => Ok(Trial { rate, full: true }),
            Stage::Ended(end) => Err(end),
        }
    }

    /// Takes the result of the trial that [`Search::next`] returned.
    pub fn observe(&mut self, lost: bool) {
        self.stage = match (self.stage, lost) {
            (Stage::Halving { passed, failed }, _) => {
                let tried = (passed + failed) / 2.0;
                let (passed, failed) = if lost { (passed, tried) } else { (tried, failed) };
                let close = passed > 0.0 && failed / passed < CLOSE;
                if close || failed < self.floor {
                    Stage::Confirming { rate: passed.max(self.floor / 2.0), left: FULL_TRIALS }
                } else {
                    Stage::Halving { passed, failed }
                }
            }
            (Stage::Confirming { rate, left: _ }, false) => Stage::Ended(End::Found(rate)),
            (Stage::Confirming { rate, left: 0 | 1 }, true) => Stage::Ended(End::Lossy(rate)),
            (Stage::Confirming { rate, left }, true) => Stage::Confirming { rate: rate * STEP_DOWN, left: left - 1 },
            (Stage::Ended(end), _) => Stage::Ended(end),
        };
    }
}
