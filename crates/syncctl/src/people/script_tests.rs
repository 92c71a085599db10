//! Scripts reproduce, and contain everything that people may do.

use super::knobs::Knobs;
use super::scene::{Act, Deed, Leaves, Retry, Scene, Words};
use super::script::{Script, World};
use domain::Pair;
use std::collections::BTreeMap;

fn world(seed: u64) -> World {
    World {
        seed,
        first_user: 1,
        people: 8,
        resources: 100,
        servers: 2,
        key_prefix: "k".to_owned(),
        knobs: Knobs::default(),
    }
}

fn scenes(seed: u64, person: u32) -> Vec<Scene> {
    Script::new(&world(seed), person).take(500).collect()
}

fn all_words<'a>(acts: &'a [Act], into: &mut Vec<(&'a Act, &'a Words)>) {
    for act in acts {
        if let Deed::Words(words) = &act.deed {
            into.push((act, words));
            all_words(&words.answered, into);
            all_words(&words.left, into);
        }
    }
}

#[test]
fn decisions_depend_on_seed_and_person_alone() {
    assert_eq!(scenes(1, 0), scenes(1, 0));
    assert_ne!(scenes(1, 0), scenes(2, 0));
    assert_ne!(scenes(1, 0), scenes(1, 1));
}

#[test]
fn people_do_everything_as_often_as_they_should() {
    let scenes: Vec<Scene> = (0..8).flat_map(|person| scenes(3, person)).collect();
    let mut said = Vec::new();
    scenes.iter().for_each(|scene| all_words(&scene.acts, &mut said));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, words) in &said {
        *seen.entry(words.what).or_default() += 1;
    }
    let kinds = [
        "single_words",
        "small_batches",
        "large_batches",
        "words_of_other_devices",
        "repeats",
        "late_repeats",
        "opposite_keys",
        "words_after_leaving",
        "retries_after_leaving",
    ];
    for kind in kinds {
        assert!(seen.get(kind).is_some_and(|times| *times > 20), "{kind}: {seen:?}");
    }
    let share = |fits: &dyn Fn(&Words) -> bool| {
        let first = said.iter().filter(|(_, words)| words.what.ends_with("batches") || words.what == "single_words");
        let (fitting, all) =
            first.fold((0, 0), |(fitting, all), (_, words)| (fitting + u32::from(fits(words)), all + 1));
        f64::from(fitting) / f64::from(all)
    };
    let abandoned = share(&|words| matches!(words.leaves, Leaves::Deadline(_)));
    assert!((0.06..0.10).contains(&abandoned), "{abandoned}");
    let batches = share(&|words| words.words.len() > 1);
    assert!((0.44..0.56).contains(&batches), "{batches}");
    for retry in [Retry::Never, Retry::SameKey, Retry::WithoutKey, Retry::Elsewhere] {
        assert!(share(&|words| words.retry == retry) > 0.15, "{retry:?}");
    }
}

#[test]
fn words_of_one_pair_alternate_within_a_batch() {
    let scenes: Vec<Scene> = (0..8).flat_map(|person| scenes(4, person)).collect();
    let mut said = Vec::new();
    scenes.iter().for_each(|scene| all_words(&scene.acts, &mut said));
    let alternating = said.iter().filter(|(_, words)| {
        let mut last: BTreeMap<Pair, bool> = BTreeMap::new();
        words.words.iter().any(|word| last.insert(word.pair, word.action.liked()) == Some(!word.action.liked()))
    });
    assert!(alternating.count() > 100);
}

#[test]
fn who_leaves_says_the_next_word_at_another_server() {
    let scenes: Vec<Scene> = (0..8).flat_map(|person| scenes(5, person)).collect();
    let mut said = Vec::new();
    scenes.iter().for_each(|scene| all_words(&scene.acts, &mut said));
    let left = said.iter().filter(|(_, words)| words.leaves != Leaves::Never);
    for (act, words) in left {
        assert!(!words.left.is_empty(), "{words:?}");
        for next in &words.left {
            let Deed::Words(said) = &next.deed else { panic!("{next:?}") };
            assert_ne!(next.server, act.server);
            assert_eq!(said.words[0].pair, words.words[0].pair);
        }
    }
}
