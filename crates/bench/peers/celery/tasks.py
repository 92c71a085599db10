"""Applies likes: one task, one transaction; then the cached count."""

import os
from urllib.parse import unquote, urlparse

import pymysql
import redis
from celery import Celery
from celery.signals import worker_process_init, worker_ready

app = Celery("likes", broker=os.environ["AMQP_URL"])
app.conf.update(
    task_ignore_result=True,
    # Late: a task that was cut off runs again. Early is the default: it is lost.
    task_acks_late=os.environ.get("PEER_ACKS_LATE") == "1",
    worker_prefetch_multiplier=64,
    task_default_queue=os.environ.get("PEER_QUEUE", "celery"),
    # A like counts as accepted when the broker has it.
    broker_transport_options={"confirm_publish": True},
    broker_pool_limit=16,
    broker_connection_retry_on_startup=True,
)

database = None
cache = None


@worker_process_init.connect
def connect(**_):
    """Connections must not be shared with the parent process."""
    global database, cache
    url = urlparse(os.environ["DATABASE_URL"])
    database = pymysql.connect(
        host=url.hostname,
        port=url.port or 3306,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        database=url.path.lstrip("/"),
    )
    cache = redis.Redis.from_url(os.environ["REDIS_URL"])


@worker_ready.connect
def ready(**_):
    print("worker is ready", flush=True)


@app.task(autoretry_for=(pymysql.err.OperationalError,), retry_backoff=True, max_retries=5)
def like(user, video):
    """May run twice for the same like, so only a new row is counted."""
    try:
        with database.cursor() as cursor:
            is_new = cursor.execute("INSERT IGNORE INTO peer_likes (user_id, video_id) VALUES (%s, %s)", (user, video)) == 1
            if is_new:
                cursor.execute(
                    "INSERT INTO peer_counts (video_id, like_count) VALUES (%s, 1)"
                    " ON DUPLICATE KEY UPDATE like_count = like_count + 1",
                    (video,),
                )
        database.commit()
    except Exception:
        database.rollback()
        raise
    if is_new:
        cache.incr(f"count:{video}")
