// A socket that invents completions would have memory given back that the kernel still reads.
#![forbid(unsafe_code)]

use sendpath::path::Socket;

struct Invents;

impl Socket for Invents {}

fn main() {}
