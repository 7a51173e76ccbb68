// Nor can one of a file, for a longer one.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use sendpath::case::Layout;
use sendpath::message::Message;
use sendpath::path::{FileSender, SendMessage};

fn replace(socket: TcpStream) -> sendpath::Result<()> {
    let mut sender = FileSender::new(socket, &[vec![100]])?;
    *sender.message()? = Message::with_field_bytes(&[10_000], Layout::Heap);
    sender.send()
}

fn main() {
    drop(replace);
}
