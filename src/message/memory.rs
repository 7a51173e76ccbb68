//! Where the bytes of a message's fields lie: each field in an allocation of its own, or many in one mapping.

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
pub(super) struct Field {
    start: NonNull<u8>,
    bytes: usize,
    owner: Owner,
}

/// Who frees the memory.
#[derive(Debug)]
enum Owner {
    /// The field itself: it is a part of this allocation.
    Field(NonNull<[u8]>),
    /// The last that holds the mapping.
    Arena(Arc<Arena>),
}

// SAFETY: a field owns its bytes: no other field has them, and the mapping that they may lie in hands each byte to one
// field.
unsafe impl Send for Field {}
// SAFETY: a shared field is only read.
unsafe impl Sync for Field {}

impl Field {
    /// A field in an allocation of its own, zeroed. For [`Layout::Page`] the allocation is longer than the field by a
    /// page and what fills the last one, which no other allocation so shares.
    pub(super) fn zeroed(bytes: usize, layout: Layout) -> Self {
        let page = page_bytes();
        let (room_bytes, align) = match layout {
            Layout::Heap => (bytes, 1),
            Layout::Page | Layout::Huge => (bytes.next_multiple_of(page) + page, page),
        };
        let allocation = NonNull::from(Box::leak(vec![0; room_bytes].into_boxed_slice()));
        let first = allocation.cast::<u8>();
        // SAFETY: the boundary lies within the allocation, which has room for the field after it.
        let start = unsafe { first.add(first.align_offset(align)) };
        Self { start, bytes, owner: Owner::Field(allocation) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are this field's, initialized, and borrowed as the field is.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
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
    pub(super) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.start.as_ptr().cast(), iov_len: self.bytes }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        if let Owner::Field(allocation) = self.owner {
            // SAFETY: the allocation was leaked from a box in `zeroed`, and is given back once.
            drop(unsafe { Box::from_raw(allocation.as_ptr()) });
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

/// One mapping that holds the fields of many messages: what `io_uring` registers, what huge pages are for, and what can be
/// a file.
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

/// Where the fields of some messages lie in an arena: how many bytes they take, and at which byte each begins.
struct Plan {
    bytes: usize,
    offsets: Vec<Vec<usize>>,
}

impl Plan {
    /// With `is_file`, the fields of a message follow each other without a gap. Two messages share no line of a cache.
    fn new(messages: &[Vec<usize>], layout: Layout, is_file: bool) -> Self {
        let mut end: usize = 0;
        let mut place = |fields: &Vec<usize>| {
            end = end.next_multiple_of(LINE_BYTES);
            let place = |&field_bytes: &usize| {
                let offset = match layout {
                    Layout::Page | Layout::Huge => end.next_multiple_of(page_bytes()),
                    Layout::Heap if is_file => end,
                    Layout::Heap => (end + BLOCK_BYTES).next_multiple_of(BLOCK_BYTES),
                };
                end = offset + field_bytes;
                offset
            };
            fields.iter().map(place).collect()
        };
        let offsets = messages.iter().map(&mut place).collect();
        Self { bytes: end.max(1), offsets }
    }
}

impl Arena {
    /// A mapping for the fields of `messages`, zeroed, and the fields in it.
    pub(super) fn hold(
        messages: &[Vec<usize>],
        layout: Layout,
        is_file: bool,
    ) -> io::Result<(Arc<Self>, Vec<Vec<Field>>)> {
        let plan = Plan::new(messages, layout, is_file);
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

    fn ordinary(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(page_bytes());
        Ok(Self { start: anonymous(bytes, MapFlags::PRIVATE)?, bytes, pages: Pages::Ordinary, file: None })
    }

    /// Of the administrator's pool, or else joined by the kernel. Looked at afterwards: the kernel joins pages when it can.
    fn huge(bytes: usize) -> io::Result<Self> {
        let huge = huge_page_bytes()?.ok_or_else(|| io::Error::other("the kernel has no huge pages"))?;
        let bytes = bytes.next_multiple_of(huge);
        if let Ok(start) = anonymous(bytes, MapFlags::PRIVATE | MapFlags::HUGETLB) {
            return Ok(Self { start, bytes, pages: Pages::HugeReserved, file: None });
        }
        // Longer than needed by a huge page, so that one begins in it at the boundary.
        let whole = anonymous(bytes + huge, MapFlags::PRIVATE)?;
        let before = whole.as_ptr().align_offset(huge);
        // SAFETY: the boundary lies in the mapping; what is given back before and after it nobody uses.
        let start = unsafe {
            let start = whole.add(before);
            if before > 0 {
                munmap(whole.as_ptr().cast(), before)?;
            }
            munmap(start.add(bytes).as_ptr().cast(), huge - before)?;
            start
        };
        let arena = Self { start, bytes, pages: Pages::HugeTransparent, file: None };
        // SAFETY: the mapping is this arena's; the advice changes no byte of it, and each page is written to afterwards.
        unsafe {
            madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage)?;
            for page in (0..bytes).step_by(page_bytes()) {
                start.add(page).write_volatile(0);
            }
        }
        let joined_bytes = joined_bytes(start.as_ptr().addr())?;
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
    #[must_use]
    pub fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.start.as_ptr().cast(), iov_len: self.bytes }
    }

    /// The file behind the mapping.
    #[must_use]
    pub fn as_file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// At which byte of the arena a field begins.
    pub(super) fn offset_bytes(&self, field: &Field) -> usize {
        field.start.as_ptr().addr() - self.start.as_ptr().addr()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's, and no field of it is left. An error would leave it mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn anonymous(bytes: usize, flags: MapFlags) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The size of a huge page, in bytes; none where the kernel has no huge pages, or does not say. Looked up once in the
/// life of the process.
///
/// # Errors
/// What `open(2)` of `/proc/meminfo` said, where it is there.
pub fn huge_page_bytes() -> io::Result<Option<usize>> {
    static KNOWN: OnceCell<Option<usize>> = OnceCell::new();
    KNOWN.get_or_try_init(find_huge_page_bytes).copied()
}

fn find_huge_page_bytes() -> io::Result<Option<usize>> {
    let meminfo = match fs::read_to_string("/proc/meminfo") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        answer => answer?,
    };
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:")?.trim().strip_suffix(" kB"));
    let bytes = kib.and_then(|kib| kib.trim().parse::<usize>().ok()).map(|kib| kib << 10);
    Ok(bytes.filter(|bytes| bytes.is_power_of_two()))
}

/// How many bytes of the mapping that holds `address` lie on huge pages that the kernel joined (`proc_pid_smaps(5)`).
fn joined_bytes(address: usize) -> io::Result<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let holds = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start..end).contains(&address))
    };
    let after = smaps.lines().skip_while(|line| holds(line) != Some(true));
    let kib =
        after.into_iter().find_map(|line| line.strip_prefix("AnonHugePages:")?.trim().strip_suffix(" kB"));
    Ok(kib.and_then(|kib| kib.trim().parse::<usize>().ok()).unwrap_or(0) << 10)
}
