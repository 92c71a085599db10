"""A like, a page of likers and a handled rate limit, from Python. GRPC_ADDR is the address of a server."""

import os
import time
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from interaction.v1 import interaction_pb2 as pb
from interaction.v1 import interaction_pb2_grpc as service

stub = service.InteractionServiceStub(grpc.insecure_channel(os.environ.get("GRPC_ADDR", "127.0.0.1:50051")))


def video(number):
    return pb.Resource(type=pb.RESOURCE_TYPE_VIDEO, id=number)


def retry_after(error):
    """Seconds that a refusal asks for; none if it names no time."""
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        info = error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


def like(user, number):
    # With a key, whoever gets no answer may send the same again.
    request = pb.LikeRequest(user_id=user, resource=video(number), idempotency_key=str(uuid.uuid4()))
    while True:
        try:
            return stub.Like(request, timeout=3)
        except grpc.RpcError as error:
            seconds = retry_after(error)
            if seconds is None:
                raise
            print(f"limited: wait {seconds} s")
            time.sleep(seconds)
            like.waited = True


like.waited = False
answer = like(4001, 42)
print(f"liked: {answer.liked}, count {answer.count}")
for number in range(1000, 1200):
    answer = like(4001, number)
    if like.waited:
        print(f"liked: {answer.liked}")
        break
page = stub.ListLikers(pb.ListLikersRequest(resource=video(42), page_size=10), timeout=3)
print("likers:", [liker.user_id for liker in page.likers])
