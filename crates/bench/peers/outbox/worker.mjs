// Lets counters follow the outbox: many notes in one transaction, each counter once; then the cached counts.
import Redis from 'ioredis';
import mysql from 'mysql2/promise';

const BATCH = 2000;
// With nothing to do; a counter that changes often is written once in that time.
const DEBOUNCE_MS = 50;

const database = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: 2 });
const cache = new Redis(process.env.REDIS_URL);

let stopping = false;
process.on('SIGTERM', () => {
  stopping = true;
});

// Whoever dies in between has changed nothing: notes go with the counters that they changed.
async function round() {
  const db = await database.getConnection();
  try {
    await db.beginTransaction();
    const [notes] = await db.query('SELECT id, video_id FROM peer_outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED', [BATCH]);
    if (notes.length === 0) {
      await db.rollback();
      return 0;
    }
    const gained = new Map();
    for (const note of notes) gained.set(note.video_id, (gained.get(note.video_id) ?? 0) + 1);
    // In one order, so that two workers cannot wait for each other.
    const rows = [...gained].sort(([a], [b]) => a - b);
    await db.query(
      'INSERT INTO peer_counts (video_id, like_count) VALUES ? ON DUPLICATE KEY UPDATE like_count = like_count + VALUES(like_count)',
      [rows],
    );
    await db.query('DELETE FROM peer_outbox WHERE id IN (?)', [notes.map((note) => note.id)]);
    const [counts] = await db.query('SELECT video_id, like_count FROM peer_counts WHERE video_id IN (?)', [[...gained.keys()]]);
    await db.commit();
    // What the database says, and not one more: a worker that died before this is made good by the next change.
    await cache.mset(counts.flatMap((count) => [`count:${count.video_id}`, String(count.like_count)]));
    return notes.length;
  } catch (error) {
    await db.rollback();
    throw error;
  } finally {
    db.release();
  }
}

console.log('worker is ready');
while (!stopping) {
  let moved = 0;
  try {
    moved = await round();
  } catch (error) {
    console.error(error);
  }
  if (moved < BATCH) await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS));
}
await cache.quit();
await database.end();
