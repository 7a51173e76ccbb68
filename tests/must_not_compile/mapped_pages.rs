// Pages cannot be mapped over others that somebody reads.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use sendpath::path::Socket;
use sendpath::path::socket::MappedReceive;

fn map(socket: &TcpStream, start: *mut u8) {
    let _ = socket.receive_mapped(&mut MappedReceive::new(start, 4096));
}

fn main() {
    drop(map);
}
