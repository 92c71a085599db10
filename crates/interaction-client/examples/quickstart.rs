//! A like, a page of likers and a handled rate limit: `cargo run -p interaction-client --example quickstart` while a server listens.

use interaction_client::{Client, Error, Policy, v1, video};
use std::time::Instant;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let address = std::env::var("GRPC_ADDR").unwrap_or_else(|_| "127.0.0.1:50051".to_owned());
    let client = Client::connect(format!("http://{address}"))?;

    let answer = client.like(6001, video(42)).await?;
    println!("liked: {}, count {:?}", answer.liked, answer.count);

    // Over its limit a call waits as long as the server says, and is sent again with the same key. Without retries it is an error
    // that says how long.
    let impatient = client.clone().with_policy(Policy { max_attempts: 1, ..Policy::default() });
    for id in 1000..1200 {
        let Err(error) = impatient.like(6001, video(id)).await else { continue };
        let Some(wait) = error.retry_after else { return Err(error) };
        println!("limited: {}, wait {wait:?}", error.reason.unwrap_or_default());
        let begun = Instant::now();
        let patient = client.clone().with_policy(Policy { deadline: wait * 2, ..Policy::default() });
        println!("liked: {} after {:?}", patient.like(6001, video(id)).await?.liked, begun.elapsed());
        break;
    }

    let page = v1::ListLikersRequest { resource: Some(video(42)), page_size: 10, ..Default::default() };
    for liker in client.likers(page).await?.likers {
        println!("liker: {}", liker.user_id);
    }
    Ok(())
}
