//! `fwlb top`: a live view in the terminal.

mod draw;
mod sample;
mod state;
mod table;
mod views;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::engines::{Engine, EngineSelection, block_on, is_unknown, whoami};
use crate::cli::output;
use crate::cli::set::warnings::warning_lines;
use draw::Palette;
use sample::{Sample, Watched};
use state::{Action, Change, State};
use table::Tone;
use views::View;

/// How long the reader of the keyboard may take to notice that the program ends.
const KEY_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Live view of rates, nodes, firewalls, services, servers, sessions, drops and events
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often the engines are asked
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match output::parse_duration(text)? {
        short if short < Duration::from_millis(100) => Err("at least 100ms".to_owned()),
        interval => Ok(interval),
    }
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal\nin a script use: fwlb show WHAT --json");
    }
    // Errors of the engines are reported before the screen is taken over.
    let engines = selection.engines()?;
    let colour = output::shown(output::Stream::Output);
    let terminal = ratatui::try_init().context("cannot use this terminal")?;
    let ended = block_on(watch(terminal, engines, selection, args.interval, Palette { colour }));
    ratatui::restore();
    ended??;
    Ok(ExitCode::SUCCESS)
}

/// An event that the loop waits for, besides keys and time.
enum TopEvent {
    Sample(Box<Sample>),
    Changed(String, Tone),
}

async fn watch(
    mut terminal: DefaultTerminal,
    mut engines: Vec<Engine>,
    selection: &EngineSelection,
    interval: Duration,
    palette: Palette,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let (typed, mut keys) = mpsc::channel(64);
    let keyboard = tokio::task::spawn_blocking(move || read_keys(&typed));
    let mut state = State::default();
    let mut watched: Vec<Watched> = engines.iter().map(|engine| Watched::new(&engine.name)).collect();
    let mut asked = JoinSet::new();
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| draw::draw(frame, &mut state, &watched, palette))?;
        let action = tokio::select! {
            key = keys.recv() => match key {
                Some(Some(key)) => state.key(key, &watched),
                // The size of the terminal changed.
                Some(None) => Action::Draw,
                None => Action::Quit,
            },
            _ = tick.tick() => if state.paused { Action::Draw } else { Action::Refresh },
            Some(news) = asked.join_next() => {
                match news {
                    Ok(TopEvent::Sample(sample)) => insert_sample(&mut watched, *sample),
                    Ok(TopEvent::Changed(message, tone)) => state.message = Some((message, tone)),
                    Err(error) => state.message = Some((error.to_string(), Tone::Bad)),
                }
                Action::Draw
            }
        };
        match action {
            Action::Draw => {}
            Action::Quit => break,
            // Engines that are slow to answer are not asked again meanwhile.
            Action::Refresh if asked.is_empty() => {
                // Engines may start and stop; if none is left, the last picture stays and says so.
                if let Ok(running) = selection.engines() {
                    engines = running;
                }
                for engine in &engines {
                    let seen = watched.iter().find(|one| one.last.engine == engine.name).map_or(0, Watched::last_seq);
                    let sessions = (state.view == View::Sessions).then(|| state.session_sort());
                    let (engine, at) = (engine.clone(), start.elapsed());
                    asked.spawn(
                        async move { TopEvent::Sample(Box::new(Sample::take(engine, at, seen, sessions).await)) },
                    );
                }
            }
            Action::Refresh => {}
            Action::Apply(change) => {
                let engines = engines.clone();
                asked.spawn(async move {
                    let (message, tone) = apply_change(&change, &engines).await;
                    TopEvent::Changed(message, tone)
                });
            }
        }
    }
    // The reader notices that nobody receives and ends; the runtime waits for it.
    drop(keys);
    keyboard.await.context("the keyboard is gone")?;
    Ok(())
}

/// Adds a sample to its engine, which may be new.
fn insert_sample(watched: &mut Vec<Watched>, sample: Sample) {
    match watched.iter_mut().find(|one| one.last.engine == sample.engine) {
        Some(one) => one.push(sample),
        None => {
            let mut one = Watched::new(&sample.engine);
            one.push(sample);
            watched.push(one);
            watched.sort_by(|one, two| one.last.engine.cmp(&two.last.engine));
        }
    }
}

/// Reads keys until the receiver is gone; `None` stands for a new size of the terminal.
fn read_keys(typed: &mpsc::Sender<Option<KeyEvent>>) {
    while !typed.is_closed() {
        let news = match event::poll(KEY_POLL_INTERVAL) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(_) => return,
        };
        let key = match news {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Some(key),
            Ok(Event::Resize(..)) => None,
            Ok(_) => continue,
            Err(_) => return,
        };
        if typed.blocking_send(key).is_err() {
            return;
        }
    }
}

/// Makes a change on the engine that it is for, or on all that know the firewall.
async fn apply_change(change: &Change, engines: &[Engine]) -> (String, Tone) {
    let Some((only, call)) = change.call(whoami()) else {
        return (String::new(), Tone::Plain);
    };
    let mut done = Vec::new();
    for engine in engines.iter().filter(|engine| only.is_none_or(|only| only == engine.name)) {
        match call.send(engine).await {
            Ok(what) => done.push((engine.name.clone(), what)),
            Err(error) if is_unknown(&error) => {}
            Err(error) => return (error.to_string().replace('\n', "; "), Tone::Bad),
        }
    }
    match done.is_empty() {
        true => ("no engine knows it any more".to_owned(), Tone::Bad),
        false => {
            let words = done.iter().map(|(engine, what)| format!("{engine}: {}", what.done));
            let words: Vec<String> = words.chain(warning_lines(&done, &change.command())).collect();
            (words.join("; "), if words.len() > done.len() { Tone::Warn } else { Tone::Good })
        }
    }
}

#[cfg(test)]
mod tests;
