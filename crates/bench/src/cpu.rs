//! CPU time of processes, from /proc.

use anyhow::{Context, Result};
use std::ops::Sub;

/// Unit of the times in `/proc/[pid]/stat`, fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, since each process started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) redis: f64,
    pub(crate) server: f64,
    pub(crate) rabbitmq: f64,
    pub(crate) consumer: f64,
    pub(crate) mariadb: f64,
}

impl Cpu {
    /// Names and values.
    pub(crate) fn parts(&self) -> [(&'static str, f64); 5] {
        [
            ("redis", self.redis),
            ("server", self.server),
            ("rabbitmq", self.rabbitmq),
            ("consumer", self.consumer),
            ("mariadb", self.mariadb),
        ]
    }

    pub(crate) fn sum(&self) -> f64 {
        self.parts().iter().map(|part| part.1).sum()
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            redis: self.redis - before.redis,
            server: self.server - before.server,
            rabbitmq: self.rabbitmq - before.rabbitmq,
            consumer: self.consumer - before.consumer,
            mariadb: self.mariadb - before.mariadb,
        }
    }
}

/// CPU seconds of a process with all its threads.
pub(crate) fn of_process(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    seconds(&stat, 13).with_context(|| format!("{path}: {stat:?}"))
}

/// CPU seconds of a thread of this process.
pub(crate) fn of_thread(tid: i32) -> Result<f64> {
    let path = format!("/proc/self/task/{tid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    seconds(&stat, 13).with_context(|| format!("{path}: {stat:?}"))
}

/// CPU seconds of this process.
pub(crate) fn of_self() -> Result<f64> {
    of_process(std::process::id())
}

/// CPU seconds of the ended children of this process that were waited for.
pub(crate) fn of_children() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    seconds(&stat, 15).with_context(|| format!("/proc/self/stat: {stat:?}"))
}

/// Sum of two neighbouring fields, counted from 0. The name of the program may hold anything, spaces too.
fn seconds(stat: &str, field: usize) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(field - 2);
    let ticks = |text: Option<&str>| text?.parse::<f64>().ok();
    Some((ticks(fields.next())? + ticks(fields.next())?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 3 20 0 12 0 1 2 3";
        assert_eq!(seconds(stat, 13), Some(2.0));
        assert_eq!(seconds(stat, 15), Some(0.1));
        assert_eq!(seconds("42 (x) S 1", 13), None);
    }

    #[test]
    fn this_process_has_used_some() {
        let before = of_self().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(of_self().unwrap() > before);
    }

    #[test]
    fn what_was_used_between_is_the_difference() {
        let before = Cpu { redis: 1.0, server: 2.0, ..Cpu::default() };
        let after = Cpu { redis: 1.5, server: 4.0, rabbitmq: 1.0, ..Cpu::default() };
        assert_eq!((after - before).sum(), 3.5);
    }
}
