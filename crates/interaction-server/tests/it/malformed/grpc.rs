//! Messages to every method, through a client that leaves the bytes as they are.

use super::generate::{chance, message, nonsense, one_of, tamper};
use super::{Tally, count};
use crate::client::PATIENCE;
use bytes::{Buf, BufMut};
use interaction_proto::v1;
use prost::Message;
use std::collections::BTreeSet;
use test_support::Random;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const LIKES: [&str; 10] = [
    "Like",
    "Unlike",
    "ApplyLikes",
    "GetLikeCounts",
    "GetLikeStates",
    "GetLikeSummaries",
    "ListLikedResources",
    "ListLikers",
    "ListHotResources",
    "WatchLikeCounts",
];
const ADMIN: [&str; 8] = [
    "CheckConsistency",
    "GetConsistencyReport",
    "WarmUp",
    "GetCacheStats",
    "ListEvents",
    "ReplayEvents",
    "DiscardEvents",
    "ExplainLike",
];

/// Likes that were answered as changes: user, resource and version tell them apart.
pub(super) type Written = BTreeSet<(i64, i32, i64, i64)>;

/// Most times that a call may be held up.
const HELD_UP: u32 = 20;

/// A path, and the method's name.
pub(super) fn method(random: &mut Random) -> (String, &'static str) {
    match random.below(20) {
        0 => ("/grpc.health.v1.Health/Check".to_owned(), "Check"),
        1 => ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(), "Reflection"),
        2 => ("/interaction.v1.InteractionService/Love".to_owned(), "Love"),
        3..=5 => {
            let name = one_of(random, &ADMIN);
            (format!("/interaction.v1.SyncAdminService/{name}"), name)
        }
        _ => {
            let name = one_of(random, &LIKES);
            (format!("/interaction.v1.InteractionService/{name}"), name)
        }
    }
}

/// Sends them one after the other; what was answered, and what was written.
pub(super) async fn throw(channel: Channel, mut random: Random, inputs: u64) -> (Tally, Written) {
    let (mut tally, mut written) = (Tally::new(), Written::new());
    let mut client = Grpc::new(channel);
    for input in 0..inputs {
        let (path, name) = method(&mut random);
        let body = match random.below(10) {
            0..=2 => nonsense(&mut random),
            3..=5 => message(&mut random, name),
            _ => {
                let valid = message(&mut random, name);
                tamper(&mut random, valid)
            }
        };
        // None and several are wrong where one is expected.
        let several = if chance(&mut random, 90) { 1 } else { random.below(4) as usize };
        let mut answer = Ok(None);
        for _ in 0..HELD_UP {
            let call = ask(&mut client, &path, vec![body.clone(); several]);
            let asked = tokio::time::timeout(PATIENCE, call).await;
            answer = asked.unwrap_or_else(|_| panic!("input {input}: {path} hangs with {body:02x?}"));
            // On a machine that is too busy: the call came too late, or the stores seemed unreachable; it did nothing, and may be
            // repeated when the answer says.
            let held_up =
                |status: &&Status| ["expired: ", "unavailable: "].iter().any(|why| status.message().starts_with(why));
            let Some(status) = answer.as_ref().err().filter(held_up) else { break };
            let pause = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
            tokio::time::sleep(pause.unwrap_or_default()).await;
            count(&mut tally, "grpc held up, repeated");
        }
        match answer {
            Ok(answer) => {
                count(&mut tally, "grpc Ok");
                note(&mut written, name, &body, answer.as_deref());
            }
            Err(status) => {
                let bad = matches!(status.code(), Code::Unavailable | Code::DataLoss | Code::Unknown);
                assert!(!bad, "input {input}: {path} with {body:02x?}: {status:?}");
                count(&mut tally, format!("grpc {:?}", status.code()));
            }
        }
    }
    (tally, written)
}

/// The first answer, if there is any; later ones of streams are not waited for.
async fn ask(client: &mut Grpc<Channel>, path: &str, messages: Vec<Vec<u8>>) -> Result<Option<Vec<u8>>, Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::internal("the path"))?;
    let request = Request::new(tokio_stream::iter(messages));
    client.streaming(request, path, Raw).await?.into_inner().message().await
}

/// Remembers what an answer says was written. Requests are read as the server did.
fn note(written: &mut Written, name: &str, body: &[u8], answer: Option<&[u8]>) {
    let Some(answer) = answer else { return };
    let mut changed = |user: i64, resource: Option<v1::Resource>, answer: &v1::LikeResponse| {
        let resource = resource.expect("a like without a resource was answered");
        assert!(user > 0 && resource.id > 0 && (1..=2).contains(&resource.r#type), "{user} likes {resource:?}");
        if answer.changed {
            written.insert((user, resource.r#type, resource.id, answer.version));
        }
    };
    match name {
        "Like" | "Unlike" => {
            let request = v1::LikeRequest::decode(body).unwrap();
            changed(request.user_id, request.resource, &v1::LikeResponse::decode(answer).unwrap());
        }
        "ApplyLikes" => {
            let request = v1::ApplyLikesRequest::decode(body).unwrap();
            let results = v1::ApplyLikesResponse::decode(answer).unwrap().results;
            for (operation, result) in request.operations.iter().zip(results) {
                if let Some(v1::like_result::Outcome::Response(answer)) = result.outcome {
                    changed(operation.user_id, operation.resource, &answer);
                }
            }
        }
        _ => {}
    }
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
