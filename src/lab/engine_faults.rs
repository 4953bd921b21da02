//! The harm that can be done to the engines of a lab.

use super::command::Command;
use super::topology::Engine;
use super::{EngineCable, Lab, LabError, Station, Stop, blueprint, is_set_up};

/// What can be done to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineFault {
    /// It is killed as in a crash; in a one-box lab both are.
    Killed,
    /// Its process is stopped and can go on later, as a virtual machine that is paused.
    Hung,
    /// This cable is cut: both ends lose their carrier.
    Unplugged(EngineCable),
    /// The switch at the end of this cable drops all frames; the carrier stays.
    Silent(EngineCable),
}

impl EngineFault {
    /// The harm in words.
    pub fn words(self) -> String {
        match self {
            Self::Killed => "killed".to_owned(),
            Self::Hung => "hangs (SIGSTOP)".to_owned(),
            Self::Unplugged(cable) => format!("{} cable cut", cable.word()),
            Self::Silent(cable) => format!("no frames on the {} cable", cable.word()),
        }
    }
}

impl Lab {
    /// Harms an engine.
    ///
    /// # Errors
    /// It does not run, or has no such cable, or a command fails.
    pub fn fail_engine(&mut self, engine: impl Into<Engine>, fault: EngineFault) -> Result<(), LabError> {
        let engine = self.known(engine.into())?;
        let process = self.process(engine);
        if matches!(fault, EngineFault::Killed | EngineFault::Hung) && !self.runs(process) {
            return Err(LabError::Topology(format!("engine {engine} does not run")));
        }
        match fault {
            EngineFault::Killed => self.stop_engine(process, Stop::Kill),
            EngineFault::Hung => self.signal(process, "-STOP"),
            EngineFault::Unplugged(cable) => {
                blueprint::engine_cable(self.topology(), &self.cable_of(engine, cable)?, false).run().map(drop)
            }
            EngineFault::Silent(cable) => {
                blueprint::engine_port(self.topology(), &self.cable_of(engine, cable)?, false).run().map(drop)
            }
        }
    }

    /// Undoes whatever was done to an engine. One that was killed is started with its configuration file as it is.
    ///
    /// # Errors
    /// A command fails, or the engine does not start again.
    pub fn heal_engine(&mut self, engine: impl Into<Engine>) -> Result<(), LabError> {
        let engine = self.known(engine.into())?;
        for fault in self.engine_faults(engine)? {
            match fault {
                EngineFault::Killed => self.start_engine(self.process(engine))?,
                EngineFault::Hung => self.signal(self.process(engine), "-CONT")?,
                EngineFault::Unplugged(cable) => {
                    blueprint::engine_cable(self.topology(), &self.cable_of(engine, cable)?, true).run()?;
                }
                EngineFault::Silent(cable) => {
                    blueprint::engine_port(self.topology(), &self.cable_of(engine, cable)?, true).run()?;
                }
            }
        }
        Ok(())
    }

    /// What was done to an engine and is not undone.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn engine_faults(&self, engine: impl Into<Engine>) -> Result<Vec<EngineFault>, LabError> {
        let engine = engine.into();
        let mut faults = Vec::new();
        match self.process_state(engine) {
            None => faults.push(EngineFault::Killed),
            Some('T') => faults.push(EngineFault::Hung),
            Some(_) => {}
        }
        let switch = self.topology().namespace(Station::Switch);
        for cable in blueprint::switch_cables(self.topology(), engine) {
            let shown = Command::new(["ip", "-n", &switch, "-d", "-o", "link", "show", &cable.port]).run()?;
            if !is_set_up(&shown) {
                faults.push(EngineFault::Unplugged(cable.cable));
            } else if shown.contains("bridge_slave state disabled") {
                faults.push(EngineFault::Silent(cable.cable));
            }
        }
        Ok(faults)
    }

    /// The cables of an engine that can be cut.
    pub fn engine_cables(&self, engine: impl Into<Engine>) -> Vec<EngineCable> {
        let cables = blueprint::switch_cables(self.topology(), engine.into());
        cables.into_iter().map(|cable| cable.cable).collect()
    }

    fn cable_of(&self, engine: Engine, wanted: EngineCable) -> Result<blueprint::SwitchCable, LabError> {
        let cables = blueprint::switch_cables(self.topology(), engine);
        let known: Vec<_> = cables.iter().map(|cable| cable.cable.word()).collect();
        let missing = format!("{engine} has no cable {}; it has {}", wanted.word(), known.join(", "));
        cables.into_iter().find(|cable| cable.cable == wanted).ok_or(LabError::Topology(missing))
    }

    fn known(&self, engine: Engine) -> Result<Engine, LabError> {
        let engines = self.topology().engines();
        match engines.contains(&engine) {
            true => Ok(engine),
            false => Err(LabError::Topology(format!("this lab has no engine {engine}"))),
        }
    }

    fn signal(&self, engine: Engine, signal: &str) -> Result<(), LabError> {
        Command::new(["kill", signal, &self.process_id(engine.name())?]).run().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_harm_to_an_engine_is_told_in_words_of_its_own() {
        let harms = [
            EngineFault::Killed,
            EngineFault::Hung,
            EngineFault::Unplugged(EngineCable::Sync),
            EngineFault::Silent(EngineCable::Sync),
        ];

        let words: std::collections::BTreeSet<_> = harms.into_iter().map(EngineFault::words).collect();

        assert_eq!(words.len(), harms.len(), "{words:?}");
        assert!(words.contains("sync cable cut"));
    }
}
