//! What must happen before this process ends, also after Ctrl-C.
//!
//! Signals are handled, not blocked: programs that are started inherit a blocked signal, but not a handler.

use crate::processes;
use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<Vec<Action>> = Mutex::new(vec![]);
/// Held while a process is started, and from a signal on for good: what is started during the cleaning up would be left.
static STARTING: Mutex<()> = Mutex::new(());

/// From here on Ctrl-C and SIGTERM lead to [`run_all`] and the end.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let _forever = lock(&STARTING);
        eprintln!("{}", if signal == SIGINT { "interrupted" } else { "terminated" });
        run_all();
        std::process::exit(128 + if signal == SIGINT { SIGINT } else { SIGTERM });
    });
    Ok(())
}

/// The action runs before this process ends; the last one registered is the first to run.
pub(crate) fn at_exit(action: impl FnOnce() + Send + 'static) {
    lock(&ACTIONS).push(Box::new(action));
}

/// Ends what still runs, and runs them all. A second caller waits until the first has finished.
pub(crate) fn run_all() {
    static RUNNING: Mutex<()> = Mutex::new(());
    let _once = lock(&RUNNING);
    // What is undone must not be in use.
    let left = processes::end_children();
    if !left.is_empty() {
        eprintln!("these do not end: {left:?}");
    }
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

/// Returns, unless this process is about to end.
pub(crate) fn wait_if_ending() {
    drop(lock(&STARTING));
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
