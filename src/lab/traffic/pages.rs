//! Reads web pages one after the other, each on a connection of its own, like `curl --retry`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{OutputLine, Progress, millis};

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 65_536;
/// Time between two attempts at a page.
const RETRY: Duration = Duration::from_millis(20);

/// What the readers are to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePlan {
    /// Address of the web server.
    pub to: SocketAddr,
    /// Number of readers at the same time.
    pub readers: usize,
    /// Time between two pages of a reader.
    pub interval: Duration,
    /// How long pages are requested.
    pub duration: Duration,
    /// Time after which a page has failed, all attempts included.
    pub timeout: Duration,
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageReport {
    /// When it was first requested, in milliseconds since the start of the program.
    pub asked_ms: u64,
    /// Milliseconds from then until the answer, or until the reader gave up.
    pub took_ms: u64,
    /// Number of connections that were opened for it, at least 1.
    pub tries: u32,
    /// Milliseconds of the longest attempt.
    pub longest_try_ms: u64,
    /// HTTP status; `None`: no answer.
    pub status: Option<u16>,
    /// The first word of the page, which is the server's name.
    pub server: Option<String>,
}

/// Reads pages and passes a [`OutputLine`] for each to `print`.
pub async fn read_pages(pages: PagePlan, mut print: impl FnMut(&OutputLine)) {
    let start = Instant::now();
    // Tells the reader of the lines when this program's clock started.
    print(&OutputLine::Progress(Progress::default()));
    // Bounded: a reader that has to wait here requests its next page later.
    let (report, mut reports) = mpsc::channel(pages.readers.max(1));
    for number in 0..pages.readers {
        let (pages, report) = (pages.clone(), report.clone());
        let delay = pages.interval.mul_f64(number as f64 / pages.readers as f64);
        tokio::spawn(async move {
            sleep(delay).await;
            while start.elapsed() < pages.duration {
                let asked = Instant::now();
                let page = page(&pages, start).await;
                // The receiver is dropped after every sender.
                let _ = report.send(page).await;
                tokio::time::sleep_until(asked + pages.interval).await;
            }
        });
    }
    drop(report);
    while let Some(page) = reports.recv().await {
        print(&OutputLine::Page(page));
    }
}

/// Tries until there is an answer, or the timeout is over.
async fn page(pages: &PagePlan, start: Instant) -> PageReport {
    let asked = Instant::now();
    let mut report = PageReport {
        asked_ms: millis(start.elapsed()),
        took_ms: 0,
        tries: 0,
        longest_try_ms: 0,
        status: None,
        server: None,
    };
    while let Some(left) = pages.timeout.checked_sub(asked.elapsed()) {
        report.tries += 1;
        let tried = Instant::now();
        let answer = timeout(left, get(pages.to)).await;
        report.longest_try_ms = report.longest_try_ms.max(millis(tried.elapsed()));
        if let Ok(Ok((status, text))) = answer {
            report.status = Some(status);
            report.server = text.split_whitespace().next().map(String::from);
            break;
        }
        sleep(RETRY).await;
    }
    report.took_ms = millis(asked.elapsed());
    report
}

/// Sends one request on a connection of its own; returns status and text.
async fn get(to: SocketAddr) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(to).await?;
    let _ = stream.set_nodelay(true);
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is no whole HTTP answer"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, text) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_text() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ns1 greets";

        assert_eq!(parse(answer), Some((200, "s1 greets".to_owned())));
        assert_eq!(parse("HTTP/1.1 503 Service Unavailable\r\n\r\n").map(|(status, _)| status), Some(503));
        assert_eq!(parse("SSH-2.0\r\n\r\n"), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent"), None);
    }
}
