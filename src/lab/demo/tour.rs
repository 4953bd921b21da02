//! Runs one part of the tour: traffic programs, the live table, timeouts, and the user's Ctrl-C.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use super::screen::Screen;
use crate::lab::traffic::{FlowReport, OutputLine, PageReport, Progress};
use crate::lab::{Lab, LabError, Station, pause};

/// How long a traffic program may still wait for its last answers after its end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);

/// One part of the tour.
pub struct Tour<'a> {
    /// The lab.
    pub lab: &'a mut Lab,
    /// Where the tour is shown.
    pub screen: &'a mut Screen,
    stop: &'a AtomicBool,
    start: Instant,
    duration: Duration,
    programs: Vec<Program>,
    shown: Option<Instant>,
    table: Table,
}

/// Shows the table of a part, given the lab, the screen, a caption, and the progress of the traffic.
pub type Table = fn(&Lab, &mut Screen, &str, Progress) -> Result<(), LabError>;

/// A traffic program with its output so far.
struct Program {
    child: Child,
    output: Arc<Mutex<ProgramOutput>>,
    reader: Option<JoinHandle<()>>,
}

/// The output of traffic programs.
#[derive(Debug, Default)]
pub struct ProgramOutput {
    progress: Progress,
    /// When the program's clock started, in milliseconds of the tour: the earliest time that any of its lines suggests.
    started_ms: Option<u64>,
    /// Reports of flows that ended.
    pub flows: Vec<FlowReport>,
    /// Reports of pages.
    pub pages: Vec<PageReport>,
}

impl<'a> Tour<'a> {
    /// Starts the traffic of a part: for each program its station and its arguments without the duration.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn start(
        lab: &'a mut Lab,
        screen: &'a mut Screen,
        stop: &'a AtomicBool,
        table: Table,
        duration: Duration,
        plans: &[(Station, String)],
    ) -> Result<Self, LabError> {
        let start = Instant::now();
        let mut tour = Self { lab, screen, stop, start, duration, programs: Vec::new(), shown: None, table };
        for (node, words) in plans {
            let words = format!("{words} --duration-ms {}", duration.as_millis());
            tour.programs.push(Program::start(tour.lab, *node, &words, start)?);
        }
        Ok(tour)
    }

    /// Milliseconds since the traffic started.
    pub fn elapsed_ms(&self) -> u64 {
        millis(self.start.elapsed())
    }

    /// Shows the table for a while.
    ///
    /// # Errors
    /// An engine does not answer, or the user interrupts the tour.
    pub fn watch(&mut self, duration: Duration, caption: &str) -> Result<(), LabError> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.check_stop()?;
            self.show(caption)?;
            pause(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Fails if the user has interrupted the tour.
    ///
    /// # Errors
    /// [`LabError::Interrupted`].
    pub fn check_stop(&self) -> Result<(), LabError> {
        if self.stop.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    fn show(&mut self, caption: &str) -> Result<(), LabError> {
        if self.shown.is_some_and(|shown| shown.elapsed() < self.screen.period()) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let mut progress = Progress { at_ms: self.elapsed_ms(), ..Progress::default() };
        for program in &self.programs {
            let said = program.output.lock().unwrap_or_else(PoisonError::into_inner);
            let read = said.pages.iter().filter(|page| page.status.is_some()).count() as u64;
            progress.sent += said.progress.sent + said.pages.len() as u64;
            progress.answered += said.progress.answered + read;
        }
        (self.table)(self.lab, self.screen, caption, progress)
    }

    /// Waits for the end of the traffic and returns its output.
    ///
    /// # Errors
    /// The user interrupts the tour.
    pub fn finish(mut self) -> Result<ProgramOutput, LabError> {
        let deadline = self.start + self.duration + FINISH_TIMEOUT;
        let mut all = ProgramOutput::default();
        for program in &mut self.programs {
            while program.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(LabError::Interrupted);
                }
                pause(Duration::from_millis(50));
            }
            let mut said = program.finish();
            all.flows.append(&mut said.flows);
            all.pages.append(&mut said.pages);
        }
        Ok(all)
    }
}

impl Program {
    fn start(lab: &Lab, node: Station, words: &str, tour: Instant) -> Result<Self, LabError> {
        let mut child = lab
            .traffic(node)
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Start { program: "ip netns exec".to_owned(), source })?;
        let output = child.stdout.take().expect("piped above");
        let said = Arc::new(Mutex::new(ProgramOutput::default()));
        let writer = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut said = writer.lock().unwrap_or_else(PoisonError::into_inner);
                match serde_json::from_str(&line) {
                    Ok(OutputLine::Progress(progress)) => {
                        let started = millis(tour.elapsed()).saturating_sub(progress.at_ms);
                        said.started_ms = Some(said.started_ms.map_or(started, |earlier| earlier.min(started)));
                        said.progress = progress;
                    }
                    Ok(OutputLine::Flow(flow)) => said.flows.push(flow),
                    Ok(OutputLine::Page(page)) => said.pages.push(page),
                    Ok(OutputLine::Ready) | Err(_) => {}
                }
            }
        });
        Ok(Self { child, output: said, reader: Some(reader) })
    }

    /// Ends the program if it still runs, and returns its output in the tour's time.
    fn finish(&mut self) -> ProgramOutput {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let mut said = std::mem::take(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner));
        said.shift();
        said
    }
}

impl ProgramOutput {
    /// Converts times from the program's clock to the tour's.
    fn shift(&mut self) {
        let started = self.started_ms.take().unwrap_or(0);
        for flow in &mut self.flows {
            flow.opened_ms += started;
            flow.ended_ms += started;
            flow.lost_at_ms.iter_mut().for_each(|at| *at += started);
        }
        self.pages.iter_mut().for_each(|page| page.asked_ms += started);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_saw_is_told_by_the_tours_clock() {
        let page = PageReport { asked_ms: 100, took_ms: 3, tries: 1, longest_try_ms: 3, status: None, server: None };
        let mut said = ProgramOutput { started_ms: Some(700), pages: vec![page], ..ProgramOutput::default() };

        said.shift();
        said.shift();

        assert_eq!(said.pages[0].asked_ms, 800, "once, however often it is asked for");
        assert_eq!(said.pages[0].took_ms, 3);
    }
}
