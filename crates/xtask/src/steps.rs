//! Steps of a run, one after the other: each with its time, its output kept in case that it fails, and a table at the end.

use crate::cleanup;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// For the last of a step's output, which may be held open by something that it left behind.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// Of what a failed step said.
const TELLING_LINES: usize = 120;
const LAST_LINES: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// And why.
    NotRun(&'static str),
}

struct Finished {
    heading: String,
    outcome: Outcome,
    took: Duration,
    log: PathBuf,
}

pub(crate) struct Steps<W> {
    output: Arc<Mutex<W>>,
    /// For logs.
    directory: PathBuf,
    started: Instant,
    finished: Vec<Finished>,
}

impl<W: Write + Send + 'static> Steps<W> {
    pub(crate) fn new(output: W, directory: PathBuf) -> Self {
        Self { output: Arc::new(Mutex::new(output)), directory, started: Instant::now(), finished: vec![] }
    }

    fn print(&self, text: &str) {
        // Who reads no more does not stop the run.
        _ = write_all(&self.output, text.as_bytes());
    }

    /// Runs it; whether it passed. A failure does not stop the others.
    pub(crate) fn run(&mut self, heading: &str, command: Command) -> bool {
        self.judge(heading, |output, log| {
            let (mut child, copied) = {
                let (reader, writer) = io::pipe()?;
                let mut command = command;
                command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
                // A group of its own: Ctrl-C reaches this process alone, which then ends the others in order.
                command.process_group(0);
                let child = cleanup::start(&mut command)
                    .with_context(|| format!("cannot start {}", command.get_program().display()))?;
                (child, copy(reader, output, log)?)
                // The command goes here, and with it our end of the pipe.
            };
            let status = child.wait()?;
            _ = copied.recv_timeout(LAST_OUTPUT);
            Ok(if status.success() { None } else { Some(format!("{status}\n")) })
        })
    }

    /// A step that is a look at something: what it gives back is wrong.
    pub(crate) fn look(&mut self, heading: &str, look: impl FnOnce() -> Vec<String>) -> bool {
        self.judge(heading, |_, _| {
            let wrong = look();
            Ok(if wrong.is_empty() { None } else { Some(wrong.join("\n") + "\n") })
        })
    }

    fn judge(&mut self, heading: &str, step: impl FnOnce(Arc<Mutex<W>>, File) -> Result<Option<String>>) -> bool {
        let started = Instant::now();
        self.print(&format!("\n==> {heading}\n"));
        let log = self.directory.join(format!("step-{}.log", self.finished.len()));
        let wrong = File::create(&log).map_err(Into::into).and_then(|file| step(Arc::clone(&self.output), file));
        let wrong = wrong.unwrap_or_else(|error| Some(format!("{error:#}\n")));
        // What was ended by Ctrl-C has not failed.
        cleanup::wait_if_ending();
        if let Some(wrong) = &wrong {
            self.print(wrong);
            let appended = File::options().append(true).open(&log).and_then(|mut log| log.write_all(wrong.as_bytes()));
            if let Err(error) = appended {
                self.print(&format!("its log cannot be written: {error}\n"));
            }
        }
        let (outcome, took) = (if wrong.is_none() { Outcome::Passed } else { Outcome::Failed }, started.elapsed());
        self.print(&format!("<== {heading}: {} in {} s\n", outcome.name(), took.as_secs()));
        self.finished.push(Finished { heading: heading.to_owned(), outcome, took, log });
        outcome == Outcome::Passed
    }

    /// What the next step needs, and this machine may be unable to give; whether it did. If not, nothing has failed.
    pub(crate) fn prepare(&mut self, heading: &str, command: Command, why_not: &'static str) -> bool {
        let passed = self.run(heading, command);
        if !passed && let Some(finished) = self.finished.last_mut() {
            finished.outcome = Outcome::NotRun(why_not);
        }
        passed
    }

    /// A step that cannot run: because of an earlier one, or on this machine.
    pub(crate) fn not_run(&mut self, heading: &str, why: &'static str) {
        self.print(&format!("\n==> {heading}\n<== {heading}: not run: {why}\n"));
        let (outcome, took, log) = (Outcome::NotRun(why), Duration::ZERO, PathBuf::new());
        self.finished.push(Finished { heading: heading.to_owned(), outcome, took, log });
    }

    /// Prints what failed steps said, the table, and the line of numbers; whether none failed.
    pub(crate) fn conclude(self) -> bool {
        for step in self.finished.iter().filter(|step| step.outcome == Outcome::Failed) {
            // The first step that failed usually explains the others.
            self.print(&format!("\n--- {} failed; what it said:\n{}", step.heading, excerpt(&step.log)));
        }
        self.print("\n");
        for Finished { heading, outcome, took, .. } in &self.finished {
            let why = if let Outcome::NotRun(why) = outcome { format!("  {why}") } else { String::new() };
            self.print(&format!("{heading:<44} {:<8} {:>5} s{why}\n", outcome.name(), took.as_secs()));
        }
        self.print(&format!("{:<44} {:<8} {:>5} s\n", "total", "", self.started.elapsed().as_secs()));
        let count = |outcome| self.finished.iter().filter(|step| step.outcome == outcome).count();
        self.print(&format!("\n{} passed, {} failed\n", count(Outcome::Passed), count(Outcome::Failed)));
        count(Outcome::Failed) == 0
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotRun(_) => "not run",
        }
    }
}

fn write_all<W: Write>(output: &Mutex<W>, bytes: &[u8]) -> io::Result<()> {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(bytes)?;
    output.flush()
}

/// Copies everything to the output and the log, until its last writer has ended; then says so.
fn copy<W: Write + Send + 'static>(
    mut reader: io::PipeReader,
    output: Arc<Mutex<W>>,
    mut log: File,
) -> Result<Receiver<()>> {
    let (done, ended) = channel();
    thread::Builder::new().spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = reader.read(&mut bytes) {
            // A step must not wait for one that cannot be written to.
            _ = write_all(&output, &bytes[..length]);
            _ = log.write_all(&bytes[..length]);
        }
        _ = done.send(());
    })?;
    Ok(ended)
}

/// The lines that tell what failed, each with some that follow, and the last ones.
fn excerpt(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tells = |line: &&str| {
        line.starts_with("error")
            || line.starts_with("---- ")
            || (line.starts_with("test ") && line.ends_with("FAILED"))
            || (line.starts_with("thread ") && line.contains(" panicked"))
    };
    let mut telling = vec![];
    let mut wanted = 0..0;
    for (number, line) in lines.iter().enumerate() {
        if tells(line) {
            wanted = number..number + 5;
        }
        if wanted.contains(&number) {
            telling.push(*line);
        }
    }
    let last = |lines: &[&str], count: usize| -> String {
        lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("{line}\n")).collect()
    };
    format!("{}--- and at its end:\n{}", last(&telling, TELLING_LINES), last(&lines, LAST_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed, also to be looked at.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_is_counted_and_its_output_repeated() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let screen = Screen::default();
        let mut steps = Steps::new(screen.clone(), directory.path().to_owned());
        assert!(steps.run("good", shell("echo fine")));
        assert!(!steps.run("bad", shell("echo 'error: broken'; echo because >&2; yes filler | head -n 100; exit 3")));
        assert!(!steps.run("no such program", Command::new("/nowhere/program")));
        assert!(!steps.look("a look", || vec!["one is left".into()]));
        steps.not_run("later", "it rains");
        assert!(!steps.conclude());
        let text = screen.text();
        assert!(text.ends_with("\n\n1 passed, 3 failed\n"), "{text}");
        let repeated = text.split("--- bad failed; what it said:\n").nth(1).context("not repeated")?;
        assert!(repeated.starts_with("error: broken\nbecause\nfiller\n"), "{repeated}");
        assert!(repeated.contains("exit status: 3"), "{repeated}");
        for line in ["good                                         passed       0 s", "<== bad: FAILED in 0 s"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains("later                                        not run      0 s  it rains\n"), "{text}");
        assert!(text.contains("<== later: not run: it rains\n"), "{text}");
        assert!(text.contains("cannot start /nowhere/program") && text.contains("one is left"), "{text}");
        Ok(())
    }

    #[test]
    fn what_a_step_leaves_behind_does_not_hold_it_up() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let mut steps = Steps::new(Screen::default(), directory.path().to_owned());
        let started = Instant::now();
        // The sleep holds the output open.
        assert!(steps.run("leaves something", shell("sleep 60 & echo $!")));
        assert!(started.elapsed() < Duration::from_secs(30));
        let pid = fs::read_to_string(directory.path().join("step-0.log"))?;
        assert!(shell(&format!("kill {pid}")).status()?.success());
        assert!(steps.conclude());
        Ok(())
    }

    #[test]
    fn only_what_tells_something_is_repeated() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let noise: String = (0..200).map(|number| format!("noise {number}\n")).collect();
        fs::write(&log, format!("{noise}test a ... FAILED\nnext\n{noise}"))?;
        let excerpt = excerpt(&log);
        assert!(
            excerpt.starts_with("test a ... FAILED\nnext\nnoise 0\nnoise 1\nnoise 2\n--- and at its end:\nnoise 170\n")
        );
        assert_eq!(excerpt.lines().count(), 5 + 1 + LAST_LINES);
        Ok(())
    }
}
