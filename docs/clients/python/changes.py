"""A view of likes and counts that is kept by listening (docs/API.md, "Changes").

    changes.py listen    until it is ended; what it missed meanwhile waits in its queue
    changes.py show      what it has, a line of JSON for each subject

AMQP_URL and AMQP_PREFIX say where to listen, VIEW is the file of the view.
"""

import json
import os
import sqlite3
import sys
import time

import pika

if sys.argv[1:] not in (["listen"], ["show"]):
    sys.exit(f"usage: {sys.argv[0]} listen|show")

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
PREFIX = os.environ.get("AMQP_PREFIX", "interaction")
QUEUE = f"{PREFIX}.changes.view"

view = sqlite3.connect(os.environ.get("VIEW", "view.db"), timeout=60)
# Whoever reads the view does not wait for the one who listens.
view.execute("PRAGMA journal_mode = WAL")
view.execute("CREATE TABLE IF NOT EXISTS states (subject TEXT PRIMARY KEY, number INTEGER, state TEXT) WITHOUT ROWID")


def apply(event):
    """Keeps the newest: events come again, late, and in any order."""
    data = event["data"]
    if event["type"] == "interaction.v1.like":
        number, state = data["version"], "true" if data["liked"] else "false"
    elif event["type"] == "interaction.v1.count":
        number, state = data["revision"], data["count"]
    else:
        return  # of a later release
    view.execute(
        "INSERT INTO states VALUES (?, ?, ?) ON CONFLICT (subject) DO UPDATE "
        "SET number = excluded.number, state = excluded.state WHERE excluded.number > number",
        (event["subject"], int(number), state),
    )


def receive(channel, method, _properties, body):
    with view:
        for event in json.loads(body):
            apply(event)
    # Only now: whoever dies before it hears the message again.
    channel.basic_ack(method.delivery_tag)


def listen():
    while True:
        try:
            connection = pika.BlockingConnection(pika.URLParameters(URL))
            channel = connection.channel()
            channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            # Consumers declare the exchange when they start.
            channel.queue_bind(QUEUE, f"{PREFIX}.changes", "#")
            channel.basic_qos(prefetch_count=32)
            channel.basic_consume(QUEUE, receive)
            print("listening", flush=True)
            bound = time.monotonic()
            while True:
                connection.process_data_events(time_limit=1)
                if time.monotonic() - bound > 1:
                    # An exchange that somebody deleted, and a consumer made anew, has no bindings, and says nothing.
                    channel.queue_bind(QUEUE, f"{PREFIX}.changes", "#")
                    bound = time.monotonic()
        except pika.exceptions.AMQPError as error:
            print(f"again in a second: {error!r}", flush=True)
            time.sleep(1)


def show():
    for subject, number, state in view.execute("SELECT * FROM states ORDER BY subject"):
        print(json.dumps({"subject": subject, "number": number, "state": state}))


{"listen": listen, "show": show}[sys.argv[1]]()
