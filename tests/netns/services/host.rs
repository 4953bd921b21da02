//! Sockets of the test in the namespaces of its hosts: servers that identify themselves, and clients that keep their
//! connections.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a client waits for an expected answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `act` in a network namespace. Sockets that it makes belong to the namespace for ever, whichever thread uses
/// them.
pub fn within<R: Send>(namespace: &str, act: impl FnOnce() -> R + Send) -> R {
    let path = format!("/run/netns/{namespace}");
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The answer of an HTTP server: status line and body.
pub type Page = Arc<Mutex<(String, String)>>;

/// What a server program does with its connections.
#[derive(Debug, Clone)]
enum Manner {
    /// Sends a greeting with its name and the client's address, then echoes; without a name, with the address of the
    /// host that was asked.
    Echo(Option<String>),
    /// Answers every request with the page, and closes.
    Http(Page),
    /// Sends nothing, and closes when the client does.
    Silent,
}

/// A server program on a port of a host, for both families, until it is dropped.
pub struct Program {
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
    accepted: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
}

impl Program {
    /// Accepts connections and sends nothing.
    pub fn silent(namespace: &str, port: u16) -> Self {
        Self::start(namespace, port, Manner::Silent)
    }

    /// Greets every connection with `name` and the client's address, then echoes.
    pub fn echo(namespace: &str, name: &str, port: u16) -> Self {
        Self::start(namespace, port, Manner::Echo(Some(name.to_owned())))
    }

    /// Greets every connection with the address of the host that was asked: one program acts as many servers.
    pub fn many(namespace: &str, port: u16) -> Self {
        Self::start(namespace, port, Manner::Echo(None))
    }

    /// Answers with a page that can be changed.
    pub fn http(namespace: &str, port: u16, status: &str, body: &str) -> (Self, Page) {
        let page = Page::new(Mutex::new((status.to_owned(), body.to_owned())));
        (Self::start(namespace, port, Manner::Http(Arc::clone(&page))), page)
    }

    fn start(namespace: &str, port: u16, manner: Manner) -> Self {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = Arc::new(within(namespace, || TcpListener::bind(address)).expect("the port is free"));
        let accepted = Arc::new(AtomicU64::new(0));
        let open = Arc::new(AtomicU64::new(0));
        let (incoming, counted, held) = (Arc::clone(&listener), Arc::clone(&accepted), Arc::clone(&open));
        let accepting = thread::spawn(move || {
            // The loop ends when the listener is shut down.
            while let Ok((stream, from)) = incoming.accept() {
                counted.fetch_add(1, Ordering::Relaxed);
                held.fetch_add(1, Ordering::Relaxed);
                let (manner, held) = (manner.clone(), Arc::clone(&held));
                thread::spawn(move || {
                    // It does not matter how the connection ended.
                    let _ = match manner {
                        Manner::Echo(name) => echo(stream, name, from),
                        Manner::Http(page) => answer(stream, &page),
                        Manner::Silent => io::copy(&mut &stream, &mut io::sink()).map(drop),
                    };
                    held.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { listener, accepting: Some(accepting), accepted, open }
    }

    /// Number of connections so far, including those of checks.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Number of open connections.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn echo(mut stream: TcpStream, name: Option<String>, from: SocketAddr) -> io::Result<()> {
    let own = stream.local_addr()?.ip().to_canonical().to_string();
    let name = name.unwrap_or(own);
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    stream.set_nodelay(true)?;
    stream.write_all(format!("{name} {from}\n").as_bytes())?;
    let mut buffer = [0; 65_536];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn answer(mut stream: TcpStream, page: &Page) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = page.lock().expect("nobody panics with it").clone();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())
}

/// Answers datagrams with its name, the client's address, and the data, until it is dropped.
pub struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    pub fn start(namespace: &str, name: &str, address: SocketAddr) -> Self {
        let socket = within(namespace, || UdpSocket::bind(address)).expect("the port is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time above zero");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let seen = SocketAddr::new(from.ip().to_canonical(), from.port());
                let mut reply = format!("{name} {seen}\n").into_bytes();
                reply.extend_from_slice(&buffer[..length]);
                let _ = socket.send_to(&reply, from);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a datagram to a server from `socket`: returns its name, the client's address that it saw, and the data that it
/// returned.
pub fn ask(socket: &UdpSocket, to: SocketAddr, said: &[u8]) -> io::Result<(String, SocketAddr, Vec<u8>)> {
    socket.send_to(said, to)?;
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer)?;
    assert_eq!(from, to, "the answer comes from whom was asked");
    let end = buffer[..length].iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::InvalidData)?;
    let (name, seen) = greeting(std::str::from_utf8(&buffer[..end]).expect("a greeting"));
    Ok((name, seen, buffer[end + 1..length].to_vec()))
}

/// A datagram socket of a client.
pub fn datagrams(namespace: &str, from: IpAddr) -> UdpSocket {
    let socket = within(namespace, || UdpSocket::bind((from, 0))).expect("the client has the address");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time above zero");
    socket
}

fn greeting(line: &str) -> (String, SocketAddr) {
    let (name, seen) = line.split_once(' ').unwrap_or_else(|| panic!("a name and an address, not {line:?}"));
    (name.to_owned(), seen.trim().parse().unwrap_or_else(|_| panic!("an address, not {seen:?}")))
}

/// The state of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server closed it.
    Closed,
    /// It was reset.
    Reset,
    /// Nothing has arrived.
    Open,
}

/// A client's connection to an echo server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The name in the server's greeting.
    pub server: String,
    /// The client's address in the server's greeting.
    pub seen: SocketAddr,
    /// The client's own address.
    pub local: SocketAddr,
}

impl Connection {
    /// Connects from an address of a host and receives the greeting; returns the system's error if that fails.
    pub fn open(namespace: &str, from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(namespace, from, to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let (server, seen) = greeting(&String::from_utf8_lossy(&line));
        Ok(Self { local: stream.local_addr()?, stream, server, seen })
    }

    /// Sends `bytes` and receives them again.
    pub fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut reader = self.stream.try_clone()?;
        let mut heard = vec![0; bytes.len()];
        thread::scope(|scope| {
            let speaker = scope.spawn(|| self.stream.write_all(bytes));
            reader.read_exact(&mut heard)?;
            speaker.join().expect("the speaker does not panic")
        })?;
        if heard == bytes { Ok(()) } else { Err(io::Error::other("the echo differs")) }
    }

    /// Sends `bytes` and does not wait for an answer.
    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("there is room for so little");
    }

    /// The state of the connection within `patience`, while nothing is sent.
    pub fn end_within(&mut self, patience: Duration) -> End {
        self.stream.set_read_timeout(Some(patience)).expect("a time above zero");
        match self.stream.read(&mut [0]) {
            Ok(_) => End::Closed,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Reset,
            Err(_) => End::Open,
        }
    }
}

fn connect(namespace: &str, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = within(namespace, || rustix::net::socket(family, SocketType::STREAM, None))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(Duration::from_secs(2)))?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}
