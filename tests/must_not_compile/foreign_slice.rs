// The list of slices that a message keeps is not lent: another slice in it would outlive its memory.
#![forbid(unsafe_code)]

use std::io::IoSliceMut;

use sendpath::case::Layout;
use sendpath::message::Message;

fn main() {
    let mut message = Message::with_field_bytes(&[64], Layout::Heap);
    let mut other = vec![7; 64];
    message.io_slices_mut()[0] = IoSliceMut::new(&mut other);
    drop(other);
    println!("{:?}", &message.io_slices()[0][..8]);
}
