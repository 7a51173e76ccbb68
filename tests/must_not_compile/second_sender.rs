// That nobody else sends with MSG_ZEROCOPY on a connection cannot be checked: who says so writes unsafe.
#![forbid(unsafe_code)]

use std::net::TcpStream;
use std::sync::Arc;

use sendpath::case::Layout;
use sendpath::message::Message;
use sendpath::path::{MessageSender, Mode, SendQueue};

fn twice(socket: Arc<TcpStream>) -> sendpath::Result<()> {
    let first = MessageSender::zero_copy(Arc::clone(&socket), vec![Message::new(64, Layout::Heap)])?;
    let mut second = SendQueue::new(socket)?;
    let _ = second.try_send(vec![0; 65536], Mode::ZeroCopy);
    drop(first);
    Ok(())
}

fn main() {
    drop(twice);
}
