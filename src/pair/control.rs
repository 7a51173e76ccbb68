//! The control protocol between the two processes: JSON frames, each behind its length in four bytes,
//! over a Unix stream socket. One question is open at a time; only [`ToServer::Failed`] comes unasked.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Burst, Fault, SocketOptions, Token};
use crate::case::Case;
use crate::environment::{CopyCause, Cpus, EffectiveSocket, Interface, Topology};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::sample::{Side, SideReport};

/// Changes with every change of a frame.
pub(super) const VERSION: u32 = 8;

/// No frame is longer: the longest carries a histogram of some ten thousand entries.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// The server's frames.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToClient {
    /// First of all. Answered by `Entered`.
    Enter { version: u32, topology: Topology },
    /// Answered by `Up`.
    BringUp { options: SocketOptions },
    /// Answered by `CopyCauses`: of the client's end of the link.
    FindCopyCauses { device: String },
    /// Answered by `Opened`, when every pair is connected.
    Open {
        case: Case,
        cpus: Cpus,
        server: SocketAddr,
        token: Token,
        events: Vec<Event>,
        fault: Option<Fault>,
    },
    /// Answered by `Done`. `token` is the instance's.
    Burst { token: Token, burst: Burst },
    /// Answered by `Closed`.
    Close { token: Token },
}

/// The client's frames.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and none is kept")]
pub(super) enum ToServer {
    Entered {
        version: u32,
    },
    Up {
        interfaces: Vec<Interface>,
        socket: EffectiveSocket,
    },
    CopyCauses(Vec<CopyCause>),
    Opened,
    Done(SideReport),
    Closed,
    /// What was asked for last went wrong. `echo`: only because the server went away first.
    Failed {
        cause: String,
        echo: bool,
    },
}

/// Writes one frame.
pub(super) fn write_frame(writer: &mut impl Write, frame: &impl Serialize) -> Result<()> {
    let body = serde_json::to_vec(frame).map_err(|error| Error::Protocol(error.to_string()))?;
    if body.len() > MAX_FRAME_BYTES {
        return Err(Error::Protocol(format!("a frame of {} bytes is too long to send", body.len())));
    }
    let mut bytes = u32::try_from(body.len()).unwrap_or_default().to_le_bytes().to_vec();
    bytes.extend(body);
    writer.write_all(&bytes).map_err(Error::call("write(2) to the control socket"))
}

/// Reads one frame; none when the other end closed between two frames.
pub(super) fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<T>> {
    let call = "read(2) from the control socket";
    let mut length = [0; 4];
    if reader.read(&mut length[..1]).map_err(Error::call(call))? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut length[1..]).map_err(Error::call(call))?;
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(Error::Protocol(format!("a frame of {bytes} bytes is longer than {MAX_FRAME_BYTES}")));
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).map_err(Error::call(call))?;
    serde_json::from_slice(&body).map(Some).map_err(|error| Error::Protocol(error.to_string()))
}

/// Reads a frame that `to` takes, and writes it again, for [`fuzzing`](crate::fuzzing); none at the end.
pub(crate) fn rewritten(to: Side, reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
    fn again<T: Serialize + DeserializeOwned>(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
        let Some(frame) = read_frame::<T>(reader)? else { return Ok(None) };
        let mut wire = Vec::new();
        write_frame(&mut wire, &frame)?;
        Ok(Some(wire))
    }
    match to {
        Side::Client => again::<ToClient>(reader),
        Side::Server => again::<ToServer>(reader),
    }
}

/// Refuses to talk to another version of this program.
pub(super) fn check_version(theirs: u32) -> Result<()> {
    if theirs == VERSION {
        return Ok(());
    }
    Err(Error::Protocol(format!(
        "the other process speaks version {theirs}, this one {VERSION}: rebuild both with one `cargo build`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_arrives_as_it_was_sent() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &ToServer::Failed { cause: "x".to_owned(), echo: true }).unwrap();
        write_frame(&mut wire, &ToServer::Closed).unwrap();
        let mut reader = &wire[..];
        let first = read_frame(&mut reader).unwrap();
        assert!(matches!(first, Some(ToServer::Failed { cause, echo: true }) if cause == "x"));
        assert!(matches!(read_frame(&mut reader).unwrap(), Some(ToServer::Closed)));
        assert!(read_frame::<ToServer>(&mut reader).unwrap().is_none(), "the end");
    }

    #[test]
    fn a_frame_that_is_too_long_torn_or_no_frame_is_an_error() {
        let long = u32::MAX.to_le_bytes();
        assert!(matches!(read_frame::<ToServer>(&mut &long[..]), Err(Error::Protocol(_))));
        let mut wire = Vec::new();
        write_frame(&mut wire, &ToServer::Closed).unwrap();
        for cut in 1..wire.len() {
            assert!(read_frame::<ToServer>(&mut &wire[..cut]).is_err(), "torn at {cut}");
        }
        let stray = [4, 0, 0, 0, b'n', b'u', b'l', b'l'];
        assert!(matches!(read_frame::<ToServer>(&mut &stray[..]), Err(Error::Protocol(_))));
        let many = vec![(0_u64, 0_u64); MAX_FRAME_BYTES / 4];
        assert!(matches!(write_frame(&mut Vec::new(), &many), Err(Error::Protocol(_))));
    }

    #[test]
    fn another_version_is_refused_by_number() {
        check_version(VERSION).unwrap();
        let error = check_version(VERSION + 1).unwrap_err().to_string();
        assert!(error.contains(&(VERSION + 1).to_string()), "{error}");
    }
}
