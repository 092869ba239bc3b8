//! Real processes under a filter, asked by what the kernel does to them.

use std::os::fd::AsRawFd;

use emergence_runc::security::seccomp::{Arch, Filter, UnknownCalls, compile};
use emergence_runc::sys::seccomp;

use crate::profiles;
use crate::reference::Reference;

/// Compiles a profile that allows all but what `rules` say.
fn filter(rules: &str) -> Option<Filter> {
    let profile = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rules}]}}"#);
    let Some(native) = Arch::native() else {
        eprintln!("skipped: no table of this machine's calls");
        return None;
    };
    Some(compile(&serde_json::from_str(&profile).unwrap(), native, UnknownCalls::Refused).unwrap())
}

/// Runs `body` in a child under `filter`; its wait status. `body`'s result is the exit code; 99
/// when loading failed.
fn under(filter: &Filter, body: impl Fn(Option<i32>) -> i32) -> i32 {
    // SAFETY: the child of this threaded process makes only system calls: `load` and the bodies
    // below take no heap and no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: numbers only.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let code = match seccomp::load(&filter.program, filter.flags) {
            Ok(listener) => body(listener.as_ref().map(AsRawFd::as_raw_fd)),
            Err(_) => 99,
        };
        // SAFETY: ends the child without running what the parent registered.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is ours, `child` our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// 0 for success, else the error number.
fn result(value: libc::c_long) -> i32 {
    if value < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(98) } else { 0 }
}

fn personality(value: libc::c_ulong) -> i32 {
    // SAFETY: a number in, a number out.
    result(unsafe { libc::syscall(libc::SYS_personality, value) })
}

#[test]
fn a_call_is_refused_by_its_argument() {
    let rule = r#"{"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":7,
        "args":[{"index":0,"op":"SCMP_CMP_EQ","value":8}]}"#;
    let Some(filter) = filter(rule) else { return };
    let status = under(&filter, |_| personality(8));
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
    let status = under(&filter, |_| personality(0xffff_ffff));
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 0));
}

#[test]
fn a_call_kills() {
    let Some(filter) = filter(r#"{"names":["personality"],"action":"SCMP_ACT_KILL_PROCESS"}"#) else {
        return;
    };
    let status = under(&filter, |_| personality(0));
    assert_eq!((libc::WIFSIGNALED(status), libc::WTERMSIG(status)), (true, libc::SIGSYS));
}

#[test]
fn a_listener_hears_of_a_call() {
    let Some(filter) = filter(r#"{"names":["personality"],"action":"SCMP_ACT_NOTIFY"}"#) else { return };
    assert!(filter.listener.is_some());
    let status = under(&filter, |listener| {
        let Some(listener) = listener else { return 97 };
        // SAFETY: the second child makes one call and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(personality(0)) };
        }
        let mut call = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, ours. The child is killed whether or not it was heard.
        unsafe {
            let heard = libc::poll(&raw mut call, 1, 5000) == 1 && call.revents & libc::POLLIN != 0;
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
            i32::from(!heard)
        }
    });
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 0));
}

#[test]
fn the_kernel_knows_the_first_flag_and_no_made_up_one() {
    assert_eq!(seccomp::supported_flags(seccomp::TSYNC | 1 << 30), seccomp::TSYNC);
}

/// Microseconds that loading `program` takes in a fresh process, the best of a few.
fn load_time(filter: &Filter) -> i64 {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is ours.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    let once = || {
        // The first load pays for the process; the second is measured.
        let status = under(filter, |_| {
            let began = now();
            let loaded = seccomp::load(&filter.program, 0).is_ok();
            let took = now() - began;
            // SAFETY: 8 bytes of a number.
            unsafe { libc::write(pipe[1], (&raw const took).cast(), 8) };
            i32::from(!loaded)
        });
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 0));
        let mut took = 0i64;
        // SAFETY: room for 8 bytes.
        assert_eq!(unsafe { libc::read(pipe[0], (&raw mut took).cast(), 8) }, 8);
        took / 1000
    };
    let best = (0..20).map(|_| once()).min().unwrap_or(0);
    // SAFETY: both are ours and used no more.
    unsafe { (libc::close(pipe[0]), libc::close(pipe[1])) };
    best
}

#[test]
fn the_engine_profile_loads_sooner() {
    let (profile, Some(mut reference)) = (profiles::docker(), Reference::start()) else { return };
    if Arch::native() != Some(Arch::X86_64) {
        eprintln!("skipped: the profile is made for x86_64");
        return;
    }
    let began = std::time::Instant::now();
    let ours = compile(&profile, Arch::X86_64, UnknownCalls::LeftOut).unwrap();
    let compiled = began.elapsed();
    let theirs = Filter { program: reference.compile("x86_64", &profile).unwrap(), ..ours.clone() };
    let (ours, theirs) = (load_time(&ours), load_time(&theirs));
    println!("compiled in {compiled:?}; loaded in {ours} µs, libseccomp's in {theirs} µs");
    assert!(ours < theirs);
}
