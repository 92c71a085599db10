//! What the shard held before it went back, or before its Redis was another one, is no reason for "unchanged", on any path.

use crate::support::on_shared;
use anyhow::{Result, bail, ensure};
use domain::PairState;
use domain::cache::{AcceptOutcome, AcceptRequest, LikeCache, MissingCount};
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};

#[tokio::test]
async fn a_pair_of_before_is_not_handed_to_a_synchronous_write() -> Result<()> {
    let (cache, raw) = on_shared(roomy_rules()).await?;
    let pair = video_pair(1, 1);
    let AcceptOutcome::Accepted(answer) = cache.accept(&[like(pair)]).await.remove(0)? else { bail!("not accepted") };
    let reserve = AcceptRequest { reserve: Some(answer.version), missing: MissingCount::Report, ..like(pair) };
    let held = async || match cache.accept(std::slice::from_ref(&reserve)).await.remove(0)? {
        AcceptOutcome::Reserved { held, .. } => Ok(held),
        other => bail!("{other:?}"),
    };
    ensure!(
        held().await? == Some(PairState { liked: true, version: answer.version }),
        "its own pair is not handed out"
    );

    // The shard was filled by a Redis of before: that is what it has written down of itself.
    let clock = cache.keys().clock(roomy_rules().shards.of(pair.resource));
    raw.run::<i64>(&format!("HSET {clock} r another")).await?;
    ensure!(held().await?.is_none(), "a pair of before is handed out");
    Ok(())
}
