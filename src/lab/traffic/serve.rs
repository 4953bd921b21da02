//! The lab's servers: echo over TCP and UDP, and a web page that names the server and the client.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Bytes of a request that are read.
const REQUEST_BYTES_MAX: usize = 8192;

/// What a server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// Name of the server on its pages.
    pub name: String,
    /// Port of the echo service over TCP and UDP; 0 takes any free one.
    pub echo: u16,
    /// Port of the web pages (0 takes any free one); `None`: another program serves them.
    pub pages: Option<u16>,
    /// While this file exists, every page is a 503.
    pub sick: Option<PathBuf>,
}

/// Serves both address families until it is killed. Calls `ready` with the addresses of the echo service and of the
/// pages once it listens.
///
/// # Errors
/// A port cannot be bound.
pub async fn serve(serve: Serve, ready: impl FnOnce(SocketAddr, Option<SocketAddr>)) -> io::Result<()> {
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, serve.echo)).await?;
    let udp = super::datagrams(tcp.local_addr()?).await?;
    let pages = match serve.pages {
        Some(port) => Some(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?),
        None => None,
    };
    let address = pages.as_ref().map(TcpListener::local_addr).transpose()?;
    ready(tcp.local_addr()?, address);
    let pages = async {
        if let Some(listener) = pages {
            serve_pages(listener, &serve).await;
        }
    };
    tokio::join!(echo_streams(tcp), echo_datagrams(udp), pages);
    Ok(())
}

async fn echo_streams(listener: TcpListener) {
    loop {
        // The failure concerns one connection (reset before it was accepted, or no descriptor left); the next may
        // succeed.
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    }
}

async fn serve_pages(listener: TcpListener, serve: &Serve) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sick = serve.sick.as_ref().is_some_and(|file| file.exists());
        let (status, text) = match sick {
            true => ("503 Service Unavailable", format!("{} is sick\n", serve.name)),
            false => ("200 OK", format!("{} greets {}\n", serve.name, unmapped(from))),
        };
        tokio::spawn(async move {
            let _ = timeout(Duration::from_secs(5), serve_page(stream, status, &text)).await;
        });
    }
}

async fn serve_page(mut stream: TcpStream, status: &str, text: &str) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// Peers over IPv4 appear as `::ffff:a.b.c.d` on a socket for both address families.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
