"""A client in another language: what a Python service sees, with stubs generated from proto/ (test_python_client.sh).

Needs GRPC_ADDR, a running system. Uses users and resources of its own and takes its likes back.
"""

import os
import queue
import random
import threading
import time
import unittest

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from interaction.v1 import interaction_pb2 as pb
from interaction.v1 import interaction_pb2_grpc as service

PATIENCE = 30  # seconds
FRESH = random.SystemRandom()


def fresh_id():
    return FRESH.randrange(1 << 40, 1 << 62)


def video(number):
    return pb.Resource(type=pb.RESOURCE_TYPE_VIDEO, id=number)


def details(error, kind):
    """The error's details of a kind."""
    status = rpc_status.from_call(error)
    found = []
    for packed in status.details if status else []:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


class Likes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.channel = grpc.insecure_channel(os.environ["GRPC_ADDR"].removeprefix("http://"))
        grpc.channel_ready_future(cls.channel).result(timeout=PATIENCE)
        cls.stub = service.InteractionServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()

    def like(self, user, number):
        answer = self.stub.Like(pb.LikeRequest(user_id=user, resource=video(number)), timeout=PATIENCE)
        self.addCleanup(self.unlike, user, number)
        return answer

    def unlike(self, user, number):
        return self.stub.Unlike(pb.UnlikeRequest(user_id=user, resource=video(number)), timeout=PATIENCE)

    def refused(self, code, call, request):
        with self.assertRaises(grpc.RpcError) as raised:
            call(request, timeout=PATIENCE)
        self.assertEqual(raised.exception.code(), code, raised.exception)
        return raised.exception

    def eventually(self, probe, wanted):
        end = time.monotonic() + PATIENCE
        while (seen := probe()) != wanted:
            self.assertLess(time.monotonic(), end, f"{wanted} never came, but {seen}")
            time.sleep(0.05)

    def test_likes_and_unlikes(self):
        user, number = fresh_id(), fresh_id()
        first = self.like(user, number)
        self.assertEqual((first.liked, first.changed, first.count), (True, True, 1))
        again = self.like(user, number)
        self.assertEqual((again.liked, again.changed, again.version), (True, False, first.version))
        back = self.unlike(user, number)
        self.assertEqual((back.liked, back.changed, back.count), (False, True, 0))
        self.assertTrue(back.HasField("count"), "a count of zero is a count")
        states = self.stub.GetLikeStates(pb.GetLikeStatesRequest(user_id=user, resources=[video(number)]), timeout=PATIENCE)
        self.assertEqual((states.states[0].liked, states.states[0].version), (False, back.version))

    def test_batches_answer_each_operation(self):
        number, users = fresh_id(), [fresh_id() for _ in range(20)]
        operations = [pb.LikeOperation(user_id=user, resource=video(number), action=pb.ACTION_LIKE) for user in users]
        operations += [pb.LikeOperation(user_id=user, resource=video(number), action=pb.ACTION_UNLIKE) for user in users]
        results = self.stub.ApplyLikes(pb.ApplyLikesRequest(operations=operations), timeout=PATIENCE).results
        self.assertEqual([result.WhichOneof("outcome") for result in results], ["response"] * 40)
        self.assertEqual([result.response.liked for result in results], [True] * 20 + [False] * 20)

    def test_lists_by_pages(self):
        user, numbers = fresh_id(), [fresh_id() for _ in range(7)]
        for number in numbers:
            self.like(user, number)

        def pages():
            seen, sizes, token = [], [], ""
            while True:
                request = pb.ListLikedResourcesRequest(
                    user_id=user, type=pb.RESOURCE_TYPE_VIDEO, page_size=3, page_token=token
                )
                page = self.stub.ListLikedResources(request, timeout=PATIENCE)
                seen += [liked.resource.id for liked in page.resources]
                sizes.append(len(page.resources))
                token = page.next_page_token
                if not token:
                    return seen, sizes

        self.eventually(pages, (numbers[::-1], [3, 3, 1]))
        request = pb.ListLikersRequest(resource=video(numbers[0]))
        likers = self.stub.ListLikers(request, timeout=PATIENCE).likers
        self.assertEqual([liker.user_id for liker in likers], [user])
        self.assertLess(abs(likers[0].liked_at.ToSeconds() - time.time()), 24 * 3600)

    def test_watches_counts(self):
        number, other, user = fresh_id(), fresh_id(), fresh_id()
        call = self.stub.WatchLikeCounts(pb.WatchLikeCountsRequest(resources=[video(number), video(other)]))
        updates = queue.Queue()

        def read():
            try:
                for update in call:
                    updates.put([(count.resource.id, count.count) for count in update.counts])
            except grpc.RpcError as ended:
                updates.put(ended.code())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            self.assertEqual(updates.get(timeout=PATIENCE), [(number, 0), (other, 0)])
            self.like(user, number)
            self.assertEqual(updates.get(timeout=PATIENCE), [(number, 1)])
            self.unlike(user, number)
            self.assertEqual(updates.get(timeout=PATIENCE), [(number, 0)])
        finally:
            call.cancel()
            reader.join(timeout=PATIENCE)
        self.assertEqual(updates.get(timeout=PATIENCE), grpc.StatusCode.CANCELLED)

    def test_hot_resources_are_listed(self):
        number = fresh_id()
        for user in (fresh_id(), fresh_id()):
            self.like(user, number)

        def listed():
            request = pb.ListHotResourcesRequest(type=pb.RESOURCE_TYPE_VIDEO, limit=100)
            hot = self.stub.ListHotResources(request, timeout=PATIENCE).resources
            self.assertTrue(all(each.resource.type == pb.RESOURCE_TYPE_VIDEO for each in hot))
            changes = [each.recent_changes for each in hot]
            self.assertEqual(changes, sorted(changes, reverse=True))
            # Others may be hotter.
            return len(hot) == 100 or any((each.resource.id, each.count) == (number, 2) for each in hot)

        self.eventually(listed, True)

    def test_what_is_liked_most_within_a_window_is_listed(self):
        number, users = fresh_id(), [fresh_id() for _ in range(3)]
        for user in users:
            self.like(user, number)
        self.unlike(users[0], number)

        def listed():
            request = pb.ListHotResourcesRequest(type=pb.RESOURCE_TYPE_VIDEO, limit=100, window=pb.HOT_WINDOW_HOUR)
            most = self.stub.ListHotResources(request, timeout=PATIENCE).resources
            gained = [each.gained for each in most]
            self.assertEqual(gained, sorted(gained, reverse=True))
            # Others may be liked more.
            return len(most) == 100 or any((each.resource.id, each.gained) == (number, 2) for each in most)

        self.eventually(listed, True)

    def test_reflection_describes_the_service(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.assertIn("interaction.v1.InteractionService", database.get_services())
        described = DescriptorPool(database).FindServiceByName("interaction.v1.InteractionService")
        known = pb.DESCRIPTOR.services_by_name["InteractionService"]
        self.assertEqual([each.name for each in described.methods], [each.name for each in known.methods])

    def test_refusals_have_reasons(self):
        error = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.stub.Like, pb.LikeRequest(user_id=0))
        (info,) = details(error, error_details_pb2.ErrorInfo)
        self.assertEqual((info.reason, info.domain), ("INVALID_REQUEST", "interaction-sync"))

    def test_errors_name_the_fields(self):
        request = pb.LikeRequest(user_id=0, resource=video(-1), idempotency_key="k" * 129)
        error = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.stub.Like, request)
        (bad,) = details(error, error_details_pb2.BadRequest)
        fields = [violation.field for violation in bad.field_violations]
        self.assertEqual(fields, ["user_id", "resource.id", "idempotency_key"])
        self.assertTrue(all(violation.description for violation in bad.field_violations))
        self.assertTrue(error.details().startswith("user_id: "), error.details())

        request = pb.ListLikersRequest(resource=video(1), page_token="guessed")
        error = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.stub.ListLikers, request)
        (bad,) = details(error, error_details_pb2.BadRequest)
        self.assertEqual([violation.field for violation in bad.field_violations], ["page_token"])

        call = self.stub.WatchLikeCounts(pb.WatchLikeCountsRequest(resources=[video(n) for n in range(1, 102)]))
        with self.assertRaises(grpc.RpcError) as raised:
            next(call)
        (bad,) = details(raised.exception, error_details_pb2.BadRequest)
        self.assertEqual([violation.field for violation in bad.field_violations], ["resources"])

    def test_errors_say_when_to_come_again(self):
        user, number = fresh_id(), fresh_id()
        like = pb.LikeOperation(user_id=user, resource=video(number), action=pb.ACTION_LIKE)
        # More than a user may do in a minute, whatever of it changes something.
        results = self.stub.ApplyLikes(pb.ApplyLikesRequest(operations=[like] * 100), timeout=PATIENCE).results
        if all(result.WhichOneof("outcome") == "response" for result in results):
            self.skipTest("this system limits nobody")
        request = pb.LikeRequest(user_id=user, resource=video(number))
        error = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, self.stub.Like, request)
        (retry,) = details(error, error_details_pb2.RetryInfo)
        delay = retry.retry_delay.ToMilliseconds()
        self.assertTrue(0 < delay <= 60_000, delay)


if __name__ == "__main__":
    unittest.main(verbosity=2)
