//! Carries messages of the handover over a Unix socket. Nobody waits longer than the line's patience.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::engine::handover::{HEADER, Header, Message, Unreadable};
use crate::io::handover;
use crate::time::Duration;

/// How long the other end may say nothing, or take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the handover is given up.
#[derive(Debug, thiserror::Error)]
pub(in crate::runtime) enum LineError {
    /// The other end has closed the line.
    #[error("the other program ended")]
    Closed,
    /// It said nothing, or took nothing, for too long.
    #[error("the other program does not go on")]
    Silent,
    /// It gave up.
    #[error("{0}")]
    Aborted(String),
    /// It said something else than what is next.
    #[error("the other program said something else than {0}")]
    Unexpected(&'static str),
    /// It cannot be understood.
    #[error("the other program is of another version: {0}")]
    Unreadable(#[from] Unreadable),
    /// The system call failed.
    #[error(transparent)]
    System(io::Error),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::System(error),
        }
    }
}

/// The line to the other program.
#[derive(Debug)]
pub(in crate::runtime) struct Line {
    stream: UnixStream,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Result<Self, LineError> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let line = Self { stream };
        line.set_patience(PATIENCE)?;
        Ok(line)
    }

    /// Waits so long for the next messages.
    pub(super) fn set_patience(&self, patience: Duration) -> Result<(), LineError> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) fn send(&self, message: &Message) -> Result<(), LineError> {
        Ok((&self.stream).write_all(&message.encode())?)
    }

    pub(super) fn send_descriptors(&self, descriptors: &[OwnedFd]) -> Result<(), LineError> {
        Ok(handover::send(&self.stream, descriptors)?)
    }

    pub(super) fn receive_descriptors(&self, count: usize) -> Result<Vec<OwnedFd>, LineError> {
        Ok(handover::receive(&self.stream, count)?)
    }

    /// The next message. That the other end gave up is an error.
    pub(super) fn receive(&self) -> Result<Message, LineError> {
        let mut header = [0; HEADER];
        (&self.stream).read_exact(&mut header)?;
        let header = Header::decode(header)?;
        let mut body = vec![0; header.length];
        (&self.stream).read_exact(&mut body)?;
        match Message::decode(header, body)? {
            Message::Abort(why) => Err(LineError::Aborted(why)),
            message => Ok(message),
        }
    }

    /// Waits for one message that can only be this one.
    pub(super) fn expect(&self, wanted: &Message, what: &'static str) -> Result<(), LineError> {
        if self.receive()? == *wanted { Ok(()) } else { Err(LineError::Unexpected(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> (Line, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        (Line::new(one).unwrap(), Line::new(other).unwrap())
    }

    #[test]
    fn what_is_said_arrives_and_an_end_anywhere_is_an_end() {
        let (one, other) = lines();
        one.send(&Message::Handover { moment: 7 }).unwrap();
        assert_eq!(other.receive().unwrap(), Message::Handover { moment: 7 });
        one.send(&Message::Abort("it was too late".into())).unwrap();
        assert_eq!(other.receive().unwrap_err().to_string(), "it was too late");
        one.send(&Message::Go).unwrap();
        assert!(matches!(other.expect(&Message::Taken, "taken"), Err(LineError::Unexpected("taken"))));

        let bytes = Message::Handover { moment: 7 }.encode();
        for cut in 0..bytes.len() {
            let (one, other) = lines();
            (&one.stream).write_all(&bytes[..cut]).unwrap();
            drop(one);
            assert!(matches!(other.receive(), Err(LineError::Closed)), "cut at byte {cut}");
        }
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (_one, other) = lines();
        other.set_patience(Duration::from_millis(20)).unwrap();
        assert!(matches!(other.receive(), Err(LineError::Silent)));
    }
}
