//! The file of a store's url, followed.

use secrecy::{ExposeSecret, SecretString};
use service_runtime::{Context, Status};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::eventually;

const PATIENCE: Duration = Duration::from_secs(20);

/// What is given is what the file holds, until it is taken; what is refused shows, and is tried again.
#[tokio::test]
async fn another_url_is_given_until_it_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    let write = |url: &str| {
        std::fs::write(directory.path().join("new"), format!("{url}\n")).unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
    };
    write("old");
    let context = Context::new("test", "0", "me");
    let (given, known) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("newest")));
    let (gives, knows) = (Arc::clone(&given), Arc::clone(&known));
    context.follow_url("store_login", "store.url_file", &file, SecretString::from("old"), move |url| {
        let url = url.expose_secret().to_owned();
        gives.lock().unwrap().push(url.clone());
        let taken = *knows.lock().unwrap() == url;
        async move { if taken { Ok(()) } else { Err("nobody of this name".to_owned()) } }
    });
    let part = async || {
        let report = context.health.report().await;
        let part = report.parts.get("store_login").unwrap();
        (part.status, part.detail.clone())
    };
    assert_eq!(part().await.0, Status::Ok);

    // Nobody lets it in, so it comes again.
    write("new");
    eventually(PATIENCE, "two attempts", async || {
        let given = given.lock().unwrap().clone();
        if given.len() >= 2 && given.iter().all(|url| url == "new") { Ok(()) } else { Err(format!("{given:?}")) }
    })
    .await;
    let (status, detail) = part().await;
    assert_eq!(status, Status::Degraded);
    assert!(detail.contains("store.url_file: nobody of this name; what was valid before stays"), "{detail}");

    // Somebody does.
    *known.lock().unwrap() = "new";
    eventually(PATIENCE, "a part that is well", async || match part().await {
        (Status::Ok, _) => Ok(()),
        (_, detail) => Err(detail),
    })
    .await;
    // What is valid is not given again; a file that is gone shows.
    let attempts = given.lock().unwrap().len();
    std::fs::remove_file(&file).unwrap();
    eventually(PATIENCE, "a part that misses the file", async || match part().await {
        (Status::Degraded, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    write("new");
    eventually(PATIENCE, "a part that is well", async || match part().await {
        (Status::Ok, _) => Ok(()),
        (_, detail) => Err(detail),
    })
    .await;
    assert_eq!(given.lock().unwrap().len(), attempts, "what is valid was given again");
}
