"""Accepts likes: python producer.py LIKES VIDEOS CALLS_IN_FLIGHT. Prints how many the broker confirmed."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tasks import like

likes, videos, in_flight = map(int, sys.argv[1:4])


def accept(user):
    like.delay(user, user % videos + 1)


with ThreadPoolExecutor(max_workers=min(in_flight, 16)) as pool:
    # Consuming the results raises what a call raised.
    accepted = sum(1 for _ in pool.map(accept, range(1, likes + 1)))
print(accepted)
