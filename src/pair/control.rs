//! The control protocol between the two processes: a greeting from each side, then JSON frames,
//! each behind its length in four bytes, over any two byte streams. One question is open at a time;
//! only [`ToServer::Failed`] comes unasked.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Burst, Fault, SocketOptions, Token};
use crate::case::{Case, Placement};
use crate::environment::{CopyCause, Cpus, EffectiveSocket, Interface, Machine, Program, Topology};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::program;
use crate::sample::{Side, SideReport};

/// Changes with every change of a frame.
pub(super) const VERSION: u32 = 10;

/// A greeting is no longer, nor what is quoted of something else that was said in its place.
const MAX_GREETING_BYTES: usize = 120;

/// No frame is longer: the longest carries a histogram of some ten thousand entries.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// The server's frames.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToClient {
    /// First of all. Answered by `Entered`.
    Enter { topology: Topology },
    /// Answered by `Up`.
    BringUp { options: SocketOptions },
    /// Answered by `Routed`: the client's end of the way to this address of the server's.
    Route { server: IpAddr },
    /// Answered by `Examined`: what the client's machine can measure.
    Examine,
    /// Answered by `Removed`, where the client's program was brought over for one comparison.
    RemoveProgram,
    /// Answered by `CopyCauses`: of the client's end of the link.
    FindCopyCauses { device: String },
    /// Answered by `Opened`, when every pair is connected.
    Open {
        case: Case,
        /// The CPUs that the client's ends are dealt to, by this placement.
        cpus: Cpus,
        placement: Placement,
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
#[expect(clippy::large_enum_variant, reason = "the large one is sent once")]
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToServer {
    /// With what it runs on, where the topology is a peer's.
    Entered {
        description: Option<Description>,
    },
    Up {
        interfaces: Vec<Interface>,
        socket: EffectiveSocket,
    },
    Routed(Interface),
    /// In a form that only those who asked and answered know.
    Examined(serde_json::Value),
    Removed,
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

/// What a client runs on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) host: String,
    pub(super) program: Program,
    /// What tells this boot of the machine from all others.
    pub(super) boot_id: String,
    pub(super) cpus: Cpus,
    pub(super) machine: Machine,
}

/// The line that `side` says first. Its form never changes, so that versions can tell each other
/// apart.
pub(super) fn greeting(side: Side) -> String {
    format!("sendpath {side} {VERSION} {}\n", program::this().name())
}

/// Reads the greeting of the process at the other end of the line, and refuses to talk to another
/// version of it.
pub fn read_greeting(reader: &mut impl Read, other: Side) -> Result<()> {
    let call = "read(2) from the control line";
    let prefix = format!("sendpath {other} ");
    let mut line = Vec::new();
    // One byte at a time: what follows the line is a frame.
    let mut byte = [0];
    while line.last() != Some(&b'\n') && line.len() < MAX_GREETING_BYTES {
        if reader.read(&mut byte).map_err(Error::call(call))? == 0 {
            // It ended: how, or what else it said, explains more.
            let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return if line.is_empty() {
                Err(Error::call(call)(ended))
            } else {
                Err(no_greeting(other, &line))
            };
        }
        line.extend(byte);
        if !prefix.as_bytes().starts_with(&line[..line.len().min(prefix.len())]) {
            let mut rest = [0; MAX_GREETING_BYTES];
            let bytes = reader.read(&mut rest).unwrap_or(0);
            line.extend(&rest[..bytes]);
            return Err(no_greeting(other, &line));
        }
    }
    let text = String::from_utf8_lossy(&line[prefix.len().min(line.len())..]).into_owned();
    let mut words = text.split_whitespace();
    match (words.next().and_then(|version| version.parse().ok()), words.next()) {
        (Some(version), Some(program)) => check_version(other, version, program),
        _ => Err(no_greeting(other, &line)),
    }
}

fn no_greeting(other: Side, said: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(said).trim_end().chars().take(MAX_GREETING_BYTES).collect();
    Error::Protocol(format!(
        "{said:?} was said where the {other}'s greeting was expected: the other end of the line has to be sendpath, and \
         nothing else may write there (a peer's command ends in `sendpath client`)"
    ))
}

/// Writes one frame.
pub(super) fn write_frame(writer: &mut impl Write, frame: &impl Serialize) -> Result<()> {
    let body = serde_json::to_vec(frame).map_err(|error| Error::Protocol(error.to_string()))?;
    if body.len() > MAX_FRAME_BYTES {
        return Err(Error::Protocol(format!("a frame of {} bytes is too long to send", body.len())));
    }
    let mut bytes = u32::try_from(body.len()).unwrap_or_default().to_le_bytes().to_vec();
    bytes.extend(body);
    writer
        .write_all(&bytes)
        .and_then(|()| writer.flush())
        .map_err(Error::call("write(2) to the control line"))
}

/// Reads one frame; none when the other end closed between two frames.
pub(super) fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<T>> {
    let call = "read(2) from the control line";
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

/// Reads a frame that `to` takes, and writes it again; none at the end. For the fuzz targets.
pub fn rewritten(to: Side, reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
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
fn check_version(other: Side, theirs: u32, program: &str) -> Result<()> {
    if theirs == VERSION {
        return Ok(());
    }
    let age = if theirs < VERSION { "older" } else { "newer" };
    Err(Error::Protocol(format!(
        "the {other} (sendpath {program}) speaks version {theirs}, and is {age} than this side (sendpath {}), which \
         speaks version {VERSION}: install the same sendpath on both sides",
        program::this().name()
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

    /// Two builds with the same version take each other's frames. So whoever changes one raises it.
    #[test]
    fn a_frame_that_is_another_has_another_version() {
        use crate::counts::ZeroCopyCounts;
        use crate::environment::Core;
        use crate::pair::{Extent, Mode};
        use crate::sample::{RoundTrips, Seen};

        let token = Token([7; 16]);
        let to_client = [
            ToClient::BringUp { options: SocketOptions::default() },
            ToClient::Open {
                case: Case::default(),
                cpus: vec![Core { node: 0, cpus: vec![0, 1] }].into(),
                placement: Placement::Paired,
                server: ([10, 0, 0, 1], 7000).into(),
                token,
                events: Vec::new(),
                fault: None,
            },
            ToClient::Burst {
                token,
                burst: Burst { lead_in_messages: 1, extent: Extent::Messages(2), mode: Mode::Verify },
            },
        ];
        let report = SideReport {
            cpu_untold: Some(String::new()),
            zero_copy: Some(ZeroCopyCounts::default()),
            round_trips: Some(RoundTrips::default()),
            seen: Some(Seen::default()),
            ..SideReport::default()
        };
        let to_server = [ToServer::Done(report), ToServer::Failed { cause: String::new(), echo: true }];
        let to_client = to_client.iter().map(|frame| serde_json::to_string(frame).unwrap());
        let to_server = to_server.iter().map(|frame| serde_json::to_string(frame).unwrap());
        let text: Vec<String> =
            [format!("version {VERSION}")].into_iter().chain(to_client).chain(to_server).collect();
        assert_eq!(
            text.join("\n") + "\n",
            include_str!("../../tests/golden/control-frames.txt"),
            "raise VERSION, and put the left text into the file"
        );
    }

    #[test]
    fn a_greeting_is_read_and_what_follows_it_left() {
        let wire = greeting(Side::Client) + "rest";
        let mut reader = wire.as_bytes();
        read_greeting(&mut reader, Side::Client).unwrap();
        assert_eq!(reader, b"rest");
    }

    #[test]
    fn of_another_version_it_is_said_which_side_is_older() {
        for (version, age) in
            [(VERSION - 1, "is older than this side"), (VERSION + 1, "is newer than this side")]
        {
            let line = format!("sendpath client {version} 0123abc and more\n");
            let error = read_greeting(&mut line.as_bytes(), Side::Client).unwrap_err().to_string();
            assert!(error.contains(age) && error.contains("0123abc"), "{error}");
        }
    }

    #[test]
    fn what_is_no_greeting_is_quoted() {
        for said in [
            "Welcome to bob\n",
            "password: ",
            "sendpath server 9 x\n",
            "sendpath client nine x\n",
            "sendpath client 9\n",
            "sendpath cl",
        ] {
            let error = read_greeting(&mut said.as_bytes(), Side::Client).unwrap_err();
            assert!(matches!(error, Error::Protocol(_)), "{said:?}: {error}");
            assert!(error.to_string().contains(said.trim_end()), "{error}");
        }
        assert!(read_greeting(&mut &b""[..], Side::Client).unwrap_err().is_echo(), "it just ended");
        let endless = [b"sendpath client ".to_vec(), vec![b'1'; 1 << 16]].concat();
        assert!(matches!(read_greeting(&mut &endless[..], Side::Client), Err(Error::Protocol(_))));
    }
}
