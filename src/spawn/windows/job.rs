//! A job object and a group of console processes. Together they replace a process group on Windows: a job can be
//! ended, a group can be asked.
//!
//! Refuses to know when a job must end, and what its processes do.
//!
//! Rule: a process is in its job before its first instruction. It is started suspended, put into the job, and then
//! resumed, so everything that it starts is in the job too.
#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::process::Child;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_NO_MORE_FILES, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOBOBJECT_BASIC_ACCOUNTING_INFORMATION,
    JobObjectBasicAccountingInformation, QueryInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{OpenThread, ResumeThread, THREAD_SUSPEND_RESUME};
use windows_sys::core::BOOL;

/// A job of its own. Closing it ends no process.
#[derive(Debug)]
pub(super) struct Job(OwnedHandle);

impl Job {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: null means no attributes, and no name that others could find it by.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Job(unsafe { OwnedHandle::from_raw_handle(job) }))
    }

    /// Puts a process that was started suspended into the job, and resumes it.
    pub(super) fn take_in(&self, child: &Child) -> io::Result<()> {
        // SAFETY: both handles are open.
        if unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), child.as_raw_handle()) } == 0 {
            return Err(io::Error::last_os_error());
        }
        resume(child)
    }

    /// Ends every process of the job with exit code 1; `false` if there is none.
    pub(super) fn end(&self) -> io::Result<bool> {
        if self.is_empty()? {
            return Ok(false);
        }
        // SAFETY: an open handle.
        if unsafe { TerminateJobObject(self.0.as_raw_handle(), 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(true)
    }

    /// Whether every process of the job has exited.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        let mut answer = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        let length = size_of_val(&answer) as u32;
        let place = (&raw mut answer).cast();
        let (job, none) = (self.0.as_raw_handle(), ptr::null_mut());
        // SAFETY: room for an answer of the given length; the written length is not asked for.
        let asked = unsafe {
            QueryInformationJobObject(job, JobObjectBasicAccountingInformation, place, length, none)
        };
        if asked == 0 { Err(io::Error::last_os_error()) } else { Ok(answer.ActiveProcesses == 0) }
    }
}

/// Sends Ctrl-Break to the group of console processes that has this process's number.
///
/// It reaches the processes that share this program's console. The system refuses it if this program has no console,
/// or if no process of the group shares it. A program with windows does not, nor does one with a console of its own,
/// nor one that has not run an instruction yet.
///
/// The caller holds a handle of the process, even if that has exited. Otherwise the number may belong to another
/// process. The system takes a number that names no group for all processes at the console.
pub(super) fn ask(group: u32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    match unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Resumes a process that was started suspended.
///
/// std does not show the handle of its first thread (`main_thread_handle` is unstable), so the system lists the
/// threads of the process. It has that one, and perhaps some that a debugger or a virus scanner has added; resuming
/// those does no harm.
fn resume(child: &Child) -> io::Result<()> {
    // SAFETY: takes no pointer. It lists the threads of all processes, for any number.
    let list = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if list == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let list = unsafe { OwnedHandle::from_raw_handle(list) };
    let mut thread = THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..THREADENTRY32::default() };
    let mut resumed = false;
    let mut step: Step = Thread32First;
    // SAFETY: an open handle, and room for one entry, whose size it tells.
    while unsafe { step(list.as_raw_handle(), &mut thread) } != 0 {
        // The number is the child's for as long as its handle is open.
        if thread.th32OwnerProcessID == child.id() {
            resume_thread(thread.th32ThreadID)?;
            resumed = true;
        }
        step = Thread32Next;
    }
    if resumed { Ok(()) } else { Err(io::Error::from_raw_os_error(ERROR_NO_MORE_FILES as i32)) }
}

/// One entry of the list: the first, or the next.
type Step = unsafe extern "system" fn(HANDLE, *mut THREADENTRY32) -> BOOL;

fn resume_thread(number: u32) -> io::Result<()> {
    // SAFETY: takes no pointer; the thread is not inherited.
    let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, number) };
    if thread.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
    // SAFETY: an open handle.
    match unsafe { ResumeThread(thread.as_raw_handle()) } {
        u32::MAX => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
