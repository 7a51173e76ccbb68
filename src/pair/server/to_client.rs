//! Cases that the client receives: their connections are those that it has made, and it asks for
//! each message.

use std::mem;
use std::time::{Duration, Instant};

use super::listener::Listener;
use super::sending::{Counted, Pair, Sending, burst_before_sender};
use super::{Inner, Testbed};
use crate::case::Case;
use crate::deadlines::CAUSE_LIMIT;
use crate::error::{Error, Result};
use crate::pair::client_process::{ClientProcess, out_of_turn};
use crate::pair::control::{ToClient, ToServer};
use crate::pair::threads::{PairEnd, SharedEnd, connections_of, metered};
use crate::pair::{Burst, Fault, Mode, Token, monotonic_ns, most_in_flight, receive_request};
use crate::path::send_all;
use crate::sample::{Side, SideReport};

impl Testbed {
    /// Has the client connect, takes its connections, and makes the senders while the client makes
    /// its receivers.
    pub(super) fn open_to_client(
        &self,
        inner: &mut Inner,
        case: Case,
        token: Token,
        fault: Option<Fault>,
    ) -> Result<Vec<SharedEnd<Sending>>> {
        let client_process = &mut inner.client_process;
        // With a client that is gone go its namespace and the link, and with these the address.
        let gone = |error| client_process.trouble(CAUSE_LIMIT / 10).unwrap_or(error);
        let listener = Listener::open(self.address, &self.setup.socket).map_err(gone)?;
        let (server, events) = (listener.address()?, self.events.clone());
        let (cpus, placement) = self.effective.dealt(case.placement, Side::Client);
        let cpus = cpus.clone();
        client_process.tell(&ToClient::Open { case, cpus, placement, server, token, events, fault })?;
        let (connections, strangers) =
            listener.connections(token, case.threads, || client_process.trouble(Duration::ZERO))?;
        drop(listener);
        self.strangers.set(self.strangers.get() + strangers);
        let connections = connections.into_iter().map(|connection| (connection, None));
        let ends = self.make_ends(inner, case, fault, connections)?;
        match inner.client_process.answer()? {
            ToServer::Opened => Ok(ends),
            _ => Err(out_of_turn()),
        }
    }

    /// A burst of a case that the client receives: what the server's and the client's threads saw.
    pub(super) fn burst_to_client(
        &self,
        inner: &mut Inner,
        ends: &[SharedEnd<Sending>],
        token: Token,
        burst: Burst,
    ) -> Result<(SideReport, SideReport)> {
        inner.client_process.watch.arm(Some(burst.mode.stall(false)), connections_of(ends));
        let reports = self.reports(inner, ends, token, burst);
        // The watch ends with the burst, also where it failed.
        let client_process = &mut inner.client_process;
        client_process.watch.disarm(reports).map_err(|error| {
            let error = client_process.root_cause(error);
            client_process.close(token);
            error
        })
    }

    fn reports(
        &self,
        inner: &mut Inner,
        ends: &[SharedEnd<Sending>],
        token: Token,
        burst: Burst,
    ) -> Result<(SideReport, SideReport)> {
        // The server's threads wait for requests before the client is told to send any.
        let tell = |client: &mut ClientProcess| client.tell(&ToClient::Burst { token, burst });
        let told = Instant::now();
        let server = self.on_every_end(inner, ends, move |end, _| serve(end, burst), tell)?;
        let server = SideReport::merge(server);
        match inner.client_process.answer()? {
            ToServer::Done(client) if client.messages == server.messages => {
                check_window(&client, told.elapsed())?;
                Ok((server, client))
            }
            ToServer::Done(client) => {
                let (sent, received) = (server.messages, client.messages);
                let problem = format!("the server sent {sent} messages, and the client received {received}");
                Err(Error::Protocol(problem))
            }
            _ => Err(out_of_turn()),
        }
    }
}

/// Refuses a window that the server's own clock denies: one of no length, or one longer than the
/// time since the client was told to begin. How long what is measured next is goes by this one, so
/// that a lie here would never end. One that is shorter than was asked for is none: on a busy
/// machine a pair's thread may begin late.
fn check_window(client: &SideReport, since_told: Duration) -> Result<()> {
    // Two machines' clocks differ by less than a thousandth.
    let most_ns = since_told.as_nanos() + since_told.as_nanos() / 100 + 1_000_000;
    let window_ns = client.end_ns.checked_sub(client.start_ns).map(u128::from);
    if window_ns.is_some_and(|window_ns| (1..=most_ns).contains(&window_ns)) {
        return Ok(());
    }
    let (start_ns, end_ns) = (client.start_ns, client.end_ns);
    Err(Error::Protocol(format!(
        "the client says that the burst was from {start_ns} to {end_ns} ns of its clock; by the server's, it took no \
         longer than {most_ns} ns"
    )))
}

/// One burst of one pair that the client receives.
fn serve(end: &mut PairEnd<Sending>, burst: Burst) -> Result<SideReport> {
    let PairEnd { connection, case, counters, next_sequence, state, .. } = end;
    let Some(sender) = state.sender.as_deref_mut() else { return Err(burst_before_sender()) };
    let pair = &mut Pair { connection, sender, case, mode: burst.mode, next_sequence };
    if burst.lead_in_messages > 0 {
        let lead_in = send_messages(pair)?;
        // The lead-in's completions are no part of the window: the client begins it when they are
        // reaped.
        send_all(connection, &lead_in.messages.to_le_bytes())?;
    }
    let before = Counted::read(pair);
    let mut report = metered(counters, || send_messages(pair))?;
    // The client may check its last message now. On a shared CPU that work would otherwise come
    // before this thread's last steps, and be timed.
    send_all(connection, &report.messages.to_le_bytes())?;
    before.report(pair, &mut report);
    pair.restore()?;
    Ok(report)
}

/// Sends as many messages as each request asks for, until one asks for none; then waits until the
/// kernel has let go of the last.
fn send_messages(pair: &mut Pair<'_>) -> Result<SideReport> {
    let first = *pair.next_sequence;
    let in_flight = most_in_flight(pair.case, pair.mode);
    let mut is_overwritten = false;
    let start_ns = monotonic_ns()?;
    loop {
        let messages = receive_request(pair.connection)?;
        // The client asks for no more than may be in flight, and for none when it has all. What it
        // says may be a stranger's word: it bounds the work here, and which of this sender's own
        // bytes a lie would get.
        if messages > in_flight {
            return Err(Error::Protocol(format!(
                "the client asked for {messages} messages at a time, and at most {in_flight} may be in flight"
            )));
        }
        let not_received = if messages == 0 { 0 } else { in_flight - messages };
        pair.sender.received(pair.next_sequence.saturating_sub(not_received));
        if mem::take(&mut is_overwritten) {
            pair.put_back()?;
        }
        if messages == 0 {
            break;
        }
        for _ in 0..messages {
            pair.send()?;
            if pair.mode == Mode::Overwrite {
                pair.overwrite()?;
                is_overwritten = true;
            }
        }
        pair.sender.submit()?;
    }
    let received_ns = monotonic_ns()?;
    pair.sender.flush()?;
    let end_ns = monotonic_ns()?;
    let (messages, drain_ns) = (*pair.next_sequence - first, end_ns - received_ns);
    Ok(SideReport { messages, start_ns, end_ns, drain_ns, ..SideReport::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_the_servers_clock_denies_is_refused() {
        for (start_ns, end_ns, is_true) in [
            (5, 120_000_005, true),
            (5, 6, true),
            (5, 130_000_005, false),
            (5, 5, false),
            (5, 4, false),
            (0, u64::MAX, false),
        ] {
            let client = SideReport { start_ns, end_ns, ..SideReport::default() };
            let checked = check_window(&client, Duration::from_millis(120));
            assert_eq!(checked.is_ok(), is_true, "{start_ns} {end_ns}");
        }
    }
}
