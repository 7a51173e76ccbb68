//! Packets and fragments of an instance's messages: counted as the frames go by, and worked out
//! from where the messages lie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

use nix::sys::socket::{getsockopt, sockopt};

use super::instance::Instance;
use super::sending::Sending;
use crate::counters::{Frame, Frames};
use crate::error::{Error, Result};
use crate::fragments::{Fragments, FragmentsSource, Told, Wire, worked_out};
use crate::message::{huge_page_bytes, page_bytes};
use crate::pair::threads::{SharedEnd, locked};
use crate::pair::watch::has_timestamps;
use crate::pair::{Burst, Extent, Mode};
use crate::topology::Sink;

/// A burst in which other frames went by as well is made again, so often.
const TRIES: usize = 3;
/// The number of messages that ends a burst, on the data connection.
const END_BYTES: u64 = 8;

/// Packets and fragments of a message, or why they are not known.
type Found = std::result::Result<Fragments, String>;

impl Instance<'_> {
    /// Packets and fragments of a message: counted, in a burst that is not timed; or else worked
    /// out. `trace` is opened where it is none, and has to be closed before a burst is timed.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn fragments(&mut self, trace: &mut Option<Frames>) -> Result<Told> {
        Ok(match self.counted_fragments(trace)? {
            Ok(counted) => Told { fragments: Some(counted), not_counted: None },
            Err(not_counted) => match self.worked_out_fragments()? {
                Ok(fragments) => Told { fragments: Some(fragments), not_counted: Some(not_counted) },
                Err(unknown) => {
                    let not_counted = Some(format!("{not_counted}; and not worked out: {unknown}"));
                    Told { fragments: None, not_counted }
                }
            },
        })
    }

    /// Counts the frames of some messages by a tracepoint of the kernel; or says why not.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn counted_fragments(&mut self, trace: &mut Option<Frames>) -> Result<Found> {
        let effective = self.testbed.effective();
        if self.has_client() && !effective.stays_in_memory() {
            // net:net_dev_start_xmit has what leaves by a card, and not its fragments.
            return Ok(Err("no tracepoint tells the fragments of what leaves by a network card".to_owned()));
        }
        let trace = match trace {
            Some(trace) => trace,
            none => match Frames::open(&[Sink::PORT, &effective.client_link.name]) {
                Ok(opened) => none.insert(opened),
                Err(errno) => return Ok(Err(errno.to_string())),
            },
        };
        for _ in 0..TRIES {
            match self.count(trace)? {
                Ok(Some(counted)) => return Ok(Ok(counted)),
                Ok(None) => {}
                Err(errno) => return Ok(Err(errno.to_string())),
            }
        }
        Ok(Err(format!("the frames that came in were not those of the pairs, in {TRIES} bursts")))
    }

    /// One burst whose frames are counted. None where the frames are not those of the pairs.
    fn count(&mut self, trace: &mut Frames) -> Result<std::io::Result<Option<Fragments>>> {
        let case = self.case();
        let Some(end) = self.ends().first() else { return Ok(Ok(None)) };
        let header_bytes = of_connection(end, header_bytes)?;
        let turn = case.shape.messages(case.payload_bytes);
        let messages = ((4 << 20) / case.payload_bytes).clamp(2, 16).next_multiple_of(turn.len()) as u64;
        if let Err(errno) = trace.start() {
            return Ok(Err(errno));
        }
        let burst = Burst { lead_in_messages: 0, extent: Extent::Messages(messages), mode: Mode::Time };
        let sent = self.burst(burst)?.0.messages;
        let turn_bytes: usize = turn.iter().flatten().sum();
        let pair_bytes = sent / case.threads as u64 * turn_bytes as u64 / turn.len() as u64;
        Ok(trace.stop().map(|frames| {
            let frames = if self.has_client() { without_ends(&frames, header_bytes) } else { frames };
            let (packets, fragments) = of_pairs(&frames, header_bytes, case.threads, pair_bytes)?;
            Some(Fragments {
                packets_per_message: packets as f64 / sent as f64,
                fragments_per_message: fragments as f64 / sent as f64,
                fragments_source: FragmentsSource::Counted,
            })
        }))
    }

    /// Works them out from where the messages lie; or says why not.
    ///
    /// # Errors
    /// A failed call.
    pub fn worked_out_fragments(&self) -> Result<Found> {
        let Some(end) = self.ends().first() else { return Ok(Err("a burst has failed".to_owned())) };
        let offloads = self.testbed.effective().server_link.offloads.filter(|_| self.has_client());
        if offloads.is_some_and(|port| !(port.scatter_gather && port.tcp_segmentation)) {
            return Ok(Err("the kernel cuts packets anew for a port without these offloads".to_owned()));
        }
        let mss_bytes = of_connection(end, |connection| {
            getsockopt(connection, sockopt::TcpMaxSeg).map_err(Error::call("getsockopt(2) TCP_MAXSEG"))
        })?;
        let mut wire = Wire { page_bytes: page_bytes(), ..Wire::new(mss_bytes as usize) };
        wire.huge_page_bytes = huge_page_bytes().ok().flatten().unwrap_or(wire.huge_page_bytes);
        let places = |end: &SharedEnd<Sending>| locked(end).state.places.clone();
        let messages: Vec<_> = self.ends().iter().flat_map(places).collect();
        Ok(worked_out(&self.case(), &messages, &wire).map_err(|unknown| unknown.to_string()))
    }
}

fn of_connection<T>(end: &SharedEnd<Sending>, read: impl FnOnce(&TcpStream) -> Result<T>) -> Result<T> {
    read(&locked(end).connection)
}

/// The headers of each of a connection's segments.
fn header_bytes(connection: &TcpStream) -> Result<u64> {
    /// TCP's option of RFC 7323, with two bytes that fill it up.
    const TIMESTAMPS_BYTES: u64 = 12;
    let address = connection.local_addr().map_err(Error::call("getsockname(2)"))?;
    let network_bytes = if address.is_ipv4() { 20 } else { 40 };
    Ok(network_bytes + 20 + if has_timestamps(connection) { TIMESTAMPS_BYTES } else { 0 })
}

/// The frames without what ends a burst to a client: one that says how many messages there were.
fn without_ends(frames: &[Frame], header_bytes: u64) -> Vec<Frame> {
    let mut frames = frames.to_vec();
    for flow in frames.iter().map(|frame| frame.flow).collect::<BTreeSet<_>>() {
        let is_end = |frame: &Frame| frame.flow == flow && frame.bytes == header_bytes + END_BYTES;
        if let Some(end) = frames.iter().rposition(is_end) {
            frames.remove(end);
        }
    }
    frames
}

/// Packets and fragments of the connections that sent `pair_bytes` each. None unless there are as
/// many as there are pairs: frames may be missing, and others may have gone by.
fn of_pairs(frames: &[Frame], header_bytes: u64, pairs: usize, pair_bytes: u64) -> Option<(u64, u64)> {
    let mut flows: BTreeMap<u64, [u64; 3]> = BTreeMap::new();
    // Acknowledgements alone have no payload.
    for frame in frames.iter().filter(|frame| frame.bytes > header_bytes) {
        let [bytes, packets, fragments] = flows.entry(frame.flow).or_default();
        *bytes += frame.bytes - header_bytes;
        *packets += 1;
        *fragments += frame.fragments;
    }
    let own: Vec<_> = flows.into_values().filter(|[bytes, ..]| *bytes == pair_bytes).collect();
    let sum = |(packets, fragments), &[_, more_packets, more_fragments]: &[u64; 3]| {
        (packets + more_packets, fragments + more_fragments)
    };
    (own.len() == pairs).then(|| own.iter().fold((0, 0), sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flow: u64, payload_bytes: u64, fragments: u64) -> Frame {
        Frame { bytes: 52 + payload_bytes, fragments, flow }
    }

    #[test]
    fn frames_count_where_they_make_up_what_was_sent() {
        let own = [frame(1, 65160, 16), frame(1, 376, 1), frame(2, 65160, 16), frame(2, 376, 1)];
        assert_eq!(of_pairs(&own, 52, 2, 65536), Some((4, 34)));
        let with = |frame: Frame| of_pairs(&[&own[..], &[frame]].concat(), 52, 2, 65536);
        assert_eq!(with(frame(3, 8, 1)), Some((4, 34)), "another connection's");
        assert_eq!(with(frame(1, 0, 0)), Some((4, 34)), "an acknowledgement");
        assert_eq!(with(frame(1, 376, 1)), None, "sent twice");
        assert_eq!(with(frame(3, 65536, 2)), None, "another that sent as much");
        assert_eq!(of_pairs(&own[..3], 52, 2, 65536), None, "one is missing");
    }

    #[test]
    fn what_ends_a_burst_is_no_part_of_its_messages() {
        let frames = [frame(1, 4096, 8), frame(2, 8, 1), frame(2, 4096, 8), frame(1, 8, 1)];
        assert_eq!(of_pairs(&without_ends(&frames, 52), 52, 2, 4096), Some((2, 16)));
        assert_eq!(of_pairs(&frames, 52, 2, 4096), None);
        let small = [frame(1, 8, 1); 17];
        assert_eq!(
            of_pairs(&without_ends(&small, 52), 52, 1, 128),
            Some((16, 16)),
            "messages of as many bytes"
        );
    }
}
