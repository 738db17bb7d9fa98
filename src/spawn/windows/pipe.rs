//! The few lines that the Windows engine needs and that no safe wrapper has: pipes, and questions to them that do not
//! wait.
//!
//! Refuses to know what flows through a pipe, and which task waits for it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_CONNECTED_STATE, FILE_PIPE_LOCAL_INFORMATION, FilePipeLocalInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED, HANDLE, STATUS_SUCCESS,
};
use windows_sys::Win32::System::IO::{CancelIoEx, IO_STATUS_BLOCK};
use windows_sys::Win32::System::Pipes::{CreatePipe, PeekNamedPipe};

/// How much a pipe holds: as much as on Linux. The system's own choice is 4 KiB.
const CAPACITY: u32 = 64 * 1024;

/// The parent's end of an anonymous pipe. The child does not inherit it.
///
/// Its operations wait, and Windows allows only one at a time. Each waits for the one before, even a question that
/// has an answer at once.
#[derive(Debug)]
pub(crate) struct Pipe(File);

/// A pipe: the reading end, then the writing end. Neither is inherited.
pub(super) fn pipe() -> io::Result<(OwnedHandle, OwnedHandle)> {
    let (mut reader, mut writer): (HANDLE, HANDLE) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: room for both handles; null attributes are allowed.
    if unsafe { CreatePipe(&mut reader, &mut writer, ptr::null(), CAPACITY) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let reader = unsafe { OwnedHandle::from_raw_handle(reader) };
    // SAFETY: as above.
    let writer = unsafe { OwnedHandle::from_raw_handle(writer) };
    Ok((reader, writer))
}

/// The value of a standard handle that a process was started without.
pub(super) fn nothing() -> OwnedHandle {
    // SAFETY: null names no object. An owned handle may hold it, since standard handles may be null;
    // std duplicates it into a null handle of the child.
    unsafe { OwnedHandle::from_raw_handle(ptr::null_mut()) }
}

impl Pipe {
    pub(super) fn new(end: OwnedHandle) -> Self {
        Pipe(File::from(end))
    }

    /// Waits for bytes, and reads them. 0 is the end of file, or a write of no bytes; `available` says which.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Appends so many bytes. They are known to be available, so this does not wait. It may return fewer.
    pub(crate) fn read_available(&self, count: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        (&self.0).take(count as u64).read_to_end(buffer)
    }

    /// Waits until all is written. `BrokenPipe` if no process can read it any more.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes).map_err(|error| if is_broken(&error) { broken() } else { error })
    }

    /// How many bytes can be read without waiting; `None` at the end of file.
    pub(crate) fn available(&self) -> io::Result<Option<usize>> {
        let mut count = 0;
        let none = ptr::null_mut();
        // SAFETY: room for the count; null for values that are not asked for.
        let asked =
            unsafe { PeekNamedPipe(self.raw(), none, 0, ptr::null_mut(), &mut count, ptr::null_mut()) };
        if asked != 0 {
            return Ok(Some(count as usize));
        }
        let error = io::Error::last_os_error();
        if is_broken(&error) { Ok(None) } else { Err(error) }
    }

    /// Whether the other end is known to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        let mut status = IO_STATUS_BLOCK::default();
        let mut answer = FILE_PIPE_LOCAL_INFORMATION::default();
        let length = size_of_val(&answer) as u32;
        let place = (&raw mut answer).cast();
        // SAFETY: room for the status, and for an answer of the given length.
        let asked = unsafe {
            NtQueryInformationFile(self.raw(), &mut status, place, length, FilePipeLocalInformation)
        };
        asked == STATUS_SUCCESS && answer.NamedPipeState != FILE_PIPE_CONNECTED_STATE
    }

    /// Ends the operation that another thread waits in, if there is one.
    pub(crate) fn cancel(&self) {
        // It fails if there is none.
        // SAFETY: null means every operation on the handle. Each ends in order, with an error.
        unsafe { CancelIoEx(self.raw(), ptr::null()) };
    }

    fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

fn is_broken(error: &io::Error) -> bool {
    let code = error.raw_os_error().unwrap_or(0) as u32;
    matches!(code, ERROR_BROKEN_PIPE | ERROR_NO_DATA | ERROR_PIPE_NOT_CONNECTED)
}

fn broken() -> io::Error {
    // Windows has three numbers for it, and std knows two.
    io::Error::from_raw_os_error(ERROR_BROKEN_PIPE as i32)
}
