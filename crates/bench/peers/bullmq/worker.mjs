// Applies likes: one job, one transaction; then the cached count.
import { Worker } from 'bullmq';
import Redis from 'ioredis';
import mysql from 'mysql2/promise';

const CONCURRENCY = 50;

const database = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: CONCURRENCY });
const cache = new Redis(process.env.REDIS_URL);
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });

// May run twice for the same like (jobs are delivered at least once), so only a new row is counted.
async function store(user, video) {
  const db = await database.getConnection();
  try {
    await db.beginTransaction();
    const [result] = await db.execute('INSERT IGNORE INTO peer_likes (user_id, video_id) VALUES (?, ?)', [user, video]);
    const isNew = result.affectedRows === 1;
    if (isNew) {
      await db.execute(
        'INSERT INTO peer_counts (video_id, like_count) VALUES (?, 1) ON DUPLICATE KEY UPDATE like_count = like_count + 1',
        [video],
      );
    }
    await db.commit();
    return isNew;
  } catch (error) {
    await db.rollback();
    throw error;
  } finally {
    db.release();
  }
}

// The bench shortens these when it only wants to see that everything runs; unset, they are BullMQ's own.
const locks = process.env.PEER_LOCK_MS
  ? { lockDuration: Number(process.env.PEER_LOCK_MS), stalledInterval: Number(process.env.PEER_LOCK_MS) }
  : {};

const worker = new Worker(
  'likes',
  async (job) => {
    const { user, video } = job.data;
    if (await store(user, video)) await cache.incr(`count:${video}`);
  },
  { connection, concurrency: CONCURRENCY, ...locks },
);
worker.on('error', (error) => console.error(error));
worker.on('failed', (job, error) => console.error('failed', job?.id, error.message));

process.on('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});

await worker.waitUntilReady();
console.log('worker is ready');
