//! What must happen before this process ends, also after Ctrl-C.
//!
//! Signals are blocked in every thread and taken by one that waits for them, which undoes what was done and then ends the
//! process. Rust gives children an empty signal mask, so they see their own signals.

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<Vec<Action>> = Mutex::new(vec![]);
/// Held while a process is started, and from a signal on for good: what is started during the cleaning up would be left.
static STARTING: Mutex<()> = Mutex::new(());

/// Call this first, while there is no other thread.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        let _forever = lock(&STARTING);
        eprintln!("{}", if signal == Signal::SIGINT { "interrupted" } else { "terminated" });
        run_all();
        std::process::exit(128 + if signal == Signal::SIGINT { 2 } else { 15 });
    });
    Ok(())
}

/// The action runs before this process ends; the last one registered is the first to run.
pub(crate) fn at_exit(action: impl FnOnce() + Send + 'static) {
    lock(&ACTIONS).push(Box::new(action));
}

/// Runs them all. A second caller waits until the first has finished.
pub(crate) fn run_all() {
    static RUNNING: Mutex<()> = Mutex::new(());
    let _once = lock(&RUNNING);
    loop {
        let Some(action) = lock(&ACTIONS).pop() else { return };
        action();
    }
}

/// Starts a process, unless this one is about to end.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let _gate = lock(&STARTING);
    command.spawn()
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
