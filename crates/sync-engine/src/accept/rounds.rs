//! Rounds: the operations of one pair in one call, one after the other.
//!
//! Invariant: when an operation is asked about, every earlier one of its pair and call is decided. Asked together, an
//! earlier one that has to be asked again (its counter was missing, its "unchanged" did not hold) would come after the
//! later one and undo it. Calls with one operation per pair, nearly all, have one round and cost nothing more.

use domain::{LikeIntent, Pair};
use std::collections::{HashMap, HashSet};

/// Whether no pair comes twice.
pub(super) fn is_one(intents: &[LikeIntent]) -> bool {
    if intents.len() < 2 || planted_bugs::is_planted("batch_in_one_round") {
        return true;
    }
    let mut seen = HashSet::with_capacity(intents.len());
    intents.iter().all(|intent| seen.insert(intent.pair))
}

/// Positions by round: the n-th operation of each pair is in the n-th round.
pub(super) fn of(intents: &[LikeIntent]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut taken: HashMap<Pair, usize> = HashMap::with_capacity(intents.len());
    for (position, intent) in intents.iter().enumerate() {
        let round = taken.entry(intent.pair).and_modify(|round| *round += 1).or_insert(0);
        match rounds.get_mut(*round) {
            Some(positions) => positions.push(position),
            None => rounds.push(vec![position]),
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Action, Resource, ResourceType, UserId};
    use uuid::Uuid;

    fn intents(users: &[i64]) -> Vec<LikeIntent> {
        let one = |user: &i64| LikeIntent {
            id: Uuid::now_v7(),
            pair: Pair { user: UserId::new(*user).unwrap(), resource: Resource::new(ResourceType::Video, 1).unwrap() },
            action: Action::Like,
            idempotency_key: None,
            trace: None,
        };
        users.iter().map(one).collect()
    }

    #[test]
    fn a_pair_has_one_operation_in_a_round_and_keeps_its_order() {
        let call = intents(&[1, 2, 1, 3, 1, 2]);
        assert!(!is_one(&call));
        assert_eq!(of(&call), [vec![0, 1, 3], vec![2, 5], vec![4]]);
        assert!(is_one(&intents(&[1, 2, 3])));
        assert!(is_one(&[]));
    }
}
