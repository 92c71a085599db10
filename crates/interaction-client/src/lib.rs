//! Client of the interaction service: what its contract asks of a good caller, done once.
//!
//! - Every call has a deadline, and every attempt a shorter one, which the server is told: an attempt that got no answer has taken
//!   effect by then or never will.
//! - What may succeed later is repeated: after the time that the server names (`google.rpc.RetryInfo`), else after one that
//!   doubles. A call that cannot wait that long within its deadline fails at once and says how long it would be.
//! - Likes and unlikes carry an idempotency key, the same in every attempt, so that repeating is safe.
//! - Errors have the stable reason of the server, the fields that are wrong, and the time to wait.
//!
//! ```no_run
//! # async fn example() -> Result<(), interaction_client::Error> {
//! use interaction_client::{Client, video};
//!
//! let client = Client::connect("http://127.0.0.1:50051")?;
//! let answer = client.like(6, video(42)).await?;
//! println!("liked by {:?}", answer.count);
//! # Ok(())
//! # }
//! ```
//!
//! Deliberately absent: reconnecting streams of live counts (watch again when one ends), and types of its own for what the
//! contract has types for ([`v1`]).

mod batch;
mod error;
mod policy;

pub use error::Error;
pub use interaction_proto::v1;
pub use policy::Policy;
pub use tonic::Code;
pub use tonic::transport::{Channel, Endpoint};

use interaction_proto::v1::interaction_service_client::InteractionServiceClient as Calls;
use policy::Attempts;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// A connection that is opened when it is needed, and again when it broke. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    calls: Calls<Channel>,
    token: Option<MetadataValue<Ascii>>,
    policy: Policy,
}

/// A video.
pub fn video(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Video.into(), id }
}

/// A comment.
pub fn comment(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Comment.into(), id }
}

/// A key that nobody else has.
fn fresh_key() -> String {
    Uuid::now_v7().to_string()
}

impl Client {
    /// A server at an address such as `http://127.0.0.1:50051`. Nothing is sent yet: it need not listen already.
    ///
    /// # Errors
    /// If that is no address.
    pub fn connect(address: impl Into<String>) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(address.into()).map_err(|error| Error::of_caller(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(5));
        Ok(Self::over(endpoint.connect_lazy()))
    }

    /// Over a channel of the caller's own, for example with TLS.
    pub fn over(channel: Channel) -> Self {
        Self { calls: Calls::new(channel), token: None, policy: Policy::default() }
    }

    /// With this token in every call.
    ///
    /// # Errors
    /// If it has letters that no token has.
    pub fn with_token(self, token: &str) -> Result<Self, Error> {
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::of_caller("a token has letters, digits and signs of ASCII only".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self { token: Some(value), ..self })
    }

    /// With these deadlines and retries.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Makes a user like something.
    pub async fn like(&self, user_id: i64, resource: v1::Resource) -> Result<v1::LikeResponse, Error> {
        let idempotency_key = fresh_key();
        let message = v1::LikeRequest { user_id, resource: Some(resource), idempotency_key };
        self.call(message, async |mut calls, request| calls.like(request).await).await
    }

    /// Takes a like back.
    pub async fn unlike(&self, user_id: i64, resource: v1::Resource) -> Result<v1::LikeResponse, Error> {
        let idempotency_key = fresh_key();
        let message = v1::UnlikeRequest { user_id, resource: Some(resource), idempotency_key };
        self.call(message, async |mut calls, request| calls.unlike(request).await).await
    }

    /// Counts, in the order of the question: 1 to 500.
    pub async fn counts(&self, resources: Vec<v1::Resource>) -> Result<v1::GetLikeCountsResponse, Error> {
        let message = v1::GetLikeCountsRequest { resources, least_version: 0 };
        self.call(message, async |mut calls, request| calls.get_like_counts(request).await).await
    }

    /// Whether a user likes each of these: 1 to 500.
    pub async fn states(&self, user_id: i64, resources: Vec<v1::Resource>) -> Result<v1::GetLikeStatesResponse, Error> {
        let message = v1::GetLikeStatesRequest { user_id, resources };
        self.call(message, async |mut calls, request| calls.get_like_states(request).await).await
    }

    /// Both of them, as a page of a feed needs them: 1 to 500.
    pub async fn summaries(
        &self,
        user_id: i64,
        resources: Vec<v1::Resource>,
    ) -> Result<v1::GetLikeSummariesResponse, Error> {
        let message = v1::GetLikeSummariesRequest { user_id, resources, least_version: 0 };
        self.call(message, async |mut calls, request| calls.get_like_summaries(request).await).await
    }

    /// A page of who likes something; the token of the next one is in it.
    pub async fn likers(&self, page: v1::ListLikersRequest) -> Result<v1::ListLikersResponse, Error> {
        self.call(page, async |mut calls, request| calls.list_likers(request).await).await
    }

    /// A page of what a user likes; the token of the next one is in it.
    pub async fn liked(&self, page: v1::ListLikedResourcesRequest) -> Result<v1::ListLikedResourcesResponse, Error> {
        self.call(page, async |mut calls, request| calls.list_liked_resources(request).await).await
    }

    /// What is hot.
    pub async fn hot(&self, request: v1::ListHotResourcesRequest) -> Result<v1::ListHotResourcesResponse, Error> {
        self.call(request, async |mut calls, request| calls.list_hot_resources(request).await).await
    }

    /// Live counts of 1 to 100 resources. Beginning is repeated as any call is; the stream ends for many good reasons, and is then
    /// to be begun again.
    pub async fn watch(&self, resources: Vec<v1::Resource>) -> Result<Streaming<v1::WatchLikeCountsResponse>, Error> {
        let message = v1::WatchLikeCountsRequest { resources };
        let begin = async |mut calls: Calls<Channel>, mut request: Request<_>| {
            // The deadline is that of the beginning: no stream ends for it.
            request.metadata_mut().remove("grpc-timeout");
            calls.watch_like_counts(request).await
        };
        self.call(message, begin).await
    }

    /// A call with all its attempts.
    async fn call<M, A>(
        &self,
        message: M,
        call: impl AsyncFn(Calls<Channel>, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error>
    where
        M: Clone,
    {
        let mut attempts = Attempts::begin(self.policy);
        loop {
            match self.attempt(&attempts, message.clone(), &call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn attempt<M, A>(
        &self,
        attempts: &Attempts,
        message: M,
        call: impl AsyncFn(Calls<Channel>, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let patience = attempts.patience();
        let mut request = Request::new(message);
        request.set_timeout(patience);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        match tokio::time::timeout(patience, call(self.calls.clone(), request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Error::unanswered(patience)),
        }
    }
}
