//! Random numbers from the kernel, by getrandom(2).
//!
//! Not by `rand`: that looks the call up by its name at run time. A static executable has no names
//! to look up, so `rand` turns to `/dev/urandom`, which an empty root does not have, and panics.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result};

/// So many random bytes, 256 at most: the kernel gives as many at once.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(Error::call("getrandom(2)"))?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn number() -> Result<u64> {
    bytes().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        assert_ne!(number().unwrap(), number().unwrap());
    }
}
