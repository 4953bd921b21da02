//! Gives descriptors to another process, over a Unix socket (unix(7), `SCM_RIGHTS`), and says who that is.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::sockopt;

/// Descriptors in one message; the kernel permits 253.
const AT_ONCE: usize = 64;
/// What stands for the descriptors among the bytes of the stream, where at least one byte is needed.
const MARK: u8 = b'd';

/// The process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// Says who made the other end of a stream (`SO_PEERCRED`).
///
/// # Errors
/// Of the system call.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let found: libc::ucred = sockopt::get(stream, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    Ok(Peer { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid })
}

/// Sends descriptors, which stay open here. The other end has to read them by [`receive`] with the same count.
///
/// # Errors
/// Of the system call.
pub fn send(stream: &UnixStream, descriptors: &[OwnedFd]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&some));
        assert!(fits, "there is room for {AT_ONCE}");
        rustix::net::sendmsg(stream, &[IoSlice::new(&[MARK])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives `count` descriptors that [`send`] sent. They are closed when a program is executed.
///
/// # Errors
/// Of the system call, or `InvalidData` if something else was sent.
pub fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut mark = [0];
        let read =
            rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut mark)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = received.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                received.extend(some);
            }
        }
        if read.bytes != 1 || mark != [MARK] || received.len() == before {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        }
    }
    Ok(received)
}

/// Makes a descriptor the standard output, or the standard error, of this process.
///
/// # Errors
/// Of the system call.
pub fn replace_output(output: &OwnedFd, error: &OwnedFd) -> io::Result<()> {
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_in_their_order_and_mean_the_same_files() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let files = (0..AT_ONCE + 3).map(|number| {
            let path = directory.path().join(number.to_string());
            std::fs::write(&path, number.to_string()).unwrap();
            OwnedFd::from(File::options().read(true).write(true).open(path).unwrap())
        });
        let files: Vec<_> = files.collect();

        send(&one, &files).unwrap();
        (&one).write_all(b"rest").unwrap();
        let received = receive(&other, files.len()).unwrap();

        assert_eq!(received.len(), files.len());
        for (number, file) in received.into_iter().enumerate() {
            let (mut file, mut text) = (File::from(file), String::new());
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
        let mut rest = [0; 4];
        (&other).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest", "nothing of what follows is taken");
        assert_eq!(peer(&one).unwrap().pid, std::process::id());
    }

    #[test]
    fn bytes_without_descriptors_are_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(b"dd").unwrap();
        assert_eq!(receive(&other, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(one);
        assert!(receive(&other, 1).is_err());
    }
}
