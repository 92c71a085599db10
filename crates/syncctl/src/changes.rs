//! `changes tail`: what others hear of committed likes.

#[cfg(feature = "distributed")]
mod tail;

use crate::Verdict;
use crate::output::Format;
use crate::redo::BrokerArgs;
use clap::Subcommand;

/// What to do with changes.
#[derive(Debug, Subcommand)]
pub(crate) enum ChangesCommand {
    /// Prints changes from now on, until it is interrupted, by a queue of its own that ends with it.
    Tail {
        #[command(flatten)]
        broker: BrokerArgs,
        /// Only those with such a routing key: TYPE.count, TYPE.like or TYPE.unlike; * is one word, # any number of them.
        #[arg(long, default_value = "#", value_parser = parse_pattern)]
        key: String,
        /// Stop after so many.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        events: Option<u64>,
        /// The same as -o json: each event, as a line of JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ChangesCommand {
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let Self::Tail { broker, key, events, json } = self;
        #[cfg(feature = "distributed")]
        return tail::tail(&broker.config()?, &key, events, format.or_json(json)).await;
        #[cfg(not(feature = "distributed"))]
        {
            let BrokerArgs { amqp_url: _, amqp_ca_file: _, amqp_prefix: _ } = broker;
            let _ = (key, events, format.or_json(json));
            Err(crate::not_built_in("--amqp-url"))
        }
    }
}

/// As much as AMQP has room for.
fn parse_pattern(text: &str) -> Result<String, String> {
    if (1..=255).contains(&text.len()) { Ok(text.to_owned()) } else { Err("must be 1 to 255 characters long".into()) }
}
