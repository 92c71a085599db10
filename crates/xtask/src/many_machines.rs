//! `scripts/many_machines.sh`: what grows with the number of servers and consumers.

use crate::command::{Environment, run, start};
use crate::workspace::Profile;
use anyhow::{Context, Result, ensure};

/// What a like costs, and what is asked and used while nothing happens, with 1, 2, 4 and 8 servers and as many consumers.
///
/// On private stores as many machines use them: a Redis Cluster of 3 + 3, three brokers, a database with two replicas; with
/// --single one node of each. Counts CPU time and commands; rates mean nothing where all processes share one machine, which
/// should do nothing else meanwhile. PROFILE=debug uses debug programs.
#[derive(clap::Args)]
pub(crate) struct ManyMachines {
    /// Numbers of servers, and of consumers.
    #[arg(long, value_name = "N,...")]
    sizes: Option<String>,
    /// Of each load, and of the time without one.
    #[arg(long, value_name = "S")]
    seconds: Option<String>,
    /// Likes per second for each server, in calls of one.
    #[arg(long, value_name = "N")]
    rate: Option<String>,
    /// One node of each store.
    #[arg(long)]
    single: bool,
    /// Setting of all programs in addition, such as EVENT_DRIVEN_SYNC__SHARDS=64.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn measure(arguments: &ManyMachines) -> Result<bool> {
    let profile = Profile::from_environment(Profile::Release)?;
    let environment = Environment::clean();
    run(&mut environment.shell_function("need_packages", &[]))?;
    if !arguments.no_build {
        run(&mut environment.cargo(profile.build_arguments()))?;
    }
    let program = profile.program("many_machines");
    ensure!(program.exists(), "{} is missing; build it, or leave --no-build out", program.display());
    let mut lab = environment.command(&program);
    lab.arg("--bin-dir").arg(program.parent().context("the program is nowhere")?);
    for (name, value) in [("--sizes", &arguments.sizes), ("--seconds", &arguments.seconds), ("--rate", &arguments.rate)]
    {
        lab.args(value.iter().flat_map(|value| [name, value]));
    }
    lab.args(arguments.settings.iter().flat_map(|setting| ["--set", setting]));
    lab.args(arguments.single.then_some("--single"));
    Ok(start(&mut lab)?.wait()?.success())
}
