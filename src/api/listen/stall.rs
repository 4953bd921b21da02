//! A stream that fails if its peer takes too little of what is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::time::Duration;

/// Bytes that a client has to take within each [`StallGuard::timeout`] while that many wait for it. Even a telephone
/// modem manages that.
const PROGRESS_MIN: usize = 32 * 1024;

/// A stream that returns an error when its client has taken too little for too long.
pub(super) struct StallGuard<S> {
    stream: S,
    timeout: Duration,
    /// Runs since something began to wait for the client.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that the client has taken since then.
    progress: usize,
}

impl<S: Unpin> StallGuard<S> {
    /// A stream whose client has to take [`PROGRESS_MIN`] bytes within each `timeout`.
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, timeout, deadline: None, progress: 0 }
    }

    /// Passes on the result of a write, unless the client has taken too little for too long.
    fn wrote(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.progress += bytes;
            if self.progress >= PROGRESS_MIN {
                self.took_all();
            }
        }
        match wrote {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_timeout(context),
        }
    }

    /// Passes on the result of a flush; after a complete flush nothing waits.
    fn flushed(&mut self, context: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        match flushed {
            Poll::Ready(result) => {
                self.took_all();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_timeout(context),
        }
    }

    fn took_all(&mut self) {
        self.deadline = None;
        self.progress = 0;
    }

    fn poll_timeout<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let waiting = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.flushed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.flushed(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// The result of writing 1 MiB to a client that takes `bytes` ten times within each timeout.
    async fn written_to(bytes: usize) -> io::Result<()> {
        let timeout = Duration::from_millis(500);
        let (stream, mut client) = duplex(4096);
        let mut stream = StallGuard::new(stream, timeout);
        let taking = tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while client.read_exact(&mut buffer).await.is_ok() {
                sleep(timeout / 10).await;
            }
        });
        let written = tokio::time::timeout(Duration::from_secs(60), async {
            stream.write_all(&vec![7; 1 << 20]).await?;
            stream.flush().await
        });
        let written = written.await.expect("neither done nor given up");
        taking.abort();
        written
    }

    #[tokio::test]
    async fn a_client_that_takes_its_answer_byte_by_byte_is_left() {
        let error = written_to(16).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_on_a_slow_line_gets_its_answer() {
        written_to(PROGRESS_MIN).await.unwrap();
    }

    #[tokio::test]
    async fn little_that_comes_now_and_then_is_no_slow_client() {
        let timeout = Duration::from_millis(100);
        let (stream, mut client) = duplex(64);
        let mut stream = StallGuard::new(stream, timeout);
        for _ in 0..3 {
            let write = async {
                stream.write_all(&[7; 100]).await?;
                stream.flush().await
            };
            let mut buffer = [0; 100];
            let (written, read) = tokio::join!(write, client.read_exact(&mut buffer));
            written.unwrap();
            read.unwrap();
            sleep(timeout * 3).await;
        }
    }
}
