//! One operation on a pipe that the system finishes later, on its own: a write, or a wait for bytes.
//!
//! Refuses to know what flows through a pipe, and which task waits for it.
//!
//! The pipe is bound to the system's thread pool. The pool calls `finished` once for each operation that was started,
//! even if that was finished at once. So no thread waits for a pipe.
//!
//! Rules:
//! - The system writes to an operation until it calls `finished`. So the operation is lent to it as a counted
//!   reference, which `finished` takes back.
//! - There is no event in an operation. If there were one, the system would cancel the operation when the thread that
//!   started it exits, and a task may be polled by any thread.
//! - A write owns its bytes, and keeps the pipe open until they are written.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, RtlNtStatusToDosError, STATUS_SUCCESS};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{BindIoCompletionCallback, CancelIoEx, OVERLAPPED};
use zeroize::Zeroizing;

/// An operation that was started. Dropping it cancels a wait. A write goes on.
pub(crate) struct Pending {
    operation: Arc<Operation>,
    /// The pipe of a wait.
    waits_in: Option<Arc<OwnedHandle>>,
}

/// What is lent to the system.
#[repr(C)]
struct Operation {
    /// At the start, so that a pointer to it is a pointer to the whole.
    overlapped: UnsafeCell<OVERLAPPED>,
    /// How many bytes were moved, or the number of the error.
    outcome: OnceLock<Result<usize, u32>>,
    bytes: Zeroizing<Vec<u8>>,
    /// The pipe of a write.
    _open: Option<Arc<OwnedHandle>>,
    waker: Waker,
    /// Nobody waits any more.
    quiet: AtomicBool,
}

// SAFETY: the system alone uses `overlapped`, until `finished` reads it. The other fields can be shared.
unsafe impl Send for Operation {}
// SAFETY: as above.
unsafe impl Sync for Operation {}

/// Has the system call `finished` for each operation on this pipe.
pub(super) fn bind(pipe: &OwnedHandle) -> io::Result<()> {
    // SAFETY: an open handle. `finished` takes what `Pending::start` lends. All operations on this handle are started
    // there, except reads that suppress the call.
    match unsafe { BindIoCompletionCallback(pipe.as_raw_handle(), Some(finished), 0) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Pending {
    /// Waits until the pipe has bytes, or no process can write to it any more. It takes no bytes: it is a read of none,
    /// which the system finishes then. libuv waits for its pipes in the same way.
    pub(super) fn wait(pipe: &Arc<OwnedHandle>, waker: Waker) -> io::Result<Self> {
        let operation = Pending::start(pipe, Zeroizing::default(), None, waker)?;
        Ok(Pending { operation, waits_in: Some(pipe.clone()) })
    }

    /// Writes all the bytes. They must not be empty: that looks like an end of file.
    pub(super) fn write(
        pipe: &Arc<OwnedHandle>,
        bytes: Zeroizing<Vec<u8>>,
        waker: Waker,
    ) -> io::Result<Self> {
        let operation = Pending::start(pipe, bytes, Some(pipe.clone()), waker)?;
        Ok(Pending { operation, waits_in: None })
    }

    /// Writes the bytes; if there are none, reads none.
    fn start(
        pipe: &OwnedHandle,
        bytes: Zeroizing<Vec<u8>>,
        open: Option<Arc<OwnedHandle>>,
        waker: Waker,
    ) -> io::Result<Arc<Operation>> {
        let operation = Arc::new(Operation {
            overlapped: UnsafeCell::new(OVERLAPPED::default()),
            outcome: OnceLock::new(),
            bytes,
            _open: open,
            waker,
            quiet: AtomicBool::new(false),
        });
        let (none, count) = (ptr::null_mut(), operation.bytes.len() as u32);
        let lent = Arc::into_raw(operation.clone()).cast_mut().cast::<OVERLAPPED>();
        let started = match count {
            // SAFETY: `lent` stays valid until `finished` takes it back. Its own place stands for the buffer, which
            // gets no bytes.
            0 => unsafe { ReadFile(pipe.as_raw_handle(), lent.cast(), 0, none, lent) },
            // SAFETY: as above. `lent` owns the bytes.
            _ => unsafe { WriteFile(pipe.as_raw_handle(), operation.bytes.as_ptr(), count, none, lent) },
        };
        if started == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                // SAFETY: `into_raw` made it. The operation was not started, so `finished` does not take it.
                drop(unsafe { Arc::from_raw(lent.cast_const().cast::<Operation>()) });
                return Err(error);
            }
        }
        Ok(operation)
    }

    /// How many bytes were moved, once it is finished.
    pub(crate) fn outcome(&self) -> Option<io::Result<usize>> {
        let outcome = *self.operation.outcome.get()?;
        Some(outcome.map_err(|error| io::Error::from_raw_os_error(error as i32)))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.operation.outcome.get().is_some()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.operation.quiet.store(true, Ordering::Relaxed);
        if let (Some(pipe), false) = (&self.waits_in, self.is_finished()) {
            // It fails if the system has just finished it.
            // SAFETY: an open handle. The operation was started on it, and its memory is still there.
            unsafe { CancelIoEx(pipe.as_raw_handle(), self.operation.overlapped.get()) };
        }
    }
}

/// Never shows the bytes.
impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// The system has finished an operation. A thread of its pool calls this, once.
///
/// The outcome is taken from the operation: older documentation calls the first argument an NTSTATUS, newer calls it an
/// error number.
unsafe extern "system" fn finished(_: u32, _: u32, overlapped: *mut OVERLAPPED) {
    // SAFETY: `Pending::start` has lent it, and this is the one call that takes it back.
    let operation = unsafe { Arc::from_raw(overlapped.cast_const().cast::<Operation>()) };
    // SAFETY: the system no longer writes to it, and no other code reads it.
    let OVERLAPPED { Internal: status, InternalHigh: count, .. } = unsafe { *operation.overlapped.get() };
    let outcome = match status as i32 {
        STATUS_SUCCESS => Ok(count),
        // SAFETY: takes no pointer.
        status => Err(unsafe { RtlNtStatusToDosError(status) }),
    };
    // It was not set before.
    let _: Result<(), _> = operation.outcome.set(outcome);
    // A waker may be code of the user's, and its panic must not reach the system. Dropping it may be, too.
    drop(catch_unwind(AssertUnwindSafe(move || {
        if !operation.quiet.load(Ordering::Relaxed) {
            operation.waker.wake_by_ref();
        }
    })));
}
