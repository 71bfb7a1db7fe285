//! A server of a few lines that keeps what it was sent, byte for byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use crate::common::PATIENCE;

/// Listens on loopback and hands out each connection that sent something.
pub(crate) struct Stub {
    port: u16,
    said: mpsc::Receiver<Heard>,
}

/// One connection: its first packet, and the socket it came on.
pub(crate) struct Heard {
    pub(crate) packet: Vec<u8>,
    pub(crate) socket: TcpStream,
}

impl Stub {
    pub(crate) fn start() -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (heard, said) = mpsc::channel();
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let Some(packet) = first_packet(&mut socket) else { continue }; // only looked whether we are here
                if heard.send(Heard { packet, socket }).is_err() {
                    return;
                }
            }
        });
        Stub { port, said }
    }

    /// `[node] server` that leads here.
    pub(crate) fn server(&self) -> String {
        format!("host=127.0.0.1 port={} sslmode=disable", self.port)
    }

    pub(crate) fn heard(&self) -> Heard {
        self.said.recv_timeout(PATIENCE).expect("somebody says something")
    }
}

impl Heard {
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("answer");
    }

    /// Exactly as many bytes as are expected.
    pub(crate) fn more(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.socket.read_exact(&mut bytes).expect("more bytes");
        bytes
    }
}

fn first_packet(socket: &mut TcpStream) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut packet = vec![0; 4];
    socket.read_exact(&mut packet).ok()?;
    let len = u32::from_be_bytes(packet[..4].try_into().ok()?);
    packet.resize(usize::try_from(len).ok()?, 0);
    socket.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}
