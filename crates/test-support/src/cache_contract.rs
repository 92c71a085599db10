//! What every [`LikeCache`] must do, as tests that any implementation can run.
//!
//! [`cache_contract!`](crate::cache_contract!) makes one `#[tokio::test]` of each rule. It is given an async function from
//! [`CacheRules`] to a fresh, empty, prepared cache that lives as long as the process.

pub mod accept;
pub mod accounting;
pub mod deleted;
pub mod erase;
pub mod fill;
pub mod limits;
pub mod random;
pub mod settle;

use crate::build;
use anyhow::{Context, Result, bail, ensure};
use domain::cache::{
    AcceptOutcome, AcceptRequest, Answer, CacheRules, CachedCount, LikeCache, MissingCount, SettleReport,
    SettledResource, Settlement,
};
use domain::codec::{EncodedEvent, encode_payload};
use domain::{Action, Pair, PairState, Resource, ShardCount, ShardId, StoredCount, Version};
use std::sync::Arc;
use std::time::Duration;

/// Makes a fresh, empty cache with these rules.
pub trait MakeCache: AsyncFn(CacheRules) -> Arc<dyn LikeCache> {}

impl<F: AsyncFn(CacheRules) -> Arc<dyn LikeCache>> MakeCache for F {}

/// One `#[tokio::test]` per rule of the contract, in the module where it is written.
#[macro_export]
macro_rules! cache_contract {
    ($make:expr) => {
        $crate::cache_contract!(@tests $make;
            accept::a_change_writes_pair_counter_and_journal,
            accept::the_wanted_state_already_held_writes_nothing,
            accept::a_rewrite_writes_what_is_held_already,
            accept::a_reserved_version_orders_and_writes_nothing,
            accept::an_unknown_pair_is_taken_for_the_opposite,
            accept::an_unknown_counter_is_reported,
            accept::an_unknown_counter_is_filled,
            accept::a_fill_leaves_a_cached_counter_alone,
            accept::a_fill_without_a_change_is_kept,
            accept::an_unknown_counter_can_be_done_without,
            accept::the_count_is_never_below_zero,
            accept::versions_strictly_increase,
            accept::versions_stay_above_the_database,
            accept::numbers_that_can_be_no_versions_move_no_clock,
            accept::items_of_a_batch_see_each_other,
            accept::a_batch_over_all_shards_answers_in_order,
            accept::items_of_a_batch_fail_alone,
            accept::the_clock_is_known_and_covers_what_was_answered,
            limits::a_full_journal_refuses_and_writes_nothing,
            limits::a_repeated_key_gets_the_first_answer,
            limits::a_repeated_key_remembers_that_nothing_changed,
            limits::an_unconfirmed_unchanged_is_not_remembered,
            limits::a_key_of_the_other_action_is_refused,
            limits::what_comes_after_its_deadline_writes_nothing,
            limits::a_key_belongs_to_its_pair,
            limits::a_refused_attempt_does_not_use_up_its_key,
            limits::a_key_is_forgotten_in_time,
            limits::a_key_that_is_told_late_has_what_is_left,
            limits::a_remembered_answer_is_the_first,
            limits::a_key_answers_what_was_told_around_the_cache,
            limits::a_user_over_the_limit_waits,
            limits::a_token_comes_back_and_refusals_cost_nothing,
            limits::only_answered_attempts_take_a_token,
            limits::a_pair_expires,
            limits::a_counter_expires_only_with_nothing_pending,
            settle::settling_removes_the_entry_and_heals_the_count,
            settle::a_right_count_is_no_correction,
            settle::settling_twice_is_harmless,
            settle::an_older_revision_is_ignored,
            settle::the_served_count_is_left_alone_while_it_can_be_right,
            settle::a_served_count_that_cannot_be_right_heals_under_load,
            settle::entries_that_are_not_in_the_journal_lower_nothing,
            settle::pending_is_never_below_zero,
            settle::a_parked_entry_returns_to_the_stored_count,
            settle::what_is_not_cached_is_not_created,
            settle::a_cached_pair_follows_a_newer_row_only,
            settle::rows_ahead_raise_the_clock,
            settle::thousands_of_entries_in_one_call,
            settle::settling_covers_several_shards,
            erase::what_is_accepted_after_a_raise_is_newer,
            erase::a_sweep_looks_for_many_at_once,
            erase::a_sweep_finds_one_users_pairs_and_answers_up_to_a_version,
            erase::a_sweep_finds_one_resources_pairs_and_answers_up_to_a_version,
            deleted::likes_of_a_deleted_resource_are_refused_and_write_nothing,
            deleted::the_newest_word_about_a_resource_counts,
            deleted::marks_are_read_back,
            fill::filled_counts_are_read_back,
            fill::filling_counts_leaves_cached_ones_alone,
            fill::filling_counts_raises_the_clock,
            fill::filling_states_takes_newer_rows_only,
            fill::a_filled_state_is_no_reason_for_unchanged,
            fill::what_was_filled_expires,
            fill::what_the_database_does_not_know_is_forgotten_soon,
            fill::only_the_named_version_is_forgotten,
            accounting::an_empty_cache_has_empty_accounting,
            accounting::the_accounting_agrees_under_concurrency,
            accounting::the_oldest_entry_and_the_settled_mark_move,
            accounting::pages_give_the_journal_in_order,
            accounting::a_lease_has_one_owner,
            accounting::a_lease_that_ran_out_changes_its_owner_and_token,
            accounting::a_lease_is_released_by_its_owner_only,
            accounting::preparing_again_is_harmless,
            random::any_sequence_agrees_with_the_model,
        );
    };
    (@tests $make:expr; $($topic:ident::$name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                $crate::cache_contract::$topic::$name($make).await
            }
        )*
    };
}

/// Rules with room for everything; tests change what they are about.
pub fn roomy_rules() -> CacheRules {
    CacheRules {
        shards: ShardCount::new(4).unwrap_or_default(),
        pair_ttl: Duration::from_secs(3600),
        counter_ttl: Duration::from_secs(3600),
        unknown_ttl: Duration::from_secs(3600),
        idempotency_ttl: Duration::from_secs(3600),
        journal_limit: 100_000,
        user_limit: None,
    }
}

/// A request to like, with a missing counter filled as zero.
pub fn like(pair: Pair) -> AcceptRequest {
    request(pair, Action::Like)
}

/// A request to take a like back, with a missing counter filled as zero.
pub fn unlike(pair: Pair) -> AcceptRequest {
    request(pair, Action::Unlike)
}

fn request(pair: Pair, action: Action) -> AcceptRequest {
    let intent = build::intent(pair, action);
    let payload = encode_payload(&intent);
    AcceptRequest {
        intent,
        payload,
        missing: MissingCount::Fill(StoredCount::default()),
        limited: false,
        rewrite: false,
        reserve: None,
        until: std::time::Instant::now() + Duration::from_secs(3600),
    }
}

fn with_key(mut request: AcceptRequest, key: &str) -> AcceptRequest {
    request.intent.idempotency_key = Some(key.to_owned());
    request.payload = encode_payload(&request.intent);
    request
}

fn missing(request: AcceptRequest, missing: MissingCount) -> AcceptRequest {
    AcceptRequest { missing, ..request }
}

fn limited(request: AcceptRequest) -> AcceptRequest {
    AcceptRequest { limited: true, ..request }
}

fn stored(count: i64, revision: i64) -> StoredCount {
    StoredCount { count, revision, last_version: Version::ZERO }
}

fn settled(resource: Resource, entries: &[Version], stored: Option<StoredCount>) -> Settlement {
    let resource = SettledResource { resource, entries: entries.to_vec(), stored };
    Settlement { resources: vec![resource], pairs: Vec::new(), commit: None }
}

fn row(pair: Pair, liked: bool, version: i64) -> Settlement {
    Settlement {
        resources: Vec::new(),
        pairs: vec![(pair, PairState { liked, version: Version(version) })],
        commit: None,
    }
}

/// The cache of one test.
struct Subject {
    cache: Arc<dyn LikeCache>,
    rules: CacheRules,
}

impl Subject {
    async fn new(make: impl MakeCache) -> Self {
        Self::with(make, roomy_rules()).await
    }

    async fn with(make: impl MakeCache, rules: CacheRules) -> Self {
        Self { cache: make(rules.clone()).await, rules }
    }

    async fn accept(&self, request: AcceptRequest) -> Result<AcceptOutcome> {
        let mut outcomes = self.cache.accept(&[request]).await;
        ensure!(outcomes.len() == 1, "{} outcomes of one request", outcomes.len());
        outcomes.pop().context("an outcome")?.context("accept")
    }

    async fn accepted(&self, request: AcceptRequest) -> Result<Answer> {
        match self.accept(request).await? {
            AcceptOutcome::Accepted(answer) => Ok(answer),
            other => bail!("{other:?} instead of accepted"),
        }
    }

    async fn unchanged(&self, request: AcceptRequest) -> Result<Answer> {
        match self.accept(request).await? {
            AcceptOutcome::Unchanged(answer) => Ok(answer),
            other => bail!("{other:?} instead of unchanged"),
        }
    }

    async fn settle(&self, settlement: &Settlement) -> Result<SettleReport> {
        self.cache.settle(settlement).await.context("settle")
    }

    async fn fill_count(&self, resource: Resource, stored: StoredCount) -> Result<()> {
        self.cache.fill_counts(&[(resource, stored)]).await.context("fill")
    }

    async fn count(&self, resource: Resource) -> Result<Option<CachedCount>> {
        let count = async || anyhow::Ok(self.cache.counts(&[resource]).await?.pop().flatten());
        let before = count().await?;
        let served = self.cache.served_counts(&[resource]).await?.pop().flatten();
        let count = count().await?;
        // It may expire meanwhile.
        let read = [before, count].map(|count| count.map(|count| count.served));
        ensure!(read.contains(&served), "{resource}: {served:?} is served, cached are {before:?} and {count:?}");
        Ok(count)
    }

    async fn cached_count(&self, resource: Resource) -> Result<CachedCount> {
        self.count(resource).await?.with_context(|| format!("the counter of {resource} is not cached"))
    }

    async fn state(&self, pair: Pair) -> Result<Option<PairState>> {
        Ok(self.cache.states(&[pair]).await?.pop().flatten())
    }

    fn shard(&self, resource: Resource) -> ShardId {
        self.rules.shards.of(resource)
    }

    async fn journal(&self, resource: Resource) -> Result<Vec<EncodedEvent>> {
        Ok(self.cache.journal_page(self.shard(resource), Version::ZERO, 100_000).await?)
    }

    async fn journal_len(&self) -> Result<u64> {
        Ok(self.cache.shard_status().await?.iter().map(|status| status.journal_len).sum())
    }
}
