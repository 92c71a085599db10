//! The command line. Flags are settings in short: they take the place of variables of the same meaning.

use clap::{Parser, Subcommand};
use service_runtime::{Options, Question};
use std::net::SocketAddr;
use std::path::PathBuf;

const GRPC: (&str, &str) = ("INTERACTION__SERVICE__GRPC_ADDR", "127.0.0.1:50051");
const HTTP: (&str, &str) = ("INTERACTION__SERVICE__HTTP_ADDR", "127.0.0.1:8893");

/// Likes for a social product, in one process: gRPC, a page, and data in a directory. Nothing to install.
#[derive(Debug, Parser)]
#[command(name = "standalone", version)]
pub(crate) struct Args {
    /// Where everything is kept; created if missing, used by one process at a time.
    #[arg(long, env = "INTERACTION_DATA_DIR", default_value = "interaction-data")]
    data_dir: PathBuf,
    /// Where gRPC listens [default: 127.0.0.1:50051].
    #[arg(long)]
    grpc_addr: Option<SocketAddr>,
    /// Where the page, health and metrics are [default: 127.0.0.1:8893].
    #[arg(long, global = true)]
    http_addr: Option<SocketAddr>,
    /// Configuration, YAML; INTERACTION__SECTION__KEY overrides a key of it.
    #[arg(long, short, env = "INTERACTION_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Also plays generated likes through gRPC, so many a second; they are kept like any others.
    #[arg(long, value_name = "PER_SECOND", num_args = 0..=1, require_equals = true, default_missing_value = "50",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    demo: Option<u32>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Instead of running.
#[derive(Debug, Subcommand)]
enum Command {
    /// Asks the one that runs here with the same configuration how it is: exit code 0, well or degraded; 1, down; 69, no answer.
    Health {
        /// Only whether it answers.
        #[arg(long, conflicts_with = "ready")]
        live: bool,
        /// Whether it does its work; the default.
        #[arg(long)]
        ready: bool,
    },
}

/// What is not in the settings.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) data_dir: PathBuf,
    pub(crate) demo: Option<u32>,
}

impl Args {
    pub(crate) fn into_parts(self) -> (Options, Plan) {
        let mut options = Options::new("standalone", env!("CARGO_PKG_VERSION"));
        for ((name, default), flag) in [(GRPC, self.grpc_addr), (HTTP, self.http_addr)] {
            let given = self.config.is_some() || options.environment.iter().any(|(variable, _)| variable == name);
            let value = match flag {
                Some(address) => address.to_string(),
                None if given => continue,
                // On this machine only, unless somebody asks for more.
                None => default.to_owned(),
            };
            options.environment.retain(|(variable, _)| variable != name);
            options.environment.push((name.to_owned(), value));
        }
        options.config = self.config;
        options.health = self.command.map(|command| match command {
            Command::Health { live: true, .. } => Question::Live,
            Command::Health { .. } => Question::Ready,
        });
        (options, Plan { data_dir: self.data_dir, demo: self.demo })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(args: &[&str]) -> (Options, Plan) {
        Args::try_parse_from([&["standalone"], args].concat()).unwrap().into_parts()
    }

    fn address(options: &Options, name: &str) -> Option<String> {
        options.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn it_listens_on_this_machine_unless_told_otherwise() {
        let (options, plan) = parts(&["--http-addr", "0.0.0.0:80"]);
        assert_eq!(address(&options, GRPC.0).as_deref(), Some("127.0.0.1:50051"));
        assert_eq!(address(&options, HTTP.0).as_deref(), Some("0.0.0.0:80"));
        assert_eq!((plan.data_dir, plan.demo), (PathBuf::from("interaction-data"), None));
        // A file says where, or its defaults do.
        assert_eq!(address(&parts(&["--config", "x.yml"]).0, GRPC.0), None);
    }

    #[test]
    fn whoever_asks_about_health_names_the_same_address() {
        let (options, _) = parts(&["health", "--http-addr", "127.0.0.1:80", "--live"]);
        assert_eq!(
            (options.health, address(&options, HTTP.0).as_deref()),
            (Some(Question::Live), Some("127.0.0.1:80"))
        );
        assert_eq!(parts(&["--config", "x.yml", "health"]).0.health, Some(Question::Ready));
        assert_eq!(parts(&["health", "--config", "x.yml"]).0.config, Some(PathBuf::from("x.yml")));
        assert_eq!(parts(&[]).0.health, None);
        assert!(Args::try_parse_from(["standalone", "health", "--live", "--ready"]).is_err());
    }

    #[test]
    fn the_demo_has_a_rate() {
        assert_eq!(parts(&["--demo"]).1.demo, Some(50));
        assert_eq!(parts(&["--demo=7"]).1.demo, Some(7));
        assert!(Args::try_parse_from(["standalone", "--demo=0"]).is_err());
    }
}
