//! Pause: the program of a Pod's sandbox container. It enters the network namespace whose file is
//! named on its command line, gives up every privilege, reaps orphans, and waits to be told to end.
//! The Pod's other containers join *its* network and IPC namespaces, so they can come and go.
//!
//! Why it exists at all: Docker cannot put a container into a network namespace by path. The kubelet
//! makes the Pod's namespace itself; pause starts in the host's with CAP_SYS_ADMIN, moves over, and
//! drops the capability before anything else happens. See kubelet/src/network.
//!
//! ```text
//! pause [--netns FILE]
//!   exit 0   asked to end by SIGTERM or SIGINT
//!   exit 70  could not enter FILE or give up privileges; stderr says which step and why
//! ```
//!
//! **The one place of the project with `unsafe`.** This file is compiled by itself (kubelet/build.rs), with std
//! only, so that the image is one small static program. std has no setns, prctl, capset or sigwait; they are
//! declared below and called with valid pointers to values that live on this stack. Nothing else is unsafe.
#![deny(unsafe_op_in_unsafe_fn)]

use std::ffi::{c_int, c_long, c_ulong};
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::process::exit;

const CLONE_NEWNET: c_int = 0x4000_0000;
const PR_CAPBSET_READ: c_int = 23;
const PR_CAPBSET_DROP: c_int = 24;
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const PR_CAP_AMBIENT: c_int = 47;
const PR_CAP_AMBIENT_CLEAR_ALL: c_ulong = 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const SIG_BLOCK: c_int = 0;
const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const WNOHANG: c_int = 1;

/// glibc's `sigset_t`: 1,024 bits.
#[repr(C)]
struct SignalSet([c_ulong; 16]);

/// The kernel's `cap_user_header_t`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// The kernel's `cap_user_data_t`; version 3 takes two of them.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

extern "C" {
    fn setns(fd: c_int, kind: c_int) -> c_int;
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
    fn capset(header: *mut CapabilityHeader, data: *const CapabilityData) -> c_int;
    fn sigemptyset(set: *mut SignalSet) -> c_int;
    fn sigaddset(set: *mut SignalSet, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwait(set: *const SignalSet, signal: *mut c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_long;
}

fn main() {
    // Signals first: one that comes early stays pending until the wait below.
    let signals = block_signals();
    let mut arguments = std::env::args().skip(1);
    if let Some(flag) = arguments.next() {
        match (flag.as_str(), arguments.next()) {
            ("--netns", Some(path)) => enter(&path),
            _ => fail("read the command line", "usage: pause [--netns FILE]"),
        }
    }
    drop_privileges();
    wait(&signals)
}

fn fail(step: &str, why: impl std::fmt::Display) -> ! {
    eprintln!("pause: cannot {step}: {why}");
    exit(70)
}

/// Moves this process (it has one thread) into the network namespace of the file.
fn enter(path: &str) {
    let file = File::open(path).unwrap_or_else(|e| fail(&format!("open {path}"), e));
    // SAFETY: the descriptor is open for as long as `file` lives.
    if unsafe { setns(file.as_raw_fd(), CLONE_NEWNET) } != 0 {
        fail(&format!("enter the network namespace {path}"), Error::last_os_error());
    }
}

/// After this, neither pause nor anything that breaks into it can gain a privilege.
fn drop_privileges() {
    // SAFETY: these options take integers only.
    unsafe {
        let mut capability = 0;
        while prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0 {
            // Fails without CAP_SETPCAP; the empty sets and no_new_privs below hold by themselves.
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
            capability += 1;
        }
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            fail("set no_new_privs", Error::last_os_error());
        }
    }
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: a header and two data records, as version 3 asks for.
    if unsafe { capset(&mut header, none.as_ptr()) } != 0 {
        fail("drop capabilities", Error::last_os_error());
    }
}

/// Blocks the signals that `wait` takes, so that none is lost between two waits.
fn block_signals() -> SignalSet {
    let mut set = SignalSet([0; 16]);
    // SAFETY: `set` is a sigset_t that lives here.
    unsafe {
        sigemptyset(&mut set);
        for signal in [SIGINT, SIGTERM, SIGCHLD] {
            sigaddset(&mut set, signal);
        }
        if sigprocmask(SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            fail("block signals", Error::last_os_error());
        }
    }
    set
}

/// Reaps what the Pod's processes leave behind (pause is process 1 when they share it), until asked to end.
fn wait(signals: &SignalSet) -> ! {
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are to values that live here.
        if unsafe { sigwait(signals, &mut signal) } != 0 {
            fail("wait for a signal", Error::last_os_error());
        }
        if signal == SIGTERM || signal == SIGINT {
            exit(0);
        }
        // SAFETY: a null status is allowed.
        while unsafe { waitpid(-1, std::ptr::null_mut(), WNOHANG) } > 0 {}
    }
}
