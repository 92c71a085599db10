//! A deployment on one private store; the program is this test itself.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use test_support::{Deployment, Links, Ports};

const LIMIT: Duration = Duration::from_secs(20);
const ROLE: &str = "DEPLOYED_VICTIM";

/// Not a test by itself: what the started process does.
#[test]
fn victim() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("INTERACTION__")) {
        println!("{name}={value}");
    }
}

fn victim_of(deployment: &Deployment) -> Result<test_support::ProgramBuilder> {
    let test = std::env::current_exe()?;
    let name = test.file_name().and_then(|name| name.to_str()).context("no name")?;
    Ok(deployment.program(name).args(["--exact", "deployment::victim", "--nocapture"]).env(ROLE, "yes"))
}

#[tokio::test]
async fn programs_are_told_where_the_stores_are_and_the_last_setting_counts() -> Result<()> {
    let redis = test_support::shared::redis().await?;
    let plain = Deployment::build("told").without_stores().start().await?;
    let deployment = plain.clone().with_all(&[("A__B", "1"), ("A__B", "2")]).with("REDIS__URL", redis.url());
    assert_eq!((plain.setting("A__B"), deployment.setting("A__B")), (None, Some("2")));
    let program = victim_of(&deployment.with_tokens("reader read token-that-reads-1\n")?)?.with("C__D", "3").start()?;
    ensure!(program.wait_exit(LIMIT).await?.success(), "{}", program.log());
    let log = program.log();
    for line in [&format!("INTERACTION__REDIS__URL={}", redis.url()), "INTERACTION__A__B=2", "INTERACTION__C__D=3"] {
        ensure!(log.lines().any(|one| one == line), "{line} in {log}");
    }
    let file = log.lines().find_map(|line| line.strip_prefix("INTERACTION__SERVICE__ACCESS__TOKENS_FILE="));
    let file = std::path::PathBuf::from(file.context("no file of tokens")?);
    ensure!(file.starts_with(plain.dir()) && std::fs::read_to_string(&file)?.contains("token-that-reads-1"));
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_instead_of_getting_ready_is_noticed_at_once() -> Result<()> {
    let deployment = Deployment::build("ended").without_stores().start().await?.with("SAID__BY", "the test");
    let started = Instant::now();
    let error = format!("{:#}", victim_of(&deployment)?.start_ready().await.unwrap_err());
    ensure!(error.contains("has ended") && error.contains("INTERACTION__SAID__BY=the test"), "{error}");
    ensure!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn ports_stay_with_who_keeps_them() -> Result<()> {
    let deployment = Deployment::build("ports").without_stores().start().await?;
    let ports = Ports::lease()?;
    let (first, second) = (victim_of(&deployment)?.at(&ports).start()?, victim_of(&deployment)?.at(&ports).start()?);
    assert_eq!((first.grpc(), first.http()), (second.grpc(), second.http()));
    assert_ne!(victim_of(&deployment)?.start()?.http(), first.http());
    Ok(())
}

#[tokio::test]
async fn two_deployments_on_the_same_stores_keep_apart() -> Result<()> {
    let (one, other) = tokio::try_join!(
        Deployment::build("apart").without_rabbitmq().start(),
        Deployment::build("apart").without_rabbitmq().start()
    )?;
    assert_ne!(one.prefix(), other.prefix());
    one.sql("CREATE TABLE t (n INT); INSERT INTO t VALUES (3)").await?;
    assert_eq!(one.number("SELECT n FROM t").await?, 3);
    ensure!(other.number("SELECT n FROM t").await.is_err(), "one schema for two");
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "a deployment without rabbitmq")]
async fn links_need_every_store() {
    let deployment = Deployment::build("links").without_rabbitmq().start().await.unwrap();
    let _links = Links::to(&deployment).await.unwrap();
}
