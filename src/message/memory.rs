//! Where the bytes of a message's fields lie: each field in an allocation of its own, or many in
//! one mapping.

use std::alloc::{self, handle_alloc_error};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use once_cell::sync::OnceCell;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::page_bytes;
use crate::case::Layout;

/// The unit in which a cache holds memory.
const LINE_BYTES: usize = 64;
/// What an allocator keeps beside a block, and the boundary that it gives.
const BLOCK_BYTES: usize = 16;

/// The memory of one field.
#[derive(Debug)]
pub(crate) struct Field {
    start: NonNull<u8>,
    bytes: usize,
    owner: Owner,
}

/// Who frees the memory.
#[derive(Debug)]
enum Owner {
    /// The field itself, as the allocator gave it.
    Field(NonNull<[u8]>),
    /// The last that holds the mapping; of a field on pages of its own, it alone.
    Arena(Arc<Arena>),
}

// SAFETY: a field owns its bytes: no other field has them, and the mapping that they may lie in
// hands each byte to one field.
unsafe impl Send for Field {}
// SAFETY: a shared field is only read.
unsafe impl Sync for Field {}

impl Field {
    /// A field in an allocation of its own, zeroed. For [`Layout::Page`] that is a mapping, of
    /// which the kernel joins no pages to huge ones, whatever the machine's or the allocator's
    /// settings are.
    pub(crate) fn zeroed(bytes: usize, layout: Layout) -> Self {
        if layout == Layout::Heap {
            let allocation = NonNull::from(Box::leak(vec![0; bytes].into_boxed_slice()));
            return Self { start: allocation.cast(), bytes, owner: Owner::Field(allocation) };
        }
        let out_of_memory = |_| match alloc::Layout::from_size_align(bytes.max(1), page_bytes()) {
            Ok(layout) => handle_alloc_error(layout),
            Err(error) => panic!("a field of {bytes} bytes: {error}"),
        };
        let arena = Arena::ordinary(bytes.max(1)).unwrap_or_else(out_of_memory);
        Self { start: arena.start, bytes, owner: Owner::Arena(Arc::new(arena)) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are this field's, initialized, and borrowed as the field is.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the field is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// What the pages are that it lies on.
    pub(super) fn pages(&self) -> Pages {
        match &self.owner {
            Owner::Field(_) => Pages::Ordinary,
            Owner::Arena(arena) => arena.pages(),
        }
    }

    /// As `writev(2)` takes it.
    pub(crate) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.start.as_ptr().cast(), iov_len: self.bytes }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        match self.owner {
            // SAFETY: the allocation was leaked from a box in `zeroed`, and is given back once.
            Owner::Field(allocation) => drop(unsafe { Box::from_raw(allocation.as_ptr()) }),
            Owner::Arena(_) => {}
        }
    }
}

/// What the pages of a mapping are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Pages {
    /// Of the ordinary size.
    #[default]
    Ordinary,
    /// Huge, from the pool that the administrator has set aside (`MAP_HUGETLB`).
    HugeReserved,
    /// Huge, joined by the kernel when it was asked to (`MADV_HUGEPAGE`).
    HugeTransparent,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordinary => "of the ordinary size",
            Self::HugeReserved => "of the reserved pool (MAP_HUGETLB)",
            Self::HugeTransparent => "joined by the kernel (MADV_HUGEPAGE); the reserved pool is empty",
        })
    }
}

/// One mapping that holds the fields of many messages: what `io_uring` registers, what huge pages
/// are for, and what can be a file.
#[derive(Debug)]
pub struct Arena {
    start: NonNull<u8>,
    bytes: usize,
    pages: Pages,
    file: Option<OwnedFd>,
}

// SAFETY: the arena itself reads and writes nothing; it hands each byte to one field.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Where the fields of some messages lie in an arena: how many bytes they take, and at which byte
/// each begins.
struct Plan {
    bytes: usize,
    offsets: Vec<Vec<usize>>,
}

impl Plan {
    /// With `is_file`, the fields of a message follow each other without a gap. Two messages share
    /// no line of a cache. None where all of it is more than a process can address: nothing here
    /// may wrap.
    fn new(messages: &[Vec<usize>], layout: Layout, is_file: bool) -> Option<Self> {
        let mut end: usize = 0;
        let mut place = |fields: &Vec<usize>| {
            end = end.checked_next_multiple_of(LINE_BYTES)?;
            let place = |&field_bytes: &usize| {
                let offset = match layout {
                    Layout::Page | Layout::Huge => end.checked_next_multiple_of(page_bytes())?,
                    Layout::Heap if is_file => end,
                    Layout::Heap => end.checked_add(BLOCK_BYTES)?.checked_next_multiple_of(BLOCK_BYTES)?,
                };
                end = offset.checked_add(field_bytes)?;
                Some(offset)
            };
            fields.iter().map(place).collect()
        };
        let offsets = messages.iter().map(&mut place).collect::<Option<_>>()?;
        // What is rounded up, and a huge page more, is still addressed.
        (end <= isize::MAX as usize / 2).then_some(Self { bytes: end.max(1), offsets })
    }
}

impl Arena {
    /// A mapping for the fields of `messages`, zeroed, and the fields in it.
    pub(super) fn hold(
        messages: &[Vec<usize>],
        layout: Layout,
        is_file: bool,
    ) -> io::Result<(Arc<Self>, Vec<Vec<Field>>)> {
        let plan = Plan::new(messages, layout, is_file)
            .ok_or_else(|| io::Error::other("the messages are larger than memory can be"))?;
        let arena = Arc::new(match layout {
            _ if is_file => Self::file(plan.bytes)?,
            Layout::Huge => Self::huge(plan.bytes)?,
            Layout::Heap | Layout::Page => Self::ordinary(plan.bytes)?,
        });
        let field = |(&offset, &bytes): (&usize, &usize)| {
            // SAFETY: the plan places every field within the mapping.
            let start = unsafe { arena.start.add(offset) };
            Field { start, bytes, owner: Owner::Arena(Arc::clone(&arena)) }
        };
        let fields = plan.offsets.iter().zip(messages);
        let fields = fields.map(|(offsets, sizes)| offsets.iter().zip(sizes).map(field).collect()).collect();
        Ok((arena, fields))
    }

    /// Of pages of which the kernel joins none to huge ones.
    fn ordinary(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(page_bytes());
        let start = anonymous(bytes, MapFlags::PRIVATE)?;
        // SAFETY: the mapping is new, and the advice changes no byte of it. A kernel that joins
        // none at all refuses it.
        let _ = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) };
        Ok(Self { start, bytes, pages: Pages::Ordinary, file: None })
    }

    /// Of the administrator's pool, or else joined by the kernel. Looked at afterwards: the kernel
    /// joins pages when it can.
    fn huge(bytes: usize) -> io::Result<Self> {
        let huge = huge_page_bytes()?.ok_or_else(|| io::Error::other("the kernel has no huge pages"))?;
        let bytes = bytes.next_multiple_of(huge);
        if let Ok(start) = anonymous(bytes, MapFlags::PRIVATE | MapFlags::HUGETLB) {
            return Ok(Self { start, bytes, pages: Pages::HugeReserved, file: None });
        }
        // Longer than needed by a huge page, so that one begins in it at the boundary.
        let whole = anonymous(bytes + huge, MapFlags::PRIVATE)?;
        let before = whole.as_ptr().align_offset(huge);
        // SAFETY: the boundary lies in the mapping; what is given back before and after it nobody
        // uses.
        let start = unsafe {
            let start = whole.add(before);
            if before > 0 {
                munmap(whole.as_ptr().cast(), before)?;
            }
            munmap(start.add(bytes).as_ptr().cast(), huge - before)?;
            start
        };
        let arena = Self { start, bytes, pages: Pages::HugeTransparent, file: None };
        // SAFETY: the mapping is this arena's; the advice changes no byte of it, and each page is
        // written to afterwards.
        unsafe {
            madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage)?;
            for page in (0..bytes).step_by(page_bytes()) {
                start.add(page).write_volatile(0);
            }
        }
        let joined_bytes = huge_bytes(&fs::read_to_string(SMAPS)?, start.as_ptr().addr());
        if joined_bytes < bytes {
            return Err(io::Error::other(format!(
                "the kernel joined {joined_bytes} of {bytes} bytes to huge pages, and the pool of reserved ones has too few"
            )));
        }
        Ok(arena)
    }

    fn file(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(page_bytes());
        let file = memfd_create("sendpath", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes as u64)?;
        // SAFETY: a new mapping of a new file, which nobody else has.
        let start = unsafe {
            mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes, pages: Pages::Ordinary, file: Some(file) })
    }

    /// What its pages are.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// All of it, as `readv(2)` and the registration of buffers take it.
    pub(crate) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.start.as_ptr().cast(), iov_len: self.bytes }
    }

    /// The file behind the mapping. Who writes to it writes to the messages: it leaves this crate
    /// for no one.
    pub(crate) fn as_file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// At which byte of the arena a field begins.
    pub(super) fn offset_bytes(&self, field: &Field) -> usize {
        field.start.as_ptr().addr() - self.start.as_ptr().addr()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's, and no field of it is left. An error would leave it
        // mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn anonymous(bytes: usize, flags: MapFlags) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The size of a huge page, in bytes; none where the kernel has no huge pages, or does not say.
/// Looked up once in the life of the process.
///
/// # Errors
/// What `open(2)` of `/proc/meminfo` said, where it is there.
pub fn huge_page_bytes() -> io::Result<Option<usize>> {
    static KNOWN: OnceCell<Option<usize>> = OnceCell::new();
    let look = || {
        let meminfo = match fs::read_to_string("/proc/meminfo") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
        Ok(kib.map(|kib| kib << 10).filter(|bytes| bytes.is_power_of_two()))
    };
    KNOWN.get_or_try_init(look).copied()
}

/// See `proc_pid_smaps(5)`.
const SMAPS: &str = "/proc/self/smaps";

/// Whether one of these addresses lies in a mapping that has huge pages, whoever asked for them.
///
/// # Errors
/// What `open(2)` of `/proc/self/smaps` said.
#[cfg(feature = "cli")]
pub(crate) fn on_huge_pages(addresses: &[usize]) -> io::Result<bool> {
    let smaps = fs::read_to_string(SMAPS)?;
    Ok(addresses.iter().any(|&address| huge_bytes(&smaps, address) > 0))
}

/// How many bytes of the mapping that holds `address` lie on huge pages: those that the kernel
/// joined, or all of a mapping from the reserved pool.
fn huge_bytes(smaps: &str, address: usize) -> usize {
    let bytes = |key: &str| {
        let kib = about(smaps, address, key).and_then(|text| text.strip_suffix(" kB")?.parse::<usize>().ok());
        kib.unwrap_or(0) << 10
    };
    if bytes("KernelPageSize:") > page_bytes() { bytes("Size:") } else { bytes("AnonHugePages:") }
}

/// What stands behind `key` of the mapping that holds `address`.
fn about<'a>(smaps: &'a str, address: usize, key: &str) -> Option<&'a str> {
    let holds = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start..end).contains(&address))
    };
    let after = smaps.lines().skip_while(|line| holds(line) != Some(true));
    let mut found = after.skip(1).take_while(|line| holds(line).is_none());
    found.find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_lies_on_huge_pages_is_read_off_the_mapping_that_holds_it() {
        let mapping = |start: usize, page_kib: usize, joined_kib: usize| {
            format!(
                "{start:x}-{:x} rw-p 00000000 00:00 0 \nSize:               4096 kB\nKernelPageSize:  {page_kib} kB\n\
                 MMUPageSize:            4 kB\nRss:  64 kB\nAnonHugePages:    {joined_kib} kB\nVmFlags: rd wr\n",
                start + (4 << 20)
            )
        };
        let [plain, joined, reserved] = [1 << 30, 2 << 30, 3 << 30];
        let page_kib = page_bytes() >> 10;
        let smaps = mapping(plain, page_kib, 0)
            + &mapping(joined, page_kib, 2048)
            + &mapping(reserved, page_kib.max(2048) * 2, 0);
        assert_eq!(huge_bytes(&smaps, plain + 4096), 0);
        assert_eq!(huge_bytes(&smaps, joined), 2 << 20);
        assert_eq!(huge_bytes(&smaps, reserved), 4 << 20);
        assert_eq!(huge_bytes(&smaps, 4 << 30), 0, "no mapping holds it");
    }

    #[test]
    fn pages_of_a_field_s_own_are_joined_by_nobody() {
        let mut field = Field::zeroed(8 << 20, Layout::Page);
        assert_eq!(field.bytes().as_ptr().addr() % page_bytes(), 0);
        field.bytes_mut().fill(1);
        let smaps = fs::read_to_string(SMAPS).unwrap();
        let address = field.bytes().as_ptr().addr();
        assert_eq!(huge_bytes(&smaps, address), 0);
        // Where the kernel could join pages, it was told not to (`nh`).
        let flags = about(&smaps, address, "VmFlags:").unwrap();
        let can_join = Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert!(!can_join || flags.split(' ').any(|flag| flag == "nh"), "{flags}");
        assert!(Field::zeroed(0, Layout::Page).bytes().is_empty());
    }
}
