//! Frames that go by at a network interface, by a tracepoint of the kernel: how long each is, and
//! how many fragments it has.
//!
//! What number a tracepoint has, and where its fields stand, is in tracefs, which only root may
//! read. It is mounted for this process alone (`fsmount(2)`), in no folder; the kernel takes it,
//! and the events, away with their descriptors.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use perf_event::events::Tracepoint;
use perf_event::{Builder, SampleFlag, Sampler};
use perf_event_open_sys::{bindings, ioctls};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A frame that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the network header on.
    pub bytes: u64,
    /// Pieces of memory, beside that of the headers.
    pub fragments: u64,
    /// A number that the frames of a connection have in common.
    pub flow: u64,
}

/// A trace of frames, on all CPUs. To close it takes the kernel some milliseconds, and while it is
/// open it costs every frame some nanoseconds: so it is opened once, and closed before anything is
/// timed.
pub struct Frames {
    samplers: Vec<Sampler>,
    fields: Fields,
}

/// So many bytes of records are kept for each CPU: more than a thousand.
const RING_BYTES: usize = 128 << 10;

impl Frames {
    /// Opens a trace, which is not started yet, of the frames that come in at `interfaces`: at the
    /// far end of a veth pair, or over loopback. Of every namespace that has interfaces of these
    /// names.
    ///
    /// # Errors
    /// Which call failed, and why: an ordinary user may not.
    pub fn open(interfaces: &[&str]) -> io::Result<Self> {
        let tracefs = tracefs().map_err(named("fsmount(2) of tracefs"))?;
        let read = |file: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = openat(&tracefs, format!("events/net/netif_rx_entry/{file}"), flags, Mode::empty())?;
            let mut text = String::new();
            File::from(file).read_to_string(&mut text)?;
            io::Result::Ok(text)
        };
        let unknown = || io::Error::other("net:netif_rx_entry has not the fields that are known");
        let text = |file| read(file).map_err(named("read(2) of tracefs"));
        let fields = Fields::parse(&text("format")?).ok_or_else(unknown)?;
        let id = text("id")?.trim().parse().map_err(|_| unknown())?;
        let filter: Vec<String> = interfaces.iter().map(|name| format!("name == \"{name}\"")).collect();
        let filter = CString::new(filter.join(" || "))?;
        let mut samplers = Vec::new();
        for cpu in 0.. {
            let mut builder = Builder::new(Tracepoint::with_id(id));
            builder.any_pid().one_cpu(cpu).include_kernel().sample(SampleFlag::RAW).sample_period(1);
            match builder.build() {
                Ok(counter) => {
                    // SAFETY: the descriptor is the counter's, and the text ends with a zero and is
                    // only read.
                    let result =
                        unsafe { ioctls::SET_FILTER(counter.as_raw_fd(), filter.as_ptr().cast_mut()) };
                    if result < 0 {
                        return Err(named("ioctl(2) PERF_EVENT_IOC_SET_FILTER")(io::Error::last_os_error()));
                    }
                    let mapped = counter.sampled(RING_BYTES);
                    samplers.push(mapped.map_err(named("mmap(2) of a tracepoint's records"))?);
                }
                // A CPU that is off; then one that cannot be.
                Err(errno) if errno.raw_os_error() == Some(libc::ENODEV) => {}
                Err(errno) if errno.raw_os_error() == Some(libc::EINVAL) && cpu > 0 => break,
                Err(errno) => return Err(named("perf_event_open(2) of a tracepoint")(errno)),
            }
        }
        Ok(Self { samplers, fields })
    }

    /// Starts it.
    ///
    /// # Errors
    /// Which call failed.
    pub fn start(&mut self) -> io::Result<()> {
        let mut enable = self.samplers.iter_mut().map(|sampler| sampler.enable());
        enable.try_for_each(|enabled| enabled.map_err(named("ioctl(2) PERF_EVENT_IOC_ENABLE")))
    }

    /// The frames since the start. Where there were too many to keep, some are missing.
    ///
    /// # Errors
    /// Which call failed.
    pub fn stop(&mut self) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        for sampler in &mut self.samplers {
            sampler.disable().map_err(named("ioctl(2) PERF_EVENT_IOC_DISABLE"))?;
            while let Some(record) = sampler.next_record() {
                if record.ty() == bindings::PERF_RECORD_SAMPLE {
                    // The record's own length comes first.
                    frames.extend(record.to_contiguous().get(4..).and_then(|raw| self.fields.read(raw)));
                }
            }
        }
        Ok(frames)
    }
}

fn named(call: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |errno| io::Error::new(errno.kind(), format!("{call}: {errno}"))
}

fn tracefs() -> io::Result<OwnedFd> {
    let made = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&made)?;
    Ok(fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Where the fields of a tracepoint stand in its record.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    len: Range<usize>,
    nr_frags: Range<usize>,
    hash: Range<usize>,
}

impl Fields {
    /// Reads a file `format` of tracefs.
    fn parse(format: &str) -> Option<Self> {
        let field = |name: &str| {
            format.lines().find_map(|line| {
                let mut parts = line.trim().split(';').map(str::trim);
                let declared = parts.next()?.strip_prefix("field:")?;
                let mut number = |key| parts.next()?.strip_prefix(key)?.parse::<usize>().ok();
                let (start, bytes) = (number("offset:")?, number("size:")?);
                (declared.rsplit(' ').next() == Some(name)).then_some(start..start + bytes)
            })
        };
        Some(Self { len: field("len")?, nr_frags: field("nr_frags")?, hash: field("hash")? })
    }

    fn read(&self, raw: &[u8]) -> Option<Frame> {
        let number = |place: &Range<usize>| match *raw.get(place.clone())? {
            [a] => Some(u64::from(a)),
            [a, b] => Some(u64::from(u16::from_ne_bytes([a, b]))),
            [a, b, c, d] => Some(u64::from(u32::from_ne_bytes([a, b, c, d]))),
            _ => None,
        };
        Some(Frame {
            bytes: number(&self.len)?,
            fragments: number(&self.nr_frags)?,
            flow: number(&self.hash)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: netif_rx_entry\nID: 2297\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:u32 hash;\toffset:12;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned int len;\toffset:16;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned char nr_frags;\toffset:20;\tsize:1;\tsigned:0;\n\n\
        print fmt: \"dev=%s len=%u\", __get_str(name), REC->len\n";

    #[test]
    fn fields_are_read_where_the_kernel_says_that_they_stand() {
        let fields = Fields::parse(FORMAT).unwrap();
        let mut raw = [0; 24];
        raw[12..16].copy_from_slice(&7_u32.to_ne_bytes());
        raw[16..20].copy_from_slice(&1500_u32.to_ne_bytes());
        raw[20] = 3;
        assert_eq!(fields.read(&raw), Some(Frame { bytes: 1500, fragments: 3, flow: 7 }));
        for bytes in 0..21 {
            assert_eq!(fields.read(&raw[..bytes]), None, "cut off after {bytes}");
        }
        assert_eq!(Fields::parse(&FORMAT.replace("nr_frags", "frags")), None);
    }
}
