//! Processes that die at every point, and wrong versions of the protocol that the tests must find.
//!
//! This crate has no code of its own: everything is in `tests/it`, with `syncctl load` as the load and `syncctl verify`
//! as the judge, which shares no code with what it judges. Points and bugs exist in builds with failpoints only; the
//! release programs have neither.
//!
//! ```text
//! cargo build --lib --bins --tests --examples -p resilience -p interaction-server -p sync-consumer -p syncctl
//! cargo test -p resilience -p interaction-server -p sync-consumer -p syncctl --test it
//! ```
//!
//! What is built together with these tests gets the failpoints from this crate's development dependencies, so a build or
//! test of the whole workspace needs no further options; programs alone get them with
//! `--features interaction-server/failpoints,sync-consumer/failpoints`. A program without them refuses to start when
//! `INTERACTION_FAILPOINT` is set: no test can believe that it killed something.
//!
//! `INTERACTION_FAILPOINT` is a list with `;` of `point:nth` (abort at the nth time) and `name=actions` (of the crate
//! `fail`), for example `apply.committed:10` or `bug.ack_before_commit=return`.
//!
//! # Kill matrix
//!
//! Real processes under load; the one named aborts at the point (the test checks SIGABRT and the point's name), is started
//! again, and `verify` must find nothing lost, nothing doubled and no wrong counter. Test modules `kill`, `changes`, `failover` and `recovery`; for changes the listener must have what the database has.
//!
//! | point | process | where it dies | test |
//! |---|---|---|---|
//! | `accept.accepted` | server | in the journal, not answered, not relayed | `accepted_and_not_answered` |
//! | `accept.unconfirmed` | server | written, and no replica has confirmed it; not answered, not relayed | `written_and_not_confirmed` |
//! | `rescue.read` | server | the rescuer has read a journal page | `journal_read_by_the_rescuer` |
//! | `bus.sent` | server | message written to the connection, not confirmed | `sent_and_not_confirmed` |
//! | `relay.confirmed` | server | confirmed; entries stay in the journal | `confirmed_and_in_the_journal` |
//! | `store.ledger_inserted` | consumer | ledger, behaviours and locks done (one round trip), nothing folded | `ledger_inserted` |
//! | `store.before_commit` | consumer | all written, not committed | `before_commit` |
//! | `apply.committed` | consumer | committed, not settled | `committed_and_not_settled` |
//! | `settle.shard` | consumer | some shards' settle calls are on their way, others not | `between_the_shards_of_a_settlement` |
//! | `consume.applied` | consumer | settled, not acknowledged | `settled_and_not_acknowledged` |
//! | `retry.claimed` | consumer | retries claimed, nothing concluded; their lease must run out | `retry_claimed` |
//! | `store.direct_before_commit` | server | in a direct write, Redis being unreachable | `in_a_direct_write` |
//! | `store.before_commit` | server | in a direct apply, RabbitMQ being unreachable | `in_a_direct_apply` |
//! | `refresh.told` | consumer | cache told of degraded writes, list not shortened | `in_a_degraded_refresh` |
//! | `retention.purged` | consumer | some batches deleted, others not | `in_a_purge` |
//! | `store.requeued` | replayer | some dead events replayed, others not | `in_a_replay` |
//! | `erase.clocks_raised` | server | an erasure is ordered, there is no fence yet | `an_erasure_before_its_fence` |
//! | `erase.fenced` | server | the fence is committed, nobody else has heard of it | `an_erasure_behind_its_fence` |
//! | `erase.likes` | consumer | some rows of an erased user are gone, others not | `an_erasure_among_the_rows` |
//! | `erase.told` | consumer | all rows are gone and the cache has the counts | `an_erasure_before_the_walk` |
//! | `erase.walked` | consumer | some of the ledger is gone through, how far is not noted | `an_erasure_in_the_walk` |
//! | `erase.swept` | consumer | the cache is swept, nobody has looked again | `an_erasure_behind_the_sweep` |
//! | `erase.ending` | consumer | nothing is left, and that is not written down | `an_erasure_at_its_end` |
//! | `log.joined` | consumer | the redo log has what went around the broker, the ledger still marks it | `in_a_join_of_the_log` |
//! | `recover.latched` | consumer | the database went back, the recovery is noted, nothing is read | `the_recovery_is_noted_and_nothing_read` |
//! | `recover.reapplied` | consumer | some of the redo log is applied again, how far is not noted | `some_of_the_log_is_applied_again_and_not_noted` |
//! | `recover.logged` | consumer | the redo log is read, no cached pair is looked at | `the_log_is_read_and_no_pair` |
//! | `recover.scanned` | consumer | everything is back, the latch is still on | `everything_is_back_and_the_latch_still_on` |
//! | `recover.unlatched` | consumer | the database is believed again, the journals are not settled | `the_database_is_believed_and_the_journals_are_not_settled` |
//! | `store.before_commit`, `apply.committed`, `changes.sent`, `changes.published`, `apply.settled`, `consume.applied` | consumer | with listeners to changes: before the commit, between it and publishing, between publishing and the acknowledgement | `a_consumer_that_dies_anywhere_is_made_good` |
//! | `changes.told` | consumer | noted changes are published, the notes are there still | `noted_changes_published_and_not_deleted` |
//! | `pool.generation` | server | Redis has changed its primary, connections to the old one are given up | `a_generation_of_connections_is_given_up` |
//!
//! # Planted bugs
//!
//! Each scenario passes as it is, and fails in the way it should with the bug `bug.<name>`. Test modules `planted` (the
//! test has the bug's name), `last_word`, `aftermath`, `failover` and `live`; the last three of those about the accept path (`doubt_denied`, `overtaken_remembered`,
//! `undecided_row_believed`) need what real programs do once in a thousand runs, and are found by the simulation of the crate
//! `sync-engine`, which finds others of that path as well. `gone_callers_asked_again` is found in the crate `cache-manager`, by the
//! simulation of its combiner and behind a link that holds requests; `unremembered_acknowledged` in `sync-engine`, behind a link
//! that breaks. The crate `planted-bugs` says how to add one.
//!
//! | bug | wrong is | found by |
//! |---|---|---|
//! | `ack_before_commit` | deliveries are acknowledged before the transaction | consumer dies, Redis wiped: `verify` says lost |
//! | `settle_before_commit` | journal entries go before the transaction | consumer dies, RabbitMQ wiped: lost |
//! | `delete_at_publish` | journal entries go when the broker confirms | RabbitMQ wiped: lost |
//! | `accept_without_journal` | only memory holds an accepted like | server dies: lost |
//! | `rescuer_drops` | stuck entries are settled instead of published | server dies: lost |
//! | `delta_from_message` | every delivery counts, not the row's transition | duplicates: wrong count |
//! | `no_version_check` | what comes last wins | reordering: lost |
//! | `tombstone_ignored` | an unlike leaves nothing to compare with | replay: lost |
//! | `tombstone_forgotten` | an old tombstone is deleted, not archived | replay after retention: lost |
//! | `retention_by_own_clock` | retention measures ages by a process's own clock | a clock 31 days ahead: a fresh tombstone is taken for old |
//! | `no_revision_guard` | any stored count is taken for the newest | late settle: wrong cached count |
//! | `settle_counts_absent` | entries that were not there lower the pending number | settled twice: the served count falls |
//! | `settle_overwrites_pending` | the stored count is served while likes are pending | the served count falls; also seen live by `load --watch-counts` (`a_count_that_settling_overwrites_is_seen`) |
//! | `log_skipped` | the redo log gets no copy of what goes to the queue | consumed: not in the redo log |
//! | `ignore_nack` | a returned or refused message counts as published | queue deleted: published, but nobody has it |
//! | `repeat_counted` | a repeated like counts again | liked twice: counted again |
//! | `fill_without_recheck` | a fill is believed | change between load and fill: stale count |
//! | `direct_forgets_refresh` | a degraded write is not noted for the cache | cache comes back: wrong cached pair |
//! | `answer_before_wait` | a like is answered before a replica has it | server and primary die together: lost |
//! | `floor_ignored` | a process does not compare a shard with what it was answered | Redis becomes what it once was: "unchanged" by an old pair, then the word in the queue |
//! | `reoffer_forgotten` | what the journal has forgotten is not offered again | broker and database away, then Redis is emptied: lost |
//! | `revision_plus_one` | the revision of a counter is one more than before, not the time | the database becomes what it once was and is written again: the cache does not believe it |
//! | `went_back_ignored` | nobody compares the database with what it had confirmed | the database becomes what it once was: nobody noticed |
//! | `repairs_cache_backwards` | a cached counter that is newer than its row is repaired | the database becomes what it once was: the cached count is lowered |
//! | `keeps_demoted_connection` | connections that say READONLY are used on | Redis changes its primary behind an address: nothing is accepted |
//! | `probe_select_one` | the probe of the database is a `SELECT 1` | a database that only reads is found well |
//! | `unlatched_settle` | what is committed while the database is told again is settled at once | the cache believes a database that lacks likes: the served count is lowered |
//! | `any_clock_believed` | no other clock bounds the versions of a Redis clock that was set ahead | a clock a day ahead: likes are dated into the future |
//! | `untold_forever` | a write around the cache is never taken off the account of what the cache was not told | the cache comes back while the database is away: likes stay UNAVAILABLE |
//! | `unchanged_unconfirmed` | "unchanged" is believed without a look at the row | one server writes around the cache, the other answers from it: lost |
//! | `pair_believed` | "unchanged" relies on the cached pair: whether its event is on its way is not asked | the event is dead and discarded: the like after that is lost |
//! | `expired_asked_afresh` | what is asked for a call has no deadline but its own | a call whose time is over is asked about: it takes effect |
//! | `gone_callers_run` | a call whose caller has gone is still made | it waits behind another one in a server, and takes effect |
//! | `gone_callers_asked_again` | what came too late is asked about once more without a look at its caller | it is held on its way to Redis, its caller leaves, and it takes effect |
//! | `direct_without_deadline` | a direct write waits for a lock as long as it likes | it is committed after its time |
//! | `batch_in_one_round` | operations of one pair are asked about together | the first one is written again after the second: the wrong one is last |
//! | `doubt_denied` | the database's refusal is passed on although the cache was asked, too, and did not answer | the like that was "refused" is there |
//! | `overtaken_remembered` | a key remembers a word that another one overtook | the repetition names the other one's version as its own state |
//! | `undecided_row_believed` | database first: a row that a write is about to change is taken for the last word | the write's like comes after the unlike that was "unchanged" |
//! | `unconfirmed_remembered` | a key remembers an "unchanged" that nobody confirmed | the repetition is answered without a write: lost |
//! | `unremembered_acknowledged` | an "unchanged" is answered although its key could not be kept | Redis's connection breaks just then, the word is taken back, and the repetition says it again |
//! | `unchanged_key_forgotten` | database first: the key of a confirmed "unchanged" is remembered nowhere | the repetition comes after an unlike and undoes it |
//! | `key_of_any_action` | a key answers the other action, too | an unlike is acknowledged, and nothing done |
//! | `served_unbounded` | a served count is put right only when nothing is pending | a count that cannot be right is served under load |
//! | `fence_ignored` | what an erased user did before, or what was said of a deleted resource, is applied all the same | erased, then delivered: it came back |
//! | `park_forgets` | an event that fails alone is settled and not parked | poisoned row: lost |
//! | `anybody_blamed` | what the database refuses is its own fault, whoever else is refused | a trigger that refuses every row for a while: good events are given up |
//!
//! The live oracle (`served_counts_never_go_down`): users who only like, processes that die, the broker cut off; a served
//! count that goes down is a failure.
