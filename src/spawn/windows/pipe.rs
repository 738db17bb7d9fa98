//! Pipes on Windows: how they are made, and what can be asked of them without waiting.
//!
//! Refuses to know what flows through a pipe, and which task waits for it.
//!
//! A pipe between parent and child has two different ends. The child's end is of the blocking kind, as programs expect
//! it. The parent's end is of the overlapped kind: an operation on it can be finished later, and a question is answered
//! at once, even while an operation is pending. CreatePipe makes no such end. So these pipes are made as std makes its
//! own: by NtCreateNamedPipeFile, and without a name. Then no other process can open one.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_NON_DIRECTORY_FILE, FILE_PIPE_BYTE_STREAM_MODE, FILE_PIPE_BYTE_STREAM_TYPE,
    FILE_PIPE_QUEUE_OPERATION, FILE_SYNCHRONOUS_IO_NONALERT, NtOpenFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_NO_DATA, ERROR_OPERATION_ABORTED, ERROR_PIPE_NOT_CONNECTED,
    GENERIC_READ, GENERIC_WRITE, HANDLE, NTSTATUS, RtlNtStatusToDosError, STATUS_SUCCESS, UNICODE_STRING,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_READ_ATTRIBUTES, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_WRITE_ATTRIBUTES, ReadFile, SYNCHRONIZE,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, IO_STATUS_BLOCK, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{CreatePipe, PeekNamedPipe};
use windows_sys::Win32::System::Threading::CreateEventW;
use zeroize::Zeroizing;

use super::pending::{self, Pending};

/// How much a pipe holds: as much as on Linux. The system's own choice is 4 KiB.
const CAPACITY: u32 = 64 * 1024;

/// The parent's end of a pipe. The child does not inherit it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// A pending write keeps it open.
    handle: Arc<OwnedHandle>,
    /// Made by the first read.
    event: Option<OwnedHandle>,
}

// windows-sys does not have it.
#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtCreateNamedPipeFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        share: u32,
        disposition: u32,
        options: u32,
        pipe_type: u32,
        read_mode: u32,
        completion_mode: u32,
        instances: u32,
        quota_in: u32,
        quota_out: u32,
        timeout: *const i64,
    ) -> NTSTATUS;
}

/// A pipe for two children: the reading end, then the writing end. Both are of the blocking kind. Neither is inherited.
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
    /// A pipe out of a child: the parent's end, then the child's. Neither is inherited.
    pub(super) fn out_of_child() -> io::Result<(Self, OwnedHandle)> {
        Pipe::with_child(GENERIC_READ, FILE_SHARE_WRITE, GENERIC_WRITE | FILE_READ_ATTRIBUTES)
    }

    /// A pipe into a child: the parent's end, then the child's. Neither is inherited.
    ///
    /// The parent's end can read, too. Nothing ever comes, as the child's end cannot write. But a wait for it is over
    /// when the last reader closes the pipe.
    pub(super) fn into_child() -> io::Result<(Self, OwnedHandle)> {
        let (access, share) = (GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE);
        Pipe::with_child(access, share, GENERIC_READ | FILE_WRITE_ATTRIBUTES)
    }

    /// The child's end gets the rights that CreatePipe gives. `share` says in which directions the pipe leads.
    fn with_child(access: u32, share: u32, of_child: u32) -> io::Result<(Self, OwnedHandle)> {
        let pipes: Vec<u16> = r"\??\PIPE\".encode_utf16().collect();
        let pipes = open(None, &pipes, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, 0)?;
        let ours = create(&pipes, access, share)?;
        let child_end = open(Some(&ours), &[], of_child, 0, FILE_NON_DIRECTORY_FILE)?;
        pending::bind(&ours)?;
        Ok((Pipe { handle: Arc::new(ours), event: None }, child_end))
    }

    /// How many bytes can be read without waiting; `None` if there are none, and no process has the other end open.
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

    /// Appends at most this many bytes, and does not wait for them. 0 if there are none. A write of no bytes is
    /// removed from the pipe.
    pub(crate) fn read(&mut self, most: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        buffer.reserve(most as usize);
        let event = match self.event.take() {
            Some(event) => event,
            None => event()?,
        };
        let event = self.event.insert(event).as_raw_handle();
        // With the lowest bit of the event set, the pool is not called; see GetQueuedCompletionStatus.
        let mut overlapped =
            OVERLAPPED { hEvent: event.map_addr(|address| address | 1), ..OVERLAPPED::default() };
        let room = buffer.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: there is room for so many bytes. The wait below ends before the room and `overlapped` do.
        let started = unsafe { ReadFile(self.raw(), room, most, ptr::null_mut(), &mut overlapped) };
        if started == 0 {
            let error = io::Error::last_os_error();
            if is_broken(&error) {
                return Ok(0);
            }
            if code(&error) != ERROR_IO_PENDING {
                return Err(error);
            }
            // There was nothing. It fails if something has just come.
            // SAFETY: an open handle, and the operation that was just started on it.
            unsafe { CancelIoEx(self.raw(), &overlapped) };
        }
        let mut count = 0;
        // This takes a moment at most, as the read is finished or cancelled.
        // SAFETY: the operation that was started on this handle, and room for the count.
        let read = unsafe { GetOverlappedResult(self.raw(), &overlapped, &mut count, 1) };
        if read == 0 {
            let error = io::Error::last_os_error();
            let is_none = is_broken(&error) || code(&error) == ERROR_OPERATION_ABORTED;
            return if is_none { Ok(0) } else { Err(error) };
        }
        let length = buffer.len() + count as usize;
        // SAFETY: the system has written so many bytes behind the old ones.
        unsafe { buffer.set_len(length) };
        Ok(count as usize)
    }

    /// Waits until the pipe has bytes, or no process has the other end open. It takes no bytes. Then the waker is woken.
    pub(crate) fn wait(&self, waker: Waker) -> io::Result<Pending> {
        Pending::wait(&self.handle, waker)
    }

    /// Writes all the bytes, and then wakes the waker. The pipe is closed after that if this end was dropped. The bytes
    /// must not be empty. `BrokenPipe` if no process can read them any more.
    pub(crate) fn write(&self, bytes: Zeroizing<Vec<u8>>, waker: Waker) -> io::Result<Pending> {
        Pending::write(&self.handle, bytes, waker).map_err(or_broken)
    }

    fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }
}

/// Makes a pipe without a name: the end that makes it, for operations that are finished later.
fn create(pipes: &OwnedHandle, access: u32, share: u32) -> io::Result<OwnedHandle> {
    let (mut handle, mut status) = (ptr::null_mut(), IO_STATUS_BLOCK::default());
    // In units of 100 ns from now: what CreateNamedPipe takes. No process waits to open this pipe.
    let timeout = -500_000;
    let made = with_attributes(Some(pipes), &[], |attributes| {
        // SAFETY: room for the handle and the status. The attributes and the timeout stay in place.
        unsafe {
            NtCreateNamedPipeFile(
                &mut handle,
                SYNCHRONIZE | access,
                attributes,
                &mut status,
                share,
                FILE_CREATE,
                0,
                FILE_PIPE_BYTE_STREAM_TYPE,
                FILE_PIPE_BYTE_STREAM_MODE,
                FILE_PIPE_QUEUE_OPERATION,
                1,
                CAPACITY,
                CAPACITY,
                &timeout,
            )
        }
    });
    owned(made, handle)
}

/// Opens a file, for operations that wait. Without a name it is the other end of the pipe in `within`.
fn open(
    within: Option<&OwnedHandle>,
    name: &[u16],
    access: u32,
    share: u32,
    options: u32,
) -> io::Result<OwnedHandle> {
    let (mut handle, mut status) = (ptr::null_mut(), IO_STATUS_BLOCK::default());
    let (access, options) = (SYNCHRONIZE | access, options | FILE_SYNCHRONOUS_IO_NONALERT);
    let opened = with_attributes(within, name, |attributes| {
        // SAFETY: room for the handle and the status. The attributes stay in place.
        unsafe { NtOpenFile(&mut handle, access, attributes, &mut status, share, options) }
    });
    owned(opened, handle)
}

fn with_attributes(
    within: Option<&OwnedHandle>,
    name: &[u16],
    call: impl FnOnce(&OBJECT_ATTRIBUTES) -> NTSTATUS,
) -> NTSTATUS {
    let length = size_of_val(name) as u16;
    let buffer = if name.is_empty() { ptr::null_mut() } else { name.as_ptr().cast_mut() };
    let name = UNICODE_STRING { Length: length, MaximumLength: length, Buffer: buffer };
    call(&OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: within.map_or(ptr::null_mut(), AsRawHandle::as_raw_handle),
        ObjectName: &name,
        ..OBJECT_ATTRIBUTES::default()
    })
}

fn owned(status: NTSTATUS, handle: HANDLE) -> io::Result<OwnedHandle> {
    if status < STATUS_SUCCESS {
        // SAFETY: takes no pointer.
        let error = unsafe { RtlNtStatusToDosError(status) };
        return Err(io::Error::from_raw_os_error(error as i32));
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// An event for one read after another.
fn event() -> io::Result<OwnedHandle> {
    // SAFETY: null attributes and no name are allowed.
    let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}

/// Whether the error says that no process has the other end open.
pub(crate) fn is_broken(error: &io::Error) -> bool {
    matches!(code(error), ERROR_BROKEN_PIPE | ERROR_NO_DATA | ERROR_PIPE_NOT_CONNECTED)
}

/// Windows has three numbers for it, and std knows two.
pub(crate) fn or_broken(error: io::Error) -> io::Error {
    if is_broken(&error) { io::Error::from_raw_os_error(ERROR_BROKEN_PIPE as i32) } else { error }
}

fn code(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or(0) as u32
}
