use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use syncctl::trace::{self, TraceFormat};

/// The dataset is not part of the repository: `MOVIELENS_RATINGS` names its `ratings.csv`.
fn ratings() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/movielens/ratings.csv");
    std::env::var_os("MOVIELENS_RATINGS").map(PathBuf::from).or(Some(beside)).filter(|path| path.exists())
}

/// Users of the published dataset (ml-latest-small): 1 to 610, with 100,836 ratings.
const USERS: i64 = 610;

#[test]
fn the_whole_dataset_is_understood() {
    let Some(path) = ratings() else {
        eprintln!("skipped: no ratings.csv");
        return;
    };
    let lines = std::fs::read_to_string(&path).unwrap().lines().count();
    let operations = trace::read(TraceFormat::Movielens, BufReader::new(File::open(path).unwrap())).unwrap();
    assert_eq!(operations.len(), lines - 1, "every line but the header is an operation");
    let published: Vec<_> = operations.iter().filter(|o| o.pair.user.get() <= USERS).collect();
    assert_eq!(published.len(), 100_836);
    assert_eq!(published.iter().filter(|o| o.action.liked()).count(), 48_580);
    assert_eq!(published[0].pair.to_string(), "user 429 video:22");
}
