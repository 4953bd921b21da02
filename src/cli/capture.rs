//! `fwlb capture`: packets with what the engine makes of them, for wireshark and tshark.

mod merge;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::api::{CaptureRequest, Chunk};
use crate::cli::completions::live;
use crate::cli::engines::{Engine, EngineSelection, block_on, is_unknown};
use crate::cli::filter::prefix;
use crate::cli::output;
use crate::client::CaptureStream;
use crate::engine::DropReason;
use crate::engine::trace::{DropFilter, Filter};
use crate::flow::FlowPattern;
use crate::time::Duration;

use merge::Merge;

/// How long frames of several engines are held back to be put in order.
const REORDER_WINDOW: Duration = Duration::from_millis(100);
/// How long an engine may take for the rest of a capture that was ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Capture packets with the verdict of the engine as comment, in pcapng
///
/// Every frame is captured as it came and as it left, each on its link, so that a translated session shows both legs.
/// All engines of this host are captured into one file unless -s (several times for several) or -e picks one. Ends by
/// --count, --seconds or Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write; - is standard output, as in: fwlb capture -w - | tshark -r -
    #[arg(short, long, value_name = "FILE.pcapng")]
    write: PathBuf,
    /// On this link: LINK, or ENGINE/LINK; may be repeated
    #[arg(long = "link", value_name = "LINK", add = live::links())]
    links: Vec<String>,
    /// Of this flow, also when it is translated: PROTO A B, either direction, ports may be left out
    #[arg(long, value_name = "FLOW")]
    flow: Option<FlowPattern>,
    /// From or to this address or prefix; may be repeated
    #[arg(long = "host", value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    hosts: Vec<ipnet::IpNet>,
    /// From or to this port; may be repeated
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// Of sessions that were opened from this address or prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    source: Option<ipnet::IpNet>,
    /// Of sessions that were opened to this address or prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    destination: Option<ipnet::IpNet>,
    /// From, to or through this firewall
    #[arg(long, value_name = "[GROUP/]FIREWALL", add = live::firewalls())]
    firewall: Option<String>,
    /// Of this virtual service
    #[arg(long, value_name = "SERVICE", add = live::services())]
    service: Option<String>,
    /// At this real server
    #[arg(long, value_name = "[SERVICE/]SERVER", add = live::servers())]
    server: Option<String>,
    /// Only frames that are dropped, or only those dropped for this reason, named as in the counters drop_REASON
    #[arg(long, value_name = "REASON", num_args = 0..=1, default_missing_value = DropFilter::ANY, value_parser = reasons())]
    dropped: Option<DropFilter>,
    /// End after so many frames; each packet that is forwarded is two
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Keep so many bytes of each frame; default: all
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
}

/// The parser of drop reasons: an unknown reason is answered with the most similar one, and shells complete them.
fn reasons() -> impl TypedValueParser<Value = DropFilter> {
    let words = DropReason::ALL.iter().map(|reason| PossibleValue::new(reason.word()).alias(reason.name()));
    let any = PossibleValue::new(DropFilter::ANY).hide(true);
    PossibleValuesParser::new(words.chain([any])).try_map(|word| word.parse::<DropFilter>())
}

/// A running capture.
struct Running {
    engine: Engine,
    capturing: CaptureStream,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let to_stdout = args.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        bail!("a capture is no text for a terminal\npipe it, as in: fwlb capture -w - | tshark -r -; or name a file");
    }
    let engines = selection.engines()?;
    block_on(async {
        let id = format!("cli-{}", std::process::id());
        let running = start(args, engines, &id).await?;
        let out: Box<dyn Write> = if to_stdout {
            Box::new(io::stdout().lock())
        } else {
            let file = File::create(&args.write);
            Box::new(file.with_context(|| format!("cannot write {}", args.write.display()))?)
        };
        capture(args, running, &id, BufWriter::new(out)).await
    })?
}

impl Args {
    /// The request to an engine; `None` if the command line names no link of this engine.
    fn request(&self, engine: &str, id: &str) -> Option<CaptureRequest> {
        let here = |link: &String| match link.split_once('/') {
            None => Some(link.clone()),
            Some((name, link)) => (name == engine).then(|| link.to_owned()),
        };
        let links: Vec<_> = self.links.iter().filter_map(here).collect();
        if links.is_empty() && !self.links.is_empty() {
            return None;
        }
        let filter = Filter {
            links,
            flow: self.flow,
            hosts: self.hosts.clone(),
            ports: self.ports.clone(),
            source: self.source,
            destination: self.destination,
            firewall: self.firewall.clone(),
            service: self.service.clone(),
            server: self.server.clone(),
            dropped: self.dropped,
        };
        let Self { count, seconds, snaplen, .. } = self;
        Some(CaptureRequest { id: Some(id.to_owned()), filter, snaplen: *snaplen, count: *count, seconds: *seconds })
    }
}

/// Starts a capture at every engine that knows the names in the request; at least one engine has to.
async fn start(args: &Args, engines: Vec<Engine>, id: &str) -> anyhow::Result<Vec<Running>> {
    let mut running = Vec::new();
    let mut unknown = None;
    let names: Vec<_> = engines.iter().map(|engine| engine.name.clone()).collect();
    for engine in engines {
        let Some(request) = args.request(&engine.name, id) else { continue };
        match engine.client.capture(&request).await {
            Ok(capturing) => running.push(Running { engine, capturing }),
            Err(error) if is_unknown(&error) => unknown = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (running.is_empty(), unknown) {
        (true, Some(error)) => Err(error.into()),
        (true, None) => bail!("no link {} here; engines: {}", args.links.join(", "), names.join(", ")),
        (false, _) => Ok(running),
    }
}

/// What an engine sends, or that its capture has ended, with the reason if this program did not end it.
enum CaptureOutput {
    Bytes(usize, Chunk),
    Ended(Option<String>),
}

async fn capture(args: &Args, running: Vec<Running>, id: &str, mut out: impl Write) -> anyhow::Result<ExitCode> {
    let engines: Vec<_> = running.iter().map(|one| one.engine.clone()).collect();
    let names: Vec<_> = engines.iter().map(|engine| engine.name.as_str()).collect();
    if args.count.is_none() && args.seconds.is_none() && io::stderr().is_terminal() {
        output::note(&format!("capturing on {}; Ctrl-C ends it", names.join(", ")));
    }
    let mut left = running.len();
    let mut merge = Merge::new(running.len(), args.count);
    let mut news = read(running);
    let mut tick = interval(REORDER_WINDOW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = Vec::new();
    let mut broken = None;
    let mut signals = Signals::new()?;
    let mut asked_to_end = false;
    while left > 0 {
        let wait = if asked_to_end { DRAIN_TIMEOUT } else { FOREVER };
        tokio::select! {
            heard = timeout(wait, news.recv()) => match heard {
                Ok(Some(CaptureOutput::Bytes(engine, bytes))) => merge.add(engine, &bytes, &mut ready)?,
                Ok(Some(CaptureOutput::Ended(why))) => {
                    left -= 1;
                    broken = why.filter(|_| !asked_to_end).or(broken);
                }
                // No engine is left, or the rest does not arrive.
                Ok(None) | Err(_) => break,
            },
            _ = tick.tick() => merge.release(&mut ready),
            () = signals.end(), if !asked_to_end => {
                asked_to_end = true;
                end(&engines, id).await;
            }
        }
        if merge.is_enough() && !asked_to_end {
            asked_to_end = true;
            end(&engines, id).await;
        }
        if !ready.is_empty() {
            out.write_all(&ready)?;
            out.flush()?;
            ready.clear();
        }
    }
    merge.finish(&mut ready);
    out.write_all(&ready)?;
    out.flush()?;
    let (frames, lost) = (merge.frames(), merge.lost());
    output::note(&format!("{frames} frames of {}; {lost} lost because they came too fast", names.join(", ")));
    match broken {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => bail!("the capture broke off; what came until then was written\n{why}"),
    }
}

/// Longer than any capture.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Asks the engines to send the remaining frames and to end. A capture whose engine cannot be asked ends by itself.
async fn end(engines: &[Engine], id: &str) {
    for engine in engines {
        let _ = engine.client.end_capture(id).await;
    }
}

/// Reads all captures at once.
fn read(running: Vec<Running>) -> mpsc::Receiver<CaptureOutput> {
    let (sender, receiver) = mpsc::channel(16);
    for (number, Running { engine: _, mut capturing }) in running.into_iter().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            let end = loop {
                match capturing.next().await {
                    Ok(Some(bytes)) => {
                        if sender.send(CaptureOutput::Bytes(number, bytes)).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                }
            };
            let _ = sender.send(CaptureOutput::Ended(end)).await;
        });
    }
    receiver
}

/// The signals by which a user ends a capture.
struct Signals([tokio::signal::unix::Signal; 2]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?]))
    }

    async fn end(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
